"""`wardround data`: what data sets there are, fetching and checking them, what is in them, generated ones."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from common.config import RunConfig
    from sites.datasets import Source

app = typer.Typer(help="Data sets: what there is, fetch, check, describe, generate.", no_args_is_help=True)
Settings = Annotated[list[str] | None, typer.Option("--set", help="Override a value: section.key=value.")]
Name = Annotated[str, typer.Argument(help="A data set, as wardround data list names it.", show_default=False)]
Folder = Annotated[Path | None, typer.Argument(help="Where it lies.", show_default="data/NAME")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("list")
def data_list(as_json: Json = False) -> None:
    """List the data sets: licence, and how each is had."""
    from experiments.cli import data_tables

    rows = data_tables.catalogue_rows()
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
    else:
        _out().print(data_tables.render_list(rows))


@app.command("fetch")
def data_fetch(
    name: Name,
    folder: Annotated[Path | None, typer.Argument(help="Where to put it.", show_default="data/NAME")] = None,
    only: Annotated[list[str] | None, typer.Option("--only", help="Fetch the files of this pattern alone.")] = None,
    rate: Annotated[str | None, typer.Option(help="ptbxl: the recordings at 100 or at 500 Hz alone.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Fetch all that is published, needed or not.")] = False,
    connections: Annotated[int, typer.Option(min=1, max=8, help="Files at a time.")] = 4,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only the folder.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print events as JSON lines.")] = False,
    base: Annotated[str | None, typer.Option("--base-url", hidden=True, envvar="WARDROUND_BASE_URL")] = None,
) -> None:
    """Fetch a data set from PhysioNet or UCI, checked by SHA-256; goes on where it was stopped."""
    from common.errors import FetchError
    from common.processes import interrupt_on_signals
    from experiments.cli import data_tables, download_progress
    from sites.download import catalogue, fetch
    from sites.download.retry_policy import RetryPolicy

    source = catalogue.require_download(name)
    place = folder or source.folder
    card = data_tables.load_card(source.name)
    screen = (
        download_progress.JsonDownload()
        if as_json
        else download_progress.QuietDownload()
        if quiet
        else download_progress.TerminalDownload(_err())
    )
    screen.start(card, source, place)
    again = f"what has come is kept in {place}: the same command goes on from there"
    try:
        with interrupt_on_signals():
            done = fetch.fetch_data_set(
                source,
                card,
                place,
                only=tuple(only or ()),
                part=rate,
                everything=everything,
                base=base,
                policy=RetryPolicy(threads=connections),
                on_event=screen.event,
            )
    except KeyboardInterrupt:
        screen.close()
        typer.echo(f"wardround: stopped; {again}", err=True)
        raise SystemExit(130) from None
    except FetchError as error:
        screen.close()
        raise FetchError(f"{error}; {again}" if screen.planned else str(error)) from None
    finally:
        screen.close()
    if done.failed:
        first = next(iter(done.failed.values()))
        raise FetchError(
            f"{len(done.failed)} of {len(done.failed) + done.fetched + done.kept} files could not be had ({first}); "
            f"the others are in {place}: the same command tries again"
        )
    screen.done(done, place)


@app.command("verify")
def data_verify(
    name: Name,
    folder: Folder = None,
    only: Annotated[list[str] | None, typer.Option("--only", help="Expect the files of this pattern alone.")] = None,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Check a data set's files by their SHA-256 sums, or else by reading them; exit code 2 if one is bad."""
    from dataclasses import asdict

    from experiments.cli import data_tables, download_progress
    from sites.download import catalogue
    from sites.download.verify import verify_files

    source = _source(name, folder, settings)
    with download_progress.show_count(_err(), "files checked") as tell:
        found = verify_files(source, catalogue.find_download(source.card.name), tuple(only or ()), tell)
    if as_json:
        typer.echo(
            json.dumps({"name": source.card.name, "folder": str(source.folder), "good": found.good, **asdict(found)})
        )
    else:
        _out().print(data_tables.render_verification(source.card.name, source.folder, found), soft_wrap=True)
    if not found.good:
        raise typer.Exit(2)


