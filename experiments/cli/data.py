"""`wardround data`: list, fetch, check, describe and generate data sets."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from experiments.cli.data_own import add_commands

if TYPE_CHECKING:
    from experiments.watcher import Event
    from sites.datasets import Source

app = typer.Typer(help="Data sets: list, fetch, check, describe, generate.", no_args_is_help=True)
Settings = Annotated[list[str] | None, typer.Option("--set", help="Override a value: section.key=value.")]
Name = Annotated[str, typer.Argument(help="A data set's name, see wardround data list.", show_default=False)]
Folder = Annotated[Path | None, typer.Argument(help="The data set's folder.", show_default="data/NAME")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("list")
def data_list(as_json: Json = False) -> None:
    """List the data sets, with their licences and how to get them."""
    from experiments.cli.data_tables import catalogue_rows, render_list
    from experiments.cli.run_progress import open_console

    rows = catalogue_rows()
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
    else:
        open_console().print(render_list(rows))


@app.command("fetch")
def data_fetch(
    name: Name,
    folder: Annotated[Path | None, typer.Argument(help="The folder to fetch into.", show_default="data/NAME")] = None,
    only: Annotated[list[str] | None, typer.Option("--only", help="Fetch only files that match this pattern.")] = None,
    rate: Annotated[str | None, typer.Option(help="ptbxl: fetch only the recordings at 100 or at 500 Hz.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Fetch everything that is published.")] = False,
    connections: Annotated[int, typer.Option(min=1, max=8, help="Files to fetch at the same time.")] = 4,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only the folder.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print events as JSON lines.")] = False,
    base: Annotated[str | None, typer.Option("--base-url", hidden=True, envvar="WARDROUND_BASE_URL")] = None,
) -> None:
    """Fetch a data set from PhysioNet or UCI and check its SHA-256 sums; resumes where it was stopped."""
    from common.errors import FetchError
    from common.processes import interrupt_on_signals
    from experiments.cli.data_tables import load_card
    from experiments.cli.download_progress import DownloadPrinter, download_done_event, download_start_event
    from experiments.cli.run_progress import choose_printer
    from sites.download.catalogue import require_download
    from sites.download.fetch import fetch_data_set
    from sites.download.retry_policy import RetryPolicy

    source = require_download(name)
    target = folder or source.folder
    card = load_card(source.name)
    printer = choose_printer(DownloadPrinter, quiet=quiet, as_json=as_json)
    printer.handle(download_start_event(card, source, target))
    resume = f"files fetched so far are kept in {target}: the same command resumes there"
    planned = False

    def handle(event: Event) -> None:
        nonlocal planned
        planned |= event["event"] == "plan"
        printer.handle(event)

    try:
        with interrupt_on_signals():
            result = fetch_data_set(
                source,
                card,
                target,
                only=tuple(only or ()),
                part=rate,
                everything=everything,
                base=base,
                policy=RetryPolicy(threads=connections),
                on_event=handle,
            )
    except KeyboardInterrupt:
        printer.close()
        typer.echo(f"wardround: stopped; {resume}", err=True)
        raise SystemExit(130) from None
    except FetchError as error:
        raise FetchError(f"{error}; {resume}" if planned else str(error)) from None
    finally:
        printer.close()
    if result.failed:
        first = next(iter(result.failed.values()))
        raise FetchError(
            f"{len(result.failed)} of {len(result.failed) + result.fetched + result.present} files could not be "
            f"fetched ({first}); the others are in {target}: the same command tries again"
        )
    printer.handle(download_done_event(result, target))
    if not as_json:
        typer.echo(target)


@app.command("verify")
def data_verify(
    name: Name,
    folder: Folder = None,
    only: Annotated[list[str] | None, typer.Option("--only", help="Check only files that match this pattern.")] = None,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Check a data set's files by their SHA-256 sums, or without sums by reading them; exit code 2 if one is bad."""
    from dataclasses import asdict

    from experiments.cli.data_tables import render_verification
    from experiments.cli.download_progress import show_count
    from experiments.cli.run_progress import open_console
    from sites.download.catalogue import find_download
    from sites.download.verify import verify_files

    source = _open_source(name, folder, settings)
    with show_count(open_console(stderr=True), "files checked") as report_count:
        result = verify_files(source, find_download(source.card.name), tuple(only or ()), report_count)
    if as_json:
        about = {"name": source.card.name, "folder": str(source.folder), "good": result.good}
        typer.echo(json.dumps(about | asdict(result)))
    else:
        open_console().print(render_verification(source.card.name, source.folder, result), soft_wrap=True)
    if not result.good:
        raise typer.Exit(2)


