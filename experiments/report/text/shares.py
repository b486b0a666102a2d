"""Shares with their intervals, and the word for what is counted."""

from __future__ import annotations

from common.metrics.figures import Evaluation, Figure
from common.percent import format_percent
from experiments.report.document.report import Report


def name_examples(report: Report, evaluation: Evaluation) -> str:
    """Return what is counted: patients where each has one example, otherwise the data set's word for its examples."""
    words = "patients" if evaluation.examples == evaluation.patients or evaluation.noise else report.data.examples
    return words or "examples"


def format_percent_interval(figure: Figure) -> str:
    """Return a 95% interval in percent; empty if there is none."""
    if figure.low is None or figure.high is None:
        return ""
    return f"95% interval {format_percent(figure.low)} to {format_percent(figure.high)}"
