"""`wardround data init` and `wardround data check`: the description of a hospital's own table."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from sites.datasets.table.examine import Finding

Where = Annotated[
    Path,
    typer.Argument(help="A table, a folder of tables, of ECG recordings, or a MEDS extract.", show_default=False),
]
Outcome = Annotated[
    str | None,
    typer.Option(help="The column to predict; of a MEDS extract: the code of the event.", show_default="guessed"),
]
Patient = Annotated[
    str | None, typer.Option(help="The column that says which patient a row is of.", show_default="guessed")
]
Hospital = Annotated[str | None, typer.Option(help="The column that names the hospital.", show_default="guessed")]


def add_commands(app: typer.Typer) -> None:
    """Add the commands to `wardround data`."""
    app.command("init")(data_init)
    app.command("check")(data_check)


def data_init(
    path: Where,
    outcome: Outcome = None,
    patient: Patient = None,
    hospital: Hospital = None,
    force: Annotated[bool, typer.Option("--force", help="Replace table.yaml and the run's file.")] = False,
) -> None:
    """Look at data of your own; write their description and a run's configuration next to them."""
    from experiments.cli.run_progress import open_console
    from sites.datasets.meds.guess import is_extract
    from sites.datasets.recordings.guess import holds_recordings
    from sites.datasets.table.description import FILE_NAME
    from sites.datasets.table.examine import load_table
    from sites.datasets.table.guess import guess_description
    from sites.datasets.table.suspicions import add_suspicions
    from sites.datasets.table.write import render_description, render_run

    if holds_recordings(path):
        _init_recordings(path, {"outcome": outcome, "patient": patient, "hospital": hospital}, force)
        return
    if is_extract(path):
        _init_extract(path, outcome, patient, hospital, force)
        return
    table = load_table(path)
    folder = path.parent if path.is_file() else path
    name = _run_name(path)
    described, run = _plan_files(folder, FILE_NAME, name, force)
    description = guess_description(table, outcome=outcome, patient=patient, hospital=hospital)
    add_suspicions(table, description)
    texts = render_description(description, table), render_run(name, str(folder.resolve()), description)
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
    _write_files(described, run, *texts, table.findings)


def _init_recordings(folder: Path, columns: dict[str, str | None], force: bool) -> None:
    """Write the description of a folder of recordings, and a run's configuration."""
    from common.errors import ConfigError
    from experiments.cli.run_progress import open_console
    from sites.datasets.recordings.description import FILE_NAME
    from sites.datasets.recordings.guess import guess_description
    from sites.datasets.recordings.write import render_description, render_run

    if given := [name for name, value in columns.items() if value is not None]:
        raise ConfigError(f"--{given[0]}: {folder} holds recordings; correct the columns in {FILE_NAME} instead")
    name = _run_name(folder)
    described, run = _plan_files(folder, FILE_NAME, name, force)
    description, look = guess_description(folder)
    console = open_console()
    total = len(look.names)
    console.print(f"{total:,} recordings ({description.read.files}), {description.examples}", highlight=False)
    source = {"beats": "beat annotations", "rhythms": "rhythm annotations", "table": "the table"}[description.labels]
    for item in description.classes:
        count = sum((look.beats or look.rhythms)[value] for value in item.values)
        console.print(f"  {item.name:9}{f'{count:,}' if count else '':>9} from {source}", highlight=False, markup=False)
    _print_findings(look.findings)
    texts = render_description(description, look), render_run(name, str(folder.resolve()), description, look)
    _write_files(described, run, *texts, look.findings)


def _init_extract(folder: Path, outcome: str | None, patient: str | None, hospital: str | None, force: bool) -> None:
    """Write the description of a MEDS extract, and a run's configuration."""
    from common.errors import ConfigError
    from experiments.cli.run_progress import open_console
    from sites.datasets.meds.description import FILE_NAME
    from sites.datasets.meds.extract import SPLIT_FILE
    from sites.datasets.meds.guess import guess_description
    from sites.datasets.meds.write import render_description, render_run

    if patient is not None:
        raise ConfigError(f"--patient: {folder} is a MEDS extract, in which subject_id is the patient")
    name = _run_name(folder)
    described, run = _plan_files(folder, FILE_NAME, name, force)
    description, codes = guess_description(folder, outcome=outcome, hospital=hospital)
    open_console().print(f"MEDS extract: {codes.total:,} people, {len(codes.events):,} codes", highlight=False)
    _print_findings(codes.findings)
    splits = (folder / SPLIT_FILE).is_file()
    texts = render_description(description, codes), render_run(name, str(folder.resolve()), description, splits)
    _write_files(described, run, *texts, codes.findings)


def _plan_files(folder: Path, file_name: str, name: str, force: bool) -> tuple[Path, Path]:
    """Return the files to write: description and configuration of a run.

    Raises:
        ConfigError: one of them exists.
    """
    from common.errors import ConfigError

    files = folder / file_name, folder / f"{name}-run.yaml"
    for file in files:
        if file.exists() and not force:
            raise ConfigError(f"{file} exists: keep it, or replace it with --force")
    return files


def _write_files(described: Path, run: Path, description: str, configuration: str, findings: list[Finding]) -> None:
    from common.files import write_text

    write_text(described, description)
    write_text(run, configuration)
    typer.echo(f"written: {described}")
    typer.echo(f"         {run}")
    if any(item.level == "wrong" for item in findings):
        typer.echo("next:    correct what is wrong in the data, describe them again with --force, and then")
        typer.echo(f"         wardround run {shlex.quote(str(run))}")
    else:
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
    folder: Annotated[Path, typer.Argument(help="The data folder, with its description.", show_default=False)],
    contract: Annotated[
        Path | None, typer.Option(help="The federation's description, which this hospital's must agree with.")
    ] = None,
) -> None:
    """Read a hospital's data by their description, and compare it with the federation's; exit code 2 if unfit."""
    from common.errors import ConfigError
    from common.settings import validate_settings
    from experiments.cli.run_progress import open_console
    from sites.cache import cache_folder
    from sites.datasets import Source, find_own_description

    if folder.is_file() and folder.suffix.lower() not in (".yaml", ".yml"):
        raise ConfigError(f"{folder} is a file: give the folder that holds the data and their description")
    module, file = find_own_description(folder)
    options = validate_settings(module.Options, module.read_description(file), str(file))
    if contract is not None:
        wanted = contract / file.name if contract.is_dir() else contract
        options = validate_settings(module.Options, module.read_description(wanted), str(wanted))
        module.check_site_folder(file.parent, options)
    source = Source(module, options, file.parent, cache_folder() / module.CARD.name)
    patients = source.patients()
    if not patients:
        raise ConfigError(f"{folder}: no patient can be used")
    cohort = source.read([item.id for item in patients])
    console = open_console()
    people, inputs = len(set(cohort.persons)), len(cohort.task.features) + cohort.task.channels
    console.print(f"{people:,} patients, {len(cohort.y):,} examples, {inputs} inputs: readable", highlight=False)
    for why, count in cohort.excluded.items():
        console.print(f"  {count:,} {why}", highlight=False, markup=False)
    if contract is not None:
        console.print(f"  agrees with {contract}", highlight=False, markup=False)
