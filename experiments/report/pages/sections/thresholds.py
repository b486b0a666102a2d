"""Other thresholds: what would be flagged and missed at each, over all hospitals and at each of them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from common.metrics.calibration import RELIABILITY_CUTS
from common.metrics.figures import Evaluation, ReliabilityGroup
from common.percent import format_percent
from experiments.report.document.report import Report
from experiments.report.pages.section import Section
from experiments.report.text.cases import count_cases
from experiments.report.text.decision import has_thresholds
from experiments.report.text.shares import name_examples
from experiments.report.text.thresholds import describe_threshold_origin


@dataclass(frozen=True)
class Decision:
    """What follows from a threshold for a set of examples.

    Attributes:
        hits: examples with the event that are flagged.
        wrong: examples without the event that are flagged.
        events: examples with the event.
        total: all examples.
        odds: odds of the threshold's probability, the weight of a wrong flag in the net benefit.
    """

    hits: int
    wrong: int
    events: int
    total: int
    odds: float

    @property
    def missed(self) -> int:
        """Examples with the event that are not flagged."""
        return self.events - self.hits

    @property
    def benefit(self) -> float:
        """Net benefit per 100 examples: those flagged rightly, minus the weighted ones flagged wrongly.

        Vickers and Elkin 2006, Med Decis Making 26(6):565-574.
        """
        return 100 * (self.hits - self.odds * self.wrong) / self.total if self.total else 0.0


@dataclass(frozen=True)
class Step:
    """One threshold.

    Attributes:
        log_odds: the threshold.
        label: its probability in percent.
        used: whether it is the threshold in use.
        pooled: what follows from it over all hospitals.
        sites: what follows from it at each hospital.
    """

    log_odds: float
    label: str
    used: bool
    pooled: Decision
    sites: Mapping[str, Decision]


def decide_at(groups: Sequence[ReliabilityGroup], log_odds: float) -> Decision:
    """Return what follows from a threshold, which must be a boundary of the groups of scores."""
    flagged = [group for group in groups if group.low is not None and group.low >= log_odds]
    hits = sum(group.events for group in flagged)
    return Decision(
        hits=hits,
        wrong=sum(group.examples for group in flagged) - hits,
        events=sum(group.events for group in groups),
        total=sum(group.examples for group in groups),
        odds=math.exp(log_odds),
    )


def _read_groups(evaluation: Evaluation) -> Sequence[ReliabilityGroup]:
    calibration = list(evaluation.classes.values())[-1].calibration
    return calibration.groups if calibration else ()


def _decide_as_used(evaluation: Evaluation, log_odds: float) -> Decision:
    cases = count_cases(evaluation, list(evaluation.classes)[-1])
    return Decision(cases.hits, cases.wrong, cases.events, cases.total, math.exp(log_odds))


def list_steps(report: Report) -> list[Step]:
    """Return the thresholds at which the hospitals count, and the one in use, from low to high."""
    model = report.federated
    if model is None or model.pooled is None:
        return []
    pooled = model.pooled
    used = model.threshold or 0.0
    sites = {name: item for name, item in model.sites.items() if _read_groups(item)}
    steps = []
    for at in sorted({*RELIABILITY_CUTS, used}):
        counted = at in RELIABILITY_CUTS and at != used
        steps.append(
            Step(
                log_odds=at,
                label=format_percent(1 / (1 + math.exp(-at))),
                used=at == used,
                pooled=decide_at(_read_groups(pooled), at) if counted else _decide_as_used(pooled, at),
                sites={
                    name: decide_at(_read_groups(item), at) if counted else _decide_as_used(item, at)
                    for name, item in sites.items()
                },
            )
        )
    return steps


def build_thresholds(report: Report) -> Mapping[str, Any]:
    """Return the steps, the position of the one in use, and the same counts as JSON for the page's script."""
    steps = list_steps(report)
    model = report.federated
    assert model is not None
    assert model.pooled is not None
    names = list(steps[0].sites) if steps else []
    counts = {
        "labels": [step.label for step in steps],
        "odds": [step.pooled.odds for step in steps],
        "rows": [
            {
                "total": first.total,
                "events": first.events,
                "hits": [d.hits for d in row],
                "wrong": [d.wrong for d in row],
            }
            for row in ([step.sites[name] for step in steps] for name in names)
            for first in row[:1]
        ],
        "pooled": {
            "total": steps[0].pooled.total,
            "events": steps[0].pooled.events,
            "hits": [step.pooled.hits for step in steps],
            "wrong": [step.pooled.wrong for step in steps],
        },
        "used": next(index for index, step in enumerate(steps) if step.used),
    }
    return {
        "steps": steps,
        "sites": names,
        "used": next(step for step in steps if step.used),
        "position": counts["used"],
        "counts": json.dumps(counts, separators=(",", ":")),
        "examples": name_examples(report, model.pooled),
        "event": list(report.class_titles.values())[-1],
        "origin": describe_threshold_origin(report),
    }


SECTION = Section(
    "thresholds",
    "Other thresholds",
    "Thresholds",
    after="summary",
    applies=has_thresholds,
    build=build_thresholds,
    appendix=False,
)
