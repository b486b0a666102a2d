"""UCI Heart Disease: narrowed coronary arteries from fourteen clinical variables; `CARD` describes the data.

A hospital is a file `processed.<hospital>.data`: 14 columns separated by commas, no header, ? (or -9) not measured.

`flamby`: slope, ca and thal are dropped, then rows with a missing value; cp and restecg become dummies without the
first; a cholesterol of 0 stays 0. 13 inputs, and train and test rows as FLamby's Fed-Heart-Disease has them.

`explicit`: every row with a diagnosis and every column. What was not measured is NaN, with a 0/1 input "... measured"
for each number or yes-or-no column (not for age and sex, which all have); a code becomes one 0/1 input for each value,
all 0 where not measured. A pressure, cholesterol or heart rate of 0 counts as not measured, as does all of
Switzerland's cholesterol. Complete rows stay on the side that FLamby gives them, and the others are split in the same
way (`tested: complete`: they train), so that no one is in the test set of one protocol and the training set of the
other.

Rows that are equal in every column (two in Hungary, two in Long Beach) may or may not be one patient: `explicit`
counts them as one, `flamby` as two, as it must to keep the published sizes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from common.errors import DataError
from common.settings import Section
from common.task import Task
from sites import cache, synthetic_folder
from sites.cohort import Cohort, DataCard, Patient
from sites.datasets.heart_disease import simulate
from sites.datasets.heart_disease.rows import (
    COLUMNS,
    EXPLICIT_DUMMIES,
    EXPLICIT_NUMBERS,
    FLAMBY_COLUMNS,
    FLAMBY_DUMMIES,
    FLAMBY_NUMBERS,
    INDICATED_COLUMNS,
    PLAUSIBLE_RANGES,
    YES_OR_NO,
    ZERO_MEANS_MISSING,
    ZERO_RETAINED,
    Mask,
    build_inputs,
    choose_test_rows,
    describe_limits,
    find_file,
    find_first_equal_lines,
    find_implausible,
    hospital_files,
    read_rows,
    row_id,
    row_site,
)

if TYPE_CHECKING:
    from sites.datasets import Source
    from sites.unlabelled_rows import ScorableRows

CARD = DataCard(
    name="heart_disease",
    title="UCI Heart Disease, the four processed files",
    inputs="13 clinical variables, one row a patient: age (years), sex, chest pain cp, resting blood pressure trestbps "
    "(mm Hg), cholesterol chol (mg/dl), fasting sugar fbs, restecg, largest heart rate thalach (beats/min), exang, ST "
    "depression oldpeak (mm), slope, vessels at fluoroscopy ca, thal",
    labels="healthy (num 0), or disease (num 1 to 4): a coronary artery narrowed by more than half at angiography",
    sites="four hospitals: Cleveland Clinic 303 rows, Hungarian Institute of Cardiology 294, Zurich and Basel 123, VA "
    "Long Beach 200",
    splits="FLamby's: 66% train and 34% test in each hospital, stratified by label, seed 43; `draw` makes others",
    source="https://archive.ics.uci.edu/dataset/45/heart+disease (doi:10.24432/C52P4X)",
    citation="Janosi A, Steinbrunn W, Pfisterer M, Detrano R. Heart Disease. UCI Machine Learning Repository, 1989; "
    "Detrano R et al. Am J Cardiol 64:304-310, 1989; the split: Ogier du Terrail J et al. FLamby. NeurIPS 2022, "
    "arXiv:2210.04620",
    licence="CC BY 4.0",
    question="Which patients sent to angiography have a coronary artery narrowed by more than half?",
    years="1981 to 1987",
    setting="adults referred for coronary angiography",
)
EVENT_SHARE = (0.2, 0.97)

VERSION = 4
PUBLIC_RANGES = {"age": (20.0, 90.0), "trestbps": (80.0, 200.0), "chol": (0.0, 450.0), "thalach": (60.0, 205.0),
         "oldpeak": (-2.0, 6.0), "ca": (0.0, 3.0)}  # fmt: skip
"""Public ranges of adults sent to angiography, from textbooks; noisy sums clip values to them.

They include 0 for cholesterol, which UCI's files write where it was not measured."""


