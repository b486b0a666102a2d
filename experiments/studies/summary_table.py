"""Figures of several runs of one experiment, as the tables that the documentation quotes.

    python -m experiments.studies.summary_table runs/mitbih-* > experiments/results/mitbih.md

For each kind of model, pooled over all hospitals' test patients: the mean over runs, and the least and the most.
A hospital's own models are averaged within a run first.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from common.errors import DataError
from experiments.report.document import report as reports
from experiments.report.document.results import ModelResult

FIGURES = ("macro_f1", "macro_auroc", "macro_auprc", "accuracy")


def list_rows(folders: Sequence[Path]) -> list[dict[str, Any]]:
    """Return a row for each run, kind of model and subset of patients: its figures, as numbers or None."""
    found = []
    for folder in folders:
        report = reports.read_report(folder)
        if report.run.status != "complete":
            raise DataError(f"{folder}: the run is {report.run.status}, not complete")
        kinds: dict[tuple[str, str], list[dict[str, float | None]]] = {}
        for item in report.models:
            for subset, result in _subsets(item).items():
                figures: dict[str, float | None] = {name: getattr(result, name).value for name in FIGURES}
                for name, one in result.classes.items():
                    figures |= {f"F1 {name}": one.f1.value, f"AUPRC {name}": one.auprc.value}
                kinds.setdefault((item.kind, subset), []).append(figures)
        for (kind, subset), many in kinds.items():
            joined = {name: _mean([figures[name] for figures in many]) for name in many[0]}
            about = {"run": report.run.id, "seed": report.run.seed, "model": kind, "patients": subset}
            found.append({**about, **joined})
    return found


def render_summary_table(folders: Sequence[Path]) -> str:
    """Return one table: mean over runs (least to most)."""
    every = list_rows(folders)
    names = [name for name in every[0] if name not in ("run", "seed", "model", "patients")]
    seeds = sorted({row["seed"] for row in every})
    shown = [name for name in names if not name.startswith("AUPRC")]
    lines = [
        f"Mean over {len(folders)} runs, seeds {', '.join(map(str, seeds))} (least to most).",
        "",
        "| patients | model | " + " | ".join(shown) + " |",
        "| --- | --- |" + " --- |" * len(shown),
    ]
    for subset in dict.fromkeys(row["patients"] for row in every):
        for kind in dict.fromkeys(row["model"] for row in every):
            here = [row for row in every if row["patients"] == subset and row["model"] == kind]
            if here:
                cells = [_cell([row[name] for row in here]) for name in shown]
                lines.append(f"| {subset} | {kind} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _subsets(item: ModelResult) -> dict[str, Any]:
    found = {"all": item.pooled} if item.pooled is not None else {}
    for label, part in item.without.items():
        if part.pooled is not None:
            found[f"without {label}"] = part.pooled
    return found


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return mean(known) if known else None


def _cell(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{mean(known):.3f} ({min(known):.3f} to {max(known):.3f})" if known else "n/a"


if __name__ == "__main__":
    print(render_summary_table([Path(name) for name in sys.argv[1:]]), end="")
