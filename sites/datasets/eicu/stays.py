"""All stays of a folder of eICU's tables: inputs, label, person, hospital, and counts of what is excluded; cached."""

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
from sites import cache, synthetic_folder
from sites.datasets.eicu import features as eicu_features
from sites.datasets.eicu import hourly, tables, units

VERSION = 4
REGION_UNKNOWN = "region-unknown"
NO_APACHE = "stays without APACHE variables of the first day"
NO_OUTCOME = "stays whose outcome is not known"
NO_HOURS = "stays outside of the hourly cohort"
NOT_IN_PATIENT_TABLE = "stays that the patient table does not list"
MIN_DIAGNOSES = 20
"""Fewest diagnoses of which one must be known."""
DIED_OF_WORD = {"Alive": 0.0, "Expired": 1.0}


class StayOptions(Protocol):
    """The options that affect the prepared data."""

    @property
    def view(self) -> eicu_features.View:
        """Day or hours."""

    @property
    def encoding(self) -> eicu_features.Encoding:
        """Encoding of the day's values."""

    @property
    def diagnosis(self) -> bool:
        """Whether the admission diagnosis is a feature."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Further columns."""


@dataclass(frozen=True)
class Stays:
    """All stays of a folder that have inputs and a label, in rising order.

    Attributes:
        ids: numbers of the stays, as text.
        persons: person of each stay.
        hospital: int64 `(stays,)`, number of its hospital.
        y: int64 `(stays,)`, 1 died.
        age: float32 `(stays,)`, years, NaN unknown.
        sex: int8 `(stays,)`, 0 female, 1 male, -1 unknown.
        features: float32 `(stays, features)`.
        x: float32 `(stays, channels, 25)`; no channels in the view day.
        region: region of each hospital.
        excluded: counts of excluded stays by reason, for each hospital (-1: of no hospital).
        cleared: counts of implausible values that became NaN, by column, for each hospital.
        synthetic: whether the files say that they were generated.
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
    cleared: dict[int, dict[str, int]]
    synthetic: bool


def load_stays(folder: Path, options: StayOptions, store: Path, *, labelled: bool = True) -> Stays:
    """Return all stays of a folder, from the cache where they are there.

    Args:
        folder: the data folder.
        options: what is prepared.
        store: folder of prepared data.
        labelled: whether to read outcomes and keep only stays with a known one; if not, `y` is 0.

    Raises:
        DataError: a table is missing, damaged, or not as published; the message names table and column.
    """
    home = _tables_folder(folder)
    names = ("patient", "hospital") + (() if options.view == "hours" else ("apacheApsVar", "apachePredVar"))
    paths = [tables.find_table(home, name) for name in names]
    settings: dict[str, object] = {"version": VERSION, "view": options.view, "labelled": labelled}
    if options.view == "hours":
        paths += hourly.cohort_files(hourly.find_cohort_folder(folder), labelled)
    else:
        settings |= {"encoding": options.encoding, "diagnosis": options.diagnosis, "columns": options.columns}
    synthetic = any(map(synthetic_folder.is_marked, (folder, home)))
    settings["synthetic"] = synthetic
    try:
        key = cache.content_key(paths, settings)
    except OSError as error:
        raise DataError(f"{error.filename}: cannot be read: {error.strerror}") from None
    make = _prepare_hours if options.view == "hours" else _prepare_day
    arrays, notes = cache.load_or_make(store, key, lambda: make(folder, options, labelled))
    return Stays(
        ids=tuple(str(stay) for stay in arrays["stay"]),
        persons=tuple(json.loads(notes["persons"])),
        hospital=arrays["hospital"],
        y=arrays["y"],
        age=arrays["age"],
        sex=arrays["sex"],
        features=arrays["features"],
        x=arrays["x"],
        region={int(name): region for name, region in json.loads(notes["region"]).items()},
        excluded={int(name): counts for name, counts in json.loads(notes["excluded"]).items()},
        cleared={int(name): counts for name, counts in json.loads(notes["cleared"]).items()},
        synthetic=synthetic,
    )


def _tables_folder(folder: Path) -> Path:
    """Return the folder of the tables: `folder`, or `eicu-crd-demo` inside it."""
    inner = folder / "eicu-crd-demo"
    return inner if inner.is_dir() else folder


def _read_people(
    home: Path, labelled: bool, numbers: tuple[str, ...] = (), texts: tuple[str, ...] = ()
) -> tuple[pd.DataFrame, dict[int, str]]:
    """Return the patient table, with age (years; above 89 is 90), male and died, and the region of every hospital.

    Without labels `died` is 0.

    Raises:
        DataError: a table or column is missing, or a cell is not as eICU publishes it.
    """
    path = tables.find_table(home, "patient")
    wanted = ("gender", "age", "uniquepid", *(["hospitaldischargestatus"] if labelled else []), *texts)
    patients = tables.read_table(home, "patient", ("patientunitstayid", "hospitalid", *numbers), wanted)
    patients = tables.index_by_stay(patients, path)
    if labelled:
        tables.check_words(patients["hospitaldischargestatus"], DIED_OF_WORD, path)
        died = patients["hospitaldischargestatus"].map(DIED_OF_WORD).astype(float)
    else:
        died = pd.Series(0.0, index=patients.index)
    if patients["uniquepid"].isna().any() or patients["hospitalid"].isna().any():
        raise DataError(f"{path}: rows without uniquepid or hospitalid; every stay needs its person and its hospital")
    tables.check_whole_numbers(patients["hospitalid"], path)
    age = patients["age"].str.replace(r"^\s*>\s*89\s*$", "90", regex=True)
    years = pd.to_numeric(age, errors="coerce").astype(float)
    if wrong := int((years.isna() & age.notna()).sum() + (~years.between(0, 120) & years.notna()).sum()):
        raise DataError(f"{path}: {wrong} cells of the column age are not an age in years (or > 89)")
    patients = patients.assign(
        age=years,
        male=tables.parse_sex(patients["gender"], path),
        died=died,
        hospitalid=patients["hospitalid"].astype("int64"),
    )
    if "unitadmitsource" in texts:
        words = {word.lower(): word for word in eicu_features.ADMISSION_SOURCES}
        source = patients["unitadmitsource"].str.lower().map(words).fillna(patients["unitadmitsource"])
        tables.check_words(source, words.values(), path)
    listed = tables.find_table(home, "hospital")
    region = _read_regions(home, listed)
    if unlisted := int((~patients["hospitalid"].isin(list(region))).sum()):
        raise DataError(
            f"{path}: {unlisted} stays are at hospitals that {listed.name} does not list; copy both tables whole"
        )
    return patients, region


def _read_regions(home: Path, path: Path) -> dict[int, str]:
    """Return the region of every hospital.

    Raises:
        DataError: the table is not as eICU publishes it.
    """
    hospitals = tables.read_table(home, "hospital", ("hospitalid",), ("region",))
    if hospitals["hospitalid"].isna().any() or hospitals["hospitalid"].duplicated().any():
        raise DataError(f"{path}: a hospital has two rows, or a row no hospitalid")
    tables.check_whole_numbers(hospitals["hospitalid"], path)
    return {
        int(number): "-".join(name.lower().split()) if name else REGION_UNKNOWN
        for number, name in zip(hospitals["hospitalid"], hospitals["region"], strict=True)
    }


class _Counts(dict[int, dict[str, int]]):
    """Counts of what is excluded or cleared: hospital -> reason -> number."""

    def add(self, reason: str, hospitals: Sequence[int] | npt.NDArray[np.int64], number: int = 1) -> None:
        """Add `number` to the count of `reason` at each of the hospitals; one may occur several times."""
        for hospital in hospitals:
            counts = self.setdefault(int(hospital), {})
            counts[reason] = counts.get(reason, 0) + number


def _prepare_day(folder: Path, options: StayOptions, labelled: bool) -> tuple[cache.Arrays, dict[str, str]]:
    """Return the arrays and notes of the view day, as they are cached."""
    home, excluded = _tables_folder(folder), _Counts()
    extra = {name: [c for c in options.columns if c in known] for name, known in eicu_features.EXTRA_COLUMNS.items()}
    people, region = _read_people(home, labelled, tuple(extra["patient"]), ("unitadmitsource",))
    aps = _read_apache(home, "apacheApsVar", eicu_features.APS_COLUMNS, ())
    hospital = people["hospitalid"].reindex(aps.index, fill_value=-1).to_numpy(np.int64)
    path = tables.find_table(home, "apacheApsVar")
    limits = units.UNITS | {name: units.CODED[name] for name in (*eicu_features.NEURO, *eicu_features.APS_FLAGS)}
    aps, implausible = units.clear_implausible(aps, limits, path, aps.index.to_numpy(np.int64), hospital)
    pred, in_pred = _read_predictors(home, extra["apachePredVar"], people)
    people, in_people = _clear_body(home, people, extra["patient"])
    apache = aps.join(pred, how="inner")
    excluded.add(NOT_IN_PATIENT_TABLE, [-1] * int((~apache.index.isin(people.index)).sum()))
    excluded.add(NO_APACHE, people["hospitalid"][~people.index.isin(apache.index)].to_numpy())
    day = people.join(apache, how="inner")
    excluded.add(NO_OUTCOME, day["hospitalid"][day["died"].isna()].to_numpy())
    day = day[day["died"].notna()]
    cleared = _Counts()
    for frame, by_reason in ((aps, implausible), (pred, in_pred), (people, in_people)):
        where = people["hospitalid"].reindex(frame.index, fill_value=-1).to_numpy(np.int64)
        for reason, rows in by_reason.items():
            cleared.add(reason, where[rows & frame.index.isin(day.index)])
    built = eicu_features.build_features(day, options.encoding, options.diagnosis, options.columns)
    features = np.column_stack([values.astype(np.float32) for values in built.values()])
    x = np.zeros((len(day), 0, 0), np.float32)
    return _to_arrays(day, day["died"], features, x, region, excluded, cleared)


def _read_predictors(home: Path, extra: list[str], people: pd.DataFrame) -> tuple[pd.DataFrame, units.Cleared]:
    """Return the table apachePredVar by stay, without codes that it does not have, and what was cleared.

    Raises:
        DataError: the table is not as published, or no diagnosis is one of APACHE's.
    """
    path = tables.find_table(home, "apachePredVar")
    frame = _read_apache(home, "apachePredVar", (*eicu_features.PRED_COLUMNS, *extra), ("admitdiagnosis",))
    diagnosis = frame["admitdiagnosis"].dropna().str.upper()
    known = tuple(start for starts in eicu_features.DIAGNOSES.values() for start in starts)
    if len(diagnosis) >= MIN_DIAGNOSES and not diagnosis.str.startswith(known).any():
        raise DataError(
            f"{path}: no cell of the column admitdiagnosis is one of APACHE's diagnoses, such as SEPSISPULM"
        )
    limits = {name: units.CODED[name] for name in eicu_features.PRED_COLUMNS}
    hospital = people["hospitalid"].reindex(frame.index, fill_value=-1).to_numpy(np.int64)
    return units.clear_implausible(frame, limits, path, frame.index.to_numpy(np.int64), hospital)


def _clear_body(home: Path, people: pd.DataFrame, columns: list[str]) -> tuple[pd.DataFrame, units.Cleared]:
    """Return the patient table without implausible ages, heights and weights, and what was cleared.

    Raises:
        DataError: a hospital's median is implausible.
    """
    limits = {name: units.BODY[name.removeprefix("admission")] for name in columns if name.startswith("admission")}
    limits["age"] = units.AGE
    stay, hospital = people.index.to_numpy(np.int64), people["hospitalid"].to_numpy(np.int64)
    return units.clear_implausible(people, limits, tables.find_table(home, "patient"), stay, hospital)


def _read_apache(home: Path, name: str, numbers: tuple[str, ...], texts: tuple[str, ...]) -> pd.DataFrame:
    """Return an APACHE table by stay, with NaN for -1, which stands for a missing value.

    Raises:
        DataError: another number below 0 occurs.
    """
    path = tables.find_table(home, name)
    table = tables.index_by_stay(tables.read_table(home, name, ("patientunitstayid", *numbers), texts), path)
    values = table[list(numbers)]
    values = values.mask(values == -1)
    if wrong := [column for column in numbers if (values[column] < 0).any()]:
        raise DataError(f"{path}: the column {wrong[0]} holds numbers below 0 other than -1, which means missing")
    return values.join(table[list(texts)])


def _prepare_hours(folder: Path, options: StayOptions, labelled: bool) -> tuple[cache.Arrays, dict[str, str]]:
    """Return the arrays and notes of the view hours, as they are cached."""
    excluded, cleared = _Counts(), _Counts()
    people, region = _read_people(_tables_folder(folder), labelled)
    cohort = hourly.read_cohort(hourly.find_cohort_folder(folder), people["hospitalid"], labelled=labelled)
    stays = cohort.stays
    known = stays.index.isin(people.index)
    excluded.add(NOT_IN_PATIENT_TABLE, [-1] * int((~known).sum()))
    excluded.add(NO_HOURS, people["hospitalid"][~people.index.isin(stays.index)].to_numpy())
    people = people.loc[stays.index[known]]
    for reason, numbers in cohort.cleared.items():
        for hospital, number in zip(people["hospitalid"], numbers[known].tolist(), strict=True):
            if number:
                cleared.add(reason, [hospital], number)
    features = stays.loc[known, list(hourly.STATIC)].to_numpy(np.float32)
    return _to_arrays(people, stays["label"][known], features, cohort.x[known], region, excluded, cleared)


def _to_arrays(
    people: pd.DataFrame,
    died: pd.Series[float],
    features: npt.NDArray[np.float32],
    x: npt.NDArray[np.float32],
    region: dict[int, str],
    excluded: _Counts,
    cleared: _Counts,
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
    notes = {
        "persons": json.dumps(people["uniquepid"].tolist()),
        "region": json.dumps(region),
        "excluded": json.dumps(excluded),
        "cleared": json.dumps(cleared),
    }
    return arrays, notes
