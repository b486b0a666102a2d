"""The report in Markdown: the summary, and what it shares with the model card.

Every value that a template puts in is escaped, so that a hospital's name is text and never markup; what is code is
marked as such by `Code`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.metrics.figures import FEW_PATIENTS, Evaluation
from experiments.report.document.report import Report
from experiments.report.plots.drawing import Plot
from experiments.report.text import findings, formatting, key_facts

if TYPE_CHECKING:
    from jinja2 import Environment

PLOT_TITLES = {
    "forest": "Each hospital's figure with its 95% interval",
    "curves": "Validation figures over the rounds",
    "reliability": "Reliability diagram: foretold chance and observed share",
    "reliability_sites": "Reliability diagram at each hospital",
    "decision": "Decision curve: what acting on the model is worth",
}


class Verbatim(str):
    """Text that stands in a template as it is."""

    __slots__ = ()


def render_summary(report: Report, drawn: Mapping[str, Plot]) -> str:
    """Return summary.md; `drawn`: the plots that lie beside it in plots/."""
    plots = {name: PLOT_TITLES.get(name, formatting.capitalise(name.replace("_", " "))) for name in drawn}
    return render_markdown("summary.md.j2", report, facts=key_facts.list_facts(report), plots=plots)


def render_markdown(template: str, report: Report, **more: Any) -> str:
    """Return a template filled from a report."""
    columns = formatting.list_table_metrics(report)
    text = (
        make_markdown_environment()
        .get_template(template)
        .render(
            report=report,
            federated=report.federated,
            words=formatting,
            findings=findings,
            columns=columns,
            titles=[formatting.capitalise(formatting.metric_title(metric)) for metric in columns],
            few_patients=FEW_PATIENTS,
            short=_short,
            **more,
        )
    )
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def make_markdown_environment() -> Environment:
    """Return the engine of the Markdown templates; it escapes every value that is put in."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(Path(__file__).parents[1] / "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: value if isinstance(value, Verbatim) else escape_markdown(str(value)),
    )


def escape_markdown(text: str) -> str:
    r"""Return text that Markdown shows as it is, in a line and in a table's cell.

    >>> escaped("a|b *c* <d>\n1_2")
    'a\\|b \\*c\\* \\<d\\> 1\\_2'
    """
    return re.sub(r"([\\`*_\[\]<>|~#$])", r"\\\1", re.sub(r"\s+", " ", text))


def _short(item: Evaluation | None, metric: str) -> str:
    """Return a figure with its interval and the mark of few patients, for a cell."""
    shown = formatting.make_cell(item, metric)
    return f"{shown.text}{'†' if shown.few else ''}" + (f" ({shown.interval})" if shown.interval else "")
