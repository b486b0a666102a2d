"""The reporting checklists TRIPOD+AI and DECIDE-AI, as far as the run and the data card answer them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from experiments.report.document.report import Report
from experiments.report.pages.section import Section
from experiments.report.text.checklists import DECIDE_AI, TRIPOD_AI, fill_checklist


def build_checklists(report: Report) -> Mapping[str, Any]:
    """Return both checklists, filled in."""
    return {
        "lists": [
            ("TRIPOD+AI", "Collins et al. 2024, BMJ 385:e078378", fill_checklist(report, TRIPOD_AI)),
            ("DECIDE-AI", "Vasey et al. 2022, Nat Med 28:924-933", fill_checklist(report, DECIDE_AI)),
        ]
    }


SECTION = Section("checklists", "Reporting checklists", "Checklists", after="data", build=build_checklists)
