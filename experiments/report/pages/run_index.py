"""A page that lists the runs of a folder: question, hospitals, figures, date and privacy, with a comparison of two."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from common.errors import DataError
from common.files import write_text
from common.run_folder import RunFolder
from experiments.report.document.report import Report, read_report
from experiments.report.pages.html import TEMPLATES, make_html_environment
from experiments.report.text import decision, findings, formatting
from experiments.report.text.formatting import make_cell, metric_title

INDEX_NAME = "runs.html"
MAX_DEPTH = 3
"""Levels of folders below the given one in which runs are sought: a run, a series of runs, one left-out hospital."""


@dataclass(frozen=True)
class IndexRow:
    """One run.

    Attributes:
        run: name of its folder.
        link: its page, relative to the index; empty if there is none.
        report: its report.
        question: what its model answers.
        figure: its main metric over all hospitals.
        missed: the events missed, in words.
        alarm: whether most are.
        epsilon: the highest epsilon of the run; None without a guarantee.
        tags: its notices.
        facts: what two runs are compared by, as JSON.
    """

    run: str
    link: str
    report: Report
    question: str
    figure: formatting.Cell
    missed: str
    alarm: bool
    epsilon: float | None
    tags: Sequence[tuple[str, str]]
    facts: str


def find_runs(folder: Path) -> list[Path]:
    """Return the folders below a folder that hold a report.json, sorted by name.

    Raises:
        DataError: it is no folder, or holds none.
    """
    if not folder.is_dir():
        raise DataError(f"reports: {folder} is no folder: give the one that holds the run folders, such as runs")
    name = RunFolder(folder).report.name
    reports = {path for depth in range(MAX_DEPTH) for path in folder.glob("*/" * (depth + 1) + name)}
    if not reports:
        raise DataError(f"reports: no run with a report in {folder}: run wardround run, or give another folder")
    return sorted(path.parent for path in reports)


def build_index_row(run: Path, root: Path) -> IndexRow:
    """Return the row of a run.

    Raises:
        DataError: its report.json cannot be read.
    """
    report = read_report(run)
    model = report.federated
    pooled = model.pooled if model else None
    verdict = decision.state_verdict(report)
    figure = make_cell(pooled, report.metric, missing=findings.explain_missing_test(report))
    epsilon = max((item.epsilon_run for item in report.privacy), default=None)
    page = RunFolder(run).report_page
    by_site = [(site, make_cell(item, report.metric)) for site, item in (model.sites if model else {}).items()]
    rows = [
        ("question", decision.ask_question(report)),
        (f"{metric_title(report.metric)}, all {report.data.site_kind}s", _join(figure)),
        *((fact.label, f"{fact.value}. {fact.detail}") for fact in decision.list_decision_facts(report)),
        *((f"{metric_title(report.metric)} at {site}", _join(cell)) for site, cell in by_site),
    ]
    return IndexRow(
        run=run.relative_to(root).as_posix(),
        link=quote(page.relative_to(root).as_posix()) if page.is_file() else "",
        report=report,
        question=decision.ask_question(report) or report.run.title or report.run.name,
        figure=figure,
        missed=verdict.value if verdict else "not known",
        alarm=bool(verdict and verdict.alarm),
        epsilon=None if report.has("not-private") else epsilon,
        tags=[(level, tag) for level, tag in formatting.NOTICE_TAGS.items() if report.has(level)],
        facts=json.dumps(rows),
    )


def _join(cell: formatting.Cell) -> str:
    return f"{cell.text} ({cell.interval})" if cell.interval else cell.text


def render_run_index(folder: Path) -> tuple[str, list[str]]:
    """Return the page, and a line for each run whose report cannot be read.

    Raises:
        DataError: no run has a report that can be read.
    """
    from markupsafe import Markup

    rows, problems = [], []
    for run in find_runs(folder):
        try:
            rows.append(build_index_row(run, folder))
        except DataError as error:
            problems.append(str(error))
    if not rows:
        raise DataError(problems[0])
    script = (TEMPLATES / "report.js").read_text(encoding="utf-8")
    page = (
        make_html_environment()
        .get_template("runs.html.j2")
        .render(
            page_title="Runs",
            rows=sorted(rows, key=lambda row: row.report.run.created, reverse=True),
            problems=problems,
            formatting=formatting,
            disclaimer=decision.DISCLAIMER,
            tags=[],
            style=Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),
            script=Markup(script),
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        )
    )
    return page, problems


def write_run_index(folder: Path) -> tuple[Path, list[str]]:
    """Write the page into the folder; return its path, and a line for each run that cannot be read."""
    page, problems = render_run_index(folder)
    return write_text(folder / INDEX_NAME, page), problems
