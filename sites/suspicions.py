"""What looks wrong in a site's examples but may be right, counted by reason: only who owns the data knows."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import replace

from sites.code_values import count_code_values
from sites.cohort import Cohort
from sites.spellings import count_perhaps_alike

PERHAPS_ALIKE = "patients whose names differ only in signs, zeros or 'copy' from another's: one person? (not left out)"


def note_suspicions(cohort: Cohort, bounded: Container[str] = ()) -> Cohort:
    """Return the cohort with what looks wrong in it counted in `excluded`; its examples do not change.

    Args:
        cohort: a site's examples.
        bounded: inputs whose range the data set states.
    """
    notes = count_code_values(cohort, bounded)
    if alike := count_perhaps_alike(cohort.persons):
        notes[PERHAPS_ALIKE] = alike
    return replace(cohort, excluded={**cohort.excluded, **notes}) if notes else cohort