class Options(Section):
    """Options of the protocol, and of generated data."""

    protocol: Literal["flamby", "explicit"] = Field(
        "flamby", description="FLamby's complete rows and 13 inputs; or all rows and columns, missing ones marked"
    )
    draw: int = Field(0, ge=0, le=10_000, description="another published-style split: seed 43 + draw")
    tested: Literal["all", "complete"] = Field(
        "all", description="explicit: test incomplete rows too, or only those that flamby tests and train on the rest"
    )
    simulated: bool = Field(False, description="without data.path: generate hospitals in the same layout")
    hospitals: int = Field(4, ge=1, le=10_000, description="simulated: hospitals")
    patients: int = Field(200, ge=1, le=9999, description="simulated: patients a hospital")


def default_folder(options: Options, store: Path, seed: int) -> Path:
    """Return the folder of generated hospitals, generating them first if needed."""
    name = f"{options.hospitals}x{options.patients}-seed{seed}-v{simulate.VERSION}"
    folder = store / f"heart_disease-{name}"
    simulate.generate(folder, hospitals=options.hospitals, patients=options.patients, seed=seed)
    return folder


def task(options: Options) -> Task:
    """Return the task: its inputs and classes."""
    flamby = options.protocol == "flamby"
    numbers, dummies = (FLAMBY_NUMBERS, FLAMBY_DUMMIES) if flamby else (EXPLICIT_NUMBERS, EXPLICIT_DUMMIES)
    features = (
        *numbers,
        *(f"{name}={code}" for name, codes in dummies.items() for code in codes),
        *(() if flamby else (f"{name} measured" for name in INDICATED_COLUMNS)),
    )
    return Task(
        name=f"coronary heart disease, {options.protocol} protocol",
        kind="multiclass",
        classes=("healthy", "disease"),
        class_titles=("no artery narrowed by more than half", "an artery narrowed by more than half"),
        channels=0,
        samples=0,
        rate_hz=0.0,
        features=features,
        channel_names=(),
        units=True,
        missing=not flamby,
        binary_features=tuple(name for name in features if name in YES_OR_NO or "=" in name or " " in name),
    )


def bounds(options: Options) -> dict[str, tuple[float, float]]:
    """Return the public range of each input; 0 to 1 for a 0/1 input."""
    return {name: PUBLIC_RANGES.get(name, (0.0, 1.0)) for name in task(options).features}


def patients(folder: Path, options: Options, store: Path) -> list[Patient]:
    """Return every row that is used, as a patient of the hospital whose file holds it."""
    files = hospital_files(folder)
    everyone = []
    for site, path in files.items():
        arrays, _ = _load_rows(path, options, store)
        everyone += [
            Patient(
                id=row_id(site, line),
                person=row_id(site, first),
                examples=(1 - label, label),
                site=site if len(files) > 1 else None,
                published="test" if test else "train",
            )
            for line, first, label, test in zip(
                *(arrays[name].tolist() for name in ("line", "person", "y", "test")), strict=True
            )
        ]
    return everyone


def read(folder: Path, options: Options, ids: Sequence[str], store: Path) -> Cohort:
    """Return the rows `ids`, in that order.

    Excluded rows of a file are counted where its first used row is read, so that each counts once however the rows are
    assigned to hospitals.
    """
    if not ids:
        raise DataError(f"no examples of {folder} to read")
    wanted = set(ids)
    parts: list[cache.Arrays] = []
    names: list[str] = []
    persons: list[str] = []
    excluded: dict[str, int] = {}
    for site in sorted({row_site(name) for name in wanted}):
        arrays, notes = _load_rows(find_file(folder, site), options, store)
        row_ids = [row_id(site, line) for line in arrays["line"].tolist()]
        keep = [row for row, name in enumerate(row_ids) if name in wanted]
        if not keep:
            continue
        excluded_rows = json.loads(notes["excluded"]) if keep[0] == 0 else {}
        cleared = dict(zip(json.loads(notes["unread"]), arrays["unread"][keep].sum(0).tolist(), strict=True))
        for why, number in [*excluded_rows.items(), *cleared.items()]:
            if number:
                excluded[why] = excluded.get(why, 0) + int(number)
        parts.append({name: arrays[name][keep] for name in ("features", "y", "age", "sex")})
        names += [row_ids[row] for row in keep]
        persons += [row_id(site, int(arrays["person"][row])) for row in keep]
    row_by_name = {name: row for row, name in enumerate(names)}
    if absent := wanted - set(row_by_name):
        raise DataError(f"{folder}: {len(absent)} of the {len(wanted)} requested rows are not there, or not used")
    order = [row_by_name[name] for name in ids]
    whole = {name: np.concatenate([part[name] for part in parts])[order] for name in parts[0]}
    n = len(order)
    return Cohort(
        task(options),
        np.zeros((n, 0, 0), np.float32),
        whole["features"],
        whole["y"],
        np.arange(n, dtype=np.int64),
        tuple(ids),
        tuple(persons[row] for row in order),
        np.full(n, -1, np.int8),
        excluded,
        synthetic_folder.is_marked(folder),
        age=whole["age"],
        sex=whole["sex"],
    )


