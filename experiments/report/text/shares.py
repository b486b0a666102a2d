"""Shares in percent, and the word for what is counted."""

from __future__ import annotations

from common.metrics.figures import Evaluation, Figure
from experiments.report.document.report import Report


def name_examples(report: Report, evaluation: Evaluation) -> str:
    """Return what is counted: patients where each has one example, otherwise the data set's word for its examples."""
    words = "patients" if evaluation.examples == evaluation.patients or evaluation.noise else report.data.examples
    return words or "examples"


def format_percent(share: float | None) -> str:
    """Return a share in percent: whole from 10% to 90%, otherwise with one digit.

    >>> format_percent(0.906), format_percent(0.0649), format_percent(1.0), format_percent(None)
    ('90.6%', '6.5%', '100%', 'n/a')
    """
    return "n/a" if share is None else f"{format_hundred(share)}%"


def format_percent_interval(figure: Figure) -> str:
    """Return a 95% interval in percent; empty if there is none."""
    if figure.low is None or figure.high is None:
        return ""
    return f"95% interval {format_percent(figure.low)} to {format_percent(figure.high)}"


def format_hundred(share: float) -> str:
    """Return how many of 100 a share is.

    >>> format_hundred(0.0152), format_hundred(0.41), format_hundred(0.0)
    ('1.5', '41', '0')
    """
    count = 100 * share
    if count in (0, 100) or 10 <= count <= 90:
        return f"{count:.0f}"
    return f"{count:.1f}"
