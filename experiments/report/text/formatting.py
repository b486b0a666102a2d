"""Words and numbers: how a figure is written, and why one is missing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from common.metrics import registry
from common.metrics.figures import FEW_PATIENTS, Evaluation, Figure
from experiments.report.document.privacy import PrivacySpent
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
NOTICE_TAGS: dict[Level, str] = {"synthetic": "SYNTHETIC", "leak": "LEAK", "not-private": "NOT PRIVATE"}
"""Notices that are repeated beside every table and figure."""

PRIVACY_DEFINITIONS = {
    "patient": "Two data sets are neighbours if one holds a person more: all of that person's recordings and examples "
    "at the hospital. Protected is whether a person took part in training, and all that they gave to it.",
    "record": "Two data sets are neighbours if one holds an example more, such as one heartbeat. Protected is that one "
    "example. A person with many examples has no such promise: their epsilon is many times as large.",
    "hospital": "Two federations are neighbours if one hospital's contribution is nothing in one of them. Protected is "
    "all that a hospital's updates tell: of its patients, its equipment, its ways, up to whether it took part.",
}
"""What a neighbouring data set is, and what is protected, by level."""
UNPROTECTED = (
    "Not protected, and in no epsilon: the numbers of patients and examples in the tables (of those who trained unless "
    "a notice says that they are noisy), the figures on validation and test patients, who are other people than those "
    "who trained, and what holds for a hospital as a whole."
)
UNPROTECTED_HOSPITAL = (
    "Not protected, and in no epsilon: the numbers of patients and examples in the tables, the figures on each "
    "hospital's validation and test patients, and that it is named here. A person who was at two hospitals has both "
    "contributions in the sum."
)
SERVER_VIEW = {
    "site": "The server sees each hospital's update, not only their sum; the noise is in it before it leaves.",
    "server": "The server sees each hospital's update without noise and is trusted with it: it adds the noise to their "
    "sum, so that the promise holds against those who get the models.",
}
"""What the server sees, by who adds the noise."""


def describe_unprotected(spent: PrivacySpent) -> str:
    """Return what a run's privacy does not cover, and what the server sees."""
    return f"{UNPROTECTED_HOSPITAL if spent.level == 'hospital' else UNPROTECTED} {SERVER_VIEW[spent.noise_at]}"


MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """A figure ready to be shown. `reason`: why the value or its interval is missing; `few`: few patients."""

    text: str
    interval: str = ""
    few: bool = False
    reason: str = ""
    value: float | None = None


def format_number(value: float | None) -> str:
    """Return three digits after the point.

    >>> number(0.60349), number(None)
    ('0.603', 'n/a')
    """
    return "n/a" if value is None else f"{value:.3f}"


def format_interval(figure: Figure) -> str:
    """Return the 95% interval, or nothing where there is none.

    >>> interval(Figure(value=0.6, low=0.512, high=0.678))
    '0.51 to 0.68'
    """
    return "" if figure.low is None or figure.high is None else f"{figure.low:.2f} to {figure.high:.2f}"


def format_figure_without_evaluation(figure: Figure) -> Cell:
    """Return a figure that stands in no evaluation, ready to be shown."""
    if figure.value is None:
        return Cell("n/a", reason="cannot be computed from these patients")
    shown = format_interval(figure)
    return Cell(
        format_number(figure.value), shown, False, "" if shown else "no interval: too few patients", figure.value
    )


def format_difference(figure: Figure | None) -> str:
    """Return a difference with its sign and interval, three digits each, for it may be small.

    >>> change(Figure(value=-0.0214, low=-0.0403, high=0.001)), change(None)
    ('-0.021 (-0.040 to +0.001)', 'n/a')
    """
    if figure is None or figure.value is None:
        return "n/a"
    shown = f"{figure.value:+.3f}"
    known = figure.low is not None and figure.high is not None
    return f"{shown} ({figure.low:+.3f} to {figure.high:+.3f})" if known else shown


def capitalise(text: str) -> str:
    """Return the text with a capital at its start, the rest as it is.

    >>> capital("macro-AUROC")
    'Macro-AUROC'
    """
    return text[:1].upper() + text[1:]