@app.command("describe")
def data_describe(
    name: Annotated[str, typer.Argument(help="A data set, or the YAML file of a run.", show_default=False)],
    folder: Folder = None,
    settings: Settings = None,
    least: Annotated[int, typer.Option(min=1, max=1000, help="Hide counts of fewer people than this.")] = 5,
    as_json: Json = False,
) -> None:
    """Show a data set's card with counts of its patients, small ones hidden; or the hospitals of a run."""
    if name.endswith((".yaml", ".yml")) or Path(name).is_file():
        _describe_run(Path(name), settings)
        return
    from experiments.cli import data_tables, download_progress
    from sites.disclosure.describe import describe_folder

    source = _source(name, folder, settings)
    with download_progress.show_count(_err(), "recordings read") as tell:
        found = describe_folder(source, least, tell)
    if as_json:
        typer.echo(json.dumps(found, indent=1))
    else:
        _out().print(data_tables.render_description(found))


@app.command("synth")
def data_synth(
    where: Annotated[
        list[str],
        typer.Argument(metavar="[NAME] DIR", help="A data set (else ECG hospitals), and the folder to make."),
    ],
    hospitals: Annotated[int | None, typer.Option(help="Hospitals to make.")] = None,
    patients: Annotated[
        int | None, typer.Option(help="Patients, of a hospital where there are several, about.")
    ] = None,
    minutes: Annotated[float | None, typer.Option(help="ECG hospitals: minutes a recording.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Another value of the data set: key=value.")
    ] = None,
    seed: int = 1,
) -> None:
    """Generate SYNTHETIC hospitals in the layout of a data set."""
    from common.errors import UsageError
    from experiments import generate_data as synthetic

    if len(where) > 2:
        raise UsageError(f"data synth: give a data set and a folder, not {len(where)} words")
    given = {"hospitals": hospitals, "patients": patients, "minutes": minutes}
    known = {key: value for key, value in given.items() if value is not None}

    def progress(done: int, total: int) -> None:
        if sys.stderr.isatty():
            typer.echo(f"\r{done} of {total} recordings", err=True, nl=done == total)

    name, folder = (where[0] if len(where) == 2 else "synthetic"), Path(where[-1])
    typer.echo(synthetic.generate_data_set(name, folder, known, settings or [], seed, progress))


def _source(name: str, folder: Path | None, settings: list[str] | None) -> Source:
    """Return a data set by its name here or its publisher's, where it lies, with options from `--set`."""
    from common import config as configuration
    from common.errors import ConfigError
    from sites import datasets
    from sites.download import catalogue

    found = catalogue.find_download(name)
    data: dict[str, Any] = {"dataset": found.name if found else name}
    if folder is None and found is not None and found.folder.is_dir() and not _simulated(settings):
        folder = found.folder
    if folder is not None:
        data["path"] = str(folder)
    for setting in settings or []:
        if not setting.startswith("data."):
            raise ConfigError(f"--set {setting}: only values of data are used here, such as data.options.KEY=VALUE")
    wanted: RunConfig = configuration.parse_config({"data": data}, settings or [], source="data")
    return datasets.open_source(wanted, None)


def _simulated(settings: list[str] | None) -> bool:
    return any(setting.replace(" ", "").startswith("data.options.simulated=true") for setting in settings or [])


def _describe_run(config: Path, settings: list[str] | None) -> None:
    """Show the hospitals that a run would have, with the counts of their patients and classes."""
    from common import config as configuration
    from experiments.runs.checks import resolve_paths
    from sites import datasets

    wanted = resolve_paths(configuration.load_config(config, settings or []))
    source = datasets.open_source(wanted, None)
    dealt, patients, dropped = datasets.assign_hospitals(source, wanted)
    counts = {item.id: item.examples for item in patients}
    classes = source.task().classes
    typer.echo(source.card.title)
    for site, ids in dealt.items():
        sums = [sum(column) for column in zip(*(counts[name] for name in ids), strict=True)]
        text = ", ".join(f"{name} {number:,}" for name, number in zip(classes, sums, strict=True))
        typer.echo(f"  {site}: {len(ids)} recordings; {text}")
    if dropped:
        typer.echo(f"  left out of training: {dropped} recording(s) of a person in the published test set")


def _out() -> Console:
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=110)


def _err() -> Console:
    from rich.console import Console

    return Console(stderr=True) if sys.stderr.isatty() else Console(stderr=True, width=110)
