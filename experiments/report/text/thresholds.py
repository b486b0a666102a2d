"""Where a decision threshold came from, in words."""

from __future__ import annotations

import math

from common.percent import format_percent
from experiments.report.document.report import Report

THRESHOLD_RULES = {
    "f1": "the F1 score, the balance of sensitivity and precision",
    "youden": "sensitivity plus specificity (the Youden index)",
    "utility": "the utility of alarms",
}
"""What a rule maximises, for readers."""


def describe_threshold_origin(report: Report) -> str:
    """Return where the threshold of the federated model came from."""
    settings = report.run.config.get("evaluation", {})
    rule = str(settings.get("threshold", "likelier"))
    model = report.federated
    if model is None or model.threshold is None:
        note = "" if rule in ("likelier", "auto") else f" (evaluation.threshold={rule} could not be applied)"
        return f"not chosen: the likelier of the two outcomes{note}"
    if rule == "false_alarms":
        return f"chosen on validation patients for {100 * settings.get('false_alarms', 0.05):g}% false alarms"
    if rule == "sensitivity":
        return f"chosen on validation patients to find {100 * settings.get('sensitivity', 0.9):g}% of the events"
    rule = "youden" if rule in ("auto", "likelier") else rule
    return f"chosen on validation patients for the best of {THRESHOLD_RULES.get(rule, rule)}"


def format_probability_range(low: float | None, high: float | None) -> str:
    """Return a range of log odds as a range of probabilities.

    >>> format_probability_range(None, -6.0), format_probability_range(0.0, 1.0), format_probability_range(6.0, None)
    ('below 0.25%', '50% to 73%', '99.75% and above')
    """
    first, last = (None if odds is None else format_percent(1 / (1 + math.exp(-odds))) for odds in (low, high))
    return f"below {last}" if first is None else f"{first} and above" if last is None else f"{first} to {last}"
