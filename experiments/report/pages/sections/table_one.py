"""The section that says who the patients of each hospital are, and how they came into the run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from experiments.report.document.report import Report
from experiments.report.pages.section import Section
from experiments.report.text import table_one
from experiments.report.text.many_hospitals import describe_detailed_hospitals


def build_tables(report: Report) -> Mapping[str, Any]:
    """Return the tables, a few hospitals side by side in each, and how they are to be read."""
    tables = [
        {
            "hospitals": [site.name for site in hospitals],
            "flow": table_one.build_flow(report, hospitals),
            "characteristics": table_one.build_characteristics(report, hospitals),
        }
        for hospitals in table_one.list_hospitals(report)
    ]
    return {"tables": tables, "note": table_one.explain_table(report), "which": describe_detailed_hospitals(report)}


SECTION = Section(
    "table_one",
    "Who the patients are (Table 1)",
    "Table 1",
    after="subgroups",
    applies=lambda report: bool(report.sites),
    build=build_tables,
)
