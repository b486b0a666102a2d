"""`wardround score`: a run's model on recordings or rows that need no label."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer


def score_command(
    run: Annotated[Path, typer.Option("--run", help="A run's folder.", show_default=False)],
    data: Annotated[
        Path, typer.Option("--data", help="WFDB recordings, or tables of the run's data set.", show_default=False)
    ],
    model: Annotated[str, typer.Option(help="federated, pooled, local:SITE, or personal (with --site).")] = "federated",
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder for the scores; a name in .csv or .parquet says the table's form too."),
    ] = None,
    site: Annotated[str | None, typer.Option(help="The hospital whose own layers or scaling to use.")] = None,
    beats: Annotated[
        Literal["auto", "reference", "detect"],
        typer.Option(help="Where beats are: at reference annotations, at R peaks found here, or the first there is."),
    ] = "auto",
    annotator: Annotated[str, typer.Option(help="Suffix of the reference annotations.")] = "atr",
    extension: Annotated[str, typer.Option(help="Suffix of the annotations that are written.")] = "wrd",
    annotations: Annotated[bool, typer.Option(help="Write WFDB annotations too.")] = True,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only the table's path.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Score recordings or rows with a run's model: a tidy table and WFDB annotations that viewers open."""
    import torch

    from common.processes import interrupt_on_signals
    from experiments.scoring import output
    from experiments.scoring import score as scoring

    torch.set_num_threads(1)
    output.check_extension(extension, annotator)
    opened = scoring.open_model(run, model, site)
    place, table = _place(out, opened.run)
    result = output.ScoreWriter(place, table, opened, extension if annotations else None)
    complete = False
    try:
        with interrupt_on_signals(), _counting(quiet or as_json) as tell:
            for found in scoring.score_records(opened, data, beats, annotator, tell):
                result.add(found)
        complete = True
    except KeyboardInterrupt:
        pass
    finally:
        if not complete:
            summary = result.close(complete=False)
    if not complete:
        typer.echo(f"wardround: stopped; {summary['records']} record(s) scored so far are in {place}", err=True)
        raise SystemExit(130)
    summary = result.close(complete=True)
    if as_json:
        typer.echo(json.dumps(summary))
    elif quiet:
        typer.echo(summary["scores"])
    else:
        _say(summary)


def _place(out: Path | None, run: str) -> tuple[Path, str]:
    """Return the folder to write into, and the table's name."""
    if out is None:
        return Path("scores") / run, "scores.csv"
    if out.suffix in (".csv", ".parquet"):
        return out.parent, out.name
    return out, "scores.csv"


def _counting(silent: bool) -> Any:
    from contextlib import nullcontext

    from rich.console import Console

    from experiments.cli import download_progress

    if silent:
        return nullcontext(lambda done, of: None)
    return download_progress.show_count(
        Console(stderr=True) if sys.stderr.isatty() else Console(stderr=True, width=110), "scored"
    )


def _say(summary: dict[str, Any]) -> None:
    from rich.console import Console

    screen = Console() if sys.stdout.isatty() else Console(width=110)

    def line(text: str, style: str = "") -> None:
        screen.print(text, style=style, soft_wrap=True, highlight=False, markup=False)

    if summary["notice"]:
        line(summary["notice"], "bold yellow")
    classes = ", ".join(f"{name or 'none'} {number:,}" for name, number in summary["classes"].items())
    line(f"{summary['records']:,} record(s), {summary['rows']:,} rows: {classes}")
    for where, number in summary["beats"].items():
        line(f"  beats of {number:,} record(s): {where}")
    for why, number in summary["left out"].items():
        line(f"  left out: {number:,} x {why}")
    if summary["records without a score"]:
        line(f"  records without a score: {summary['records without a score']:,}; see {summary['excluded']}")
    line(f"scores: {summary['scores']}")
