"""Names of ECG leads and units of voltage, as they are spelt in headers; the one place where they are recognised."""

from __future__ import annotations

import re
from functools import cache
from typing import Literal

Lead = Literal["I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6"]
STANDARD: tuple[Lead, ...] = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
FRANK = ("vx", "vy", "vz")
MONITOR = ("MLI", "MLII", "MLIII", "MCL1", "MCL6")
"""Modified leads of monitors and Holter recorders."""

_SPELLING = {name.casefold(): name for name in (*STANDARD, *FRANK, *MONITOR)}
_FILLERS = {"ecg", "ekg", "lead"}
_OTHER_SIGNAL = re.compile(
    r"\b(?:resp\w*|breath\w*|airflow|flow|thor\w*|abd\w*|snor\w*|pleth\w*|ppg|spo2|sao2|et ?co2|co2|temp\w*|acc\w*|gsr"
    r"|eda|abp|art|bp|nbp|nibp|cvp|pap|icp|pressure|eeg|eog|emg|scg|bcg|position)\b"
    r"|^(?:fp|af|fc|ft|cp|tp|po|[fctpo])(?:z|\d{1,2}) ?- ?(?:a|m|ref|fp|f|c|p|o|t)(?:z|\d)?"
)
_MILLIVOLTS = {"v": 1e3, "mv": 1.0, "uv": 1e-3, "nv": 1e-6}
VOLTS = "V, mV, uV or nV"


@cache
def lead_name(text: str) -> str | None:
    """Return the usual spelling of a lead's name, None if it names no known lead.

    >>> [lead_name(text) for text in ("ii", "ECG lead II", "AVR", "mlii", "-aVR", "ABP")]
    ['II', 'II', 'aVR', 'MLII', None, None]
    """
    if text.strip().startswith("-"):
        return None  # an inverted lead
    words = re.findall(r"[a-z0-9]+", text.casefold())
    return _SPELLING.get("".join(word for word in words if word not in _FILLERS))


def may_be_ecg(name: str) -> bool:
    """Return whether a channel in volts can be an ECG by its name; EEG, respiration and others are none.

    >>> [may_be_ecg(name) for name in ("II", "ECG1", "lead 1", "EEG Fpz-Cz", "RESP")]
    [True, True, True, False, False]
    """
    text = name.casefold().replace("_", " ")
    if lead_name(name) or "ecg" in text or "ekg" in text:
        return True
    return _OTHER_SIGNAL.search(text) is None


def millivolts_per_unit(unit: str) -> float | None:
    """Return mV per unit of a voltage, None of a unit that is no voltage. Case does not matter; both letters mu count.

    >>> [millivolts_per_unit(unit) for unit in ("mV", "V", "uv", "NU")]
    [1.0, 1000.0, 0.001, None]
    """
    return _MILLIVOLTS.get(unit.casefold().replace("\N{MICRO SIGN}", "u").replace("\N{GREEK SMALL LETTER MU}", "u"))
