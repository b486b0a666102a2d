"""Beats of annotated WFDB recordings as a cohort; each recording is prepared once and cached."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from common.errors import DataError
from common.settings import Section
from common.task import Task
from sites import cache
from sites.cohort import Cohort
from sites.ecg import beats, features
from sites.ecg.annotations import UNCLASSED
from sites.ecg.headers import read_header
from sites.ecg.persons import read_age_and_sex
from sites.ecg.recordings import Recording, check_amplitudes, read_recording, recording_files


class Options(Section):
    """Options of the beats of an ECG."""

    view: Literal["window", "kachuee"] = Field("window", description="see sites/ecg/beats.py")
    leads: int = Field(2, ge=1, le=2, description="leads to use, MLII first")
    relative: bool = Field(True, description="window view: add what is relative to the recording's median beat")
    shape: int = Field(
        0,
        ge=0,
        le=2,
        description="window view: leads whose waves are measured (sites/ecg/features.py), each figure against the "
        "recording's own spread",
    )
    classes: Literal["NSVF", "NSVFQ"] = Field("NSVF", description="Q (paced, unknown) is left out or kept")
    paced: bool = Field(False, description="keep the paced recordings 102, 104, 107, 217")
    target: Literal["classes", "abnormal"] = Field(
        "classes", description="predict the classes, or normal beats (N) against all others"
    )


def beat_task(options: Options) -> Task:
    """Return what is predicted from what."""
    names = [f"lead {i + 1}" for i in range(options.leads)]
    columns: tuple[str, ...] = ()
    if options.view == "window":
        window_features = beats.window_feature_names(options.leads)
        columns = window_features if options.relative else window_features[: len(beats.RR_FEATURES)]
        columns += features.beat_feature_names(options.shape)
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
        features=columns,
        channel_names=tuple(names),
    )


def count_beats(folder: Path, names: Sequence[str], options: Options, store: Path) -> list[tuple[int, ...]]:
    """Return each recording's number of beats of every class; a recording that is not cached is prepared first."""

    def count(name: str) -> tuple[int, ...]:
        key = _key(folder, name, options)
        notes = cache.read_notes(store, key)
        if notes is None:
            notes = cache.load_or_make(store, key, lambda: _prepare(folder, name, options))[1]
        counts = tuple(notes["labels"].count(c) for c in options.classes)
        return counts if options.target == "classes" else (counts[0], sum(counts[1:]))

    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        return list(pool.map(count, names))


def read_beats(folder: Path, options: Options, ids: Sequence[str], store: Path, persons: Sequence[str]) -> Cohort:
    """Return the beats of recordings annotated with WFDB's beat codes, in the order of `ids`.

    Raises:
        DataError: `ids` is empty, or a recording cannot be read.
    """
    if not ids:
        raise DataError(f"no recordings of {folder} to read")

    def load(name: str) -> tuple[cache.Arrays, dict[str, str]]:
        return cache.load_or_make(store, _key(folder, name, options), lambda: _prepare(folder, name, options))

    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        parts = list(pool.map(load, ids))
    task = beat_task(options)
    classes = [_class_indices(notes["labels"], options) for _, notes in parts]
    total = sum(int((y >= 0).sum()) for y in classes)
    x = np.zeros((total, task.channels, task.samples), dtype=np.float32)
    columns = np.zeros((total, len(task.features)), dtype=np.float32)
    measured = len(features.beat_feature_names(options.shape)) if options.view == "window" else 0
    excluded: dict[str, int] = {}
    hours, seconds = np.zeros(total, dtype=np.float32), np.zeros(total)
    filled = 0
    for (arrays, notes), y in zip(parts, classes, strict=True):
        keep = np.flatnonzero(y >= 0)
        rows = slice(filled, filled + len(keep))
        signal = arrays["x"] if len(keep) == len(y) else arrays["x"][keep]
        leads = signal.shape[1]
        x[rows, :leads] = signal
        if task.channels > options.leads:
            np.subtract(signal, arrays["template"], out=x[rows, options.leads : options.leads + leads])
        width = min(len(task.features) - measured, arrays["features"].shape[1])
        columns[rows, :width] = arrays["features"][keep, :width]
        if measured:
            columns[rows, -measured:] = arrays["shape"][keep]
        rate = float(notes["rate"])
        since = np.diff(arrays["sample"], prepend=0)  # since the previous beat; of the first, since the start
        hours[rows], seconds[rows] = since[keep] / (3600 * rate), arrays["sample"][keep] / rate
        for reason, count in _excluded(notes, options).items():
            excluded[reason] = excluded.get(reason, 0) + count
        filled = rows.stop
    every = np.concatenate(classes)
    owner = np.repeat(np.arange(len(parts)), [len(y) for y in classes])
    y, owner = every[every >= 0], owner[every >= 0]
    return Cohort(
        task,
        x,
        columns,
        y,
        owner,
        tuple(ids),
        tuple(persons),
        np.full(len(y), -1, np.int8),
        excluded,
        synthetic=any(notes["synthetic"] == "yes" for _, notes in parts),
        age=np.asarray([float(notes["age"]) for _, notes in parts], dtype=np.float32),
        sex=np.asarray([int(notes["sex"]) for _, notes in parts], dtype=np.int8),
        hours=hours,
        seconds=seconds,
    )


