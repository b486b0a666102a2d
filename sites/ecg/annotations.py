"""Beat annotations of a recording, with the checks that wfdb leaves to its caller.

An annotation file that was cut off reads as a shorter one, so its end mark is looked for. A file may count time in
another resolution than the signal. A beat may be annotated twice, or once on each channel; it is used once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from common.errors import DataError

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

END_OF_ANNOTATIONS = b"\0\0"
SAME_BEAT_SECONDS = 0.15
"""Annotations of two channels within this time are of one beat (the match window of ANSI/AAMI EC57)."""
MAX_LATE_BEATS, MAX_LATE_SECONDS = 2, 2.0
"""More or later beats after the end of the signal show that the annotations belong to another recording."""

REPEATED = "beats that are annotated more than once"
LATE = "beats annotated after the end of the signal"


@dataclass(frozen=True)
class Annotations:
    """The annotations of a recording in order of time.

    Attributes:
        sample: int64 `(annotations,)`, at the signal's sampling rate.
        symbol: `(annotations,)`, WFDB's codes.
        dropped: number of annotations that were not used, by reason.
    """

    sample: npt.NDArray[np.int64]
    symbol: npt.NDArray[np.str_]
    dropped: Mapping[str, int] = field(default_factory=dict)


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
        DataError: the file is truncated or damaged, or belongs to another recording.
    """
    if not path.read_bytes().endswith(END_OF_ANNOTATIONS):
        raise DataError(f"cannot read {path}: it has no end mark, so it is truncated; fetch it again")
    import wfdb  # with pandas, which a process that holds prepared data does not need

    try:
        annotation = wfdb.rdann(str(path.with_suffix("")), path.suffix[1:])
    except Exception as error:
        raise DataError(f"cannot read {path}: {type(error).__name__}: damaged or truncated; fetch it again") from None
    sample = np.asarray(annotation.sample, dtype=np.int64)
    symbol = np.asarray(annotation.symbol, dtype=np.str_)
    if (np.diff(sample) < 0).any():
        raise DataError(f"{path}: the annotations are not in the order of time; sort them or fetch the file again")
    resolution = float(annotation.fs or frame_rate)
    if resolution != rate:
        sample = np.rint(sample * (rate / resolution)).astype(np.int64)
    beyond = sample >= length
    late = sample[beyond & is_beat(symbol)]
    if (len(sample) and sample[0] < 0) or len(late) > MAX_LATE_BEATS or (late > length + MAX_LATE_SECONDS * rate).any():
        raise DataError(
            f"{path}: annotations lie beyond the {length} samples of the signal at {rate:g} Hz (time resolution "
            f"{resolution:g} Hz): the two files do not belong together"
        )
    sample, symbol, channel = sample[~beyond], symbol[~beyond], np.asarray(annotation.chan)[~beyond]
    repeated = _repeated_beats(sample, symbol, channel, SAME_BEAT_SECONDS * rate)
    counts = {REPEATED: int(repeated.sum()), LATE: len(late)}
    dropped = {reason: count for reason, count in counts.items() if count}
    return Annotations(sample[~repeated], symbol[~repeated], dropped)


def _repeated_beats(
    sample: npt.NDArray[np.int64], symbol: npt.NDArray[np.str_], channel: npt.NDArray[np.int64], window: float
) -> npt.NDArray[np.bool_]:
    """Return which annotations repeat a beat: at the same sample, or on another channel within `window` samples.

    Of two annotations of a beat the first is kept, or the one that has a class.
    """
    repeated = np.zeros(len(sample), dtype=np.bool_)
    last: int | None = None
    for i in np.flatnonzero(is_beat(symbol)).tolist():
        gap = None if last is None else int(sample[i] - sample[last])
        if last is None or gap is None or not (gap == 0 or (gap < window and channel[i] != channel[last])):
            last = i
        elif symbol[last] == UNCLASSED:
            repeated[last], last = True, i
        else:
            repeated[i] = True
    return repeated
