"""The report as one HTML page that needs no network, no font and no other file.

Every text is escaped by the template engine; the page's policy lets its own script run and nothing be loaded.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.metrics.figures import FEW_PATIENTS
from experiments.report import plots
from experiments.report.document.report import Report
from experiments.report.pages.sections import HOSPITAL_TEMPLATES, SECTIONS
from experiments.report.plots import attribution
from experiments.report.plots.drawing import Plot
from experiments.report.text import findings, formatting, key_facts
from experiments.report.text.model_matrix import build_matrix

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).parents[1] / "templates"
ROUNDS_SHOWN = 100
"""Runs of more rounds show their curves, and leave the numbers to report.json."""


def render_html(report: Report, drawn: Mapping[str, Plot] | None = None) -> str:
    """Return the whole page; `drawn`: its plots, where they are drawn already."""
    from markupsafe import Markup

    found = plots.draw_plots(report) if drawn is None else drawn
    return (
        make_html_environment()
        .get_template("report.html.j2")
        .render(
            federated=report.federated,
            findings=findings,
            attribution=attribution,
            columns=formatting.list_table_metrics(report),
            rounds_shown=ROUNDS_SHOWN,
            facts=key_facts.list_facts(report),
            matrix=build_matrix(report),
            losses=list_losses(report),
            settings=flatten_settings(report.run.config),
            mean_local={
                metric: findings.compute_local_mean(report, metric) for metric in formatting.list_table_metrics(report)
            },
            sections=[section for section in SECTIONS if section.when(report)],
            at_hospital=HOSPITAL_TEMPLATES,
            drawn=dict.fromkeys(plots.PLOTS, "") | {name: Markup(plot.svg) for name, plot in found.items()},
            **build_page_context(report, report.run.title or report.run.name),
        )
    )


def make_html_environment() -> Environment:
    """Return the engine of the pages' templates; it escapes every text that is put in."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def build_page_context(report: Report, title: str) -> dict[str, Any]:
    """Return what every page needs, under a title: the notices of a report, the style, the script."""
    from markupsafe import Markup

    script = (TEMPLATES / "report.js").read_text(encoding="utf-8")
    return {
        "page_title": title,
        "report": report,
        "words": formatting,
        "metric_title": formatting.metric_title(report.metric),
        "tags": [(level, tag) for level, tag in formatting.NOTICE_TAGS.items() if report.has(level)],
        "few_patients": FEW_PATIENTS,
        "style": Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),
        "script": Markup(script),
        "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    }


def list_losses(report: Report) -> list[tuple[str, str, str]]:
    """Return what was lost: who, when and why; a hospital's like failures in several rounds as one."""
    rounds: dict[tuple[str, str], list[int]] = {}
    for line in report.rounds:
        for site, why in line.lost.items():
            rounds.setdefault((site, why), []).append(line.number)
    found = [(site, _rounds(numbers), why) for (site, why), numbers in rounds.items()]
    for site, why in report.lost.items():
        if (site, why) not in rounds:
            when = "final evaluation" if why.startswith(findings.FINAL_EVALUATION) else "handshake or training"
            found.append((site, when, why.removeprefix(findings.FINAL_EVALUATION)))
    return sorted(found)


def flatten_settings(value: Mapping[str, Any], before: str = "") -> list[tuple[str, str]]:
    """Return nested settings as dotted names with their values.

    >>> flat({"seed": 1, "training": {"lr": 0.01}})
    [('seed', '1'), ('training.lr', '0.01')]
    """
    found: list[tuple[str, str]] = []
    for key, item in value.items():
        if isinstance(item, Mapping) and item:
            found += flatten_settings(item, f"{before}{key}.")
        else:
            found.append((f"{before}{key}", _setting(item)))
    return found


def _setting(item: Any) -> str:
    if item is None or item in ({}, [], (), ""):
        return "none"
    return ", ".join(str(part) for part in item) if isinstance(item, list | tuple) else str(item)


def _rounds(numbers: list[int]) -> str:
    shown = ", ".join(str(number) for number in numbers[:10])
    more = f" and {len(numbers) - 10} more" if len(numbers) > 10 else ""
    return f"round{'s' if len(numbers) > 1 else ''} {shown}{more}"
