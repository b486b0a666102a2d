"""Formatting of numbers, intervals and notices, with the reasons for missing values and intervals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from common.metrics import registry
from common.metrics.evaluation import NO_ORDER, WHY_NO_ORDER
from common.metrics.figures import FEW_PATIENTS, Evaluation, Figure
from common.metrics.merged_scores import read_merged_reasons
from common.metrics.patient_counts import count_patients
from experiments.report.document.report import Report
from experiments.report.document.run import Level, Notice

METRICS = {metric.name: metric.title for metric in registry.METRICS.values()}
"""Titles of the metrics of one value."""
RECALIBRATION_TITLES = {
    "threshold": "own threshold",
    "platt": "Platt scaling",
    "temperature": "temperature",
    "isotonic": "isotonic",
}
CLASS_METRICS = {metric.name: metric.title for metric in registry.CLASS_METRICS.values()}
"""Titles of the metrics of each class."""
NOTICE_TAGS: dict[Level, str] = {
    "synthetic": "SYNTHETIC",
    "leak": "LEAK",
    "not-private": "NOT PRIVATE",
    "partial": "PARTIAL",
}
"""Notices that are repeated in the caption of every table and plot."""
NOTICE_BARS: dict[Level, str] = {
    "synthetic": "SYNTHETIC DATA: no real patients",
    "leak": "LEAK: patients are in both the training and the test set",
    "not-private": "NOT PRIVATE: the noise can be removed",
    "partial": "PARTIAL: not all {sites} took part in all of the run",
}
"""Notices in the bar that stays at the top of the page, for `name_sites`."""

NOT_KNOWN = "not known"
"""Start of the reason for a value that a notice of the report explains too."""
MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """A value as it is shown.

    Attributes:
        text: the value, or a word for its absence.
        interval: the 95% interval; empty if there is none.
        few: whether it is based on fewer than FEW_PATIENTS patients.
        reason: why the value or its interval is missing.
        value: the number behind the text; None if there is none.
    """

    text: str
    interval: str = ""
    few: bool = False
    reason: str = ""
    value: float | None = None


def format_number(value: float | None) -> str:
    """Return a number with three digits after the point.

    >>> format_number(0.60349), format_number(None)
    ('0.603', 'n/a')
    """
    return "n/a" if value is None else f"{value:.3f}"


def format_interval(figure: Figure) -> str:
    """Return the 95% interval; empty if there is none.

    >>> format_interval(Figure(value=0.6, low=0.512, high=0.678))
    '0.51 to 0.68'
    """
    return "" if figure.low is None or figure.high is None else f"{figure.low:.2f} to {figure.high:.2f}"


def format_difference(figure: Figure | None) -> str:
    """Return a difference with its sign and interval, three digits each because it may be small.

    >>> figure = Figure(value=-0.0214, low=-0.0403, high=0.001)
    >>> format_difference(figure), format_difference(None)
    ('-0.021 (-0.040 to +0.001)', 'n/a')
    """
    cell = make_difference_cell(figure)
    return f"{cell.text} ({cell.interval})" if cell.interval else cell.text


def capitalise(text: str) -> str:
    """Return the text with its first letter in upper case and the rest unchanged.

    >>> capitalise("macro-AUROC")
    'Macro-AUROC'
    """
    return text[:1].upper() + text[1:]


def format_time(created: str) -> str:
    """Return an ISO 8601 time in words, to the minute, in UTC; text that is no such time is returned unchanged.

    >>> format_time("2026-02-03T14:05:59+01:00")
    '3 February 2026, 13:05 UTC'
    """
    try:
        when = datetime.fromisoformat(created)
    except ValueError:
        return created
    when = when.astimezone(UTC) if when.tzinfo else when
    return f"{when.day} {MONTHS[when.month - 1]} {when.year}, {when:%H:%M} UTC"


def format_count(count: int, one: str, many: str = "") -> str:
    """Return a count with its noun.

    >>> format_count(1, "patient"), format_count(10954, "patient"), format_count(2, "class", "classes")
    ('1 patient', '10,954 patients', '2 classes')
    """
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def format_duration(seconds: float) -> str:
    """Return a duration in seconds, minutes or hours.

    >>> format_duration(7.7), format_duration(125), format_duration(7260)
    ('8 s', '2 min 5 s', '2 h 1 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def make_cell(evaluation: Evaluation | None, metric: str, class_name: str | None = None, missing: str = "") -> Cell:
    """Return one metric of an evaluation as it is shown.

    Args:
        evaluation: None if there was none.
        metric: a key of METRICS, or of CLASS_METRICS with a class.
        class_name: the class; None for the metric over all classes.
        missing: the reason to give if there is no evaluation.
    """
    if evaluation is None:
        return Cell("n/a", reason=missing or "not evaluated")
    part = None if class_name is None else evaluation.classes.get(class_name)
    if class_name is not None and part is None:
        return Cell("n/a", reason="no results for this class")
    figure: Figure | None = evaluation.figure(metric) if part is None else getattr(part, metric)
    if figure is None:
        return Cell("n/a", reason="not defined for this task")
    if figure.value is None and evaluation.suppressed and (class_name is None or class_name in evaluation.suppressed):
        minimum = evaluation.suppressed[class_name] if class_name else max(evaluation.suppressed.values())
        return Cell("suppressed", reason=f"suppressed (fewer than {minimum} patients)")
    if figure.value is None and evaluation.noise is not None and registry.METRICS[metric].judges == "probabilities":
        return Cell("n/a", reason="not computed from counts with noise")
    if figure.value is None:
        return Cell("n/a", reason=_explain_missing_value(evaluation, metric, class_name))
    patients = count_patients(evaluation, metric, class_name)
    return make_figure_cell(figure, patients, _explain_missing_interval(evaluation, metric, class_name))


def make_figure_cell(figure: Figure, patients: int = FEW_PATIENTS, note: str = "") -> Cell:
    """Return a value with its interval as it is shown.

    Args:
        figure: the value.
        patients: the number of patients that it is based on.
        note: why there is no interval, if there is none.
    """
    if figure.value is None:
        return Cell("n/a", reason="cannot be computed from these patients")
    interval = format_interval(figure)
    reason = "" if interval else note or "no interval"
    return Cell(format_number(figure.value), interval, patients < FEW_PATIENTS, reason, figure.value)


def make_difference_cell(figure: Figure | None, patients: int = FEW_PATIENTS, note: str = "") -> Cell:
    """Return a difference with its sign as it is shown.

    Args:
        figure: the difference; None if there is none.
        patients: the number of patients that it is based on.
        note: why there is no interval, if there is none.
    """
    if figure is None or figure.value is None:
        return Cell("n/a", reason="cannot be computed from these patients")
    known = figure.low is not None and figure.high is not None
    interval = f"{figure.low:+.3f} to {figure.high:+.3f}" if known else ""
    reason = "" if interval else note or "no interval"
    return Cell(f"{figure.value:+.3f}", interval, patients < FEW_PATIENTS, reason, figure.value)


def _explain_missing_value(evaluation: Evaluation, metric: str, class_name: str | None) -> str:
    examples = None if class_name is None else evaluation.classes[class_name].examples
    entry = registry.find_metric(metric if class_name is None else f"class_{metric}")
    merged = dict(zip(evaluation.classes, read_merged_reasons(evaluation), strict=True))
    ordered = entry is not None and (entry.needs_order or entry.judges == "ranking")
    why = merged[class_name] if class_name else next(filter(None, merged.values()), "")
    if ordered and why:
        return f"{NOT_KNOWN}: {why.replace('its scores', 'the scores', 1)}"
    if evaluation.examples == 0:
        return "no test examples"
    if examples == 0:
        return "no examples of this class among these patients"
    if examples == evaluation.examples and registry.CLASS_METRICS[metric].judges == "ranking":
        return "all examples are of this class: there is no other class to compare with"
    own = registry.METRICS[metric] if class_name is None else None
    if own and own.class_metric and evaluation.classes:
        name = list(evaluation.classes)[own.class_index]
        if evaluation.classes[name].examples == 0:
            return f"no examples of {name} among these patients"
    if examples is None and registry.METRICS[metric].judges == "ranking":
        return "all examples are of one class: there is no other class to compare with"
    return "cannot be computed from these patients"


def _explain_missing_interval(evaluation: Evaluation, metric: str, class_name: str | None) -> str:
    if evaluation.patients < 2:
        return "no interval: it needs at least two patients"
    if evaluation.resamples == 0:
        return next((note for note in evaluation.notes if "interval" in note), "no interval: none was requested")
    entry = registry.find_metric(metric if class_name is None else f"class_{metric}")
    if entry is not None and entry.judges != "decisions" and any(NO_ORDER in note for note in evaluation.notes):
        return f"no interval: the scores {WHY_NO_ORDER}"
    return "no interval: the metric is undefined in too many resamples of the patients, or the same in all"


def list_table_metrics(report: Report) -> list[str]:
    """Return the metrics in the tables of models and hospitals; the run's own metric is always among them."""
    metrics = ["macro_f1", "macro_auroc", "macro_auprc", "accuracy"]
    if report.binary:
        metrics = ["auroc", "auprc", "sensitivity", "specificity", "accuracy"]
        if report.task.get("utility"):
            metrics[-1] = "utility"
    elif report.task.get("kind") == "multilabel":
        metrics = ["macro_auroc", "macro_auprc", "macro_f1", "accuracy"]
    return metrics if report.metric in metrics else [*metrics, report.metric]


def format_notice(notice: Notice) -> str:
    """Return the text of a notice, starting with its level.

    >>> format_notice(Notice(level="warning", text="Few resamples."))
    'WARNING: Few resamples.'
    >>> format_notice(Notice(level="leak", text="LEAKY split."))
    'LEAKY split.'
    """
    level = notice.level.upper().replace("-", " ")
    return notice.text if notice.text.upper().startswith(level) else f"{level}: {notice.text}"


def metric_title(metric: str) -> str:
    """Return the title of a metric, as it is written within a sentence."""
    return METRICS.get(metric, metric)


def higher_is_better(metric: str) -> bool:
    """Return whether higher values of a metric are better."""
    return registry.METRICS[metric].better == "higher"


def format_figure_short(evaluation: Evaluation, metric: str) -> str:
    """Return a metric with its interval, for a table cell."""
    cell = make_cell(evaluation, metric)
    return f"{cell.text} ({cell.interval})" if cell.interval else cell.text


def format_figure(evaluation: Evaluation, metric: str) -> str:
    """Return a metric with its interval, within a sentence."""
    cell = make_cell(evaluation, metric)
    if cell.value is None:
        return f"n/a ({cell.reason})"
    return f"{cell.text} ({f'95% interval {cell.interval}' if cell.interval else 'no interval'})"


def flatten_settings(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Return nested settings as dotted names with their values as text.

    >>> flatten_settings({"seed": 1, "training": {"lr": 0.01}})
    [('seed', '1'), ('training.lr', '0.01')]
    """
    flat: list[tuple[str, str]] = []
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            flat += flatten_settings(value, f"{prefix}{name}.")
        else:
            flat.append((f"{prefix}{name}", _format_setting(value)))
    return flat


def _format_setting(value: Any) -> str:
    if value is None or value in ({}, [], (), ""):
        return "none"
    return ", ".join(str(item) for item in value) if isinstance(value, list | tuple) else str(value)
