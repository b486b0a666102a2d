"""Every model at every hospital, by the run's own metric, as a table whose cells are shaded by their value."""

from __future__ import annotations

from dataclasses import dataclass

from common.metrics import evaluation
from common.metrics.figures import Evaluation
from experiments.report.document.report import Report
from experiments.report.document.results import ModelResult
from experiments.report.text import findings
from experiments.report.text.formatting import Cell, format_count, make_cell, metric_title


@dataclass(frozen=True)
class MatrixCell:
    """One model at one hospital.

    `share`: 0 for the worst figure of the table to 1 for the best; `hint`: the figure with its interval and its
    patients, in words; `worst`: this hospital is the model's worst; `own`: the model was trained here alone.
    """

    cell: Cell
    share: float | None
    hint: str
    worst: bool
    own: bool


@dataclass(frozen=True)
class Matrix:
    """`models`: a name and a title for each column; `rows`: a hospital with its squares; `last`: all hospitals."""

    models: tuple[tuple[str, str], ...]
    rows: tuple[tuple[str, tuple[MatrixCell, ...]], ...]
    last: tuple[MatrixCell, ...]
    least: float | None
    most: float | None


def build_matrix(report: Report) -> Matrix | None:
    """Return the table of a report; None where there are not two models or two hospitals to compare."""
    models = [model for model in report.models if model.sites]
    names = [site.name for site in report.sites if any(site.name in model.sites for model in models)]
    if len(models) < 2 or len(names) < 2:
        return None
    values = [
        v
        for model in models
        for item in model.sites.values()
        if (v := evaluation.metric_value(item, report.metric)) is not None
    ]
    least, most = min(values, default=None), max(values, default=None)

    def square(model: ModelResult, where: str, item: Evaluation | None) -> MatrixCell:
        site = next((site for site in report.sites if site.name == where), None)
        shown = make_cell(item, report.metric, missing=findings.explain_missing_test(report, site))
        share = None
        if shown.value is not None and least is not None and most is not None:
            share = (shown.value - least) / (most - least) if most > least else 1.0
            share = min(max(1 - share if report.metric == "loss" else share, 0.0), 1.0)
        said = f"{shown.text} ({shown.reason})" if shown.value is None else shown.text
        if shown.interval:
            said += f" (95% interval {shown.interval})"
        if item is not None:
            said += f" on {format_count(item.patients, 'test patient')}" + (", few" if shown.few else "")
        bad = model.worst is not None and model.worst.site == where
        return MatrixCell(
            shown,
            share,
            f"{model.title} at {where}: {metric_title(report.metric)} {said}",
            bad,
            model.trained_at == where,
        )

    return Matrix(
        models=tuple((model.name, model.title) for model in models),
        rows=tuple((name, tuple(square(model, name, model.sites.get(name)) for model in models)) for name in names),
        last=tuple(square(model, "all hospitals", model.pooled) for model in models),
        least=least,
        most=most,
    )
