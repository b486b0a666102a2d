"""`wardround data init` and `wardround data check`: the description of a hospital's own table."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from sites.datasets.table.examine import Finding

Where = Annotated[Path, typer.Argument(help="A CSV or Parquet file, or a folder of such files.", show_default=False)]
Column = Annotated[str | None, typer.Option(help="Name of the column.", show_default="guessed")]


def add_commands(app: typer.Typer) -> None:
    """Add the commands to `wardround data`."""
    app.command("init")(data_init)
    app.command("check")(data_check)


def data_init(
    path: Where,
    outcome: Column = None,
    patient: Column = None,
    hospital: Column = None,
    force: Annotated[bool, typer.Option("--force", help="Replace table.yaml and the run's file.")] = False,
) -> None:
    """Look at a table and write its description, table.yaml, and a run's configuration next to it."""
    from common.errors import ConfigError
    from common.files import write_text
    from experiments.cli.run_progress import open_console
    from sites.datasets.table.description import FILE_NAME
    from sites.datasets.table.examine import load_table
    from sites.datasets.table.guess import guess_description
    from sites.datasets.table.suspicions import add_suspicions
    from sites.datasets.table.write import render_description, render_run

    table = load_table(path)
    folder = path.parent if path.is_file() else path
    name = _run_name(path)
    described, run = folder / FILE_NAME, folder / f"{name}-run.yaml"
    for file in (described, run):
        if file.exists() and not force:
            raise ConfigError(f"{file} exists: keep it, or replace it with --force")
    description = guess_description(table, outcome=outcome, patient=patient, hospital=hospital)
    add_suspicions(table, description)
    write_text(described, render_description(description, table))
    write_text(run, render_run(name, str(folder.resolve()), description))
    console = open_console()
    read = description.read
    kind = "Parquet" if not table.path.is_dir() and path.suffix in (".parquet", ".pq") else (
        f"{read.encoding}, columns separated by {read.delimiter!r}, decimal sign {read.decimal!r}"
    )  # fmt: skip
    console.print(f"{table.rows:,} rows, {len(table.columns)} columns; {kind}", highlight=False)
    roles = {
        "patient": description.patient or "each row",
        "hospital": read.hospital or ("each file" if read.hospital_from == "file" else "one"),
        "outcome": f"{description.outcome.column}: {', '.join(description.outcome.names)}",
        "time": description.time.column if description.time else None,
        "inputs": f"{len(description.inputs)} columns",
    }
    for role, value in roles.items():
        if value:
            console.print(f"  {role:9}{value}", highlight=False, markup=False)
    _print_findings(table.findings)
    typer.echo(f"written: {described}")
    typer.echo(f"         {run}")
    typer.echo(f"next:    wardround run {shlex.quote(str(run))}")


def _run_name(path: Path) -> str:
    import re

    stem = path.resolve().name.split(".")[0].lower()
    return re.sub(r"[^a-z0-9]+", "-", stem).strip("-")[:40] or "table"


def _print_findings(findings: list[Finding]) -> None:
    from rich.text import Text

    from experiments.cli.run_progress import open_console

    console = open_console()
    styles = {"wrong": "bold red", "check": "yellow", "note": "dim"}
    order = sorted(findings, key=lambda item: list(styles).index(item.level))
    for item in order[:40]:
        where = f"{item.column}: " if item.column else ""
        title = {"wrong": "to correct", "check": "check", "note": "note"}[item.level]
        console.print(Text(f"  {title}: ", style=styles[item.level]) + Text(f"{where}{item.text}"), soft_wrap=True)
    if len(order) > 40:
        console.print(f"  and {len(order) - 40} more, as comments in the description")


def data_check(
    folder: Annotated[Path, typer.Argument(help="The data folder, with table.yaml.", show_default=False)],
    contract: Annotated[
        Path | None, typer.Option(help="The federation's table.yaml, which this hospital's must agree with.")
    ] = None,
) -> None:
    """Read a hospital's table by its description, and compare it with the federation's; exit code 2 if unfit."""
    from common.errors import ConfigError
    from experiments.cli.run_progress import open_console
    from sites.cache import cache_folder
    from sites.datasets import table as dataset
    from sites.datasets.table.description import FILE_NAME, load_description

    own = load_description(folder / FILE_NAME)
    if contract is not None:
        wanted = load_description(contract / FILE_NAME if contract.is_dir() else contract)
        dataset.check_site_folder(folder, wanted)
        own = wanted.model_copy(update={"read": own.read})
    patients = dataset.patients(folder, own, cache_folder() / "table")
    cohort = dataset.read(folder, own, [item.id for item in patients], cache_folder() / "table")
    console = open_console()
    console.print(
        f"{len(patients):,} patients, {len(cohort.y):,} rows, {len(own.inputs)} inputs: readable", highlight=False
    )
    for why, count in cohort.excluded.items():
        console.print(f"  {count:,} {why}", highlight=False, markup=False)
    if contract is not None:
        console.print(f"  agrees with {contract}", highlight=False, markup=False)
    if not patients:
        raise ConfigError(f"{folder}: no patient can be used")
