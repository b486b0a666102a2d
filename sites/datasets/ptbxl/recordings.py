"""The recordings of PTB-XL as strips or beats, prepared once for each folder of files.

A folder (records100/00000 and on) holds up to 1,000 recordings; each is one file of the cache.
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
from sites.ecg.leads import Header, Lead, read_header
from sites.ecg.leads import read_leads as read_leads

VERSION = 1
"""Counts up when this file changes what it computes: part of the cache's key."""
SECONDS = 10
BAND = (0.5, 40.0)
"""Hz, of filtered strips; beats are filtered so by what cuts them."""
MISSING_SAMPLES, CUT_OFF = "strips with missing samples", "beats cut off by an end of the strip"
LEFT_OUT = (
    MISSING_SAMPLES, CUT_OFF, "beats with missing samples", "recordings with fewer than three beats",
)  # fmt: skip


@dataclass(frozen=True)
class PreparedView:
    """What is cut from which files, and of which leads; a strip is prepared with all 12."""

    view: Literal["strip", "beats"]
    rate: Literal[100, 500]
    leads: tuple[Lead, ...]
    filtered: bool


def expand_spans(first: npt.NDArray[np.int64], count: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return first, first + 1, ... (`count` of them) of each span, one span behind the other."""
    return np.repeat(first - (np.cumsum(count) - count), count) + np.arange(int(count.sum()))


@dataclass(frozen=True)
class FolderPart:
    """The recordings of one folder of files, of those asked for.

    `rows`: where they stand among those asked for; `first` and `held`: their examples in the arrays; `left`:
    what was left out of each, by LEFT_OUT; `template`: their median beats.
    """

    rows: npt.NDArray[np.int64]
    first: npt.NDArray[np.int64]
    held: npt.NDArray[np.int64]
    left: npt.NDArray[np.int64]
    template: npt.NDArray[np.float32]
    arrays: cache.Arrays


def load_parts(
    folder: Path, names: Sequence[str], rows: npt.NDArray[np.int64], view: PreparedView, store: Path, *, arrays: bool
) -> list[FolderPart]:
    """Return some recordings by the folder of their files.

    Args:
        folder: what `names` are relative to.
        names: of every recording of the data set, without `.hea`.
        rows: which of them are asked for.
        view: what is cut of them.
        store: folder of prepared data.
        arrays: without them only the counts are read.

    Raises:
        DataError: a file is missing, damaged, or of another rate or length.
    """
    home = np.asarray([name.rpartition("/")[0] for name in names], dtype=object)
    settings: dict[str, Any] = {"version": VERSION, "beats": beats.VERSION, **asdict(view)}

    def one(place: str) -> FolderPart:
        here = np.flatnonzero(home == place)
        headers = [read_header(folder / f"{names[int(i)]}.hea") for i in here]
        files = [path for header in headers for path in (header.path, *header.signal_files(view.leads))]
        key = cache.content_key(files, settings)
        about = None if arrays else cache.read_notes(store, key)
        found: cache.Arrays = {}
        if about is None:
            found, about = cache.load_or_make(store, key, lambda: _prepare(headers, view))
        held = np.asarray(about["held"].split(), dtype=np.int64)
        left = np.asarray(about["left"].split(), dtype=np.int64).reshape(len(held), len(LEFT_OUT))
        asked = np.flatnonzero(home[rows] == place)
        inside = np.searchsorted(here, rows[asked])
        template = found["template"][inside] if "template" in found else np.zeros((0, 0, 0), np.float32)
        return FolderPart(asked, (np.cumsum(held) - held)[inside], held[inside], left[inside], template, found)

    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        return list(pool.map(one, sorted(set(home[rows]))))


def _prepare(headers: Sequence[Header], view: PreparedView) -> tuple[cache.Arrays, dict[str, str]]:
    """Return all examples of some recordings, with how many each holds and what was left out of it."""
    done = [(_strip if view.view == "strip" else _beats)(header, view) for header in headers]
    arrays = {name: np.concatenate([item[name] for item, _ in done]) for name in done[0][0]}
    held = " ".join(str(len(item["x"])) for item, _ in done)
    left = " ".join(str(lost.get(why, 0)) for _, lost in done for why in LEFT_OUT)
    return arrays, {"held": held, "left": left}


def _signal(header: Header, view: PreparedView) -> npt.NDArray[np.float32]:
    if header.rate != view.rate or header.samples != SECONDS * view.rate:
        raise DataError(
            f"{header.path}: {header.samples} samples at {header.rate:g} Hz, not {SECONDS} s at {view.rate} Hz: "
            "fetch the recording again, or ask for the other data.options.rate"
        )
    return read_leads(header, view.leads)


def _strip(header: Header, view: PreparedView) -> tuple[cache.Arrays, dict[str, int]]:
    signal = _signal(header, view)
    whole = bool(np.isfinite(signal).all())
    if whole and view.filtered:
        signal = resample_and_filter(signal, view.rate, view.rate, BAND)
    return {"x": np.ascontiguousarray(signal.T)[None][: int(whole)]}, {} if whole else {MISSING_SAMPLES: 1}


def _beats(header: Header, view: PreparedView) -> tuple[cache.Arrays, dict[str, int]]:
    """Return beats as mitdb's window view cuts them, of R peaks found here in the first lead (rpeaks.qrs)."""
    signal = _signal(header, view)
    peaks = r_peaks.detect_qrs(fill_gaps(signal)[0][:, 0], header.rate)
    order = tuple(f"lead {i + 1}" for i in range(len(view.leads)))  # without names cut() keeps this order
    marks = np.full(len(peaks), "N")
    recording = recordings.Recording(header.path.stem, header.rate, order, signal, peaks, marks, ())
    found = beats.cut_beats(recording, "window", len(order))
    place = np.rint(found.sample * beats.RATE / header.rate)
    whole = (place >= beats.BEFORE) & (place + beats.SAMPLES - beats.BEFORE <= SECONDS * beats.RATE)
    lost = dict(found.excluded) | {CUT_OFF: int((~whole).sum())}
    return {"x": found.x[whole], "features": found.features[whole], "template": found.template[None]}, lost
