"""The results of several runs of one experiment as a Markdown table.

    python -m experiments.studies.summary_table runs/mitbih-* > mitbih.md

For each kind of model, pooled over all hospitals' test patients: the mean over runs, the smallest and the largest.
The models of single hospitals are averaged within a run first. A second table gives for each run how much better the
federated model is than the pooled one, with its interval over patients, and than the mean of the hospitals' own models.
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
    """Return a row for each run, kind of model and subset of patients.

    A metric in it is the mean over the models of that kind, such as those of single hospitals; None: not computable.

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
    if not rows:
        raise DataError("no test results in any of these runs: their reports hold no model that was tested")
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


def render_difference_table(folders: Sequence[Path]) -> str:
    """Return the table of each run's differences of macro-F1, over all hospitals' test patients.

    The federated model minus the pooled one, with the paired 95 % interval of the report; and minus the mean of the
    hospitals' own models. Last, the mean over runs, smallest to largest.

    Raises:
        DataError: a folder holds no complete run.
    """
    rows = list_rows(folders)
    cells, against_pooled, against_local = [], [], []
    for folder in folders:
        report = read_report(folder)
        metrics = {
            row["model"]: row["macro_f1"] for row in rows if (row["run"], row["patients"]) == (report.run.id, "all")
        }
        paired = [
            item.figure
            for item in report.differences
            if (item.model, item.site, item.metric) == ("pooled", "(pooled)", "macro_f1")
        ]
        pooled = paired[0].value if paired else None
        both = "federated" in metrics and "local" in metrics
        local = metrics["federated"] - metrics["local"] if both else None
        against_pooled.append(pooled)
        against_local.append(local)
        interval = f" ({paired[0].low:+.3f} to {paired[0].high:+.3f})" if paired and paired[0].low is not None else ""
        cells.append([report.run.seed, _format_sign(pooled) + interval, _format_sign(local)])
    cells.append(["all runs", *(_format_signs(values) for values in (against_pooled, against_local))])
    return render_markdown_table(["seed", "minus pooled (paired 95% interval)", "minus mean of local"], cells) + "\n"


def _format_sign(value: float | None) -> str:
    return f"{value:+.3f}" if value is not None else "n/a"


def _format_signs(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{mean(known):+.3f} ({min(known):+.3f} to {max(known):+.3f})" if known else "n/a"


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


def main(arguments: Sequence[str]) -> int:
    """Print both tables; return 0, or 2 after one line about a run that has no results."""
    paths = [Path(name) for name in arguments]
    try:
        if not paths:
            raise DataError("no run: name the folders of the runs, such as runs/mitbih-*")
        print(render_summary_table(paths), render_difference_table(paths), sep="\n", end="")
    except DataError as error:
        print(f"summary_table: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
