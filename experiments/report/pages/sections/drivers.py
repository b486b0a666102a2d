"""What drives the predictions: coefficients, gains of trees, and attributions of the inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from experiments.report.document.report import Report
from experiments.report.pages.section import Section
from experiments.report.plots import drivers
from experiments.report.text.many_hospitals import choose_detailed_hospitals

MAX_ROWS = 100
"""Maximum number of inputs in a table; report.json has all."""


def _build(report: Report) -> Mapping[str, Any]:
    method = next((item.method for item in report.explanations.values()), "")
    coefficients = drivers.rank_coefficients(report)
    detailed = choose_detailed_hospitals(report)
    total = sum(report.gains.values())
    return {
        "method": drivers.METHODS.get(method, method),
        "inputs": drivers.rank_inputs(report)[:MAX_ROWS],
        "explained": {name: item for name, item in report.explanations.items() if name in detailed},
        "suppressed": drivers.list_suppressed_classes(report),
        "coefficients": coefficients[:MAX_ROWS],
        "sites": [site for site in coefficients[0].sites if site in detailed] if coefficients else [],
        "gains": [(name, gain, gain / total) for name, gain in report.gains.items()][:MAX_ROWS],
    }


SECTION = Section(
    "drivers",
    "What drives the predictions",
    "What drives it",
    after="comparison",
    applies=lambda report: bool(report.explanations or report.coefficients or report.gains),
    build=_build,
    plots={
        "coefficients": drivers.draw_coefficients,
        "gains": drivers.draw_gains,
        "importance": drivers.draw_importance,
        "overlay": drivers.draw_mean_signals,
    },
    appendix=False,
)
