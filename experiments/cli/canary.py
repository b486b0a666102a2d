"""`wardround canary`: what every hospital would do in a run, before it is started."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from experiments.cli.data import Settings

if TYPE_CHECKING:
    from rich.table import Table


def canary_command(
    config: Annotated[Path, typer.Argument(help="A YAML file, or the name of an experiment, such as synthetic.")],
    settings: Settings = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answers as JSON.")] = False,
) -> None:
    """Ask every hospital what it would do in a run: who answers, how fast, and what would be refused.

    Sends each hospital one small request without training: nothing is charged to a privacy ledger, nothing about
    patients leaves, and it does not count as a run. Exit code 1: a hospital is missing or would refuse something.
    """
    from common.config import load_config
    from experiments.cli.interrupts import explain_interrupts
    from experiments.cli.run_progress import RunPrinter, choose_printer, open_console
    from experiments.runs.canary import ask_all_sites, is_good
    from experiments.runs.experiment_files import find_experiment

    loaded = load_config(find_experiment(config), list(settings or []))
    printer = choose_printer(RunPrinter, quiet=as_json)
    with explain_interrupts(printer):
        answer = ask_all_sites(loaded, printer)
    if as_json:
        typer.echo(json.dumps(answer))
    else:
        console = open_console(width=140)
        console.print(build_answer_table(answer))
        for line in list_problems(answer):
            console.print(line, soft_wrap=True, highlight=False, markup=False)
        count, how = len(answer["sites"]), "ready" if is_good(answer) else "NOT READY"
        console.print(f"{how}: {count} of {count + len(answer['missing'])} hospitals answered", highlight=False)
    if not is_good(answer):
        raise typer.Exit(1)


def build_answer_table(answer: Mapping[str, Any]) -> Table:
    """Return a table with a row for each hospital: its answer, or that it is missing."""
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold underline")
    for title in ("hospital", "answer", "release", "protocol", "device"):
        table.add_column(title)
    table.add_column("data opened in", justify="right")
    table.add_column("a step takes", justify="right")
    for name, site in answer["sites"].items():
        step = site.get("step_seconds")
        table.add_row(
            name,
            "would refuse" if site.get("refusals") else "ready",
            site["release"],
            str(site["protocol"]),
            site["device"],
            f"{site['load_seconds']:g} s",
            "n/a" if step is None else f"{step:g} s",
        )
    for name in answer["missing"]:
        table.add_row(name, "missing", "", "", "", "", "")
    return table


def list_problems(answer: Mapping[str, Any]) -> list[str]:
    """Return what stands in the way of the run, a line each."""
    lines = [f"{name}: {text}" for name, site in answer["sites"].items() for text in site.get("refusals", ())]
    lines += [f"{name}: {text}" for name, text in answer["missing"].items()]
    return [*lines, *answer["problems"]]
