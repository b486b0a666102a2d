"""One recording of the PTB Diagnostic ECG Database: what its header says of the person, its beats, its strips."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from common.errors import DataError
from sites.ecg import beats, r_peaks, recordings
from sites.ecg.filtering import fill_gaps, resample_and_filter
from sites.ecg.leads import Header, Lead
from sites.ecg.leads import read_leads as read_leads

VERSION = 1
"""Counts up when this file changes what it computes: part of the cache's key."""
STRIP_SECONDS = 10
SHORT_END = f"ends of recordings shorter than {STRIP_SECONDS} s"
Examples = tuple[npt.NDArray[np.float32], dict[str, int]]


@dataclass(frozen=True)
class ClinicalSummary:
    """What a header says of the person: `reason` in lower case, "" not known; `age` NaN and `sex` -1 not known."""

    reason: str
    age: float
    sex: int


def parse_summary(header: Header) -> ClinicalSummary:
    """Read a header's clinical summary.

    Raises:
        DataError: the age is no number of years, or the sex none of PTB's words.
    """
    said: dict[str, str] = {}
    for line in header.comments:
        name, colon, value = line.partition(":")
        if colon:
            said.setdefault(name.strip().lower(), value.strip().lower())
    said = {name: "" if value in ("n/a", "unknown", "?") else value for name, value in said.items()}
    age, sex = said.get("age", ""), said.get("sex", "")
    if age and not (age.isdecimal() and int(age) <= 120):
        raise DataError(f"{header.path}: the comment age holds no age in years: mend it or write n/a")
    if sex not in ("", "female", "male"):
        raise DataError(f"{header.path}: the comment sex must be female, male or n/a")
    return ClinicalSummary(
        said.get("reason for admission", ""),
        float(age) if age else float("nan"),
        {"female": 0, "male": 1}.get(sex, -1),
    )


def _resampled(
    signal: npt.NDArray[np.float32], rate: float, target: float, band: tuple[float, float] | None
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Return the signal at another rate, and where it rests on a missing sample."""
    filled, lost = fill_gaps(signal)
    found = resample_and_filter(filled, rate, target, band)
    near = np.zeros(len(found), dtype=np.bool_)
    at = np.flatnonzero(lost) * target / rate
    for side in (np.floor(at), np.ceil(at)):
        near[np.clip(side.astype(np.int64), 0, len(found) - 1)] = True
    return found, near


def cut_beats(header: Header, peaks: Literal["kachuee", "qrs"]) -> Examples:
    """Return beats `(beats, 1, 187)` of lead II as in Kachuee 2018, and what was left out, counted."""
    x, lost = _resampled(read_leads(header, ("II",)), header.rate, beats.RATE, None)
    place = (r_peaks.detect_kachuee if peaks == "kachuee" else r_peaks.detect_qrs)(x[:, 0], beats.RATE)
    x[lost] = np.nan
    marks = np.full(len(place), "N")
    found = beats.cut_beats(
        recordings.Recording(header.path.stem, beats.RATE, ("II",), x, place, marks, header.comments), "kachuee", 1
    )
    end = peaks == "kachuee" and len(x) % int(r_peaks.WINDOW_SECONDS * beats.RATE) > 0
    return found.x, dict(found.excluded) | ({SHORT_END: 1} if end else {})


def cut_strips(header: Header, leads: tuple[Lead, ...], rate: int) -> Examples:
    """Return strips `(strips, leads, samples)` in mV, 0.5 to 40 Hz, and what was left out, counted."""
    x, lost = _resampled(read_leads(header, leads), header.rate, rate, (0.5, 40.0))
    width = STRIP_SECONDS * rate
    count = len(x) // width
    strips = x[: count * width].reshape(count, width, -1).transpose(0, 2, 1)
    broken = lost[: count * width].reshape(count, width).any(1)
    excluded = {"strips with missing samples": int(broken.sum()), SHORT_END: int(count * width < len(x))}
    return np.ascontiguousarray(strips[~broken]), {why: number for why, number in excluded.items() if number}