def _load_rows(path: Path, options: Options, store: Path) -> tuple[cache.Arrays, dict[str, str]]:
    """Return what `_prepare` gives, from the cache where it is there."""
    settings = {"version": VERSION} | options.model_dump(include={"protocol", "draw", "tested"})
    key = cache.content_key([path], settings)
    return cache.load_or_make(store, key, lambda: _prepare(path, options))


def _prepare(path: Path, options: Options) -> tuple[cache.Arrays, dict[str, str]]:
    """Return the rows that are used, with their side of the split, and counts of what is excluded or cleared."""
    values, lines = read_rows(path)
    implausible = find_implausible(path, values)
    inputs = [COLUMNS.index(name) for name in FLAMBY_COLUMNS]
    labelled = ~np.isnan(values[:, -1])
    measured = labelled & ~np.isnan(values[:, inputs]).any(1)
    complete = measured & ~implausible[:, inputs].any(1)
    disease = values[:, -1] > 0
    test = np.zeros(len(values), dtype=np.bool_)
    for part in (complete, labelled & ~complete):
        if part is complete or options.tested == "all":
            test[part] = choose_test_rows(disease[part], options.draw)
    excluded = {"rows without a diagnosis": int((~labelled).sum())}
    cleared: dict[str, Mask] = {}
    person = np.asarray(lines)
    if options.protocol == "flamby":
        included = complete
        excluded["rows with a missing value"] = int((labelled & ~measured).sum())
        first = np.where(measured & ~complete, implausible.argmax(1), -1)
        for name in PLAUSIBLE_RANGES:
            excluded[f"rows with {name} {describe_limits(name)}"] = int((first == COLUMNS.index(name)).sum())
        features = build_inputs(values, FLAMBY_NUMBERS, FLAMBY_DUMMIES)
        for name in ZERO_MEANS_MISSING:
            cleared[ZERO_RETAINED.format(name)] = values[:, COLUMNS.index(name)] == 0
    else:
        included = labelled
        person = find_first_equal_lines(values, person)
        for name in ZERO_MEANS_MISSING:
            cleared[f"{name} of 0, read as not measured"] = values[:, COLUMNS.index(name)] == 0
        for name in PLAUSIBLE_RANGES:
            cleared[f"{name} {describe_limits(name)}, read as not measured"] = implausible[:, COLUMNS.index(name)]
        values[implausible] = np.nan
        for name in ZERO_MEANS_MISSING:
            column = values[:, COLUMNS.index(name)]
            column[column == 0] = np.nan
        numbers = [COLUMNS.index(name) for name in INDICATED_COLUMNS]
        features = np.hstack([build_inputs(values, EXPLICIT_NUMBERS, EXPLICIT_DUMMIES), ~np.isnan(values[:, numbers])])
    if not included.any():
        raise DataError(
            f"{path}: none of its {len(values)} rows can be used "
            f"({'; '.join(f'{number} {why}' for why, number in excluded.items() if number)})"
            + (": data.options.protocol=explicit keeps incomplete rows" if measured.sum() < labelled.sum() else "")
        )
    sex = values[:, COLUMNS.index("sex")]
    arrays: cache.Arrays = {
        "line": np.asarray(lines)[included],
        "person": person[included],
        "features": features[included].astype(np.float32),
        "y": disease[included].astype(np.int64),
        "test": test[included],
        "age": values[included, 0].astype(np.float32),
        "sex": np.where(np.isnan(sex), -1, sex)[included].astype(np.int8),
        "unread": np.stack([flag[included] for flag in cleared.values()], 1)
        if cleared
        else np.zeros((included.sum(), 0), bool),
    }
    return arrays, {"excluded": json.dumps(excluded), "unread": json.dumps(list(cleared))}


def unlabelled_rows(source: Source) -> Iterator[ScorableRows]:
    """Yield the rows of a folder, with or without a diagnosis, for `wardround score`.

    Raises:
        DataError: the folder is missing or empty, or its files are not in this layout.
    """
    from sites.datasets.heart_disease import unlabelled

    yield from unlabelled.read_unlabelled(source)
