"""EDF and EDF+ recordings: the ECG leads in mV, the annotations, and the person in the header.

edfio reads the files (Kemp et al., Electroencephalogr Clin Neurophysiol 82(5):391-393, 1992; EDF+: Kemp, Olivan, Clin
Neurophysiol 114(9):1755-1761, 2003). A voltage may be given in any unit. Recordings with interruptions (EDF+D) are
refused, because their samples do not follow one another in time.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from common.errors import DataError
from sites.ecg.annotations import EARLY, LATE, REPEATED, SAME_BEAT_SECONDS, find_repeated_beats
from sites.ecg.leads import lead_name, millivolts_per_unit, names_ecg, names_other_signal
from sites.ecg.persons import OLDEST
from sites.ecg.recordings import MIN_RATE, Recording

if TYPE_CHECKING:
    from edfio import Edf, EdfAnnotation, EdfSignal

ENDING = ".edf"
_UNREAD = re.compile(r"^[^.].*\.(?:bdf|edf\.?(?:gz|zip|bz2|xz|zst|7z))$")
UNKNOWN_CODES = (
    "", "x", "xx", "xxx", "xxxx", "anonymous", "anonymized", "anonymised", "anon", "unknown", "none", "na", "n/a", "0",
    "-",
)  # fmt: skip
"""What stands for a patient's code that is not stated, in lower case; each such recording is a person of its own."""
MAX_BEYOND = 0.01
"""Share of samples beyond the digital range of a header, from which on the range, and so the gain, is wrong."""
_SEXES = {"f": 0, "female": 0, "w": 0, "m": 1, "male": 1, "x": -1}
_FIELDS = ((0, 16), (104, 8), (112, 8), (120, 8), (128, 8), (216, 8))
"""Where label, physical and digital range, and samples a record stand in a header: start and width for one signal."""


@dataclass(frozen=True)
class EdfPerson:
    """The person in an EDF+ header.

    Attributes:
        code: the hospital's code of the patient, "" unknown.
        age: years at the start of the recording, NaN unknown.
        sex: 0 female, 1 male, -1 unknown.
    """

    code: str
    age: float
    sex: int


def edf_names(folder: Path) -> tuple[str, ...]:
    """Return the EDF recordings in a folder and below it, without their ending, sorted.

    Raises:
        DataError: there is none.
    """
    if not folder.is_dir():
        raise DataError(f"no data folder {folder}: give the folder that holds the recordings (.edf)")
    paths = [path for path in folder.rglob("*") if path.suffix.lower() == ENDING and path.is_file()]
    if unread := sorted(path.name for path in folder.rglob("*") if _UNREAD.search(path.name.lower())):
        raise DataError(f"{folder}: {len(unread)} recordings are packed or in BDF, such as {unread[0]}: unpack or "
                        "convert them to EDF, or move them away")  # fmt: skip
    names = sorted(
        path.relative_to(folder).with_suffix("").as_posix() for path in paths if not path.name.startswith(".")
    )
    if not names:
        raise DataError(f"no recordings in {folder}: it holds no {ENDING} file")
    return tuple(names)


def edf_path(folder: Path, name: str) -> Path:
    """Return the file of a recording, whose ending may be in capitals.

    Raises:
        DataError: there is none.
    """
    for ending in (ENDING, ENDING.upper()):
        if (path := folder / f"{name}{ending}").is_file():
            return path
    raise DataError(f"no recording {folder / name}{ENDING}")


def read_edf_recording(path: Path, name: str, beats: Collection[str] = ()) -> Recording:
    """Return the ECG leads of a recording with all its annotations, whose texts are both symbol and note.

    Args:
        path: the file.
        name: the recording's name.
        beats: texts of annotations that are beats; each beat is used once, and what is dropped is counted.

    Raises:
        DataError: the file is damaged, has interruptions, or holds no ECG of a usable sampling rate.
    """
    edf = _open(path)
    _check_header(path)
    try:
        if not edf.is_continuous:
            raise DataError(f"{path}: a recording with interruptions (EDF+D) is not read: convert it to EDF+C")
        chosen = _choose_signals(path, edf)
        rate = float(chosen[0].sampling_frequency)
        if any(float(signal.sampling_frequency) != rate for signal in chosen):
            names = ", ".join(f"{signal.label} at {float(signal.sampling_frequency):g} Hz" for signal in chosen)
            raise DataError(f"{path}: leads of several sampling rates are not read together: {names}")
        if rate < MIN_RATE:
            raise DataError(f"{path}: {rate:g} Hz is too low a sampling rate for an ECG: leave the recording out")
        _check_digital_ranges(path, chosen)
        columns = [signal.data * (millivolts_per_unit(signal.physical_dimension.strip()) or 1.0) for signal in chosen]
        marks = sorted(_add_ends(edf.annotations), key=lambda mark: (mark[0], bool(mark[1])))
        comments = (edf.local_patient_identification, edf.local_recording_identification)
    except DataError:
        raise
    except Exception as error:
        raise _damaged(path, error) from None
    signal = np.stack(columns, axis=1).astype(np.float32)
    if not len(signal):
        raise DataError(f"{path} holds no signal")
    spoilt = [item.label.strip() for item, column in zip(chosen, columns, strict=True) if not np.isfinite(column).all()]
    if spoilt:
        raise DataError(f"{path}: {spoilt[0]} has values that are no numbers: correct its physical range in the header")
    sample = np.asarray([round(onset * rate) for onset, _ in marks], dtype=np.int64)
    symbol = np.asarray([text for _, text in marks], dtype=np.str_)
    beat = np.isin(symbol, list(beats))
    early, late = sample < 0, sample >= len(signal)
    inside = ~early & ~late
    repeated = find_repeated_beats(sample, symbol, beat & inside, SAME_BEAT_SECONDS * rate)
    counts = {REPEATED: repeated.sum(), EARLY: (beat & early).sum(), LATE: (beat & late).sum()}
    sample, symbol = sample[inside & ~repeated], symbol[inside & ~repeated]
    return Recording(
        name,
        rate,
        tuple(lead_name(item.label) or item.label.strip() for item in chosen),
        signal,
        sample,
        symbol,
        comments,
        {reason: int(count) for reason, count in counts.items() if count},
        tuple(symbol.tolist()),
    )


