"""Folders of generated data, which carry a marker and are written completely or not at all."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt

from common.errors import DataError

MARKER = "SYNTHETIC"
COMMENT = "SYNTHETIC: simulated by wardround, not a patient"


def build_folder(folder: Path, sentence: str) -> AbstractContextManager[Path | None]:
    """Yield a folder to fill, as `fill_folder` does, with the usual marker.

    Args:
        folder: its final path.
        sentence: what is generated from which settings, written into the marker.

    Raises:
        DataError: `folder` holds other data.
    """
    return fill_folder(folder, f"{COMMENT}: {sentence}\n")


@contextmanager
def fill_folder(folder: Path, content: str, marker: str = MARKER) -> Iterator[Path | None]:
    """Yield a folder to fill, renamed to `folder` at the end; None if `folder` holds the same data already.

    Args:
        folder: its final path.
        content: the marker's content, which is equal for the same data only.
        marker: name of the marker's file.

    Raises:
        DataError: `folder` holds other data.
    """
    path = folder / marker
    if _is_complete(path, content):
        yield None
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as scratch:
        build = Path(scratch) / "build"
        build.mkdir()
        yield build
        (build / marker).write_text(content, encoding="utf-8")
        try:
            build.rename(folder)
        except OSError:
            # Another process may have finished first with the same data; else `_is_complete` raises.
            if not _is_complete(path, content):
                raise


def is_marked(folder: Path) -> bool:
    """Return whether a folder carries the marker of generated data."""
    return (folder / MARKER).is_file()


def write_recording(
    stem: Path,
    signal: npt.NDArray[np.float64],
    leads: Sequence[str],
    files: Sequence[str],
    *,
    rate: int,
    gain: float,
    comments: Sequence[str],
) -> None:
    """Write a WFDB recording in format 16: `stem.hea` and its signal files.

    Faster than wfdb's writer, whose checks would take most of the generator's time.

    Args:
        stem: path without a suffix.
        signal: `(samples, leads)`, mV.
        leads: names of the leads.
        files: the file name of each lead; leads of one file are adjacent.
        rate: sampling rate (Hz).
        gain: converter units per mV.
        comments: comment lines of the header, without `#`.
    """
    digital = np.clip(np.rint(signal * gain), -(2**15) + 1, 2**15 - 1).astype("<i2")
    sums = digital.sum(axis=0, dtype=np.int64) & 0xFFFF
    lines = [f"{stem.name} {len(leads)} {rate} {len(digital)}"]
    lines += [
        f"{file} 16 {gain:g}/mV 16 0 {first} {total} 0 {lead}"
        for file, first, total, lead in zip(files, digital[0], sums, leads, strict=True)
    ]
    lines += [f"# {comment}" for comment in comments]
    stem.with_name(f"{stem.name}.hea").write_text("".join(f"{line}\n" for line in lines))
    for file in dict.fromkeys(files):
        columns = [i for i, name in enumerate(files) if name == file]
        np.ascontiguousarray(digital[:, columns]).tofile(stem.with_name(file))


def _is_complete(marker: Path, content: str) -> bool:
    folder = marker.parent
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    if marker.is_file() and marker.read_text(encoding="utf-8") == content:
        return True
    raise DataError(f"{folder}: holds other data than requested; remove it or name another folder")
