"""How much each input changes the federated model's score."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from experiments.report.document.report import Report
from experiments.report.pages.section import Section
from experiments.report.plots import attribution


def build_attributions(report: Report) -> Mapping[str, Any]:
    """Return the method in words, the inputs in order of importance, and the classes suppressed at each hospital."""
    method = next((item.method for item in report.explanations.values()), "")
    return {
        "method": attribution.METHODS.get(method, method),
        "inputs": attribution.rank_inputs(report),
        "suppressed": attribution.list_suppressed_classes(report),
    }


SECTION = Section(
    "attribution",
    "Importance of the inputs",
    after="recalibration",
    applies=lambda report: bool(report.explanations),
    build=build_attributions,
    plots={"importance": attribution.draw_importance, "overlay": attribution.draw_mean_signals},
)