def _choose_signals(path: Path, edf: Edf) -> list[EdfSignal]:
    """Return the signals that are ECG leads, by their labels and units.

    Raises:
        DataError: there is none, or a lead of an ECG is given in a unit that is no voltage.
    """
    volts = [signal for signal in edf.signals if millivolts_per_unit(signal.physical_dimension.strip())]
    chosen = [signal for signal in volts if names_ecg(signal.label)]
    wrong = [item for item in edf.signals if names_ecg(item.label) and all(item is not signal for signal in volts)]
    if chosen and wrong:
        unit = wrong[0].physical_dimension.strip() or "none"
        raise DataError(f"{path}: {wrong[0].label.strip()} is an ECG lead, but its unit is {unit}, which is no voltage")
    chosen = chosen or [signal for signal in volts if not names_other_signal(signal.label)]
    if not chosen:
        raise DataError(f"{path}: no signal is an ECG lead in a unit of voltage: correct the labels or the units")
    return chosen


def list_unused_signals(path: Path) -> list[str]:
    """Return the labels of the signals of a recording that are not read, because they are no ECG.

    Raises:
        DataError: the file is damaged, or holds no ECG.
    """
    edf = _open(path)
    chosen = _choose_signals(path, edf)
    return [signal.label.strip() for signal in edf.signals if all(signal is not item for item in chosen)]


def read_edf_person(path: Path) -> EdfPerson:
    """Return the person in a header; what is not stated, or not in the form of EDF+, is unknown.

    Raises:
        DataError: the file is damaged.
    """
    edf = _open(path)
    words = edf.local_patient_identification.split()
    if len(words) < 3 or words[1].casefold() not in _SEXES:  # EDF without the fields of EDF+
        return EdfPerson("", float("nan"), -1)
    code = "" if words[0].casefold() in UNKNOWN_CODES else words[0]
    if not code and len(words) > 3 and not {word.casefold() for word in words[2:4]} & set(UNKNOWN_CODES):
        code = f"{words[3]} {words[2]}"  # name and date of birth
    sex = _SEXES[words[1].casefold()]
    try:
        years = (edf.startdate - edf.patient.birthdate).days / 365.25
    except Exception:  # anonymised dates
        years = float("nan")
    return EdfPerson(code, years if 0 <= years <= OLDEST else float("nan"), sex)


def _add_ends(annotations: Iterable[EdfAnnotation]) -> list[tuple[float, str]]:
    """Return time and text of annotations, and for each of a second or more an end, which has no text."""
    marks = []
    for mark in annotations:
        marks.append((mark.onset, " ".join(mark.text.split())))
        if (mark.duration or 0) >= 1:
            marks.append((mark.onset + (mark.duration or 0), ""))
    return marks


def _check_header(path: Path) -> None:
    """Check the ranges and the length that a header states; edfio reads others in their place.

    Raises:
        DataError: a range is none, or the file is shorter than stated; names the signal.
    """
    content = path.read_bytes()[: 256 * 257]
    if content[:1] == b"\xff":
        raise DataError(f"{path} is a file of BioSemi (BDF), with 24 bits a sample: convert it to EDF")
    text = content.decode("latin-1")
    try:
        count, records, header = int(text[252:256]), int(text[236:244]), int(text[184:192])
        fields = [text[256 + count * start : 256 + count * (start + width)] for start, width in _FIELDS]
        labels, lows, highs, floors, tops, lengths = (
            [field[i * width : (i + 1) * width].strip() for i in range(count)]
            for field, (_, width) in zip(fields, _FIELDS, strict=True)
        )
        expected = header + records * 2 * sum(map(int, lengths))
    except ValueError:
        raise DataError(f"{path}: a number of its header is not understood: correct the header") from None
    for label, *ends in zip(labels, lows, highs, floors, tops, strict=True):
        kinds = (float, float, int, int)
        try:
            low, high, floor, top = (kind(end) for kind, end in zip(kinds, ends, strict=True))
        except ValueError:
            low, high, floor, top = 0.0, 0.0, 0, 0
        if not (np.isfinite([low, high]).all() and low != high and floor < top):
            raise DataError(f"{path}: {label}: its physical or digital range is none: correct the header")
    if path.stat().st_size < expected:
        raise DataError(f"{path} is truncated, {path.stat().st_size} of {expected} bytes: fetch the file again")


def _check_digital_ranges(path: Path, signals: Iterable[EdfSignal]) -> None:
    """Check that samples lie in the digital range that the header states; outside, its gain is not that of the file.

    Raises:
        DataError: a share of a signal does not; names the signal.
    """
    for signal in signals:
        digital = signal.digital
        low, high = signal.digital_range
        if digital.size and ((digital < low) | (digital > high)).mean() > MAX_BEYOND:
            name = signal.label.strip()
            raise DataError(f"{path}: {name}: samples lie beyond the digital range of its header: correct the header")


def _open(path: Path) -> Edf:
    from edfio import read_edf

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return read_edf(path, header_encoding="latin-1")
    except Exception as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> DataError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else "damaged, truncated, or not EDF"
    return DataError(f"cannot read {path}: {reason}; fetch the file again")
