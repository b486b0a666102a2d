"""A hospital's own table: CSV or Parquet files that a description (`table.yaml`) explains; `CARD` says more.

`wardround data init FILE` looks at a file and writes its description. A row is an example: one a patient, several
visits of a patient, or rows in time with an event ahead. At a hospital the description in its own data folder holds:
a run whose contract differs from it is refused, so a coordinator cannot ask for other columns.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from common.errors import ConfigError, DataError
from common.settings import validate_settings
from common.task import Task
from sites import cache, synthetic_folder
from sites.cohort import Cohort, DataCard, Patient
from sites.datasets.table.description import (
    FILE_NAME,
    MEASURED,
    Description,
    find_difference,
    load_description,
    read_description,
)
from sites.datasets.table.inputs import apply_own_reading, build_task
from sites.own_description import read_path_options, require_description

if TYPE_CHECKING:
    from sites.datasets import Source
    from sites.datasets.table.ahead import TimedRows
    from sites.unlabelled_rows import ScorableRows

CARD = DataCard(
    name="table",
    title="a table of your own (CSV or Parquet), as its description table.yaml explains it",
    inputs="the columns that the description names",
    labels="the outcome that the description names",
    sites="a column with the hospital, a file a hospital, or one hospital",
    splits="none published; patients are split by the run's seed",
    source="your own data",
    citation="none",
    licence="your own",
)
VERSION = 5
Options = Description


def card(options: Description) -> DataCard:
    """Return the data card that a description fills in."""
    numbers = sum(item.kind == "number" for item in options.inputs)
    kinds = f"{len(options.inputs)} columns, {numbers} of them numbers"
    named = ", ".join(f"{item.name} ({item.unit})" if item.unit else item.name for item in options.inputs[:40])
    more = f" and {len(options.inputs) - 40} more" if len(options.inputs) > 40 else ""
    outcome = options.outcome
    label = f"{outcome.title or outcome.column}: {', '.join(outcome.names)}"
    if options.time:
        label += f"; a row counts as the event if it begins within {options.time.ahead_hours:g} hours"
    return DataCard(
        name="table",
        title=options.title or "a table of the researcher's own",
        inputs=f"{kinds}: {named}{more}",
        labels=label,
        sites="hospitals as the column names them" if options.read.hospital else CARD.sites,
        splits=CARD.splits,
        source=options.source or "not stated",
        citation="not stated",
        licence=options.licence or "not stated",
        question=options.question,
        synthetic=options.synthetic,
        warning=""
        if options.patient
        else "No column names the patients: a person with several rows may be in training and in test.",
    )


def options_from_path(path: Path) -> tuple[dict[str, Any], Path] | None:
    """Return the options that a description at `path` states, and the data folder, or None without a description.

    Args:
        path: the description's file, or a folder that holds one.

    Raises:
        ConfigError: it is no description.
    """
    return read_path_options(path, FILE_NAME, read_description)


def check_site_folder(folder: Path, options: Description) -> None:
    """Check that a hospital's own description allows what a run asks for.

    Raises:
        ConfigError: the hospital has no description, or the run's contract differs from it.
    """
    file = require_description(folder, FILE_NAME, "columns")
    own = load_description(file)
    allowed = {item.name: item for item in own.inputs}
    if unknown := [item.name for item in options.inputs if item.name not in allowed]:
        raise ConfigError(f"this hospital's {FILE_NAME} has no input {unknown[0]}, which the run asks for")
    same = own.model_copy(update={"inputs": tuple(allowed[item.name] for item in options.inputs)})
    if where := find_difference(same, options):
        raise ConfigError(
            f"this hospital's {FILE_NAME} differs from the run's description in {where}: take that from the run's, "
            "which is data.options of config.yaml in the run's folder"
        )


def task(options: Description) -> Task:
    """Return the task: its inputs and classes."""
    return build_task(options)


def bounds(options: Description) -> dict[str, tuple[float, float]]:
    """Return the public range of each input that has one; 0 to 1 for a 0/1 input."""
    result = {}
    for item in options.inputs:
        for name in item.features:
            if item.kind != "number" or name.endswith(MEASURED):
                result[name] = (0.0, 1.0)
            elif item.range is not None:
                result[name] = item.range
    return result


def patients(folder: Path, options: Description, store: Path) -> list[Patient]:
    """Return the patients with the number of their rows in each class."""
    timed = _load(folder, options, store, labelled=True)
    rows = timed.rows
    counts = np.zeros((len(rows.patients), len(options.outcome.values)), dtype=np.int64)
    np.add.at(counts, (rows.patient, rows.y), 1)
    several = len(rows.hospitals) > 1
    return [
        Patient(name, name, tuple(own), site=rows.hospitals[home] if several else None)
        for name, own, home in zip(rows.patients, counts.tolist(), rows.hospital.tolist(), strict=True)
        if sum(own)
    ]


def read(folder: Path, options: Description, ids: Sequence[str], store: Path) -> Cohort:
    """Return the rows of the patients `ids`, patient after patient in that order.

    Excluded rows of a hospital are counted where its first patient is read, so that each counts once however patients
    are assigned to hospitals.
    """
    if not ids:
        raise DataError(f"no examples of {folder} to read")
    timed = _load(folder, options, store, labelled=True)
    rows = timed.rows
    number = {name: i for i, name in enumerate(rows.patients)}
    if absent := [name for name in ids if name not in number]:
        raise DataError(f"{folder}: {len(absent)} of the {len(ids)} requested patients are not there")
    wanted = np.fromiter((number[name] for name in ids), np.int64, len(ids))
    position = np.full(len(rows.patients), -1, dtype=np.int64)
    position[wanted] = np.arange(len(wanted))
    owner = position[rows.patient]
    chosen = np.flatnonzero(owner >= 0)
    chosen = chosen[np.argsort(owner[chosen], kind="stable")]
    excluded = {why: int(n) for why, n in zip(rows.reasons, rows.cleared[wanted].sum(0), strict=True) if n}
    for home, first in zip(*np.unique(rows.hospital, return_index=True), strict=True):
        if position[first] >= 0:
            for why, n in zip(rows.exclusions, rows.excluded[home].tolist(), strict=True):
                if n:
                    excluded[why] = excluded.get(why, 0) + n
    owners = owner[chosen]
    first_row = np.zeros(len(ids), dtype=np.int64)
    first_row[owners[::-1]] = chosen[::-1]
    return Cohort(
        task(options),
        np.zeros((len(chosen), 0, 0), np.float32),
        rows.take_features(chosen),
        rows.y[chosen],
        owners,
        tuple(ids),
        tuple(ids),
        np.full(len(chosen), -1, np.int8),
        excluded,
        options.synthetic or synthetic_folder.is_marked(folder),
        age=rows.age[first_row] if options.age else None,
        sex=rows.sex[first_row] if options.sex else None,
        hours=timed.covered[chosen] if options.time else None,
        until=timed.until[chosen] if options.time else None,
    )


def unlabelled_rows(source: Source) -> Iterator[ScorableRows]:
    """Yield the rows of a folder, whose outcome need not be known, for `wardround score`.

    Raises:
        DataError: the folder is missing or empty, or its files are not as described.
    """
    from sites.datasets.table import unlabelled

    yield from unlabelled.read_unlabelled(source)


def _load(folder: Path, options: Description, store: Path, *, labelled: bool) -> TimedRows:
    """Return a folder's rows, from the cache where they are there."""
    from sites.datasets.table.files import list_files

    options = apply_own_reading(folder, options)
    paths = list_files(folder, options.read)
    settings = {"version": VERSION, "labelled": labelled} | options.model_dump(
        mode="json", exclude={"title", "source", "licence", "synthetic", "question"}
    )
    try:
        key = cache.content_key(paths, settings)
    except OSError as error:
        raise DataError(f"{error.filename}: cannot be read: {error.strerror}") from None
    return _load_prepared(folder, options.model_dump_json(), store, key, labelled)


@lru_cache(maxsize=2)
def _load_prepared(folder: Path, description: str, store: Path, key: str, labelled: bool) -> TimedRows:
    from sites.datasets.table import stored

    options = validate_settings(Description, json.loads(description), "data.options of table")
    arrays, notes = cache.load_or_make(store, key, lambda: stored.prepare(folder, options, labelled=labelled))
    return stored.restore(arrays, json.loads(notes["names"]))
