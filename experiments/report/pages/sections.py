"""The sections of the report's page, in order, and when each is shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from experiments.report.document.report import Report
from experiments.report.text.model_matrix import build_matrix

if TYPE_CHECKING:
    pass


def _always(_: Report) -> bool:
    return True


@dataclass(frozen=True)
class Section:
    """A part of the page with a heading and an entry in the contents; its body is sections/ID.html.j2.

    `short`: the entry in the contents, where the heading is too long for it; `when`: whether a report has it.
    """

    id: str
    title: str
    short: str = ""
    when: Callable[[Report], bool] = _always

    @property
    def template(self) -> str:
        """The template of its body."""
        return f"sections/{self.id}.html.j2"


SECTIONS = (
    Section("summary", "Summary"),
    Section("hospitals", "Hospitals"),
    Section("comparison", "Comparison of models", "Comparison"),
    Section(
        "matrix", "Every model at every hospital", "Models by hospital", lambda report: build_matrix(report) is not None
    ),
    Section("differences", "Differences between models", "Differences", lambda report: bool(report.differences)),
    Section("detection", "What is normal, and what is not", "Detection", lambda report: report.detecting),
    Section("classes", "Classes"),
    Section(
        "calibration",
        "Calibration",
        when=lambda report: bool(
            report.federated and any(item.brier is not None for item in report.federated.sites.values())
        ),
    ),
    Section(
        "warning",
        "Alarms and lead times",
        "Alarms",
        lambda report: bool(
            report.federated and any(item.alarms_per_day is not None for item in report.federated.sites.values())
        ),
    ),
    Section(
        "groups", "Groups of patients", "Groups", lambda report: bool(report.federated and report.federated.groups)
    ),
    Section(
        "without",
        "With and without some patients",
        "With and without",
        lambda report: bool(report.federated and report.federated.without),
    ),
    Section(
        "shift",
        "How far the hospitals lie apart",
        "Domain shift",
        lambda report: bool(report.shift and (report.shift.pairs or report.shift.lost)),
    ),
    Section("travel", "From one hospital to another", "Between hospitals", lambda report: bool(report.travel)),
    Section(
        "recalibration",
        "What recalibration wins back",
        "Recalibration",
        lambda report: bool(report.federated and report.federated.recalibration),
    ),
    Section("why", "What the model looks at", when=lambda report: bool(report.explanations)),
    Section("left_out", "Leave one hospital out", "Leave one out", lambda report: bool(report.left_out)),
    Section("training", "Training"),
    Section("privacy", "Privacy", when=lambda report: bool(report.privacy)),
    Section("each", "Each hospital"),
    Section("lost", "What was lost"),
    Section("method", "How the figures are computed", "How it is computed"),
    Section("data", "Data"),
    Section("settings", "Settings and versions", "Settings"),
)
"""The page from top to bottom. A new part is a line here and a file of its own."""


HOSPITAL_TEMPLATES: tuple[str, ...] = ()
"""Templates that each hospital's part ends with; they see `site`, its number `place` and its figures `item`."""
