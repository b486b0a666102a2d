"""The recordings of PTB-XL as strips or beats, prepared once for each folder of files.

A folder (records100/00000 and so on) holds up to 1,000 recordings; each is one file of the cache.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from common.errors import DataError
from sites import cache
from sites.ecg import beats, r_peaks, recordings
from sites.ecg.filtering import fill_gaps, resample_and_filter
from sites.ecg.headers import Header, read_header
from sites.ecg.leads import Lead
from sites.ecg.signals import read_leads

VERSION = 2
"""Part of the cache's key; increased when this file computes something else."""
SECONDS = 10
BAND = (0.5, 40.0)
"""Hz; of filtered strips. Beats are filtered alike when they are cut."""
MISSING_SAMPLES, CUT_OFF = "strips with missing samples", "beats cut off by an end of the strip"
LEFT_OUT = (
    MISSING_SAMPLES, CUT_OFF, "beats with missing samples", "recordings with fewer than three beats",
)  # fmt: skip


@dataclass(frozen=True)
class PreparedView:
    """What is prepared from the files.

    Attributes:
        view: strips or beats.
        rate: Hz of the files.
        leads: leads of the beats; strips are prepared with all 12.
        filtered: whether strips are filtered to BAND.
    """

    view: Literal["strip", "beats"]
    rate: Literal[100, 500]
    leads: tuple[Lead, ...]
    filtered: bool


def expand_spans(first: npt.NDArray[np.int64], count: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the consecutive integers of all spans, one span after the other.

    >>> expand_spans(np.array([3, 10]), np.array([2, 3])).tolist()
    [3, 4, 10, 11, 12]

    Args:
        first: `(spans,)`, the first integer of each.
        count: `(spans,)`, the number of integers of each.
    """
    return np.repeat(first - (np.cumsum(count) - count), count) + np.arange(int(count.sum()))


@dataclass(frozen=True)
class FolderPart:
    """The requested recordings of one folder of files.

    Attributes:
        rows: their indices among all requested recordings.
        first: index of each one's first example in `arrays`.
        count: number of each one's examples.
        left_out: counts of what was excluded of each, in the order of LEFT_OUT.
        template: their median beats, `(recordings, leads, samples)`; empty for strips.
        arrays: all examples of the folder; empty where only counts were requested.
    """

    rows: npt.NDArray[np.int64]
    first: npt.NDArray[np.int64]
    count: npt.NDArray[np.int64]
    left_out: npt.NDArray[np.int64]
    template: npt.NDArray[np.float32]
    arrays: cache.Arrays


def load_parts(
    folder: Path, names: Sequence[str], rows: npt.NDArray[np.int64], view: PreparedView, store: Path, *, arrays: bool
) -> list[FolderPart]:
    """Return the requested recordings, grouped by the folder of their files.

    Args:
        folder: what `names` are relative to.
        names: of every recording of the data set, without `.hea`.
        rows: indices of the requested ones.
        view: what is prepared from the files.
        store: folder of prepared data.
        arrays: whether to read the examples, not only their counts.

    Raises:
        DataError: a file is missing, damaged, or of another rate or length.
    """
    folders = np.asarray([name.rpartition("/")[0] for name in names], dtype=object)
    settings: dict[str, Any] = {"version": VERSION, "beats": beats.VERSION, **asdict(view)}

    def load_folder(name: str) -> FolderPart:
        members = np.flatnonzero(folders == name)
        headers = [read_header(folder / f"{names[int(i)]}.hea") for i in members]
        files = [path for header in headers for path in (header.path, *header.signal_files(view.leads))]
        key = cache.content_key(files, settings)
        notes = None if arrays else cache.read_notes(store, key)
        examples: cache.Arrays = {}
        if notes is None:
            examples, notes = cache.load_or_make(store, key, lambda: _prepare(headers, view))
        count = np.asarray(notes["held"].split(), dtype=np.int64)
        left_out = np.asarray(notes["left"].split(), dtype=np.int64).reshape(len(count), len(LEFT_OUT))
        requested = np.flatnonzero(folders[rows] == name)
        index = np.searchsorted(members, rows[requested])
        template = examples["template"][index] if "template" in examples else np.zeros((0, 0, 0), np.float32)
        first = np.cumsum(count) - count
        return FolderPart(requested, first[index], count[index], left_out[index], template, examples)

    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        return list(pool.map(load_folder, sorted(set(folders[rows]))))


def _prepare(headers: Sequence[Header], view: PreparedView) -> tuple[cache.Arrays, dict[str, str]]:
    """Return all examples of some recordings, with each one's number of examples and counts of what was excluded."""
    prepared = [(_prepare_strip if view.view == "strip" else _prepare_beats)(header, view) for header in headers]
    arrays = {name: np.concatenate([item[name] for item, _ in prepared]) for name in prepared[0][0]}
    count = " ".join(str(len(item["x"])) for item, _ in prepared)
    left_out = " ".join(str(excluded.get(reason, 0)) for _, excluded in prepared for reason in LEFT_OUT)
    return arrays, {"held": count, "left": left_out}


def _read_signal(header: Header, view: PreparedView) -> npt.NDArray[np.float32]:
    """Return the samples of a recording, `(samples, leads)`.

    Raises:
        DataError: the recording is of another rate or length, or its values cannot be millivolts.
    """
    if header.rate != view.rate or header.samples != SECONDS * view.rate:
        raise DataError(
            f"{header.path}: {header.samples} samples at {header.rate:g} Hz, not {SECONDS} s at {view.rate} Hz: "
            "fetch the recording again, or set the other data.options.rate"
        )
    signal = read_leads(header, view.leads)
    recordings.check_millivolts(header.path, header.rate, view.leads, signal)
    return signal


def _prepare_strip(header: Header, view: PreparedView) -> tuple[cache.Arrays, dict[str, int]]:
    """Return a recording as one strip, or none where a sample is missing."""
    signal = _read_signal(header, view)
    whole = bool(np.isfinite(signal).all())
    if whole and view.filtered:
        signal = resample_and_filter(signal, view.rate, view.rate, BAND)
    return {"x": np.ascontiguousarray(signal.T)[None][: int(whole)]}, {} if whole else {MISSING_SAMPLES: 1}


def _prepare_beats(header: Header, view: PreparedView) -> tuple[cache.Arrays, dict[str, int]]:
    """Return beats as mitdb's window view cuts them, around R peaks detected in the first lead (r_peaks.detect_qrs)."""
    signal = _read_signal(header, view)
    peaks = r_peaks.detect_qrs(fill_gaps(signal)[0][:, 0], header.rate)
    order = tuple(f"lead {i + 1}" for i in range(len(view.leads)))  # without lead names cut_beats keeps this order
    marks = np.full(len(peaks), "N")
    recording = recordings.Recording(header.path.stem, header.rate, order, signal, peaks, marks, ())
    cut = beats.cut_beats(recording, "window", len(order))
    position = np.rint(cut.sample * beats.RATE / header.rate)
    whole = (position >= beats.BEFORE) & (position + beats.SAMPLES - beats.BEFORE <= SECONDS * beats.RATE)
    excluded = dict(cut.excluded) | {CUT_OFF: int((~whole).sum())}
    return {"x": cut.x[whole], "features": cut.features[whole], "template": cut.template[None]}, excluded
