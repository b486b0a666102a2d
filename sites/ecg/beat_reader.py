"""Beats of annotated WFDB recordings as a cohort, prepared once and cached."""

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
from sites.ecg import beats, recordings
from sites.ecg import features as ecg_features


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
        "classes", description="tell the classes apart, or normal beats (N) from all others"
    )


def beat_task(options: Options) -> Task:
    """Return what is predicted from what."""
    names = [f"lead {i + 1}" for i in range(options.leads)]
    features: tuple[str, ...] = ()
    if options.view == "window":
        every = beats.window_feature_names(options.leads)
        features = every if options.relative else every[: len(beats.RR_FEATURES)]
        features += ecg_features.beat_feature_names(options.shape)
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


def count_beats(folder: Path, names: Sequence[str], options: Options, store: Path) -> list[tuple[int, ...]]:
    """Return each recording's count of every class, preparing it first where it is not cached."""

    def one(name: str) -> tuple[int, ...]:
        key = _key(folder, name, options)
        about = cache.read_notes(store, key)
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
    what = beat_task(options)
    labels = [np.frombuffer(about["labels"].encode(), dtype=np.uint8) for _, about in parts]
    code = np.full(256, -1, dtype=np.int64)
    code[[ord(name) for name in options.classes]] = np.arange(len(options.classes))
    if options.target == "abnormal":
        code = np.minimum(code, 1)
    truth = [code[marks] for marks in labels]
    total = sum(int((y >= 0).sum()) for y in truth)
    x = np.zeros((total, what.channels, what.samples), dtype=np.float32)
    features = np.zeros((total, len(what.features)), dtype=np.float32)
    measured = len(ecg_features.beat_feature_names(options.shape)) if options.view == "window" else 0
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
        rate = recordings.read_rate(folder, name)
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
    people = [recordings.read_age_and_sex(folder, name) for name in ids]
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
    return cache.content_key(recordings.recording_files(folder, name), settings)


def _prepare(folder: Path, name: str, options: Options) -> tuple[cache.Arrays, dict[str, str]]:
    recording = recordings.read_recording(folder, name)
    found = beats.cut_beats(recording, options.view, options.leads)
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


def _shape(recording: recordings.Recording, found: beats.Beats, options: Options) -> npt.NDArray[np.float32]:
    """Return the measures of the waves `(beats, features)` of the first leads; of a lead that is not there, zeros."""
    measured = np.zeros((len(found.label), len(ecg_features.beat_feature_names(options.shape))), dtype=np.float32)
    seen = found if options.shape <= options.leads else beats.cut_beats(recording, "window", options.shape)
    here = min(options.shape, seen.x.shape[1])
    values = ecg_features.scale_to_own_spread(ecg_features.measure_beats(seen.x[:, :here], seen.template[:here]))
    measured[:, : values.shape[1]] = values
    return measured


def _excluded(about: dict[str, str]) -> dict[str, int]:
    lines = [line.partition("\t") for line in about["excluded"].splitlines()]
    return {what: int(number) for number, _, what in lines}
