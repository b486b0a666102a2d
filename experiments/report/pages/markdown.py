"""The report in Markdown: summary.md, and what it shares with the model card.

Every value that a template inserts is escaped, so that a hospital's name is text and never markup; text that is meant
as Markdown is marked by `Verbatim`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.metrics.figures import FEW_PATIENTS, Evaluation
from experiments.report.document.report import Report
from experiments.report.plots.drawing import Plot
from experiments.report.text import decision, findings, formatting, key_facts, privacy
from experiments.report.text.before_use import list_steps
from experiments.report.text.site_words import name_sites

if TYPE_CHECKING:
    from jinja2 import Environment


class Verbatim(str):
    """Text that is inserted into a template without escaping."""

    __slots__ = ()


def render_summary(report: Report, plots: Mapping[str, Plot]) -> str:
    """Return summary.md.

    Args:
        report: what it shows.
        plots: the report's plots by name, which are written to plots/NAME.png.
    """
    titles = {name: plot.title for name, plot in plots.items()}
    return render_markdown(
        "summary.md.j2",
        report,
        facts=[*decision.list_decision_facts(report), *key_facts.list_facts(report)],
        question=decision.ask_question(report),
        disclaimer=decision.DISCLAIMER,
        plots=titles,
    )


def render_markdown(template: str, report: Report, **variables: Any) -> str:
    """Return a template filled with a report and further variables."""
    metrics = formatting.list_table_metrics(report)
    text = (
        make_markdown_environment()
        .get_template(template)
        .render(
            report=report,
            site_kind=report.data.site_kind,
            name_sites=name_sites,
            federated=report.federated,
            formatting=formatting,
            privacy_words=privacy,
            findings=findings,
            metrics=metrics,
            metric_titles=[formatting.capitalise(formatting.metric_title(metric)) for metric in metrics],
            few_patients=FEW_PATIENTS,
            format_cell=_format_cell,
            steps=list_steps(report),
            **variables,
        )
    )
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def make_markdown_environment() -> Environment:
    """Return the engine of the Markdown templates; it escapes every value that is inserted."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(Path(__file__).parents[1] / "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: value if isinstance(value, Verbatim) else escape_markdown(str(value)),
    )


def escape_markdown(text: str) -> str:
    r"""Return text that Markdown shows unchanged, within a line or a table cell.

    >>> escape_markdown("a|b *c* <d>\n1_2")
    'a\\|b \\*c\\* \\<d\\> 1\\_2'
    """
    return re.sub(r"([\\`*_\[\]<>|~#$])", r"\\\1", re.sub(r"\s+", " ", text))


def _format_cell(evaluation: Evaluation | None, metric: str, class_name: str | None = None) -> str:
    """Return a metric with its interval and the mark for few patients."""
    cell = formatting.make_cell(evaluation, metric, class_name)
    return f"{cell.text}{'†' if cell.few else ''}" + (f" ({cell.interval})" if cell.interval else "")
