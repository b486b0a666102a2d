"""The definition of a section of the report's page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from experiments.report.document.report import Report
from experiments.report.plots.drawing import Draw


def _applies(_: Report) -> bool:
    return True


def _build_nothing(_: Report) -> Mapping[str, Any]:
    return {}


@dataclass(frozen=True)
class Section:
    """A part of the page with a heading and an entry in the contents; its body is templates/sections/ID.html.j2.

    Attributes:
        id: its anchor on the page, and the name of its template.
        title: its heading, for `name_sites`.
        short: its entry in the contents, likewise; empty: the title.
        applies: whether a report has this section.
        build: computes what the template reads as `data`.
        plots: its plots, which the template reads as `plots.NAME`; also written to plots/NAME.svg and .png.
        after: the section that it follows; only for sections that are modules of pages/sections.
        appendix: whether it is part of the appendix, behind the sections that are not.
    """

    id: str
    title: str
    short: str = ""
    applies: Callable[[Report], bool] = _applies
    build: Callable[[Report], Mapping[str, Any]] = _build_nothing
    plots: Mapping[str, Draw] = field(default_factory=dict)
    after: str = ""
    appendix: bool = True

    @property
    def template(self) -> str:
        """The template of its body."""
        return f"sections/{self.id}.html.j2"
