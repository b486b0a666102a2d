"""Beats of annotated recordings as a cohort; each recording is prepared once and cached with the codes of its beats.

Where the recordings are, and what the code of a beat means, is the caller's: `BeatFolder` and `BeatLabels`.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, Protocol, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from common.errors import DataError
from common.settings import Section
from common.task import Task
from sites import cache
from sites.cohort import Cohort
from sites.ecg import beats, features
from sites.ecg.annotation_fit import MISFIT, fits_waves
from sites.ecg.filtering import fill_gaps
from sites.ecg.recordings import Recording, check_amplitudes
from sites.ecg.streaming import recording as causal_recording

Codes = npt.NDArray[np.int64]


class BeatView(Section):
    """How beats become inputs."""

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
    causal: bool = Field(
        False,
        description="window view: describe each beat by earlier beats only, as a monitor at the bedside must "
        "(sites/ecg/streaming)",
    )

    @model_validator(mode="after")
    def _check_causal(self) -> Self:
        if self.causal and (self.view != "window" or self.shape > self.leads):
            raise ValueError("causal needs view=window, and shape at most leads")
        return self


class BeatFolder(Protocol):
    """The recordings of a folder."""

    @property
    def codes(self) -> Collection[str]:
        """The codes of annotations that are beats."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """What affects the prepared beats besides the files and the view."""

    def list_files(self, name: str) -> Sequence[Path]:
        """Return the files of a recording, its header first."""

    def read(self, name: str) -> Recording:
        """Return a recording with its beats."""

    def read_age_and_sex(self, name: str) -> tuple[float, int]:
        """Return age (years, NaN unknown) and sex (0 female, 1 male, -1 unknown) from a recording's header."""


class BeatLabels(Protocol):
    """What the codes of beats mean."""

    def classify(self, name: str, codes: Sequence[str]) -> Codes:
        """Return the class of each beat of a recording, -1 of one that is left out."""

    def count_excluded(self, name: str, codes: Sequence[str]) -> Mapping[str, int]:
        """Return how many beats of a recording `classify` leaves out, by reason."""


def beat_inputs(view: BeatView, name: str, classes: tuple[str, ...], titles: tuple[str, ...]) -> Task:
    """Return the task of predicting classes from beats in a view."""
    channels = [f"lead {i + 1}" for i in range(view.leads)]
    columns: tuple[str, ...] = ()
    if view.view == "window":
        window_features = beats.window_feature_names(view.leads)
        columns = window_features if view.relative else window_features[: len(beats.RR_FEATURES)]
        columns += features.beat_feature_names(view.shape)
        if view.relative:
            channels += [f"lead {i + 1} minus median beat" for i in range(view.leads)]
    return Task(
        name=name,
        kind="multiclass",
        classes=classes,
        class_titles=titles,
        channels=len(channels),
        samples=beats.SAMPLES if view.view == "window" else beats.KACHUEE_SAMPLES,
        rate_hz=beats.RATE,
        features=columns,
        channel_names=tuple(channels),
    )


def count_classes(
    folder: BeatFolder, names: Sequence[str], view: BeatView, labels: BeatLabels, classes: int, store: Path
) -> list[tuple[int, ...]]:
    """Return each recording's number of beats of every class; a recording that is not cached is prepared first."""

    def count(name: str) -> tuple[int, ...]:
        key = _key(folder, name, view)
        notes = cache.read_notes(store, key)
        if notes is None:
            notes = cache.load_or_make(store, key, lambda: _prepare(folder, name, view))[1]
        y = labels.classify(name, _split_codes(notes))
        return tuple(np.bincount(y[y >= 0], minlength=classes).tolist())

    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        return list(pool.map(count, names))


