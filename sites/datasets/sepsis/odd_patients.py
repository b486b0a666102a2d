"""Hospitals whose hours or labels are counted otherwise than the challenge does: a note, and nothing is left out.

Hours in intensive care (ICULOS) start at 1, or a few hours later where nothing was recorded at first. A label is 1 from
six hours before the onset of sepsis, so a patient whose label is not 1 from the first hour has six such hours or more.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sites.plausible_values import MANY

LATEST_START = 24
FEWEST_LABELLED = 6
"""Hours with the label 1 of a patient who has it later than the first hour; 10 of 2,267 public ones have fewer."""
MOST = 0.5
"""Share of patients from which on a hospital counts otherwise."""
STARTS = f"patients whose first hour in intensive care is 0 or above {LATEST_START}: counted otherwise? (not left out)"
LATE = f"patients of sepsis with the label 1 for fewer than {FEWEST_LABELLED} hours: is it set too late? (not left out)"
ALWAYS = "patients with the label 1 from their first hour, most of those of sepsis: set for whole stays? (not left out)"


def count_odd_patients(
    start: npt.NDArray[np.floating], label: npt.NDArray[np.uint8], first: npt.NDArray[np.int64]
) -> dict[str, int]:
    """Return notes with the number of patients, where most patients of a hospital are odd.

    Args:
        start: each patient's first hour in intensive care.
        label: the label of each hour, patient after patient.
        first: each patient's first row.
    """
    notes: dict[str, int] = {}
    odd = (start < 1) | (start > LATEST_START)
    if len(start) >= MANY and odd.mean() > MOST:
        notes[STARTS] = int(odd.sum())
    if not len(first):
        return notes
    labelled = np.add.reduceat(label, first, dtype=np.int64)
    from_first = label[first] == 1
    later = (labelled > 0) & ~from_first
    late = later & (labelled < FEWEST_LABELLED)
    if later.sum() >= MANY // 2 and late.sum() > MOST * later.sum():
        notes[LATE] = int(late.sum())
    if (labelled > 0).sum() >= MANY // 2 and from_first.sum() > MOST * (labelled > 0).sum():
        notes[ALWAYS] = int(from_first.sum())
    return notes
