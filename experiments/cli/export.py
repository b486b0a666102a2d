"""`wardround export`: a run's trees as a file that XGBoost or LightGBM loads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from experiments.cli.score import ModelName, RunOption


def export_command(
    run: RunOption,
    out: Annotated[Path, typer.Option("--out", help="The file to write.", show_default=False)],
    library: Annotated[
        Literal["xgboost", "lightgbm"], typer.Option("--for", help="The library that shall load it.")
    ] = "xgboost",
    model: ModelName = "federated",
) -> None:
    """Write a run's model of trees for XGBoost (JSON) or LightGBM (text); it takes inputs in their own units."""
    from experiments.tree_files import export_trees

    count = export_trees(run, out, library, model)
    typer.echo(f"written: {out} ({count} trees for {library})")
