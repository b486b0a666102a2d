"""Events of the inputs that cannot be right or cannot be used: without a time, before the birth, or twice."""

from __future__ import annotations

from collections import Counter

import numpy as np
import numpy.typing as npt

from sites.datasets.meds.description import Description, matches
from sites.datasets.meds.extract import NO_TIME, Events

NO_TIMES = "events of the inputs without a time, which are not used"
BEFORE_BIRTH = "events of the inputs before the person's birth: is their time right? (not left out)"
TWICE = "events of the inputs that are equal to another in time and value: is the extract joined twice? (not left out)"
ONE_SEX = "people without a code of their sex, while all others have the same one: is a code missing? (not left out)"
MIN_TWICE = 1 / 3
"""Share of equal events from which on they are counted: a device may store one twice."""
MANY = 20
DAY = 24 * 3600 * 1_000_000
"""A day, in the unit of `Events.time`."""


def count_odd_events(events: Events, options: Description, excluded: Counter[str]) -> None:
    """Add to the counts the odd events of one file.

    Args:
        events: in order of subject and time.
        options: the description.
        excluded: by reason.
    """
    codes = [any(matches(item.patterns, code) for item in options.inputs) for code in events.codes]
    used = np.asarray(codes, np.bool_)[events.code] if len(codes) else np.zeros(0, np.bool_)
    ever = [any(item.ever and matches(item.patterns, code) for item in options.inputs) for code in events.codes]
    timeless = events.time == NO_TIME
    excluded[NO_TIMES] += int((used & timeless & ~np.asarray(ever, np.bool_)[events.code]).sum()) if len(codes) else 0
    timed = np.flatnonzero(used & ~timeless)
    if options.birth is not None and len(timed):
        births = np.asarray([matches((options.birth,), code) for code in events.codes])[events.code] & ~timeless
        subject, at = np.unique(events.subject[births], return_index=True)
        if len(subject):
            index = np.clip(np.searchsorted(subject, events.subject[timed]), 0, len(subject) - 1)
            born = np.where(subject[index] == events.subject[timed], events.time[births][at][index], NO_TIME)
            excluded[BEFORE_BIRTH] += int((events.time[timed] + DAY < born).sum())
    valued = timed[~np.isnan(events.value[timed])]
    keys = np.stack([events.subject[valued], events.time[valued], events.code[valued].astype(np.int64),
                     events.value[valued].astype(np.float64).view(np.int64)])  # fmt: skip
    equal = len(valued) - np.unique(keys, axis=1).shape[1] if len(valued) else 0
    if equal >= MIN_TWICE * max(len(valued), MANY):
        excluded[TWICE] += equal


def count_one_sex(subject: npt.NDArray[np.int64], sex: npt.NDArray[np.int8], excluded: Counter[str]) -> None:
    """Add to the counts the people without a sex, where all others have one sex and they are a quarter or more."""
    _, first = np.unique(subject, return_index=True)
    own = sex[first]
    unknown = int((own < 0).sum())
    if len(own) >= MANY and len(np.unique(own[own >= 0])) == 1 and unknown >= len(own) / 4:
        excluded[ONE_SEX] += unknown
