"""`wardround export`: a run's model as a file that other libraries load."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from experiments.cli.score import ModelName, RunOption, SiteName


def export_command(
    run: RunOption,
    out: Annotated[Path, typer.Option("--out", help="The file to write.", show_default=False)],
    library: Annotated[
        Literal["xgboost", "lightgbm", "onnx"],
        typer.Option("--for", "--format", help="The library that shall load it, or ONNX."),
    ] = "xgboost",
    model: ModelName = "federated",
    site: SiteName = None,
) -> None:
    """Write a run's model for other libraries: trees for XGBoost or LightGBM, any model as ONNX, checked first.

    All take inputs in their own units.
    """
    if library == "onnx":
        from experiments.onnx_file import export_onnx

        difference = export_onnx(run, out, model, site)
        typer.echo(f"written: {out} (probabilities agree to {difference:.1g})")
        return
    from common.errors import UsageError
    from experiments.tree_files import export_trees

    if site is not None:
        raise UsageError("--site: trees have no layers of a hospital's own: leave it out")
    count = export_trees(run, out, library, model)
    typer.echo(f"written: {out} ({count} trees for {library})")
