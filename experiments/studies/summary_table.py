"""The results of several runs of one experiment as a Markdown table.

    python -m experiments.studies.summary_table runs/mitbih-* > mitbih.md

For each kind of model, pooled over all hospitals' test patients: the mean over runs, the smallest and the largest.
The models of single hospitals are averaged within a run first.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from common.errors import DataError
from experiments.markdown_table import render_markdown_table
from experiments.report.document.report import read_report
from experiments.report.document.results import ModelResult

FIGURES = ("macro_f1", "macro_auroc", "macro_auprc", "accuracy")


def list_rows(folders: Sequence[Path]) -> list[dict[str, Any]]:
    """Return a row for each run, kind of model and subset of patients, with its metrics as numbers or None.

    Raises:
        DataError: a folder holds no complete run.
    """
    rows = []
    for folder in folders:
        report = read_report(folder)
        if report.run.status != "complete":
            raise DataError(f"{folder}: the run is {report.run.status}, not complete")
        kinds: dict[tuple[str, str], list[dict[str, float | None]]] = {}
        for model in report.models:
            for subset, result in _list_subsets(model).items():
                figures: dict[str, float | None] = {name: getattr(result, name).value for name in FIGURES}
                for name, one in result.classes.items():
                    figures |= {f"F1 {name}": one.f1.value, f"AUPRC {name}": one.auprc.value}
                kinds.setdefault((model.kind, subset), []).append(figures)
        for (kind, subset), models in kinds.items():
            means = {name: _mean([figures[name] for figures in models]) for name in models[0]}
            rows.append({"run": report.run.id, "seed": report.run.seed, "model": kind, "patients": subset, **means})
    return rows


def render_summary_table(folders: Sequence[Path]) -> str:
    """Return the table of the means over runs (smallest to largest)."""
    rows = list_rows(folders)
    hidden = ("run", "seed", "model", "patients")
    names = [name for name in rows[0] if name not in hidden and not name.startswith("AUPRC")]
    seeds = sorted({row["seed"] for row in rows})
    cells = []
    for subset in dict.fromkeys(row["patients"] for row in rows):
        for kind in dict.fromkeys(row["model"] for row in rows):
            runs = [row for row in rows if row["patients"] == subset and row["model"] == kind]
            if runs:
                cells.append([subset, kind, *(_format_values([row[name] for row in runs]) for name in names)])
    head = f"Mean over {len(folders)} runs, seeds {', '.join(map(str, seeds))} (smallest to largest).\n\n"
    return head + render_markdown_table(["patients", "model", *names], cells) + "\n"


def _list_subsets(model: ModelResult) -> dict[str, Any]:
    """Return the pooled results of a model, of all patients and without those of `evaluation.without`."""
    subsets = {"all": model.pooled} if model.pooled is not None else {}
    return subsets | {f"without {label}": part.pooled for label, part in model.without.items() if part.pooled}


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return mean(known) if known else None


def _format_values(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{mean(known):.3f} ({min(known):.3f} to {max(known):.3f})" if known else "n/a"


if __name__ == "__main__":
    print(render_summary_table([Path(name) for name in sys.argv[1:]]), end="")
