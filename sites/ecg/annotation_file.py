"""WFDB annotation files, as annot(5) of the WFDB manual describes them.

wfdb.rdann is not used: on a note `## ...` that it does not know it never ends; it finds the file's time resolution in
the first annotation alone, so that another annotation at the start puts every beat on a wrong wave; and it reads on
after the end mark.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from common.errors import DataError

_NOTE, _SKIP, _NUM, _SUB, _CHN, _AUX = 22, 59, 60, 61, 62, 63
_TIME_BITS = 0x3FF
_STATES_RESOLUTION = re.compile(r"#+\s*time resolution\b\s*:?(?P<hertz>.*)", re.IGNORECASE | re.DOTALL)
_HERTZ = re.compile(r"\s*(?P<number>\d+\.?\d*(?:[eE][+-]?\d+)?)\s*(?:Hz)?[\s\0]*", re.ASCII | re.IGNORECASE)


@lru_cache(maxsize=1)
def list_symbols() -> dict[int, str]:
    """Return WFDB's symbol of each code that it defines."""
    from wfdb.io.annotation import ann_labels  # with pandas; who holds prepared data reads no annotations

    return {label.label_store: label.symbol for label in ann_labels if label.symbol and label.label_store}


@dataclass(frozen=True)
class AnnotationFile:
    """The annotations of a file in its order, without notes at its start, which are about the file.

    Attributes:
        time: int64 `(annotations,)`, in the file's own ticks.
        symbol: `(annotations,)`, WFDB's symbols; "" for a code that WFDB does not define.
        channel: int64 `(annotations,)`, the signal that each belongs to.
        note: text of each annotation, such as the name of a rhythm; "" for none.
        resolution: ticks per second, if the file states them.
    """

    time: npt.NDArray[np.int64]
    symbol: npt.NDArray[np.str_]
    channel: npt.NDArray[np.int64]
    note: tuple[str, ...]
    resolution: float | None


def read_annotation_file(path: Path) -> AnnotationFile:
    """Read an annotation file.

    Raises:
        DataError: it does not exist, is truncated or holds more after its end mark, or states a time resolution that is
            not understood.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None
    if _is_aha(content):
        raise DataError(f"{path} is in the format of the AHA database, not of WFDB: convert it with rdann and wrann")
    words = np.frombuffer(content[: len(content) // 2 * 2], dtype="<u2").tolist()
    times: list[int] = []
    codes: list[int] = []
    channels: list[int] = []
    notes: list[str] = []
    time = channel = 0
    at = 0
    while at < len(words) and words[at]:
        code, value = words[at] >> 10, words[at] & _TIME_BITS
        at += 1
        if code == _SKIP:
            if at + 2 <= len(words):
                time += np.array([words[at] << 16 | words[at + 1]], dtype=np.uint32).view(np.int32).item()
            at += 2
        elif code == _AUX:
            if notes:
                notes[-1] = content[2 * at : 2 * at + value].decode("latin-1")
            at += (value + 1) // 2
        elif code == _CHN:
            channel = value
            if channels:
                channels[-1] = channel
        elif code not in (_NUM, _SUB):
            time += value
            if code:  # 0 only moves the time on
                times.append(time)
                codes.append(code)
                channels.append(channel)
                notes.append("")
    if at >= len(words):
        raise DataError(f"cannot read {path}: it has no end mark, so it is truncated; fetch it again")
    if any(words[at:]):
        raise DataError(f"{path}: there is more after its end mark, such as a second file: fetch it again")
    resolution = _read_resolution(path, [note for code, note in zip(codes, notes, strict=True) if code == _NOTE])
    retained = [i for i, code in enumerate(codes) if code != _NOTE or times[i]]
    return AnnotationFile(
        np.asarray([times[i] for i in retained], dtype=np.int64),
        np.asarray([list_symbols().get(codes[i], "") for i in retained], dtype="<U1"),
        np.asarray([channels[i] for i in retained], dtype=np.int64),
        tuple(notes[i] for i in retained),
        resolution,
    )


def _is_aha(content: bytes) -> bool:
    """Return whether annotations are in the AHA database's format: 16 bytes each, a zero, then a letter."""
    starts = [content[at : at + 2] for at in range(0, len(content), 16) if any(content[at : at + 16])]
    whole = bool(starts) and len(content) % 16 == 0
    return whole and all(start[0] == 0 and start[1] in b"NVFREOPQU[]" for start in starts)


def _read_resolution(path: Path, notes: list[str]) -> float | None:
    """Return the ticks per second that one of the notes states, if any."""
    resolution: float | None = None
    for note in notes:
        if stated := _STATES_RESOLUTION.match(note):
            match = _HERTZ.fullmatch(stated["hertz"])
            number = float(match["number"]) if match else 0.0
            if not 0 < number < float("inf") or number != (resolution or number):
                raise DataError(f"{path}: its time resolution is not understood, or stated twice: correct the file")
            resolution = number
    return resolution
