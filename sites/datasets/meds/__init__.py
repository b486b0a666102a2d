"""An extract in the Medical Event Data Standard (MEDS), as a description explains it; `CARD` says more.

`wardround data init FOLDER` looks at an extract and writes its description, `meds.yaml`. An example is a person at a
time: some hours after an event such as an admission, or where labels say. Its inputs are counts, last values and means
of the events of some codes before. At a hospital the description in its own data folder holds: a run whose contract
differs from it is refused, so a coordinator cannot ask for other codes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from common.errors import ConfigError, DataError
from common.settings import validate_settings
from common.task import Task
from sites import cache, synthetic_folder
from sites.cohort import Cohort, DataCard, Patient
from sites.datasets.meds.description import AGE, FILE_NAME, MALE, Description, load_description, read_description
from sites.own_description import find_first_difference, read_path_options, require_description

if TYPE_CHECKING:
    from sites.datasets import Source
    from sites.datasets.meds.examples import Examples
    from sites.unlabelled_rows import ScorableRows

CARD = DataCard(
    name="meds",
    title="an extract in the Medical Event Data Standard (MEDS), as its description meds.yaml explains it",
    inputs="counts, last values and means of the events of the codes that the description names",
    labels="an event after the prediction, or a table of labels in the form of MEDS",
    sites="a column with the hospital, or one hospital",
    splits="metadata/subject_splits.parquet where it is there; or patients are split by the run's seed",
    source="your own data",
    citation="none",
    licence="your own",
)
VERSION = 2
Options = Description


def card(options: Description) -> DataCard:
    """Return the data card that a description fills in."""
    window = "all events" if options.window_hours is None else f"events of {options.window_hours:g} hours"
    outcome = options.outcome
    return replace(
        CARD,
        title=options.title or CARD.title,
        inputs=f"{len(options.feature_names)} inputs from {window} before the prediction: "
        + ", ".join(options.feature_names[:40]),
        labels=f"{outcome.title or 'outcome'}: {', '.join(outcome.classes)}",
        sites=f"hospitals as the column {options.read.hospital} names them" if options.read.hospital else CARD.sites,
        source=options.source or "not stated",
        citation="not stated",
        licence=options.licence or "not stated",
        question=options.question,
        synthetic=options.synthetic,
    )


def options_from_path(path: Path) -> tuple[dict[str, Any], Path] | None:
    """Return the options that a description at `path` states, and the data folder, or None without a description.

    Raises:
        ConfigError: it is no description.
    """
    return read_path_options(path, FILE_NAME, read_description)


def check_site_folder(folder: Path, options: Description) -> None:
    """Check that a hospital's own description allows what a run asks for.

    Raises:
        ConfigError: the hospital has no description, or the run's contract differs from it.
    """
    file = require_description(folder, FILE_NAME, "codes")
    own = load_description(file)
    allowed = {item.name: item for item in own.inputs}
    if unknown := [item.name for item in options.inputs if item.name not in allowed]:
        raise ConfigError(f"this hospital's {FILE_NAME} has no input {unknown[0]}, which the run asks for")
    same = own.model_copy(update={"inputs": tuple(allowed[item.name] for item in options.inputs)})
    if where := find_first_difference(same.contract(), options.contract()):
        raise ConfigError(
            f"this hospital's {FILE_NAME} differs from the run's description in {where}: take that from the run's, "
            "which is data.options of config.yaml in the run's folder"
        )


def task(options: Description) -> Task:
    """Return what is predicted from what."""
    outcome = options.outcome
    return Task(
        name=outcome.title or "event",
        kind="multiclass",
        classes=outcome.classes,
        class_titles=outcome.classes,
        channels=0,
        samples=0,
        rate_hz=0.0,
        features=options.feature_names,
        channel_names=(),
        units=True,
        missing=True,
        binary_features=(MALE,) if options.sex else (),
    )


def bounds(options: Description) -> dict[str, tuple[float, float]]:
    """Return the public range of each input that has one."""
    result = {AGE: (0.0, 130.0)} if options.birth else {}
    if options.sex:
        result[MALE] = (0.0, 1.0)
    for item in options.inputs:
        if item.range is not None:
            result |= {f"{item.name} {each}": item.range for each in item.summaries if each != "count"}
    return result


def patients(folder: Path, options: Description, store: Path) -> list[Patient]:
    """Return the people with the number of their examples in each class."""
    from sites.datasets.meds.extract import read_splits

    rows = _load(folder, options, store, labelled=True)
    split = read_splits(folder) if apply_own_reading(folder, options).read.splits else {}
    subjects, first, inverse = np.unique(rows.subject, return_index=True, return_inverse=True)
    counts = np.zeros((len(subjects), len(options.outcome.classes)), dtype=np.int64)
    np.add.at(counts, (inverse, rows.y), 1)
    return [
        Patient(
            str(subject),
            str(subject),
            tuple(own),
            site=rows.hospitals[home] if rows.hospitals else None,
            published=split.get(subject),
        )
        for subject, own, home in zip(subjects.tolist(), counts.tolist(), rows.hospital[first].tolist(), strict=True)
    ]


def read(folder: Path, options: Description, ids: Sequence[str], store: Path) -> Cohort:
    """Return the examples of the people `ids`, person after person in that order, each in order of time.

    What is left out of the extract as a whole is counted where its first person is read, so that it counts once.
    """
    if not ids:
        raise DataError(f"no examples of {folder} to read")
    rows = _load(folder, options, store, labelled=True)
    cohort = _select(folder, options, rows, ids)
    return replace(cohort, excluded=rows.excluded if str(rows.subject[0]) in ids else {})


def _select(folder: Path, options: Description, rows: Examples, ids: Sequence[str]) -> Cohort:
    number = {name: i for i, name in enumerate(ids)}
    names = rows.subject.astype(str).tolist()
    owner = np.asarray([number.get(name, -1) for name in names], dtype=np.int64)
    if absent := len(number) - len(np.unique(owner[owner >= 0])):
        raise DataError(f"{folder}: {absent} of the {len(ids)} requested people are not there")
    chosen = np.flatnonzero(owner >= 0)
    chosen = chosen[np.lexsort((rows.time[chosen], owner[chosen]))]
    owners = owner[chosen]
    first = np.searchsorted(owners, np.arange(len(ids)))
    return Cohort(
        task(options),
        np.zeros((len(chosen), 0, 0), np.float32),
        rows.features[chosen],
        rows.y[chosen],
        owners,
        tuple(ids),
        tuple(ids),
        np.full(len(chosen), -1, np.int8),
        {},
        options.synthetic or synthetic_folder.is_marked(folder),
        age=rows.age[chosen][first] if options.birth else None,
        sex=rows.sex[chosen][first] if options.sex else None,
    )


def unlabelled_rows(source: Source) -> Iterator[ScorableRows]:
    """Yield the examples of an extract, whose outcome need not be known, for `wardround score`.

    Raises:
        DataError: the folder is missing or empty, or not an extract.
    """
    from sites.unlabelled_rows import ScorableRows, unlabelled_cohort

    rows = _load(source.folder, source.options, source.store, labelled=bool(not source.options.outcome.codes))
    ids = list(dict.fromkeys(rows.subject.astype(str).tolist()))
    cohort = _select(source.folder, source.options, rows, ids)
    plain = unlabelled_cohort(
        cohort.task, cohort.x, cohort.features, cohort.patients, cohort.synthetic, owner=cohort.patient
    )
    names = np.asarray(ids, dtype=object)[cohort.patient]
    order = np.lexsort((rows.time, np.asarray([ids.index(name) for name in rows.subject.astype(str).tolist()])))
    yield ScorableRows(
        plain, {"record": names, "prediction_time": rows.time[order].astype("datetime64[us]").astype(str)}
    )


def apply_own_reading(folder: Path, options: Description) -> Description:
    """Return a run's description with the keys of `read` that the folder's own description states, if it has one."""
    file = folder / FILE_NAME
    return options.model_copy(update={"read": load_description(file).read}) if file.is_file() else options


def _load(folder: Path, options: Description, store: Path, *, labelled: bool) -> Examples:
    """Return a folder's examples, from the cache where they are there."""
    from sites.datasets.meds.extract import list_labels, list_shards

    options = apply_own_reading(folder, options)
    paths = list_shards(folder, options.read.data)
    if not options.outcome.codes and options.read.labels:
        paths += list_labels(folder, options.read.labels)
    settings = {"version": VERSION, "labelled": labelled} | options.model_dump(
        mode="json", exclude={"title", "source", "licence", "synthetic", "question"}
    )
    try:
        key = cache.content_key(paths, settings)
    except OSError as error:
        raise DataError(f"{error.filename}: cannot be read: {error.strerror}") from None
    return _load_prepared(folder, options.model_dump_json(), store, key, labelled)


@lru_cache(maxsize=2)
def _load_prepared(folder: Path, description: str, store: Path, key: str, labelled: bool) -> Examples:
    from sites.datasets.meds.examples import Examples, build_examples

    options = validate_settings(Description, json.loads(description), "data.options of meds")
    texts = ("hospitals", "excluded")
    names = [item.name for item in fields(Examples) if item.name not in texts]

    def prepare() -> tuple[cache.Arrays, dict[str, str]]:
        made = build_examples(folder, options, labelled=labelled)
        notes = {"hospitals": json.dumps(made.hospitals), "excluded": json.dumps(made.excluded)}
        return {name: np.ascontiguousarray(getattr(made, name)) for name in names}, notes

    arrays, notes = cache.load_or_make(store, key, prepare)
    own: dict[str, Any] = {name: arrays[name] for name in names}
    return Examples(**own, hospitals=tuple(json.loads(notes["hospitals"])), excluded=json.loads(notes["excluded"]))
