"""How the federated model compares with what is used today, in words."""

from __future__ import annotations

from common.metrics.evaluation import metric_value
from common.metrics.paired_resamples import POOLED
from common.metrics.registry import METRICS
from experiments.report.document.report import Report
from experiments.report.document.results import ModelDifference, ModelResult
from experiments.report.text.facts import Fact
from experiments.report.text.formatting import capitalise, format_difference, metric_title

PREFIX = "today:"
"""Start of the names of models that stand for what is used today (experiments/baselines/today.py)."""

MAX_UNKNOWN = 0.05
"""Share of the test examples without a score beyond which it is not judged."""


def list_rivals(report: Report) -> list[ModelResult]:
    """Return the models that stand for what is used today, the best by the run's metric first."""
    rivals = [model for model in report.models if model.name.startswith(PREFIX)]
    metric = METRICS[report.metric]

    def rank(model: ModelResult) -> float:
        value = metric_value(model.pooled, report.metric) if model.pooled else None
        return float("inf") if value is None else metric.badness(value)

    return sorted(rivals, key=rank)


def find_difference(report: Report, model: str, metric: str, site: str = POOLED) -> ModelDifference | None:
    """Return the federated model minus another one; None if they cannot be compared."""
    return next(
        (item for item in report.differences if (item.model, item.metric, item.site) == (model, metric, site)), None
    )


def judge_difference(difference: ModelDifference | None) -> str:
    """Return what a difference with its interval shows of the federated model: better, worse, or neither.

    >>> judge_difference(None)
    'not comparable with'
    """
    if difference is None or difference.figure.value is None:
        return "not comparable with"
    low, high = difference.figure.low, difference.figure.high
    if low is None or high is None:
        return "not shown to differ from"
    metric = METRICS[difference.metric]
    worse, better = sorted((metric.badness(low), metric.badness(high)), reverse=True)
    zero = metric.badness(0.0)
    return "better than" if worse < zero else "worse than" if better > zero else "not shown to differ from"


def is_often_unknown(rival: ModelResult) -> bool:
    """Return whether a score is unknown for too many of the test examples to judge it."""
    return rival.pooled is not None and rival.unknown > MAX_UNKNOWN * rival.pooled.examples


def _describe_unknown(rival: ModelResult) -> str:
    if not rival.unknown or rival.pooled is None:
        return ""
    return (
        f", but it is not known for {rival.unknown:,} of {rival.pooled.examples:,} test examples, which got the score "
        "of an average patient"
    )


def _within_sentence(title: str) -> str:
    """Return a title as it is written within a sentence: "age and sex alone", but "APACHE IVa".

    >>> _within_sentence("Age and sex alone"), _within_sentence("NEWS")
    ('age and sex alone', 'NEWS')
    """
    return title[:1].lower() + title[1:] if title[1:2].islower() or title[1:2] == " " else title


def describe_rival(report: Report, rival: ModelResult) -> str:
    """Return how the federated model compares with one of them, as a sentence."""
    difference = find_difference(report, rival.name, report.metric)
    title = _within_sentence(rival.title)
    text = f"By {metric_title(report.metric)} the federated model is {judge_difference(difference)} {title}"
    if difference is None or difference.figure.value is None:
        return f"{text}."
    compared = f"difference {format_difference(difference.figure)} on the same {difference.patients:,} patients"
    if is_often_unknown(rival):
        return f"{capitalise(metric_title(report.metric))} against {title}: {compared}{_describe_unknown(rival)}."
    return f"{text}: {compared}{_describe_unknown(rival)}."


def state_today(report: Report) -> Fact | None:
    """Return how the federated model compares with the best of what is used today."""
    label = "Against what is used today"
    if report.federated is None or report.federated.pooled is None or report.detecting:
        return None
    if not report.binary:
        return Fact(label, "not compared", "baselines.today compares tasks of two classes only", "comparison")
    rivals = list_rivals(report)
    if not rivals:
        return Fact(label, "not compared", "baselines.today names a score, or age and sex alone", "comparison")
    best = rivals[0]
    difference = find_difference(report, best.name, report.metric)
    judged = judge_difference(difference)
    short = {"better than": "Better", "worse than": "Worse", "not shown to differ from": "No better shown"}
    detail = f"{judged} {_within_sentence(best.title)}"
    if difference is not None and difference.figure.value is not None:
        detail += f": {metric_title(report.metric)} {format_difference(difference.figure)}"
    if is_often_unknown(best):
        detail = detail.removeprefix(f"{judged} ") + _describe_unknown(best)
        return Fact(label, "Not decided", detail, "today", True)
    if len(rivals) > 1:
        detail += f"; the best of {len(rivals)}"
    return Fact(label, short.get(judged, "not comparable"), detail, "today", judged != "better than")
