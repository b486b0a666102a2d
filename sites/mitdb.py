"""The MIT-BIH Arrhythmia Database: beats of 47 people, in the five classes of AAMI EC57.

Data card
    Inputs    two-lead ambulatory ECG, 360 Hz, 48 recordings of 30 minutes; cut into beats (sites/beats.py).
    Labels    N, S, V, F, Q of ANSI/AAMI EC57 from the beat annotations of two cardiologists.
    Sites     one laboratory (Beth Israel Hospital, Boston): hospitals are made by partition of patients.
    Splits    DS1 (training) and DS2 (test) of de Chazal 2004, by recording.
    Source    https://physionet.org/content/mitdb/1.0.0/  doi:10.13026/C2F305
    Citation  Moody, Mark 2001, IEEE Eng Med Biol 20(3):45-50; Goldberger et al. 2000, Circ. 101(23):e215.
    Licence   Open Data Commons Attribution License 1.0

The paced recordings 102, 104, 107 and 217 are left out by default (AAMI EC57). 201 and 202 are one person,
and de Chazal's DS1 and DS2 hold one of them each. Lead MLII is used first where a recording has it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from common.config import Section
from common.errors import DataError
from common.task import Task
from sites import beats, cache, ecg_features, records
from sites.cohort import Cohort, DataCard, Patient

CARD = DataCard(
    name="mitdb",
    title="MIT-BIH Arrhythmia Database 1.0.0",
    inputs="two-lead ambulatory ECG at 360 Hz, 48 recordings of 30 minutes, cut into beats",
    labels="beat classes N, S, V, F, Q of ANSI/AAMI EC57",
    sites="one laboratory; hospitals are made by partition of patients",
    splits="DS1 and DS2 of de Chazal 2004, by recording",
    source="https://physionet.org/content/mitdb/1.0.0/ (doi:10.13026/C2F305)",
    citation="Moody GB, Mark RG. IEEE Eng Med Biol 20(3):45-50, 2001; "
    "Goldberger AL et al. Circulation 101(23):e215, 2000",
    licence="Open Data Commons Attribution License v1.0",
)

PACED = ("102", "104", "107", "217")
SAME_PERSON = {"201": "201+202", "202": "201+202"}
DS1 = (
    "101", "106", "108", "109", "112", "114", "115", "116", "118", "119", "122",
    "124", "201", "203", "205", "207", "208", "209", "215", "220", "223", "230",
)  # fmt: skip
DS2 = (
    "100", "103", "105", "111", "113", "117", "121", "123", "200", "202", "210",
    "212", "213", "214", "219", "221", "222", "228", "231", "232", "233", "234",
)  # fmt: skip


class Options(Section):
    """Options of the beats of an ECG."""

    view: Literal["window", "kachuee"] = Field("window", description="see sites/beats.py")
    leads: int = Field(2, ge=1, le=2, description="leads to use, MLII first")
    relative: bool = Field(True, description="window view: add what is relative to the recording's median beat")
    shape: int = Field(
        0,
        ge=0,
        le=2,
        description="window view: leads whose waves are measured (sites/ecg_features.py), each figure against the "
        "recording's own spread",
    )
    classes: Literal["NSVF", "NSVFQ"] = Field("NSVF", description="Q (paced, unknown) is left out or kept")
    paced: bool = Field(False, description="keep the paced recordings 102, 104, 107, 217")
    target: Literal["classes", "abnormal"] = Field(
        "classes", description="tell the classes apart, or normal beats (N) from all others"
    )


def task(options: Options) -> Task:
    """Return what is predicted from what."""
    names = [f"lead {i + 1}" for i in range(options.leads)]
    features: tuple[str, ...] = ()
    if options.view == "window":
        every = beats.feature_names(options.leads)
        features = every if options.relative else every[: len(beats.RR_FEATURES)]
        features += ecg_features.beat_names(options.shape)
        if options.relative:
            names += [f"lead {i + 1} minus median beat" for i in range(options.leads)]
    classes, titles = tuple(options.classes), tuple(beats.CLASS_TITLES[c] for c in options.classes)
    if options.target == "abnormal":
        classes, titles = ("normal", "abnormal"), ("normal beat", "abnormal beat")
    return Task(
        name=f"{'AAMI' if options.target == 'classes' else 'abnormal'} heartbeats, {options.view} view",
        kind="multiclass",
        classes=classes,
        class_titles=titles,
        channels=len(names),
        samples=beats.SAMPLES if options.view == "window" else beats.KACHUEE_SAMPLES,
        rate_hz=beats.RATE,
        features=features,
        channel_names=tuple(names),
    )


def patients(folder: Path, options: Options, store: Path) -> list[Patient]:
    """Return the recordings to use, with the counts of their classes."""
    wanted = [name for name in records.names(folder) if options.paced or name not in PACED]
    if not wanted:
        raise DataError(f"no recordings left in {folder}: all are paced; see data.options.paced")
    return [
        Patient(
            id=name,
            person=SAME_PERSON.get(name, name),
            examples=counts,
            published="train" if name in DS1 else "test" if name in DS2 else None,
        )
        for name, counts in zip(wanted, prepared_counts(folder, wanted, options, store), strict=True)
    ]


def read(folder: Path, options: Options, ids: Sequence[str], store: Path) -> Cohort:
    """Return the beats of the recordings `ids`, in that order, without a split."""
    return read_beats(folder, options, ids, store, [SAME_PERSON.get(name, name) for name in ids])


def prepared_counts(folder: Path, names: Sequence[str], options: Options, store: Path) -> list[tuple[int, ...]]:
    """Return each recording's count of every class, preparing it first where it is not cached."""

    def one(name: str) -> tuple[int, ...]:
        key = _key(folder, name, options)
        about = cache.notes(store, key)
        if about is None:
            about = cache.load_or_make(store, key, lambda: _prepare(folder, name, options))[1]
        found = tuple(about["labels"].count(c) for c in options.classes)
        return found if options.target == "classes" else (found[0], sum(found[1:]))

    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        return list(pool.map(one, names))


