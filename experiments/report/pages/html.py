"""The report as one HTML page that needs no network, no font and no other file.

The template engine escapes every text; the page's content security policy allows its own script and no other resource.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.metrics.figures import FEW_PATIENTS
from common.percent import format_percent
from experiments.report.document.report import Report
from experiments.report.pages.sections import HOSPITAL_TEMPLATES, draw_plots, list_plots, list_sections
from experiments.report.pages.terms import explain_terms
from experiments.report.plots.drawing import Plot
from experiments.report.text import decision, findings, formatting, key_facts, privacy, table_one
from experiments.report.text.many_hospitals import choose_detailed_hospitals, describe_detailed_hospitals
from experiments.report.text.site_words import name_sites

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).parents[1] / "templates"
MAX_ROUNDS = 100
"""Of runs with more rounds, the page shows the curves and leaves the numbers to report.json."""


def render_html(report: Report, plots: Mapping[str, Plot] | None = None) -> str:
    """Return the page.

    Args:
        report: what it shows.
        plots: the report's plots by name; None: they are drawn.
    """
    from markupsafe import Markup

    plots = draw_plots(report) if plots is None else plots
    sections = [section for section in list_sections() if section.applies(report)]
    page = (
        make_html_environment()
        .get_template("report.html.j2")
        .render(
            federated=report.federated,
            findings=findings,
            table_one=table_one,
            metrics=formatting.list_table_metrics(report),
            max_rounds=MAX_ROUNDS,
            detailed=choose_detailed_hospitals(report),
            which_detailed=describe_detailed_hospitals(report),
            facts=key_facts.list_facts(report),
            decision=decision.list_decision_facts(report),
            question=decision.ask_question(report),
            disclaimer=decision.DISCLAIMER,
            sections=sections,
            section_data={section.id: section.build(report) for section in sections},
            hospital_templates=HOSPITAL_TEMPLATES,
            plots=dict.fromkeys(list_plots(), "")
            | {name: Markup(plot.page or plot.svg) for name, plot in plots.items()},
            **build_page_context(report, report.run.title or report.run.name),
        )
    )
    return explain_terms(page, report.data.site_kind)


def make_html_environment() -> Environment:
    """Return the engine of the pages' templates; it escapes every text that is inserted."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def build_page_context(report: Report, title: str) -> dict[str, Any]:
    """Return the variables that every page's template needs: the report's notices, the style and the script.

    Args:
        report: the report whose notices the page carries.
        title: the page's title.
    """
    from markupsafe import Markup

    script = (TEMPLATES / "report.js").read_text(encoding="utf-8")
    return {
        "page_title": title,
        "report": report,
        "site_kind": report.data.site_kind,
        "name_sites": name_sites,
        "formatting": formatting,
        "privacy_words": privacy,
        "percent": format_percent,
        "metric_title": formatting.metric_title(report.metric),
        "tags": [(level, tag) for level, tag in formatting.NOTICE_TAGS.items() if report.has(level)],
        "few_patients": FEW_PATIENTS,
        "style": Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),
        "script": Markup(script),
        "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    }
