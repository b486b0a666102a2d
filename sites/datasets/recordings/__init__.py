"""A hospital's own folder of ECG recordings (WFDB or EDF), as a description explains it; `CARD` says more.

`wardround data init FOLDER` looks at a folder and writes its description, `recordings.yaml`. An example is a beat or a
strip of some seconds; its class is that of its annotation, of its rhythm, or of its recording in a table. At a hospital
the description in its own data folder holds: a run whose contract differs from it is refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from common.errors import ConfigError, DataError
from common.task import Task
from sites.cohort import Cohort, DataCard, Patient
from sites.datasets.recordings.description import FILE_NAME, Description, load_description, read_description
from sites.datasets.recordings.folder import RecordingFolder
from sites.datasets.recordings.owners import Owner, find_owners
from sites.datasets.recordings.strips import load_strips
from sites.ecg.beat_cohort import Codes, beat_inputs, count_classes, read_cohort
from sites.own_description import find_first_difference, read_path_options, require_description

CARD = DataCard(
    name="recordings",
    title="ECG recordings of your own (WFDB or EDF), as their description recordings.yaml explains them",
    inputs="beats or strips of the leads that the description names",
    labels="the classes that the description names, from annotations, rhythms, or a table",
    sites="a column with the hospital, a folder a hospital, or one hospital",
    splits="none published; patients are split by the run's seed",
    source="your own data",
    citation="none",
    licence="your own",
)
Options = Description


def card(options: Description) -> DataCard:
    """Return the data card that a description fills in."""
    if options.examples == "beats":
        inputs = f"beats of {options.leads} lead{'s' if options.leads > 1 else ''}, {options.view} view"
    else:
        inputs = f"strips of {options.seconds} s at {options.rate} Hz, leads {', '.join(options.strip_leads)}"
    origin = {"beats": "beat annotations", "rhythms": "rhythm annotations", "table": "a table of recordings"}
    return replace(
        CARD,
        title=options.title or "ECG recordings of the researcher's own",
        inputs=inputs,
        labels=f"{', '.join(item.name for item in options.classes)}, from {origin[options.labels]}",
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
    file = require_description(folder, FILE_NAME, "examples and classes")
    if where := find_first_difference(load_description(file).contract(), options.contract()):
        raise ConfigError(
            f"this hospital's {FILE_NAME} differs from the run's description in {where}: take that from the run's, "
            "which is data.options of config.yaml in the run's folder"
        )


def task(options: Description) -> Task:
    """Return what is predicted from what."""
    classes = tuple(item.name for item in options.classes)
    titles = tuple(item.title or item.name for item in options.classes)
    name = options.target or f"{options.examples} in {len(classes)} classes"
    if options.examples == "beats":
        return beat_inputs(options, name, classes, titles)
    return Task(
        name=name,
        kind="multiclass",
        classes=classes,
        class_titles=titles,
        channels=len(options.strip_leads),
        samples=options.seconds * options.rate,
        rate_hz=float(options.rate),
        features=(),
        channel_names=options.strip_leads,
    )


def strip_band(options: Description) -> tuple[float, float] | None:
    """Return the pass band of strips, Hz; none: as recorded."""
    return options.band


def patients(folder: Path, options: Description, store: Path) -> list[Patient]:
    """Return the recordings to use, with the examples of each class."""
    options = apply_own_reading(folder, options)
    owners, _ = find_owners(folder, options)
    names, classes = [owner.name for owner in owners], len(options.classes)
    counts: list[tuple[int, ...]]
    if options.examples == "beats":
        labels = BeatClasses(options, {owner.name: owner.label for owner in owners})
        counts = count_classes(RecordingFolder(folder, options), names, options, labels, classes, store)
    else:
        parts = load_strips(folder, options, names, [owner.label for owner in owners], store)
        counts = [tuple(np.bincount(part.y[part.y >= 0], minlength=classes).tolist()) for part in parts]
    return [
        Patient(id=owner.name, person=owner.person, examples=count, site=owner.hospital)
        for owner, count in zip(owners, counts, strict=True)
    ]


def read(folder: Path, options: Description, ids: Sequence[str], store: Path) -> Cohort:
    """Return the beats or strips of the recordings `ids`, in that order.

    What is left out of the folder as a whole is counted where its first recording is read, so that it counts once.
    """
    if not ids:
        raise DataError(f"no recordings of {folder} to read")
    options = apply_own_reading(folder, options)
    owners, excluded = find_owners(folder, options)
    own = {owner.name: owner for owner in owners}
    if absent := sum(name not in own for name in ids):
        raise DataError(f"{folder}: {absent} of the {len(ids)} requested recordings are not there")
    chosen = [own[name] for name in ids]
    persons = tuple(owner.person for owner in chosen)
    if options.examples == "beats":
        labels = BeatClasses(options, {owner.name: owner.label for owner in chosen})
        source = RecordingFolder(folder, options)
        cohort = read_cohort(source, ids, options, labels, task(options), store, persons)
    else:
        cohort = _read_strips(folder, options, chosen, store)
    counts = Counter(cohort.excluded)
    if owners[0].name in ids:
        counts.update(excluded)
    return replace(
        cohort,
        excluded=dict(counts),
        synthetic=cohort.synthetic or options.synthetic,
        age=_prefer([owner.age for owner in chosen], cohort.age, np.float32),
        sex=_prefer([owner.sex for owner in chosen], cohort.sex, np.int8),
    )


def apply_own_reading(folder: Path, options: Description) -> Description:
    """Return a run's description with the keys of `read` that the folder's own description states, if it has one."""
    file = folder / FILE_NAME
    return options.model_copy(update={"read": load_description(file).read}) if file.is_file() else options


@dataclass(frozen=True)
class BeatClasses:
    """Finds the class of each beat: that of its annotation code, or that of its whole recording.

    Attributes:
        options: the description of the data, which maps codes to classes.
        recording_class: by recording, the class of all its beats; None where each beat has the class of its own code.
    """

    options: Description
    recording_class: dict[str, int | None]

    def classify(self, name: str, codes: Sequence[str]) -> Codes:
        """Return the class of each beat, -1 of a code without a class."""
        if (whole := self.recording_class[name]) is not None:
            return np.full(len(codes), whole, dtype=np.int64)
        index = self.options.class_index
        return np.asarray([index.get(code, -1) for code in codes], dtype=np.int64)

    def count_excluded(self, name: str, codes: Sequence[str]) -> dict[str, int]:
        """Return the number of beats of codes without a class."""
        count = int((self.classify(name, codes) < 0).sum())
        return {"beats of a code without a class": count} if count else {}


def _prefer(given: list[Any], header: Any, kind: type[np.generic]) -> Any:
    """Return the ages or sexes of the table where it has a column for them, else those of the headers."""
    return header if given[0] is None else np.asarray(given, dtype=kind)


def _read_strips(folder: Path, options: Description, chosen: Sequence[Owner], store: Path) -> Cohort:
    parts = load_strips(folder, options, [owner.name for owner in chosen], [owner.label for owner in chosen], store)
    keep = [np.flatnonzero(part.y >= 0) for part in parts]
    excluded: Counter[str] = Counter()
    for part in parts:
        excluded.update(part.excluded)
    owner = np.repeat(np.arange(len(parts)), [len(rows) for rows in keep])
    return Cohort(
        task(options),
        np.concatenate([part.x[rows] for part, rows in zip(parts, keep, strict=True)]),
        np.zeros((len(owner), 0), np.float32),
        np.concatenate([part.y[rows] for part, rows in zip(parts, keep, strict=True)]),
        owner,
        tuple(item.name for item in chosen),
        tuple(item.person for item in chosen),
        np.full(len(owner), -1, np.int8),
        dict(excluded),
        any(part.synthetic for part in parts),
        age=np.asarray([part.age for part in parts], np.float32),
        sex=np.asarray([part.sex for part in parts], np.int8),
        hours=np.full(len(owner), options.seconds / 3600, np.float32),
        seconds=np.concatenate([part.start[rows] for part, rows in zip(parts, keep, strict=True)]),
    )