def format_time(created: str) -> str:
    """Return an ISO 8601 time for readers, to the minute, in UTC; what cannot be read stays as it is.

    >>> moment("2026-02-03T14:05:59+01:00")
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

    >>> plural(1, "patient"), plural(10954, "patient"), plural(2, "class", "classes")
    ('1 patient', '10,954 patients', '2 classes')
    """
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def format_duration(seconds: float) -> str:
    """Return a time that a person reads at a glance.

    >>> duration(7.7), duration(125), duration(7260)
    ('8 s', '2 min 5 s', '2 h 1 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def make_cell(item: Evaluation | None, metric: str, name: str | None = None, missing: str = "") -> Cell:
    """Return one figure of an evaluation, ready to be shown.

    Args:
        item: the evaluation; None where there was none.
        metric: a key of METRICS, or of CLASS_METRICS with a class.
        name: the class; None for the figure over all classes.
        missing: the reason to give where there is no evaluation.
    """
    if item is None:
        return Cell("n/a", reason=missing or "not evaluated")
    part = None if name is None else item.classes.get(name)
    if name is not None and part is None:
        return Cell("n/a", reason="no figures of this class")
    figure: Figure | None = item.figure(metric) if part is None else getattr(part, metric)
    if figure is None:
        return Cell("n/a", reason="not a figure of this task")
    patients = item.patients if part is None else part.patients
    if figure.value is None and item.suppressed and (name is None or name in item.suppressed):
        least = item.suppressed[name] if name else max(item.suppressed.values())
        return Cell("suppressed", reason=f"suppressed (fewer than {least} patients)")
    if figure.value is None:
        return Cell("n/a", reason=_why_missing(item, metric, None if part is None else part.examples))
    shown = format_interval(figure)
    why = "" if shown else _why_no_interval(item)
    return Cell(format_number(figure.value), shown, patients < FEW_PATIENTS, why, figure.value)


def make_figure_cell(figure: Figure, patients: int = FEW_PATIENTS, note: str = "") -> Cell:
    """Return a figure that stands by itself, ready to be shown; `note`: why it has no interval."""
    if figure.value is None:
        return Cell("n/a", reason="cannot be computed from these patients")
    written = format_interval(figure)
    why = "" if written else note or "no interval"
    return Cell(format_number(figure.value), written, patients < FEW_PATIENTS, why, figure.value)


def _why_missing(item: Evaluation, metric: str, examples: int | None) -> str:
    if item.examples == 0:
        return "no test examples"
    if examples == 0:
        return "no examples of this class among these patients"
    if examples == item.examples and metric in ("auroc", "auprc"):
        return "all examples are of this class: there is nothing to tell it from"
    if examples is None and metric in ("macro_auroc", "macro_auprc"):
        return "all examples are of one class: there is nothing to tell it from"
    return "cannot be computed from these patients"


def _why_no_interval(item: Evaluation) -> str:
    if item.patients < 2:
        return "no interval: it needs at least two patients"
    if item.resamples == 0:
        return next((note for note in item.notes if "interval" in note), "no interval: none was asked for")
    return "no interval: too few resamples have this figure"


def list_table_metrics(report: Report) -> list[str]:
    """Return the figures that tables of models and hospitals show: the run's own metric is always one."""
    found = ["macro_f1", "macro_auroc", "macro_auprc", "accuracy"]
    if report.binary:
        found = ["auroc", "auprc", "sensitivity", "specificity", "accuracy"]
        if report.task.get("utility"):
            found[-1] = "utility"
    elif report.task.get("kind") == "multilabel":
        found = ["macro_auroc", "macro_auprc", "macro_f1", "accuracy"]
    return found if report.metric in found else [*found, report.metric]


def format_notice(notice: Notice) -> str:
    """Return a notice that begins with its level.

    >>> labelled(Notice(level="warning", text="Few resamples."))
    'WARNING: Few resamples.'
    >>> labelled(Notice(level="leak", text="LEAKY split."))
    'LEAKY split.'
    """
    level = notice.level.upper().replace("-", " ")
    return notice.text if notice.text.upper().startswith(level) else f"{level}: {notice.text}"


def metric_title(metric: str) -> str:
    """Return a metric's name within a sentence."""
    return METRICS.get(metric, metric)


def format_figure_short(item: Evaluation, metric: str) -> str:
    """Return a figure with its interval, for a table's cell."""
    shown = make_cell(item, metric)
    return f"{shown.text} ({shown.interval})" if shown.interval else shown.text


def format_figure(item: Evaluation, metric: str) -> str:
    """Return a figure with its interval, within a sentence."""
    shown = make_cell(item, metric)
    if shown.value is None:
        return f"n/a ({shown.reason})"
    return f"{shown.text} ({f'95% interval {shown.interval}' if shown.interval else 'no interval'})"
