"""One recording of the PTB Diagnostic ECG Database: the person in its header, its beats, its strips."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from common.errors import DataError
from sites.ecg import beats, r_peaks, recordings, strips
from sites.ecg.headers import Header
from sites.ecg.leads import Lead
from sites.ecg.signals import read_leads
from sites.ecg.strips import resample_marked

VERSION = 2
"""Part of the cache's key; increased when this file computes something else."""
STRIP_SECONDS = 10
STRIP_BAND = (0.5, 40.0)
"""Hz."""
SHORT_END = f"ends of recordings shorter than {STRIP_SECONDS} s"
KNOWN_REASONS = ("healthy control", "myocardial infarction")
_READ = ("age", "sex", "reason for admission")
_LIKE_A_CLASS = re.compile(r"health|control|normal|gesund|infar[ck]t|\b(?:no|not|without|none|a?mi|n?stemi|hc)\b")
"""What another word for a class holds; every other reason is another diagnosis."""
Examples = tuple[npt.NDArray[np.float32], dict[str, int]]


@dataclass(frozen=True)
class ClinicalSummary:
    """The person in a header.

    Attributes:
        reason: reason for admission in lower case, "" unknown.
        age: years, NaN unknown.
        sex: 0 female, 1 male, -1 unknown.
    """

    reason: str
    age: float
    sex: int


def parse_summary(header: Header) -> ClinicalSummary:
    """Return the clinical summary in a header's comments.

    Raises:
        DataError: the age is not a number of years, or the sex none of PTB's words.
    """
    comments: dict[str, str] = {}
    for line in header.comments:
        name, colon, value = line.partition(":")
        plain = name.strip().lower()
        if colon and comments.setdefault(plain, value.strip().lower()) != value.strip().lower() and plain in _READ:
            raise DataError(f"{header.path}: the comment {plain} is there twice, with two values: remove the wrong one")
    comments = {name: "" if value in ("n/a", "unknown", "?") else value for name, value in comments.items()}
    age, sex = comments.get("age", ""), comments.get("sex", "")
    if age and not (age.isdecimal() and int(age) <= 120):
        raise DataError(f"{header.path}: the comment age is not an age in years: correct it or write n/a")
    if sex not in ("", "female", "male"):
        raise DataError(f"{header.path}: the comment sex must be female, male or n/a")
    reason = " ".join(comments.get("reason for admission", "").split())
    if reason not in KNOWN_REASONS and _LIKE_A_CLASS.search(reason):
        raise DataError(
            f"{header.path}: the reason for admission is like {' or '.join(KNOWN_REASONS)}, but none of them: write it "
            "as PTB does"
        )
    return ClinicalSummary(
        reason,
        float(age) if age else float("nan"),
        {"female": 0, "male": 1}.get(sex, -1),
    )


def cut_beats(header: Header, peaks: Literal["kachuee", "qrs"]) -> Examples:
    """Return beats `(beats, 1, 187)` of lead II as in Kachuee 2018, and counts of what was excluded."""
    x, missing = resample_marked(_read_millivolts(header, ("II",)), header.rate, beats.RATE, None)
    peak = (r_peaks.detect_kachuee if peaks == "kachuee" else r_peaks.detect_qrs)(x[:, 0], beats.RATE)
    x[missing] = np.nan
    marks = np.full(len(peak), "N")
    cut = beats.cut_beats(
        recordings.Recording(header.path.stem, beats.RATE, ("II",), x, peak, marks, header.comments), "kachuee", 1
    )
    end = peaks == "kachuee" and len(x) % int(r_peaks.WINDOW_SECONDS * beats.RATE) > 0
    return cut.x, dict(cut.excluded) | ({SHORT_END: 1} if end else {})


def cut_strips(header: Header, leads: tuple[Lead, ...], rate: int) -> Examples:
    """Return strips `(strips, leads, samples)` in mV, 0.5 to 40 Hz, and counts of what was excluded."""
    x, _, excluded = strips.cut_strips(_read_millivolts(header, leads), header.rate, rate, STRIP_SECONDS, STRIP_BAND)
    return x, excluded


def _read_millivolts(header: Header, leads: Sequence[str]) -> npt.NDArray[np.float32]:
    """Return leads `(samples, leads)` that can be in millivolts.

    Raises:
        DataError: their values cannot be, or they cannot be read.
    """
    signal = read_leads(header, leads)
    recordings.check_millivolts(header.path, header.rate, leads, signal)
    return signal
