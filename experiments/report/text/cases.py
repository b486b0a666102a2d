"""Decisions about a class at the threshold in use: how many were found, missed and wrongly flagged."""

from __future__ import annotations

from dataclasses import dataclass

from common.metrics.figures import Evaluation, Figure
from common.percent import format_percent
from experiments.report.document.report import Report
from experiments.report.text.shares import format_percent_interval

MIN_COMPARED = 10
"""Patients with the event that a hospital or a group needs to be called the worst, where any has that many."""
MIN_SENSITIVITY = 0.5
"""Share of the events that a model must find; one that finds fewer misses most of them."""


@dataclass(frozen=True)
class CaseCounts:
    """The decisions about one class at the threshold in use.

    Attributes:
        hits: examples with the class that were predicted as it.
        missed: examples with the class that were not.
        wrong: examples without the class that were predicted as it.
        total: all examples.
        sensitivity: share predicted, with its interval.
        precision: share of the predictions that are right, with its interval.
        patients: patients with the class.
    """

    hits: int
    missed: int
    wrong: int
    total: int
    sensitivity: Figure
    precision: Figure
    patients: int

    @property
    def events(self) -> int:
        """Examples with the class."""
        return self.hits + self.missed

    @property
    def missed_share(self) -> float:
        """Share of the examples with the class that were missed; 0 without any."""
        return self.missed / self.events if self.events else 0.0


def count_cases(evaluation: Evaluation, name: str) -> CaseCounts:
    """Return the decisions about one class."""
    names, part = list(evaluation.classes), evaluation.classes[name]
    at, rows = names.index(name), evaluation.confusion
    if len(rows) == len(names) and all(len(row) == len(names) for row in rows):
        hits, events = rows[at][at], sum(rows[at])
        wrong, total = sum(row[at] for row in rows) - hits, sum(map(sum, rows))
    else:  # multilabel: a row of true negatives, false positives, false negatives and true positives
        _, wrong, missed, hits = rows[at]
        events, total = hits + missed, sum(rows[at])
    return CaseCounts(hits, events - hits, wrong, total, part.recall, part.precision, part.patients)


def list_decided_classes(report: Report) -> list[str]:
    """Return the classes whose misses matter: the event of two classes, each label, or all classes but the first."""
    names = list(report.class_titles)
    return names if report.task.get("kind") == "multilabel" else names[1:]


def count_events(report: Report, evaluation: Evaluation) -> CaseCounts:
    """Return the decisions about the event, or about all classes but the first together, which have no interval."""
    parts = [count_cases(evaluation, name) for name in list_decided_classes(report)]
    if len(parts) == 1:
        return parts[0]
    none = Figure(value=None)
    hits, missed, wrong = (sum(getattr(part, name) for part in parts) for name in ("hits", "missed", "wrong"))
    patients = max((part.patients for part in parts), default=0)
    return CaseCounts(hits, missed, wrong, evaluation.examples, none, none, patients)


def name_events(report: Report) -> str:
    """Return what `count_events` counts."""
    names = list_decided_classes(report)
    if len(names) == 1:
        return "events"
    excluded = "" if len(names) == len(report.class_titles) else f" but {next(iter(report.class_titles.values()))}"
    return f"examples of all classes{excluded}"


def describe_missed(cases: CaseCounts) -> str:
    """Return the share that is missed, with its interval: one minus the sensitivity.

    Where all or none are missed, resamples of patients do not vary: the exact interval of Clopper and Pearson 1934
    (Biometrika 26:404-413) over the patients with the class is given instead.

    >>> known = Figure(value=0.25, low=0.1, high=0.4)
    >>> describe_missed(CaseCounts(1, 3, 0, 10, known, known, 4))
    '75%, 95% interval 60% to 90%'
    >>> none = Figure(value=0.0, low=0.0, high=0.0)
    >>> describe_missed(CaseCounts(0, 5, 0, 10, none, none, 5))
    '100%, 95% interval 48% to 100%'
    """
    figure = cases.sensitivity
    turned = Figure(
        value=None if figure.value is None else 1 - figure.value,
        low=None if figure.high is None else 1 - figure.high,
        high=None if figure.low is None else 1 - figure.low,
    )
    if not (cases.hits and cases.missed) and cases.patients:
        edge = 0.025 ** (1 / cases.patients)
        turned = Figure(value=1, low=edge, high=1) if cases.missed else Figure(value=0, low=0, high=1 - edge)
    return f"{format_percent(cases.missed_share)}, {format_percent_interval(turned) or 'no interval'}"
