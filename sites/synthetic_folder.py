"""Folders of generated data: marked, and there whole or not at all; and recordings to put into them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt

from common.errors import DataError

MARKER = "SYNTHETIC"
COMMENT = "SYNTHETIC: simulated by wardround, not a patient"


@contextmanager
def build_folder(folder: Path, sentence: str) -> Iterator[Path | None]:
    """Yield a folder to fill, which takes the name `folder` at the end; None where the same is there already.

    `sentence` says what is made from which settings: it is the content of the marker.

    Raises:
        DataError: `folder` holds something else.
    """
    marker = f"{COMMENT}: {sentence}\n"
    if _there(folder, marker):
        yield None
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as scratch:
        build = Path(scratch) / "build"
        build.mkdir()
        yield build
        (build / MARKER).write_text(marker)
        try:
            build.rename(folder)
        except OSError:
            # Another process may have finished first: the same data, or `_there` raises.
            if not _there(folder, marker):
                raise


def is_marked(folder: Path) -> bool:
    """Return whether a folder says that its data were generated."""
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

    wfdb would spend most of the generator's time on checks of what is known here.

    Args:
        stem: its path without a suffix.
        signal: `(samples, leads)`, mV.
        leads: their names.
        files: the name of each lead's file; leads of one file stand together.
        rate: samples a second (Hz).
        gain: converter units a mV.
        comments: lines of the header, without `#`.
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
        held = [i for i, name in enumerate(files) if name == file]
        np.ascontiguousarray(digital[:, held]).tofile(stem.with_name(file))


def _there(folder: Path, marker: str) -> bool:
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    path = folder / MARKER
    if path.is_file() and path.read_text() == marker:
        return True
    raise DataError(f"{folder}: holds other data than was asked for; remove it or name another folder")