def read_beats(folder: Path, options: Options, ids: Sequence[str], store: Path, persons: Sequence[str]) -> Cohort:
    """Return the beats of recordings that are annotated as MIT-BIH's are, in the order of `ids`."""
    if not ids:
        raise DataError(f"no recordings of {folder} to read")

    def one(name: str) -> tuple[cache.Arrays, dict[str, str]]:
        return cache.load_or_make(store, _key(folder, name, options), lambda: _prepare(folder, name, options))

    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        parts = list(pool.map(one, ids))
    what = task(options)
    labels = [np.frombuffer(about["labels"].encode(), dtype=np.uint8) for _, about in parts]
    code = np.full(256, -1, dtype=np.int64)
    code[[ord(name) for name in options.classes]] = np.arange(len(options.classes))
    if options.target == "abnormal":
        code = np.minimum(code, 1)
    truth = [code[marks] for marks in labels]
    total = sum(int((y >= 0).sum()) for y in truth)
    x = np.zeros((total, what.channels, what.samples), dtype=np.float32)
    features = np.zeros((total, len(what.features)), dtype=np.float32)
    measured = len(ecg_features.beat_names(options.shape)) if options.view == "window" else 0
    excluded: dict[str, int] = {}
    hours, seconds = np.zeros(total, dtype=np.float32), np.zeros(total)
    at = 0
    for name, (arrays, about), y in zip(ids, parts, truth, strict=True):
        keep = np.flatnonzero(y >= 0)
        rows = slice(at, at + len(keep))
        signal = arrays["x"] if len(keep) == len(y) else arrays["x"][keep]
        leads = signal.shape[1]
        x[rows, :leads] = signal
        if what.channels > options.leads:
            np.subtract(signal, arrays["template"], out=x[rows, options.leads : options.leads + leads])
        width = min(len(what.features) - measured, arrays["features"].shape[1])
        features[rows, :width] = arrays["features"][keep, :width]
        if measured:
            features[rows, -measured:] = arrays["shape"][keep]
        since = np.diff(arrays["sample"], prepend=0)  # the time from the beat before, the first's from the beginning
        rate = records.rate(folder, name)
        hours[rows], seconds[rows] = since[keep] / (3600 * rate), arrays["sample"][keep] / rate
        for note, number in _excluded(about).items():
            excluded[note] = excluded.get(note, 0) + number
        if len(keep) < len(y):
            excluded["beats of class Q"] = excluded.get("beats of class Q", 0) + len(y) - len(keep)
        at = rows.stop
    every = np.concatenate(truth)
    owner = np.repeat(np.arange(len(parts)), [len(y) for y in truth])
    y, owner = every[every >= 0], owner[every >= 0]
    synthetic = any(about["synthetic"] == "yes" for _, about in parts)
    people = [records.person(folder, name) for name in ids]
    return Cohort(
        what,
        x,
        features,
        y,
        owner,
        tuple(ids),
        tuple(persons),
        np.full(len(y), -1, np.int8),
        excluded,
        synthetic,
        age=np.asarray([age for age, _ in people], dtype=np.float32),
        sex=np.asarray([sex for _, sex in people], dtype=np.int8),
        hours=hours,
        seconds=seconds,
    )


def _key(folder: Path, name: str, options: Options) -> str:
    settings: dict[str, Any] = {"version": beats.VERSION, "view": options.view, "leads": options.leads}
    if options.shape and options.view == "window":
        settings["shape"] = options.shape
    return cache.key(records.files(folder, name), settings)


def _prepare(folder: Path, name: str, options: Options) -> tuple[cache.Arrays, dict[str, str]]:
    recording = records.read(folder, name)
    found = beats.cut(recording, options.view, options.leads)
    about = {
        "labels": "".join(found.label),
        "excluded": "\n".join(f"{number}\t{what}" for what, number in found.excluded.items()),
        "synthetic": "yes" if any("SYNTHETIC" in line for line in recording.comments) else "no",
    }
    arrays: cache.Arrays = {
        "x": found.x,
        "template": found.template,
        "features": found.features,
        "sample": found.sample,
    }
    if options.shape and options.view == "window":
        arrays["shape"] = _shape(recording, found, options)
    return arrays, about


def _shape(recording: records.Recording, found: beats.Beats, options: Options) -> npt.NDArray[np.float32]:
    """Return the measures of the waves `(beats, features)` of the first leads; of a lead that is not there, zeros."""
    measured = np.zeros((len(found.label), len(ecg_features.beat_names(options.shape))), dtype=np.float32)
    seen = found if options.shape <= options.leads else beats.cut(recording, "window", options.shape)
    here = min(options.shape, seen.x.shape[1])
    values = ecg_features.against_own(ecg_features.of_beats(seen.x[:, :here], seen.template[:here]))
    measured[:, : values.shape[1]] = values
    return measured


def _excluded(about: dict[str, str]) -> dict[str, int]:
    lines = [line.partition("\t") for line in about["excluded"].splitlines()]
    return {what: int(number) for number, _, what in lines}