def read_cohort(
    folder: BeatFolder,
    ids: Sequence[str],
    view: BeatView,
    labels: BeatLabels,
    task: Task,
    store: Path,
    persons: Sequence[str],
) -> Cohort:
    """Return the beats of recordings in the order of `ids`.

    Raises:
        DataError: `ids` is empty, or a recording cannot be read.
    """
    if not ids:
        raise DataError("no recordings to read")

    def load(name: str) -> tuple[cache.Arrays, dict[str, str]]:
        return cache.load_or_make(store, _key(folder, name, view), lambda: _prepare(folder, name, view))

    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        parts = list(pool.map(load, ids))
    codes = [_split_codes(notes) for _, notes in parts]
    classes = [labels.classify(name, own) for name, own in zip(ids, codes, strict=True)]
    total = sum(int((y >= 0).sum()) for y in classes)
    x = np.zeros((total, task.channels, task.samples), dtype=np.float32)
    columns = np.zeros((total, len(task.features)), dtype=np.float32)
    measured = len(features.beat_feature_names(view.shape)) if view.view == "window" else 0
    excluded: dict[str, int] = {}
    hours, seconds = np.zeros(total, dtype=np.float32), np.zeros(total)
    filled = 0
    for name, (arrays, notes), own, y in zip(ids, parts, codes, classes, strict=True):
        keep = np.flatnonzero(y >= 0)
        rows = slice(filled, filled + len(keep))
        signal = arrays["x"] if len(keep) == len(y) else arrays["x"][keep]
        leads = signal.shape[1]
        x[rows, :leads] = signal
        if task.channels > view.leads:
            template = arrays["template"]
            if view.causal and len(keep) < len(y):
                template = template[keep]
            np.subtract(signal, template, out=x[rows, view.leads : view.leads + leads])
        width = min(len(task.features) - measured, arrays["features"].shape[1])
        columns[rows, :width] = arrays["features"][keep, :width]
        if measured:
            columns[rows, -measured:] = arrays["shape"][keep]
        rate = float(notes["rate"])
        since = np.diff(arrays["sample"], prepend=0)  # since the previous beat; of the first, since the start
        hours[rows], seconds[rows] = since[keep] / (3600 * rate), arrays["sample"][keep] / rate
        lines = [line.partition("\t") for line in notes["excluded"].splitlines()]
        reasons = {reason: int(count) for count, _, reason in lines} | dict(labels.count_excluded(name, own))
        for reason, count in reasons.items():
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


def _split_codes(notes: Mapping[str, str]) -> list[str]:
    return notes["codes"].split("\n") if notes["codes"] else []


def _key(folder: BeatFolder, name: str, view: BeatView) -> str:
    settings: dict[str, Any] = {"version": beats.VERSION, "view": view.view, "leads": view.leads}
    if view.shape and view.view == "window":
        settings["shape"] = view.shape
    if view.causal:
        settings["causal"] = causal_recording.VERSION
    return cache.content_key(folder.list_files(name), settings | dict(folder.settings))


def _prepare(folder: BeatFolder, name: str, view: BeatView) -> tuple[cache.Arrays, dict[str, str]]:
    recording = folder.read(name)
    chosen = beats.choose_leads(recording, view.leads)
    check_amplitudes(recording.take_leads(chosen), folder.list_files(name)[0])
    if view.causal:
        cut, waves = causal_recording.cut_recording(recording, view.leads, view.shape, folder.codes)
    else:
        cut = beats.cut_beats(recording, view.view, view.leads, folder.codes)
    age, sex = folder.read_age_and_sex(name)
    excluded = dict(cut.excluded)
    first_lead = fill_gaps(recording.signal[:, chosen[:1]])[0][:, 0]
    if not fits_waves(first_lead, recording.rate, recording.sample[np.isin(recording.symbol, list(folder.codes))]):
        excluded[MISFIT] = 1
    if len(chosen) < view.leads:
        excluded[f"recordings with {len(chosen)} of {view.leads} leads, the other left 0"] = 1
    notes = {
        "codes": "\n".join(cut.symbol.tolist()),
        "excluded": "\n".join(f"{count}\t{reason}" for reason, count in excluded.items()),
        "synthetic": "yes" if any("SYNTHETIC" in line for line in recording.comments) else "no",
        "rate": repr(recording.rate),
        "age": repr(age),
        "sex": str(sex),
    }
    arrays: cache.Arrays = {"x": cut.x, "template": cut.template, "features": cut.features, "sample": cut.sample}
    if view.shape and view.view == "window":
        arrays["shape"] = waves if view.causal else _measure_waves(recording, cut, view, folder.codes)
    return arrays, notes


def _measure_waves(
    recording: Recording, cut: beats.Beats, view: BeatView, codes: Collection[str]
) -> npt.NDArray[np.float32]:
    """Return the features of the waves `(beats, features)` of the first leads; zeros for a lead that is not there."""
    measured = np.zeros((len(cut.label), len(features.beat_feature_names(view.shape))), dtype=np.float32)
    source = cut if view.shape <= view.leads else beats.cut_beats(recording, "window", view.shape, codes)
    leads = min(view.shape, source.x.shape[1])
    values = features.scale_to_own_spread(features.measure_beats(source.x[:, :leads], source.template[:leads]))
    measured[:, : values.shape[1]] = values
    return measured
