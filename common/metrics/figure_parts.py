"""Parts of an evaluation that are several figures: lead times, reliability diagrams, decision curves."""

from __future__ import annotations

import numpy as np

from common.metrics import calibration
from common.metrics.counts import Counts
from common.metrics.early_warning import Ints
from common.metrics.figures import LeadTimes, NetBenefit, ReliabilityGroup
from common.metrics.intervals import ResampledFigures


def build_lead_times(figures: ResampledFigures, total: Counts) -> LeadTimes | None:
    """Return how long before the event it was predicted; None for a task without times."""
    if not total.lead.size:
        return None
    patients, *histogram = (int(n) for n in total.lead)
    return LeadTimes(
        patients=patients,
        warned=figures.figure("warned"),
        hours=figures.figure("lead_hours"),
        histogram=tuple(histogram),
    )


def build_groups(
    figures: ResampledFigures, scores: Ints, position: int, people: Ints | None
) -> tuple[ReliabilityGroup, ...]:
    """Return the groups of a reliability diagram that hold examples.

    Args:
        figures: with the observed shares of all groups.
        scores: the histograms of one class, `(2, bins)`.
        position: of the class in the figures.
        people: number of patients in each group; None: unknown.
    """
    every, events, predicted = calibration.count_reliability_groups(scores)
    bounds = [None, *calibration.RELIABILITY_CUTS, None]
    return tuple(
        ReliabilityGroup(
            low=bounds[g],
            high=bounds[g + 1],
            examples=int(every[g]),
            events=int(events[g]),
            patients=None if people is None else int(people[g]),
            predicted=float(predicted[g] / every[g]),
            observed=figures.figure("group_observed", (position, int(g))),
        )
        for g in np.flatnonzero(every)
    )


def build_curve(figures: ResampledFigures, scores: Ints, position: int) -> tuple[NetBenefit, ...]:
    """Return the points of a decision curve; arguments as in `build_groups`."""
    _, every = calibration.net_benefit(scores)
    return tuple(
        NetBenefit(
            probability=float(1 / (1 + np.exp(-odds))),
            value=figures.figure("group_benefit", (position, i)),
            treat_all=float(every[i]) if np.isfinite(every[i]) else None,
        )
        for i, odds in enumerate(calibration.DECISION_THRESHOLDS)
    )
