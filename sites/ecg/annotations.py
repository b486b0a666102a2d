"""Beat annotations of a recording, in samples of its signal and each beat once.

A file may count time in another resolution than the signal. A beat may be annotated twice, by two readers or once on
each channel; it is used once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from common.errors import DataError
from sites.ecg.annotation_file import read_annotation_file

AAMI_CLASSES: dict[str, str] = {
    **dict.fromkeys("NLRBej", "N"),
    **dict.fromkeys("AaJSn", "S"),
    **dict.fromkeys("VEr", "V"),
    "F": "F",
    **dict.fromkeys("/fQ", "Q"),
    "?": "?",
}
"""WFDB's beat codes to the classes of ANSI/AAMI EC57: 1998, as tabulated by de Chazal 2004.

De Chazal's table covers MIT-BIH; B (bundle branch block), n (supraventricular escape) and r (R-on-T premature
ventricular) follow EC57. UNCLASSED, a beat that was not classified during learning, has no class.
"""
UNCLASSED = "?"

SAME_BEAT_SECONDS = 0.2
"""Annotations within this time are of one beat: ventricles cannot be excited again so soon (Pan, Tompkins 1985, IEEE
TBME 32(3):230-236). The shortest interval between two beats of the MIT-BIH Arrhythmia Database is 0.25 s."""
MIN_RESOLUTION = 50.0
"""Ticks per second. A coarser clock does not show which wave a beat is."""
MAX_LATE_BEATS, MAX_LATE_SECONDS = 2, 2.0
"""More or later beats after the end of the signal show that the annotations belong to another recording."""

MAX_UNDEFINED = 0.5
"""Share of annotations of codes that WFDB does not define, beyond which a file is none of its annotations."""

REPEATED = "beats that are annotated more than once"
UNDEFINED = "annotations of a code that WFDB does not define"
LATE = "beats annotated after the end of the signal"
EARLY = "beats annotated before the start of the signal"


@dataclass(frozen=True)
class Annotations:
    """The annotations of a recording in order of time.

    Attributes:
        sample: int64 `(annotations,)`, at the signal's sampling rate.
        symbol: `(annotations,)`, WFDB's codes.
        dropped: number of annotations that were not used, by reason.
        note: the text of each annotation, such as the name of a rhythm, "" for none.
    """

    sample: npt.NDArray[np.int64]
    symbol: npt.NDArray[np.str_]
    dropped: Mapping[str, int] = field(default_factory=dict)
    note: tuple[str, ...] = ()


def is_beat(symbol: npt.NDArray[np.str_]) -> npt.NDArray[np.bool_]:
    """Return which annotations are beats."""
    return np.isin(symbol, list(AAMI_CLASSES))


def read_annotations(path: Path, length: int, rate: float, frame_rate: float) -> Annotations:
    """Read an annotation file.

    Args:
        path: the file.
        length: samples of the signal.
        rate: its sampling rate (Hz).
        frame_rate: the record's frames per second (Hz), which times are counted in unless the file says otherwise.

    Raises:
        DataError: the file is truncated or damaged, its clock too coarse, or it belongs to another recording.
    """
    content = read_annotation_file(path)
    sample, symbol = content.time, content.symbol
    if (np.diff(sample) < 0).any():
        raise DataError(f"{path}: the annotations are not in the order of time; sort them or fetch the file again")
    resolution = content.resolution or frame_rate
    if resolution < MIN_RESOLUTION:
        raise DataError(f"{path}: a time resolution of {resolution:g} Hz is too coarse for beats: correct the file")
    if resolution != rate:
        sample = np.rint(sample * (rate / resolution)).astype(np.int64)
    beyond = sample >= length
    late = sample[beyond & is_beat(symbol)]
    if (len(sample) and sample[0] < 0) or len(late) > MAX_LATE_BEATS or (late > length + MAX_LATE_SECONDS * rate).any():
        raise DataError(
            f"{path}: annotations lie beyond the {length} samples of the signal at {rate:g} Hz (time resolution "
            f"{resolution:g} Hz): the two files do not belong together"
        )
    sample, symbol = sample[~beyond], symbol[~beyond]
    if len(symbol) and (symbol == "").mean() > MAX_UNDEFINED:
        raise DataError(f"{path}: most of its codes are none of WFDB's: is it of another format or byte order?")
    repeated = find_repeated_beats(sample, symbol, is_beat(symbol), SAME_BEAT_SECONDS * rate)
    counts = {REPEATED: int(repeated.sum()), LATE: len(late), UNDEFINED: int((symbol == "").sum())}
    dropped = {reason: count for reason, count in counts.items() if count}
    used = np.flatnonzero(~beyond)[~repeated].tolist()
    return Annotations(sample[~repeated], symbol[~repeated], dropped, tuple(content.note[i] for i in used))


def find_repeated_beats(
    sample: npt.NDArray[np.int64], symbol: npt.NDArray[np.str_], beat: npt.NDArray[np.bool_], window: float
) -> npt.NDArray[np.bool_]:
    """Return which annotations, of those that are beats, repeat one within `window` samples.

    Of the annotations of a beat the first is kept, or the first that has a class.
    """
    repeated = np.zeros(len(sample), dtype=np.bool_)
    last: int | None = None
    for i in np.flatnonzero(beat).tolist():
        if last is None or sample[i] - sample[last] >= window:
            last = i
        elif symbol[last] == UNCLASSED:
            repeated[last], last = True, i
        else:
            repeated[i] = True
    return repeated
