"""`wardround evaluate`: a run's model on the labelled data of a hospital that took no part."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from experiments.cli.report_summary import print_summary
from experiments.cli.score import ModelName, RunOption, SiteName


def evaluate_command(
    run: RunOption,
    data: Annotated[
        Path, typer.Option("--data", help="Labelled data, in the layout of the run's data set.", show_default=False)
    ],
    model: ModelName = "federated",
    site: SiteName = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for the report.", show_default="evaluations/RUN/DATA")
    ] = None,
    name: Annotated[str, typer.Option("--name", help="The hospital's name; default: that of the data's folder.")] = "",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only the report's folder.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Evaluate a run's model on labelled data of another hospital; writes figures with intervals and a report."""
    import torch

    from common.errors import DataError
    from common.processes import interrupt_on_signals
    from common.run_folder import RunFolder
    from experiments.scoring.evaluation import evaluate_model
    from experiments.scoring.score import open_model

    torch.set_num_threads(1)
    if data.is_file():
        raise DataError(f"{data} is a file: give the folder that holds it")
    if not data.is_dir():
        raise DataError(f"no data folder {data}: give the folder that holds the labelled data")
    opened = open_model(run, model, site)
    hospital = name or data.resolve().name
    with interrupt_on_signals():
        folder = evaluate_model(opened, run, data, out or Path("evaluations") / opened.run / hospital, hospital)
    if as_json:
        typer.echo(json.dumps(json.loads(RunFolder(folder).report.read_text(encoding="utf-8"))))
    elif quiet:
        typer.echo(folder)
    else:
        print_summary(folder)
