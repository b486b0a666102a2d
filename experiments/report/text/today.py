"""How the federated model compares with what is used today, in words.

A score that is unknown for a part of the patients is compared where it is known, and what that leaves open is said.
"""

from __future__ import annotations

from common.metrics.paired_resamples import POOLED
from common.metrics.registry import METRICS
from common.percent import format_percent
from experiments.report.document.report import Report
from experiments.report.document.results import ModelDifference, ModelResult, Outcomes, WhereKnown
from experiments.report.text.facts import Fact
from experiments.report.text.formatting import capitalise, format_difference, format_figure, metric_title
from experiments.report.text.shares import name_examples

PREFIX = "today:"
"""Start of the names of models that stand for what is used today (experiments/baselines/today.py)."""

AGE_SEX = f"{PREFIX}age_sex"
"""Age and sex alone: what any score must surpass, but no practice."""

MAX_UNKNOWN = 0.05
"""Share of the test examples without a score beyond which it is not judged."""


def list_rivals(report: Report) -> list[ModelResult]:
    """Return the models that stand for what is used today, the one that the federated model gains least on first."""
    metric = METRICS[report.metric]

    def rank(model: ModelResult) -> float:
        difference = find_difference(report, model.name, report.metric)
        value = None if difference is None else difference.figure.value
        return float("inf") if value is None else -metric.badness(value)

    return sorted((model for model in report.models if model.name.startswith(PREFIX)), key=rank)


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
    """Return whether a score is unknown for so many of the test examples that it cannot be judged on all of them."""
    compared = rival.where_known is not None or rival.pooled is None
    return not compared and rival.pooled is not None and rival.unknown > MAX_UNKNOWN * rival.pooled.examples


def _describe_unknown(rival: ModelResult) -> str:
    if not rival.unknown or rival.pooled is None or rival.where_known is not None:
        return ""
    return (
        f", but it is not known for {rival.unknown:,} of {rival.pooled.examples:,} test examples, which got the score "
        "of an average patient"
    )


def _describe_compared(report: Report, rival: ModelResult, patients: int) -> str:
    """Return which patients two models were compared on."""
    if (both := rival.where_known) is None:
        return f"on the same {patients:,} patients"
    words, all_examples = _name_examples(report), both.known.examples + both.unknown.examples
    return f"on the {both.known.examples:,} of {all_examples:,} {words} for which it is known"


def _name_examples(report: Report) -> str:
    pooled = report.federated.pooled if report.federated else None
    return "examples" if pooled is None else name_examples(report, pooled)


def describe_where_unknown(report: Report, rival: ModelResult) -> str:
    """Return how those without a score differ from those with it, and what the comparison cannot say; or nothing."""
    if (both := rival.where_known) is None or report.federated is None:
        return ""
    title, words = _within_sentence(rival.title), _name_examples(report)
    if not both.known.examples:
        return f"{capitalise(title)} is known for none of the {both.unknown.examples:,} {words}: nothing is compared."
    low, high = both.rate_difference.low, both.rate_difference.high
    apart = "no interval" if low is None or high is None else f"95% interval {100 * low:+.1f} to {100 * high:+.1f}"
    value = both.rate_difference.value
    gap = "" if value is None else f" (a difference of {100 * value:+.1f} percentage points, {apart})"
    event = list(report.class_titles.values())[-1]
    text = (
        f"{capitalise(title)} is not known for {both.unknown.examples:,} {words}: {_describe_share(both.unknown)} of "
        f"them have “{event}”, of those with it {_describe_share(both.known)}{gap}."
    )
    elsewhere = _describe_elsewhere(report, both)
    return (
        f"{text} Who has the score is no random choice, so the comparison holds for {words} like those with it alone, "
        f"and cannot say which is better for the others, where there is nothing to compare with.{elsewhere}"
    )


def _describe_share(part: Outcomes) -> str:
    share = format_percent(part.events / part.examples) if part.examples else "none"
    return f"{part.events:,} of {part.examples:,} ({share})"


def _describe_elsewhere(report: Report, both: WhereKnown) -> str:
    pooled = both.federated_elsewhere.pooled
    figure = pooled.figure(report.metric) if pooled is not None else None
    if pooled is None or figure is None or figure.value is None:
        return ""
    return f" There the federated model alone has {metric_title(report.metric)} {format_figure(pooled, report.metric)}."


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
    compared = (
        f"difference {format_difference(difference.figure)} {_describe_compared(report, rival, difference.patients)}"
    )
    if is_often_unknown(rival):
        return f"{capitalise(metric_title(report.metric))} against {title}: {compared}{_describe_unknown(rival)}."
    text += f": {compared}{_describe_unknown(rival)}."
    return text + (f" {fewer}." if (fewer := describe_sensitivity(report, rival)) else "")


def describe_sensitivity(report: Report, rival: ModelResult) -> str:
    """Return that a model finds fewer, or more, of the events at the thresholds in use, if an interval shows it."""
    difference = find_difference(report, rival.name, "sensitivity")
    judged = judge_difference(difference)
    if difference is None or judged not in ("worse than", "better than") or report.metric == "sensitivity":
        return ""
    other = find_difference(report, rival.name, "specificity")
    text = (
        f"At the thresholds in use it finds {'fewer' if judged == 'worse than' else 'more'} of the events: sensitivity "
        f"{format_difference(difference.figure)}"
    )
    return text + (f", specificity {format_difference(other.figure)}" if other is not None else "")


def state_today(report: Report) -> Fact | None:
    """Return how the federated model compares with what it gains least on of what is used today."""
    label = "Against what is used today"
    if report.federated is None or report.federated.pooled is None or report.detecting:
        return None
    if not report.binary:
        return Fact(label, "not compared", "baselines.today compares tasks of two classes only", "comparison")
    rivals = list_rivals(report)
    if not rivals:
        return Fact(label, "not compared", "baselines.today names a score, or age and sex alone", "comparison")
    hardest = rivals[0]
    difference = find_difference(report, hardest.name, report.metric)
    judged = judge_difference(difference)
    short = {"better than": "Better", "worse than": "Worse", "not shown to differ from": "No better shown"}
    detail = f"{judged} {_within_sentence(hardest.title)}"
    if difference is not None and difference.figure.value is not None:
        detail += f": {metric_title(report.metric)} {format_difference(difference.figure)}"
    if is_often_unknown(hardest):
        detail = detail.removeprefix(f"{judged} ") + _describe_unknown(hardest)
        return Fact(label, "Not decided", detail, "today", True)
    if hardest.where_known is not None:
        detail += f", {_describe_compared(report, hardest, 0)}"
    value, sensitivity = short.get(judged, "not comparable"), describe_sensitivity(report, hardest)
    if fewer := "finds fewer" in sensitivity:
        value += ", and finds fewer" if judged != "better than" else " at ranking, but finds fewer"
    detail += f". {sensitivity}" if sensitivity else ""
    if [rival.name for rival in rivals] == [AGE_SEX]:
        return Fact(label, "No score compared", f"{detail}; no score that is in use was named", "today", True)
    if len(rivals) > 1:
        detail += f". Of {len(rivals)} compared, it gains least on this one"
    return Fact(label, value, detail, "today", judged != "better than" or fewer)
