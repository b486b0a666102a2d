"""All stays of a folder of eICU's tables: inputs, label, person, hospital, and what was left out; kept prepared."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from common.errors import DataError
from sites import cache
from sites.datasets.eicu import features as eicu_features
from sites.datasets.eicu import hourly, tables, units

VERSION = 1
MARKER = "SYNTHETIC"
REGION_UNKNOWN = "region-unknown"
NO_APACHE = "stays without APACHE variables of the first day"
NO_OUTCOME = "stays whose outcome is not known"
NO_HOURS = "stays outside of the hourly cohort"
NOT_IN_PATIENT_TABLE = "stays that the patient table does not list"
IMPLAUSIBLE = "impossible values, taken as not measured"


class Options(Protocol):
    """What matters to what is prepared."""

    @property
    def view(self) -> eicu_features.View:
        """Day or hours."""

    @property
    def encoding(self) -> eicu_features.Encoding:
        """How the day's values stand."""

    @property
    def diagnosis(self) -> bool:
        """Whether the admission diagnosis is a feature."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Further columns."""


@dataclass(frozen=True)
class Stays:
    """All stays of a folder that have inputs and a label, in rising order, and what was left out at each hospital.

    `excluded`: of a hospital (-1: of none) what, and how often.
    """

    ids: tuple[str, ...]
    persons: tuple[str, ...]
    hospital: npt.NDArray[np.int64]
    y: npt.NDArray[np.int64]
    age: npt.NDArray[np.float32]
    sex: npt.NDArray[np.int8]
    features: npt.NDArray[np.float32]
    x: npt.NDArray[np.float32]
    region: dict[int, str]
    excluded: dict[int, dict[str, int]]
    synthetic: bool


def load_stays(folder: Path, options: Options, store: Path) -> Stays:
    """Return all stays of a folder, prepared before or now.

    Raises:
        DataError: a table is missing, damaged, or not as published; the message names table and column.
    """
    home = _home(folder)
    names = ("patient", "hospital") + (() if options.view == "hours" else ("apacheApsVar", "apachePredVar"))
    paths = [tables.find_table(home, name) for name in names]
    settings: dict[str, object] = {"version": VERSION, "view": options.view}
    if options.view == "hours":
        paths += [hourly.find_cohort_folder(folder) / f"{name}.parquet" for name in hourly.FILES]
    else:
        settings |= {"encoding": options.encoding, "diagnosis": options.diagnosis, "columns": options.columns}
    synthetic = any((place / MARKER).is_file() for place in (folder, home))
    settings["synthetic"] = synthetic
    try:
        key = cache.content_key(paths, settings)
    except OSError as error:
        raise DataError(f"{error.filename}: cannot be read: {error.strerror}") from None
    make = _prepare_hours if options.view == "hours" else _prepare_day
    arrays, about = cache.load_or_make(store, key, lambda: make(folder, options))
    return Stays(
        ids=tuple(str(stay) for stay in arrays["stay"]),
        persons=tuple(json.loads(about["persons"])),
        hospital=arrays["hospital"],
        y=arrays["y"],
        age=arrays["age"],
        sex=arrays["sex"],
        features=arrays["features"],
        x=arrays["x"],
        region={int(name): where for name, where in json.loads(about["region"]).items()},
        excluded={int(name): found for name, found in json.loads(about["excluded"]).items()},
        synthetic=synthetic,
    )


def _home(folder: Path) -> Path:
    """Return where the tables lie: in the folder, or in `eicu-crd-demo` inside of it."""
    inner = folder / "eicu-crd-demo"
    return inner if inner.is_dir() else folder


def _people(home: Path, numbers: tuple[str, ...], texts: tuple[str, ...]) -> tuple[pd.DataFrame, dict[int, str]]:
    """Return the patient table, with age (years; over 89 is 90), male and died, and the region of every hospital."""
    path = tables.find_table(home, "patient")
    wanted = ("gender", "age", "hospitaldischargestatus", "uniquepid", *texts)
    found = tables.read_table(home, "patient", ("patientunitstayid", "hospitalid", *numbers), wanted)
    found = tables.index_by_stay(found, path)
    tables.check_words(found["hospitaldischargestatus"], ("Alive", "Expired"), path)
    if found["uniquepid"].isna().any() or found["hospitalid"].isna().any():
        raise DataError(f"{path}: rows without uniquepid or hospitalid; every stay needs its person and its hospital")
    age = found["age"].str.replace(r"^\s*>\s*89\s*$", "90", regex=True)
    years = pd.to_numeric(age, errors="coerce").astype(float)
    if wrong := int((years.isna() & age.notna()).sum() + (~years.between(0, 120) & years.notna()).sum()):
        raise DataError(f"{path}: {wrong} cells of the column age are no age in years (or > 89)")
    listed = tables.find_table(home, "hospital")
    places = tables.read_table(home, "hospital", ("hospitalid",), ("region",))
    if places["hospitalid"].isna().any() or places["hospitalid"].duplicated().any():
        raise DataError(f"{listed}: a hospital stands twice or without hospitalid")
    region = {
        int(name): "-".join(where.lower().split()) if where else REGION_UNKNOWN
        for name, where in zip(places["hospitalid"], places["region"], strict=True)
    }
    if lost := int((~found["hospitalid"].isin(list(region))).sum()):
        raise DataError(f"{path}: {lost} stays are at hospitals that {listed.name} does not list; copy both whole")
    found = found.assign(
        age=years,
        male=found["gender"].map({"Female": 0.0, "Male": 1.0}).astype(float),
        died=found["hospitaldischargestatus"].map({"Alive": 0.0, "Expired": 1.0}).astype(float),
        hospitalid=found["hospitalid"].astype("int64"),
    )
    return found, region