@app.command("describe")
def data_describe(
    name: Annotated[str, typer.Argument(help="A data set, or the YAML file of a run.", show_default=False)],
    folder: Folder = None,
    settings: Settings = None,
    min_people: Annotated[int, typer.Option(min=1, max=1000, help="Hide counts of fewer people than this.")] = 5,
    as_json: Json = False,
) -> None:
    """Show a data set's card with counts of its patients, small counts hidden; or the hospitals of a run."""
    if name.endswith((".yaml", ".yml")) or Path(name).is_file():
        _describe_run(Path(name), settings, min_people)
        return
    from experiments.cli.data_tables import render_description
    from experiments.cli.download_progress import show_count
    from experiments.cli.run_progress import open_console
    from sites.disclosure.describe import describe_folder

    source = _open_source(name, folder, settings)
    with show_count(open_console(stderr=True), "recordings read") as report_count:
        description = describe_folder(source, min_people, report_count)
    if as_json:
        typer.echo(json.dumps(description, indent=1))
    else:
        open_console().print(render_description(description))


@app.command("synth")
def data_synth(
    where: Annotated[
        list[str],
        typer.Argument(metavar="[NAME] DIR", help="A data set (default: ECG hospitals), and the folder to create."),
    ],
    hospitals: Annotated[int | None, typer.Option(help="Number of hospitals.")] = None,
    patients: Annotated[
        int | None, typer.Option(help="Number of patients; where there are several hospitals, about that many in each.")
    ] = None,
    minutes: Annotated[float | None, typer.Option(help="ECG hospitals: minutes of each recording.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Another option of the data set: key=value.")
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed generates the same data.")] = 1,
) -> None:
    """Generate SYNTHETIC hospitals in the layout of a data set."""
    from common.errors import UsageError
    from experiments.generate_data import generate_data_set

    if len(where) > 2:
        raise UsageError(f"data synth: give a data set and a folder, not {len(where)} words")
    numbers = {"hospitals": hospitals, "patients": patients, "minutes": minutes}
    given = {key: value for key, value in numbers.items() if value is not None}

    def show_progress(done: int, total: int) -> None:
        if sys.stderr.isatty():
            typer.echo(f"\r{done} of {total} recordings", err=True, nl=done == total)

    name, folder = (where[0] if len(where) == 2 else "synthetic"), Path(where[-1])
    typer.echo(generate_data_set(name, folder, given, settings or [], seed, show_progress))


add_commands(app)


def _open_source(name: str, folder: Path | None, settings: list[str] | None) -> Source:
    """Open a data set by its name here or at its publisher, with `data` options from `--set`."""
    from common.config import parse_config
    from common.errors import ConfigError
    from sites.datasets import open_source, read_options
    from sites.download.catalogue import find_download

    download = find_download(name)
    data: dict[str, Any] = {"dataset": download.name if download else name}
    if folder is None and download is not None and download.folder.is_dir() and not _is_simulated(settings):
        folder = download.folder
    if folder is not None:
        data["path"] = str(folder)
    for setting in settings or []:
        if not setting.startswith("data."):
            raise ConfigError(f"--set {setting}: only values of data are used here, such as data.options.KEY=VALUE")
    return open_source(read_options(parse_config({"data": data}, settings or [], source="data")), None)


def _is_simulated(settings: list[str] | None) -> bool:
    return any(setting.replace(" ", "").startswith("data.options.simulated=true") for setting in settings or [])


def _describe_run(config_file: Path, settings: list[str] | None, min_people: int) -> None:
    """Print the hospitals of a run, with the counts of their recordings and classes, and who the patients are."""
    from common.config import load_config
    from experiments.runs.checks import resolve_paths
    from experiments.runs.experiment_files import find_experiment
    from sites.datasets import assign_hospitals, open_source

    config = resolve_paths(load_config(find_experiment(config_file), settings or []))
    source = open_source(config, None)
    hospitals, patients, dropped = assign_hospitals(source, config)
    counts = {item.id: item.examples for item in patients}
    classes = source.task().classes
    typer.echo(source.card.title)
    for site, ids in hospitals.items():
        sums = [sum(column) for column in zip(*(counts[name] for name in ids), strict=True)]
        numbers = [f"<{min_people}" if 0 < number < min_people else f"{number:,}" for number in sums]
        text = ", ".join(f"{name} {number}" for name, number in zip(classes, numbers, strict=True))
        typer.echo(f"  {site}: {len(ids)} {'recordings' if source.task().channels else 'patients'}; {text}")
    if dropped:
        typer.echo(f"  excluded from training: {dropped} recording(s) of a person in the published test set")
    if source.task().features and not source.task().channels:
        from experiments.cli.data_tables import render_table_one
        from experiments.cli.run_progress import open_console
        from sites.disclosure.table_one import build_table_one

        cohorts = {site: source.read(ids) for site, ids in hospitals.items()}
        for part in render_table_one(list(cohorts), build_table_one(cohorts, min_people)):
            open_console().print(part)