def _class_indices(labels: str, options: Options) -> npt.NDArray[np.int64]:
    """Return the class of each beat, -1 of a beat that the options leave out."""
    code = np.full(256, -1, dtype=np.int64)
    code[[ord(name) for name in options.classes]] = np.arange(len(options.classes))
    if options.target == "abnormal":
        code = np.minimum(code, 1)
    return code[np.frombuffer(labels.encode(), dtype=np.uint8)]


def _key(folder: Path, name: str, options: Options) -> str:
    settings: dict[str, Any] = {"version": beats.VERSION, "view": options.view, "leads": options.leads}
    if options.shape and options.view == "window":
        settings["shape"] = options.shape
    return cache.content_key(recording_files(folder, name), settings)


def _prepare(folder: Path, name: str, options: Options) -> tuple[cache.Arrays, dict[str, str]]:
    recording = read_recording(folder, name)
    chosen = beats.choose_leads(recording, options.leads)
    check_amplitudes(recording.take_leads(chosen), folder / f"{name}.hea")
    cut = beats.cut_beats(recording, options.view, options.leads)
    age, sex = read_age_and_sex(read_header(folder / f"{name}.hea"))
    excluded = dict(cut.excluded)
    if len(chosen) < options.leads:
        excluded[f"recordings with {len(chosen)} of {options.leads} leads, the other left 0"] = 1
    notes = {
        "labels": "".join(cut.label),
        "excluded": "\n".join(f"{count}\t{reason}" for reason, count in excluded.items()),
        "synthetic": "yes" if any("SYNTHETIC" in line for line in recording.comments) else "no",
        "rate": repr(recording.rate),
        "age": repr(age),
        "sex": str(sex),
    }
    arrays: cache.Arrays = {"x": cut.x, "template": cut.template, "features": cut.features, "sample": cut.sample}
    if options.shape and options.view == "window":
        arrays["shape"] = _measure_waves(recording, cut, options)
    return arrays, notes


def _measure_waves(recording: Recording, cut: beats.Beats, options: Options) -> npt.NDArray[np.float32]:
    """Return the features of the waves `(beats, features)` of the first leads; zeros for a lead that is not there."""
    measured = np.zeros((len(cut.label), len(features.beat_feature_names(options.shape))), dtype=np.float32)
    source = cut if options.shape <= options.leads else beats.cut_beats(recording, "window", options.shape)
    leads = min(options.shape, source.x.shape[1])
    values = features.scale_to_own_spread(features.measure_beats(source.x[:, :leads], source.template[:leads]))
    measured[:, : values.shape[1]] = values
    return measured


def _excluded(notes: dict[str, str], options: Options) -> dict[str, int]:
    """Return the number of beats of a recording that are left out, by reason."""
    lines = [line.partition("\t") for line in notes["excluded"].splitlines()]
    excluded = {reason: int(count) for count, _, reason in lines}
    labels = notes["labels"]
    for reason, count in (
        ("beats of class Q", labels.count("Q") * ("Q" not in options.classes)),
        ("beats without a class", labels.count(UNCLASSED)),
    ):
        if count:
            excluded[reason] = count
    return excluded
