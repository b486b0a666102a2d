"""Strips of described recordings, each with the class of its recording or of its rhythm; prepared once and cached."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sites import cache
from sites.datasets.recordings.description import Description
from sites.datasets.recordings.folder import RecordingFolder
from sites.ecg.recordings import Recording, check_amplitudes
from sites.ecg.strips import cut_strips

VERSION = 2
"""Part of the cache's key; increased when the prepared strips change."""
NO_LEAD = "recordings without one of the leads"
NO_RHYTHM = "strips without an annotated rhythm"
TWO_RHYTHMS = "strips with more than one rhythm"
OTHER_RHYTHM = "strips of a rhythm without a class"


@dataclass(frozen=True)
class Strips:
    """The strips of one recording.

    Attributes:
        x: float32 `(strips, leads, samples)`.
        y: int64 `(strips,)`, -1 without a class.
        start: float64 `(strips,)`, seconds since the start of the recording.
        excluded: number of strips or recordings left out, by reason.
        age: years, NaN unknown.
        sex: 0 female, 1 male, -1 unknown.
        synthetic: whether the header says that the recording was generated.
    """

    x: npt.NDArray[np.float32]
    y: npt.NDArray[np.int64]
    start: npt.NDArray[np.float64]
    excluded: dict[str, int]
    age: float
    sex: int
    synthetic: bool


def load_strips(
    folder: Path, options: Description, names: Sequence[str], labels: Sequence[int | None], store: Path
) -> list[Strips]:
    """Return the strips of some recordings; a recording that is not cached is prepared first.

    Args:
        folder: the data folder.
        options: its description.
        names: the recordings.
        labels: the class of each from the table; None where it is that of the rhythm.
        store: folder of prepared data.
    """
    source = RecordingFolder(folder, options)
    settings = {
        "strips": VERSION,
        "annotated": options.labels == "rhythms",
        "leads": options.strip_leads,
        "seconds": options.seconds,
        "rate": options.rate,
        "band": options.band,
        **source.settings,
    }

    def load(item: tuple[str, int | None]) -> Strips:
        name, label = item
        key = cache.content_key(source.list_files(name), settings)
        arrays, notes = cache.load_or_make(store, key, lambda: _prepare(source, name))
        rhythms = notes["rhythms"].split("\n") if notes["rhythms"] else []
        excluded = dict(Counter({why: int(n) for n, _, why in map(_split, notes["excluded"].splitlines())}))
        if label is not None:
            y = np.full(len(arrays["x"]), label, dtype=np.int64)
        else:
            y = np.asarray([options.class_index.get(rhythm, -1) for rhythm in rhythms], dtype=np.int64)
            for rhythm in (rhythm for rhythm, own in zip(rhythms, y.tolist(), strict=True) if own < 0):
                why = {"": NO_RHYTHM, "\t": TWO_RHYTHMS}.get(rhythm, OTHER_RHYTHM)
                excluded[why] = excluded.get(why, 0) + 1
        start = arrays["number"].astype(np.float64) * options.seconds
        age, sex = float(notes["age"]), int(notes["sex"])
        return Strips(arrays["x"], y, start, excluded, age, sex, notes["synthetic"] == "yes")

    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        return list(pool.map(load, zip(names, labels, strict=True)))


def _split(line: str) -> tuple[str, str, str]:
    return line.partition("\t")


def _prepare(source: RecordingFolder, name: str) -> tuple[cache.Arrays, dict[str, str]]:
    options = source.options
    recording = source.read(name)
    age, sex = source.read_age_and_sex(name)
    notes = {
        "age": repr(age),
        "sex": str(sex),
        "synthetic": "yes" if any("SYNTHETIC" in line for line in recording.comments) else "no",
        "rhythms": "",
        "excluded": f"1\t{NO_LEAD}",
    }
    if any(recording.leads.count(lead) != 1 for lead in options.strip_leads):
        empty = np.zeros((0, len(options.strip_leads), options.seconds * options.rate), np.float32)
        return {"x": empty, "number": np.zeros(0, np.int64)}, notes
    recording = recording.take_leads([recording.leads.index(lead) for lead in options.strip_leads])
    check_amplitudes(recording, source.list_files(name)[0])
    x, number, excluded = cut_strips(recording.signal, recording.rate, options.rate, options.seconds, options.band)
    notes["excluded"] = "\n".join(f"{count}\t{reason}" for reason, count in excluded.items())
    if options.labels == "rhythms":
        spans = rhythm_spans(recording, options.read.files == "edf" and options.read.annotator is None)
        width = options.seconds * recording.rate
        notes["rhythms"] = "\n".join(_rhythm(spans, i * width, (i + 1) * width) for i in number.tolist())
    return {"x": x, "number": number}, notes


Span = tuple[int, str]


def rhythm_spans(recording: Recording, every: bool) -> list[Span]:
    """Return the sample at which each rhythm starts, with its name; a rhythm lasts until the next one.

    Args:
        recording: a recording with its annotations.
        every: whether each annotation names a rhythm, as in EDF+; in WFDB those of the code `+` do, as in `(AFIB`.
    """
    return [
        (int(at), " ".join(note.replace("\0", " ").split()))
        for at, symbol, note in zip(recording.sample, recording.symbol, recording.note, strict=True)
        if every or (symbol == "+" and note.strip("\0 "))
    ]


def _rhythm(spans: Sequence[Span], start: float, end: float) -> str:
    """Return the rhythm between two samples: "" if none is annotated before, a tab where there is more than one."""
    before = [name for at, name in spans if at <= start]
    names = {*before[-1:], *(name for at, name in spans if start < at < end)}
    if not before:
        return ""
    return names.pop() if len(names) == 1 else "\t"
