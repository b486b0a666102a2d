"""What has to be done before the model may be used on patients."""

from __future__ import annotations

from experiments.report.pages.section import Section
from experiments.report.text.before_use import list_steps

SECTION = Section(
    "before_use",
    "Before any use on patients",
    "Before use",
    after="summary",
    build=lambda report: {"steps": list_steps(report)},
    appendix=False,
)
