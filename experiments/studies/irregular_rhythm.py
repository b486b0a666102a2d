"""Sensitivity and specificity of `sites.ecg.rhythm` for atrial fibrillation, by recording.

    python -m experiments.studies.irregular_rhythm data/mitdb

Prints of each recording the beats, the share that is flagged, and, from the rhythm marks (AFIB), sensitivity and
specificity by beat. Some copies of the MIT-BIH Arrhythmia Database have lost the names of their marks; of the two
recordings in FIBRILLATION the names are known here.
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
FIBRILLATION = {
    "202": ((0, False), (411338, True), (416822, False), (423479, True), (464994, False), (468678, True),
            (549793, False), (567041, True)),
    "219": ((33119, False), (36627, True), (109192, False), (117599, True), (300817, False), (307174, True),
            (321702, False), (326615, True), (331189, False), (339349, True), (340199, False), (377625, True),
            (381194, False), (401723, True), (413166, False), (437749, False), (439101, True), (480987, False),
            (500516, False), (501948, True)),
}  # fmt: skip
"""Rhythm marks of MIT-BIH recordings with paroxysmal fibrillation: sample, and whether atrial fibrillation begins there
or another rhythm. Moody, Mark 2001, IEEE Eng Med Biol 20(3):45-50; ODC-By 1.0. Of 219 the first 92 s are left out."""


def compare_with_marks(stem: Path) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float64]]:
    """Return which beats of a recording are flagged, and which are in fibrillation: 1, 0, or NaN where that is unknown.

    Raises:
        ValueError: the file's marks are not those in FIBRILLATION.
    """
    annotation = wfdb.rdann(str(stem), "atr")
    sample, symbol = np.asarray(annotation.sample), np.asarray(annotation.symbol)
    beats = is_beat(symbol)
    flagged = find_irregular_rhythm(sample[beats] / annotation.fs)
    marks = np.flatnonzero(symbol == "+")
    names = [annotation.aux_note[i].strip("\0 ") for i in marks]
    changes = [(int(sample[i]), name == AFIB) for i, name in zip(marks, names, strict=True)]
    if not any(names):
        changes = list(FIBRILLATION.get(stem.name, ()))
        if {at for at, _ in changes} - {0, *sample[marks].tolist()}:
            raise ValueError(f"{stem}: its rhythm marks are at other samples")
    marked = np.full(len(flagged), np.nan)
    for at, fibrillation in changes:
        marked[sample[beats] >= at] = fibrillation
    return flagged, marked


def main(folder: Path) -> None:
    """Print a line for each recording, and the totals."""
    counts = np.zeros((2, 2), dtype=np.int64)
    print(f"{'recording':12}{'beats':>8}{'flagged':>9}{'sensitivity':>13}{'specificity':>13}")
    for name in recording_names(folder):
        flagged, marked = compare_with_marks(folder / name)
        line = f"{name:12}{len(flagged):8}{flagged.mean():9.2f}"
        if np.isfinite(marked).any():
            for column, (group, right) in enumerate(((marked == 1, flagged), (marked == 0, ~flagged))):
                counts[:, column] += (group & right).sum(), group.sum()
                line += f"{(group & right).sum() / group.sum():13.3f}" if group.any() else f"{'-':>13}"
        print(line)
    if counts[1].all():
        print(f"{'all':12}{'':17}{counts[0, 0] / counts[1, 0]:13.3f}{counts[0, 1] / counts[1, 1]:13.3f}")
        print(f"{'beats':12}{'':17}{counts[1, 0]:13,}{counts[1, 1]:13,}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
