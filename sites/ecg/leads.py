"""Names of ECG leads and units of voltage, as they are spelt in headers; the one place where they are recognised."""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from typing import Literal

Lead = Literal["I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6"]
STANDARD: tuple[Lead, ...] = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
FRANK = ("vx", "vy", "vz")
MONITOR = ("MLI", "MLII", "MLIII", "MCL1", "MCL6")
"""Modified leads of monitors and Holter recorders."""

_SPELLING = {name.casefold(): name for name in (*STANDARD, *FRANK, *MONITOR)}
_SPELLING |= {
    f"{start}{number}": name
    for start, names in (("d", STANDARD[:3]), ("ml", MONITOR[:3]))
    for number, name in enumerate(names, 1)
} | {f"d{name.casefold()}": name for name in STANDARD[:3]}
_FILLERS = {
    "ecg", "ekg", "lead", "abl", "ableitung", "derivation", "derivacion", "derivazione",
    "mv", "uv", "raw", "filtered", "unfiltered", "filt", "clean", "cleaned", "denoised", "rhythm", "einthoven",
    "goldberger", "wilson", "limb", "standard", "mdc",
}  # fmt: skip
"""Words around a lead's name that do not make it another lead; `MDC_ECG_LEAD_II` is the name in IEEE 11073."""
_JOINED = re.compile(rf"(?:{'|'.join(sorted(_FILLERS, key=len, reverse=True))})+(?P<name>.+)")
_INVERTED = re.compile(r"(?:^|[\s:_(])-(?=[a-z0-9])|-\s*$|\binv")
_OTHER_ECG = re.compile(
    r"(?:^|\s)(?:m?v\d{0,2}r?|c[mcsrlb]-?v?\d|mcl ?\d|ml ?\d|d\d|[ea]-[si]|mod\.? ?\w+|v\d-v\d)(?:$|\s)"
    r"|^[xyz]$"
)
"""Further leads, of Holter recorders (CM5, CC5, V1-V2), monitors (V), EASI (A-S) and orthogonal ones (X)."""
_OTHER_SIGNAL = re.compile(
    r"\b(?:r(?:esp|sp)\w*|breath\w*|airflow|flow|thor?\b|thor\w*|chest|abd\w*|rip|snor\w*|mic\w*|sound|phono\w*|pcg"
    r"|nasal|naf|ptaf|therm\w*|imp\w*|bioz|icg|z0|dz|pleth\w*|ppg|puls\w*|bvp|pzt|spo2|sao2|ox\w*|et ?co2|co2|temp\w*"
    r"|acc\w*|gyr\w*|gsr|eda|abp|art|bp|nbp|nibp|cvp|pap|paw|uap|icp|p[1-9]|pressure|press|hr|fhr|toco|uc|eeg|eog|emg"
    r"|[lr]oc|[em][12]|chin\w*|leg|l?leg|rleg|[lr]at|scg|bcg|pos\w*|light|batt\w*|stim\w*|trig\w*|event\w*|mark\w*"
    r"|sync\w*|nirs|status|st|qt|rr|edr)\b"
    r"|^(?:fp|af|fc|ft|cp|tp|po|[fctpo])(?:z|\d{1,2})(?: ?- ?(?:a|m|ref|fp|f|c|p|o|t)(?:z|\d)?)?$"
)
_MILLIVOLTS = {
    "": 1e3, "m": 1.0, "milli": 1.0, "n": 1e-6, "nano": 1e-6,
    **dict.fromkeys(("u", "micro", "\N{MICRO SIGN}", "\N{GREEK SMALL LETTER MU}"), 1e-3),
}  # fmt: skip
"""Millivolts per volt with each prefix."""
_UNIT = re.compile(r"(?P<prefix>.*?)(?:v|volts?)")
VOLTS = "V, mV, uV or nV"


@cache
def lead_name(text: str) -> str | None:
    """Return the usual spelling of a lead's name, None if it names no known lead, or an inverted one.

    >>> [lead_name(text) for text in ("ii", "ECG lead II", "LeadII", "AVR", "ml2", "DII", "-aVR", "I-II", "ABP")]
    ['II', 'II', 'II', 'aVR', 'MLII', 'II', None, None, None]
    """
    plain = _plain(text)
    if _INVERTED.search(plain):
        return None
    words = [word for word in re.findall(r"[a-z0-9]+", plain) if word not in _FILLERS]
    if sum(word in _SPELLING for word in words) > 1 or (len(words) > 1 and set("".join(words)) == {"i"}):
        return None  # a difference or a choice of leads, such as I-II
    joined = "".join(words)
    if joined not in _SPELLING and (match := _JOINED.fullmatch(joined)):
        joined = match["name"]
    return _SPELLING.get(joined)


def _plain(text: str) -> str:
    """Return a name in lower case without accents, with ordinary letters for such as the numeral II, and one dash."""
    letters = unicodedata.normalize("NFKD", text).replace("\N{MINUS SIGN}", "-")
    plain = ("-" if unicodedata.category(letter) == "Pd" else letter for letter in letters)
    return "".join(letter for letter in plain if not unicodedata.combining(letter)).casefold()


@cache
def names_ecg(name: str) -> bool:
    """Return whether a name says that a channel is an ECG.

    >>> [names_ecg(name) for name in ("II", "ECG1", "CM5", "-aVR", "CH1", "ECG trigger")]
    [True, True, True, True, False, False]
    """
    text = _plain(name).replace("_", " ")
    if lead_name(name):
        return True
    if _OTHER_SIGNAL.search(text):
        return False
    words = re.findall(r"[a-z0-9]+", text)
    return "ecg" in text or "ekg" in text or any(map(_SPELLING.get, words)) or _OTHER_ECG.search(text) is not None


@cache
def names_other_signal(name: str) -> bool:
    """Return whether a name says that a channel is no ECG, but EEG, respiration or another signal.

    >>> [names_other_signal(name) for name in ("II", "lead 1", "CH1", "EEG Fpz-Cz", "RESP", "Pulse")]
    [False, False, False, True, True, True]
    """
    return not names_ecg(name) and _OTHER_SIGNAL.search(_plain(name).replace("_", " ")) is not None


def millivolts_per_unit(unit: str) -> float | None:
    """Return mV per unit of a voltage, None of a unit that is no voltage. Case does not matter; both letters mu count.

    >>> [millivolts_per_unit(unit) for unit in ("mV", "V", "uv", "millivolts", "NU", "mV/cm")]
    [1.0, 1000.0, 0.001, 1.0, None, None]
    """
    match = _UNIT.fullmatch(unit.casefold())
    return _MILLIVOLTS.get(match["prefix"]) if match else None
