"""Sensitivity and specificity of `sites.ecg.rhythm` for atrial fibrillation, by recording.

    python -m experiments.studies.irregular_rhythm data/mitdb

Prints for each recording the number of beats, the share that is flagged, and, from the rhythm marks (AFIB; the
annotations of some copies have lost the text of their marks), sensitivity and specificity.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import wfdb

from sites.ecg.annotations import is_beat
from sites.ecg.recordings import recording_names
from sites.ecg.rhythm import find_irregular_rhythm

AFIB = "(AFIB"


def compare_with_marks(stem: Path) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_] | None]:
    """Return which beats of a recording are flagged, and which are marked AFIB (None: the marks have no text)."""
    annotation = wfdb.rdann(str(stem), "atr")
    sample, symbol = np.asarray(annotation.sample), np.asarray(annotation.symbol)
    beats = is_beat(symbol)
    flagged = find_irregular_rhythm(sample[beats] / annotation.fs)
    marks = np.flatnonzero(symbol == "+")
    names = [annotation.aux_note[i].strip("\0 ") for i in marks]
    if not any(names):
        return flagged, None
    last = np.searchsorted(sample[marks], sample[beats], side="right") - 1
    return flagged, np.asarray([i >= 0 and names[i] == AFIB for i in last])


def main(folder: Path) -> None:
    """Print a line for each recording, and the totals."""
    counts = np.zeros((2, 2), dtype=np.int64)
    print(f"{'recording':12}{'beats':>8}{'flagged':>9}{'sensitivity':>13}{'specificity':>13}")
    for name in recording_names(folder):
        flagged, marked = compare_with_marks(folder / name)
        line = f"{name:12}{len(flagged):8}{flagged.mean():9.2f}"
        if marked is not None:
            for column, (group, right) in enumerate(((marked, flagged), (~marked, ~flagged))):
                counts[:, column] += (group & right).sum(), group.sum()
                line += f"{(group & right).sum() / group.sum():13.3f}" if group.any() else f"{'-':>13}"
        print(line)
    if counts[1].all():
        print(f"{'all':12}{'':17}{counts[0, 0] / counts[1, 0]:13.3f}{counts[0, 1] / counts[1, 1]:13.3f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
