"""`wardround score`: a run's model on recordings or rows without labels."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from experiments.scoring.score import CountCallback

RunOption = Annotated[Path, typer.Option("--run", help="A run's folder.", show_default=False)]
ModelName = Annotated[str, typer.Option("--model", help="federated, pooled, local:SITE, or personal (with --site).")]
SiteName = Annotated[
    str | None, typer.Option("--site", help="The hospital whose own layers or scaling complete the model.")
]


def score_command(
    run: RunOption,
    data: Annotated[
        Path, typer.Option("--data", help="WFDB recordings, or tables of the run's data set.", show_default=False)
    ],
    model: ModelName = "federated",
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder for the scores, or the name of the table, which ends in .csv or .parquet."),
    ] = None,
    site: SiteName = None,
    beats: Annotated[
        Literal["auto", "reference", "detect"],
        typer.Option(help="Locate beats by reference annotations, by detecting R peaks, or by whichever is available."),
    ] = "auto",
    annotator: Annotated[str, typer.Option(help="Suffix of the reference annotations.")] = "atr",
    extension: Annotated[str, typer.Option(help="Suffix of the annotations to write.")] = "wrd",
    annotations: Annotated[bool, typer.Option(help="Write WFDB annotations too.")] = True,
    factors: Annotated[
        int,
        typer.Option(
            min=0, max=100, help="Of trees: name so many inputs with the largest Shapley values for each row."
        ),
    ] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only the table's path.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Score recordings or rows with a run's model; writes a table, and WFDB annotations for ECG viewers."""
    from common.errors import DataError
    from common.garbage import pause_collection
    from common.processes import interrupt_on_signals

    with pause_collection():
        import torch

        from experiments.scoring.output import ScoreWriter, check_extension
        from experiments.scoring.score import open_model, score_records

    torch.set_num_threads(1)
    check_extension(extension, annotator)
    if data.is_file():
        raise DataError(f"{data} is a file: give the folder that holds it, and nothing else that is to be scored")
    opened = open_model(run, model, site, explained=factors > 0)
    folder, table = _output_path(out, opened.run)
    writer = ScoreWriter(folder, table, opened, extension if annotations else None, factors)
    complete = False
    try:
        with interrupt_on_signals(), count_scored(quiet or as_json) as report_count:
            for scored in score_records(opened, data, beats, annotator, report_count):
                writer.add(scored)
        complete = True
    except KeyboardInterrupt:
        pass
    finally:
        if not complete:
            summary = writer.close(complete=False)
    if not complete:
        typer.echo(f"wardround: stopped; {summary['records']} record(s) scored so far are in {folder}", err=True)
        raise SystemExit(130)
    summary = writer.close(complete=True)
    if as_json:
        typer.echo(json.dumps(summary))
    elif quiet:
        typer.echo(summary["scores"])
    else:
        _print_summary(summary)


def _output_path(out: Path | None, run: str) -> tuple[Path, str]:
    """Return the folder to write into, and the table's name."""
    if out is None:
        return Path("scores") / run, "scores.csv"
    if out.suffix in (".csv", ".parquet"):
        return out.parent, out.name
    return out, "scores.csv"


def count_scored(silent: bool) -> AbstractContextManager[CountCallback]:
    """Return a context that shows the number of scored records, or nothing if `silent`."""
    from experiments.cli.download_progress import show_count
    from experiments.cli.run_progress import open_console

    if silent:
        return nullcontext(lambda done, total: None)
    return show_count(open_console(stderr=True), "scored")


def _print_summary(summary: dict[str, Any]) -> None:
    from experiments.cli.run_progress import open_console

    console = open_console()

    def print_line(text: str, style: str = "") -> None:
        console.print(text, style=style, soft_wrap=True, highlight=False, markup=False)

    if summary["notice"]:
        print_line(summary["notice"], "bold yellow")
    classes = ", ".join(f"{name or 'none'} {number:,}" for name, number in summary["classes"].items())
    print_line(f"{summary['records']:,} record(s), {summary['rows']:,} rows: {classes}")
    for location, number in summary["beats"].items():
        print_line(f"  beats of {number:,} record(s): {location}")
    rhythm = summary["rhythm"]
    if "warning" in rhythm:
        print_line(f"  {rhythm['warning']}", "bold yellow")
    for part in (
        ("all beats", "regular rhythm", "irregular rhythm") if "warning" in rhythm and "all beats" in rhythm else ()
    ):
        counts = rhythm[part]
        print_line(
            f"  {part}: {counts['normal called abnormal']:,} of {counts['normal']:,} normal beats called abnormal, "
            f"{counts['abnormal called abnormal']:,} of {counts['abnormal']:,} abnormal beats found"
        )
    for reason, number in summary["left out"].items():
        print_line(f"  left out: {number:,} x {reason}")
    for reason, number in summary["cells read as not measured"].items():
        print_line(f"  cells: {number:,} x {reason}")
    for reason, number in summary["to check"].items():
        print_line(f"  check: {number:,} x {reason}", "yellow")
    if summary["records without a score"]:
        print_line(f"  records without a score: {summary['records without a score']:,}; see {summary['excluded']}")
    print_line(f"scores: {summary['scores']}")
