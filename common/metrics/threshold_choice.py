"""The decision threshold of an event, chosen on counts of validation patients by the run's rule."""

from __future__ import annotations

import numpy as np

from common.metrics.counts import LOGIT_RANGE, Counts, bin_edges, choose_threshold
from common.sections.evaluation import EvaluationConfig

MIN_EXAMPLES = 5
"""Examples of each class that the default rule needs; with fewer, one patient would decide the threshold."""


def choose_wanted_threshold(counts: Counts, wanted: EvaluationConfig) -> float | None:
    """Return the decision threshold in log odds that a run asks for.

    Args:
        counts: counts of a task of two classes, of validation patients, without leading axis.
        wanted: the run's rule. "auto" is the Youden index where there are MIN_EXAMPLES of each class. (Youden 1950,
            Cancer 3(1):32-35.)

    Returns:
        the lower edge of a score bin; None for the likelier class: it is asked for, or the counts are too few.
    """
    if wanted.threshold == "likelier":
        return None
    if wanted.threshold == "sensitivity":
        return find_sensitive_threshold(counts, wanted.sensitivity)
    if wanted.threshold == "auto":
        if counts.scores[1].sum(-1).min() < MIN_EXAMPLES:
            return None
        return choose_threshold(counts, "youden")
    return choose_threshold(counts, wanted.threshold, wanted.false_alarms)


def find_sensitive_threshold(counts: Counts, sensitivity: float) -> float | None:
    """Return the highest threshold at which this share of the events is predicted; None without an event."""
    events = np.cumsum(counts.scores[1, 1, ::-1])[::-1].astype(np.float64)
    if events[0] == 0:
        return None
    enough = np.flatnonzero(events >= sensitivity * events[0] - 1e-9)
    return float(bin_edges(len(events))[enough[-1]]) if len(enough) else -LOGIT_RANGE
