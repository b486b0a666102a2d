"""What looks wrong in a site's examples but may be right, counted by reason: only who owns the data knows."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import replace

import numpy as np

from sites.changed_people import count_changed_people
from sites.code_values import count_code_values
from sites.cohort import Cohort
from sites.equal_inputs import EQUAL_EXAMPLES, EQUAL_PEOPLE, count_equal_examples, count_equal_people
from sites.equal_rhythm import EQUAL_RHYTHM, count_equal_rhythms
from sites.filled_values import count_filled_values
from sites.person_units import count_units_of_people
from sites.plausible_values import MANY
from sites.spellings import count_perhaps_alike

PERHAPS_ALIKE = "patients whose names differ only in signs, zeros or 'copy' from another's: one person? (not left out)"


EVENT_SHARE = "people of class {}, a share that hardly any hospital has: are the classes turned round? (not left out)"
NO_EVENT = "people, none of whom is of class {}: is the outcome read rightly? (not left out)"
MANY_FOR_EVENT = 100
"""People among whom somebody has the event: of fewer, none is possible."""
ONE_AGE = "people who all have the same age: is it their age? (not left out)"


def note_suspicions(
    cohort: Cohort, bounded: Container[str] = (), event_share: tuple[float, float] | None = None
) -> Cohort:
    """Return the cohort with what looks wrong in it counted in `excluded`; its examples do not change.

    Args:
        cohort: a site's examples.
        bounded: inputs whose range the data set states.
        event_share: lowest and highest plausible share of people with the event (`Source.event_share`).
    """
    notes = count_code_values(cohort, bounded) | count_units_of_people(cohort) | count_filled_values(cohort)
    if alike := count_perhaps_alike(cohort.persons):
        notes[PERHAPS_ALIKE] = alike
    if cohort.task.binary and (people := cohort.people()) >= MANY:
        events = cohort.take(cohort.y == 1).people()
        if event_share is not None and not event_share[0] <= events / people <= event_share[1]:
            notes[EVENT_SHARE.format(cohort.task.classes[1])] = events
        if not events and people >= MANY_FOR_EVENT:
            notes[NO_EVENT.format(cohort.task.classes[1])] = people
    notes |= count_changed_people(cohort)
    if cohort.age is not None:
        ages = cohort.age[~np.isnan(cohort.age)]
        if len(ages) >= MANY and np.ptp(ages) == 0:
            notes[ONE_AGE] = len(ages)
    if equal := count_equal_people(cohort):
        notes[EQUAL_PEOPLE] = equal
    elif equal := count_equal_rhythms(cohort):
        notes[EQUAL_RHYTHM] = equal
    if equal := count_equal_examples(cohort):
        notes[EQUAL_EXAMPLES] = equal
    return replace(cohort, excluded={**cohort.excluded, **notes}) if notes else cohort