class _Counts(dict[int, dict[str, int]]):
    """What was left out, by hospital."""

    def add(self, what: str, hospitals: Sequence[int] | npt.NDArray[np.int64], number: int = 1) -> None:
        """Count `number` at each of the hospitals, which may repeat."""
        for hospital in hospitals:
            found = self.setdefault(int(hospital), {})
            found[what] = found.get(what, 0) + number


def _prepare_day(folder: Path, options: Options) -> tuple[cache.Arrays, dict[str, str]]:
    home, counts = _home(folder), _Counts()
    extra = {name: [c for c in options.columns if c in known] for name, known in eicu_features.EXTRA_COLUMNS.items()}
    people, region = _people(home, tuple(extra["patient"]), ("unitadmitsource",))
    aps = _apache(home, "apacheApsVar", eicu_features.APS_COLUMNS, ())
    aps, impossible = units.check_units(
        aps, {name: name for name in units.UNITS}, tables.find_table(home, "apacheApsVar")
    )
    pred = _apache(home, "apachePredVar", (*eicu_features.PRED_COLUMNS, *extra["apachePredVar"]), ("admitdiagnosis",))
    apache = aps.assign(impossible=impossible).join(pred, how="inner")
    counts.add(NOT_IN_PATIENT_TABLE, [-1] * int((~apache.index.isin(people.index)).sum()))
    counts.add(NO_APACHE, people["hospitalid"][~people.index.isin(apache.index)].to_numpy())
    day = people.join(apache, how="inner")
    counts.add(NO_OUTCOME, day["hospitalid"][day["died"].isna()].to_numpy())
    day = day[day["died"].notna()]
    for hospital, number in zip(day["hospitalid"], day["impossible"], strict=True):
        if number:
            counts.add(IMPLAUSIBLE, [hospital], int(number))
    built = eicu_features.build_features(day, options.encoding, options.diagnosis, options.columns)
    features = np.column_stack([values.astype(np.float32) for values in built.values()])
    return _stored(day, day["died"], features, np.zeros((len(day), 0, 0), np.float32), region, counts)


def _apache(home: Path, name: str, numbers: tuple[str, ...], texts: tuple[str, ...]) -> pd.DataFrame:
    """Return an APACHE table by stay; -1 becomes NaN, and nothing else may be below 0."""
    path = tables.find_table(home, name)
    found = tables.index_by_stay(tables.read_table(home, name, ("patientunitstayid", *numbers), texts), path)
    values = found[list(numbers)]
    values = values.mask(values == -1)
    if wrong := [column for column in numbers if (values[column] < 0).any()]:
        raise DataError(f"{path}: the column {wrong[0]} holds numbers below 0 other than -1, which means missing")
    return values.join(found[list(texts)])


def _prepare_hours(folder: Path, options: Options) -> tuple[cache.Arrays, dict[str, str]]:
    counts = _Counts()
    people, region = _people(_home(folder), (), ())
    who, x, impossible = hourly.read_cohort(hourly.find_cohort_folder(folder))
    known = who.index.isin(people.index)
    counts.add(NOT_IN_PATIENT_TABLE, [-1] * int((~known).sum()))
    counts.add(NO_HOURS, people["hospitalid"][~people.index.isin(who.index)].to_numpy())
    who, x = who[known], x[known]
    for hospital, number in zip(people["hospitalid"].loc[who.index], impossible[known], strict=True):
        if number:
            counts.add(IMPLAUSIBLE, [hospital], int(number))
    features = who[list(hourly.STATIC)].to_numpy(np.float32)
    return _stored(people.loc[who.index], who["label"], features, x, region, counts)


def _stored(
    people: pd.DataFrame,
    died: pd.Series[float],
    features: npt.NDArray[np.float32],
    x: npt.NDArray[np.float32],
    region: dict[int, str],
    counts: _Counts,
) -> tuple[cache.Arrays, dict[str, str]]:
    arrays: cache.Arrays = {
        "stay": people.index.to_numpy(np.int64),
        "hospital": people["hospitalid"].to_numpy(np.int64),
        "y": died.to_numpy(np.int64),
        "age": people["age"].to_numpy(np.float32),
        "sex": people["male"].fillna(-1).to_numpy(np.int8),
        "features": features,
        "x": x,
    }
    about = {
        "persons": json.dumps(people["uniquepid"].tolist()),
        "region": json.dumps(region),
        "excluded": json.dumps(counts),
    }
    return arrays, about
