"""Every model at every hospital, by the run's own metric, as a table whose cells are shaded by their value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from common.metrics.evaluation import metric_value
from common.metrics.figures import Evaluation
from experiments.report.document.report import Report
from experiments.report.document.results import ModelResult
from experiments.report.pages.section import Section
from experiments.report.text import findings
from experiments.report.text.formatting import Cell, format_count, higher_is_better, make_cell, metric_title


@dataclass(frozen=True)
class MatrixCell:
    """One model at one hospital.

    Attributes:
        cell: the value as it is shown.
        share: position between the worst (0) and the best (1) value of the table; None without a value.
        hint: the value with its interval and number of patients, as a sentence.
        worst: whether this is the model's worst hospital.
        own: whether the model was trained at this hospital alone.
    """

    cell: Cell
    share: float | None
    hint: str
    worst: bool
    own: bool


@dataclass(frozen=True)
class Matrix:
    """The table of models (columns) by hospitals (rows).

    Attributes:
        models: name and title of each column.
        rows: each hospital with its cells.
        pooled: the cells of all hospitals together.
        worst: the worst value of the table.
        best: the best value.
    """

    models: tuple[tuple[str, str], ...]
    rows: tuple[tuple[str, tuple[MatrixCell, ...]], ...]
    pooled: tuple[MatrixCell, ...]
    worst: float | None
    best: float | None


def has_matrix(report: Report) -> bool:
    """Return whether there are at least two models and two hospitals to compare."""
    models = [model for model in report.models if model.sites]
    return len(models) >= 2 and len({site for model in models for site in model.sites}) >= 2


def build_matrix(report: Report) -> Matrix:
    """Return the table of a report."""
    models = [model for model in report.models if model.sites]
    names = [site.name for site in report.sites if any(site.name in model.sites for model in models)]
    known = [metric_value(evaluation, report.metric) for model in models for evaluation in model.sites.values()]
    values = sorted((value for value in known if value is not None), reverse=not higher_is_better(report.metric))
    worst, best = (values[0], values[-1]) if values else (None, None)

    def describe(model: ModelResult, tested_at: str, evaluation: Evaluation | None) -> MatrixCell:
        site = next((site for site in report.sites if site.name == tested_at), None)
        cell = make_cell(evaluation, report.metric, missing=findings.explain_missing_test(report, site))
        share = None
        if cell.value is not None and worst is not None and best is not None:
            share = (cell.value - worst) / (best - worst) if best != worst else 1.0
            share = min(max(share, 0.0), 1.0)
        text = f"{cell.text} ({cell.reason})" if cell.value is None else cell.text
        if cell.interval:
            text += f" (95% interval {cell.interval})"
        if evaluation is not None:
            text += f" on {format_count(evaluation.patients, 'test patient')}" + (", few" if cell.few else "")
        return MatrixCell(
            cell=cell,
            share=share,
            hint=f"{model.title} at {tested_at}: {metric_title(report.metric)} {text}",
            worst=model.worst is not None and model.worst.site == tested_at,
            own=model.trained_at == tested_at,
        )

    return Matrix(
        models=tuple((model.name, model.title) for model in models),
        rows=tuple((name, tuple(describe(model, name, model.sites.get(name)) for model in models)) for name in names),
        pooled=tuple(describe(model, f"all {report.data.site_kind}s", model.pooled) for model in models),
        worst=worst,
        best=best,
    )


def _build(report: Report) -> Mapping[str, Any]:
    return {"matrix": build_matrix(report)}


SECTION = Section(
    "matrix",
    "Every model at every {site}",
    "Models by {site}",
    after="comparison",
    applies=has_matrix,
    build=_build,
)
