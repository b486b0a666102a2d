"""The command line. Everything heavy is imported inside the command that needs it: --help answers at once."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from common.errors import UsageError, WardroundError
from experiments.cli import data, federation, privacy, score
from experiments.cli.bench import bench_app

app = typer.Typer(
    name="wardround",
    help="Federated learning for hospitals: train together, keep the data, read how the model holds at each.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(data.app, name="data")
app.add_typer(federation.server_app, name="server")
app.add_typer(federation.client_app, name="client")
app.add_typer(privacy.app, name="privacy")
app.add_typer(bench_app, name="bench")
app.command("score")(score.score_command)

Settings = data.Settings


@app.callback()
def _options(debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False) -> None:
    if debug:
        os.environ["WARDROUND_DEBUG"] = "1"


@app.command()
def run(
    config: Annotated[Path, typer.Argument(help="A YAML file, such as experiments/synthetic.yaml.")],
    settings: Settings = None,
    root: Annotated[Path, typer.Option("--runs", help="Folder that holds run folders.")] = Path("runs"),
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only the run's folder.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print events as JSON lines.")] = False,
    sink: Annotated[list[str] | None, typer.Option("--sink", help="mlflow:PATH or tensorboard:PATH, also.")] = None,
    leave_one_out: Annotated[
        bool, typer.Option("--leave-one-out", help="Also leave each hospital out in turn; goes on where it stopped.")
    ] = False,
) -> None:
    """Train a federation and write its report."""
    from common import config as configuration
    from common.processes import interrupt_on_signals
    from experiments.cli import run_progress
    from experiments.runs import run as launch

    given = list(settings or [])
    wanted = configuration.load_config(config, given)
    if sink:
        given.append(f"report.sinks={json.dumps([*wanted.report.sinks, *sink])}")
        wanted = configuration.load_config(config, given)
    from rich.console import Console

    screen = Console(stderr=True) if sys.stderr.isatty() else Console(stderr=True, width=120)
    watcher = (
        run_progress.JsonPrinter()
        if as_json
        else run_progress.QuietPrinter()
        if quiet
        else run_progress.TerminalPrinter(screen)
    )
    try:
        with interrupt_on_signals():
            if leave_one_out:
                from experiments.runs import leave_one_out as leave_out
                from experiments.runs import series

                folder = leave_out.run_leave_one_out(
                    config, given, series.make_series_folder(config, root, "leave-one-out"), watcher
                )
            else:
                folder = launch.run_experiment(wanted, root, watcher)
    finally:
        watcher.close()
    if as_json:
        watcher.event({"event": "report", "folder": str(folder), "report": str(folder / "report.json")})
    elif quiet:
        typer.echo(folder)
    else:
        _show(folder)


@app.command()
def series(
    config: Annotated[Path, typer.Argument(help="A YAML file, such as experiments/eicu.yaml.")],
    over: Annotated[list[str], typer.Option("--over", help="What varies: seed=1,2,3 or sites.fold=0,1,2,3,4.")],
    settings: Settings = None,
    root: Annotated[Path, typer.Option("--runs", help="Folder that holds run folders.")] = Path("runs"),
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only the tables.")] = False,
) -> None:
    """Run one configuration several times, such as all folds, and say what the runs say together.

    Runs that are complete are not run again, so a series that was stopped goes on.
    """
    from rich.console import Console

    from common.processes import interrupt_on_signals
    from experiments.cli import run_progress
    from experiments.runs import series as several

    screen = Console(stderr=True) if sys.stderr.isatty() else Console(stderr=True, width=120)
    watcher = run_progress.QuietPrinter() if quiet else run_progress.TerminalPrinter(screen)
    folder = several.make_series_folder(config, root)
    try:
        with interrupt_on_signals():
            several.run_series(config, settings or [], several.Plan.of(over), folder, watcher)
    finally:
        watcher.close()
    typer.echo((folder / "series.md").read_text(encoding="utf-8"))


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="A run folder.")],
    show: Annotated[bool, typer.Option(help="Print the summary.")] = True,
) -> None:
    """Render a run's report again, from its report.json alone."""
    from common.errors import DataError

    if not (folder / "report.json").is_file() and not (folder / "run.json").is_file():
        raise DataError(f"{folder} is no run folder: it holds no report.json")
    if (folder / "report.json").is_file():
        from experiments.report import write

        write.render_report(folder)
    else:
        from experiments.runs import run as launch

        launch.write_report(folder)
    if show:
        _show(folder)


@app.command()
def compare(
    folders: Annotated[list[Path], typer.Argument(help="Run folders; the others are compared with the first.")],
    out: Annotated[Path | None, typer.Option("--out", help="Write compare.html, .md, .csv and .json there.")] = None,
    metric: Annotated[
        str | None, typer.Option("--metric", help="The figure of the table; else the first run's.")
    ] = None,
) -> None:
    """Put runs side by side, with paired intervals of their differences where they tested the same patients."""
    from rich.console import Console

    from common.errors import DataError
    from experiments.comparison import compare as comparing
    from experiments.comparison import output
    from experiments.report.text.formatting import METRICS

    if metric is not None and metric not in METRICS:
        raise UsageError(f"compare: --metric {metric!r} is none of {', '.join(METRICS)}")
    found = comparing.compare_runs(folders, metric)
    screen = Console() if sys.stdout.isatty() else Console(width=140)
    screen.print(output.render_terminal(found))
    if out is not None:
        try:
            files = output.write_comparison(found, out)
        except OSError as error:
            raise DataError(f"cannot write {out}: {error.strerror}") from None
        screen.print(f"comparison: {files[-1]}", soft_wrap=True, highlight=False)


def _show(folder: Path) -> None:
    from rich.console import Console

    from experiments.report.document import report as model
    from experiments.report.pages import tables

    screen = Console() if sys.stdout.isatty() else Console(width=110)
    screen.print(tables.render_terminal_summary(model.read_report(folder)))
    screen.print(f"report: {folder / 'report.html'}", soft_wrap=True, highlight=False)


@app.command()
def doctor() -> None:
    """Check what this machine has for each engine."""
    import shutil

    from common import run_folder

    for name, version in run_folder.installed_versions().items():
        typer.echo(f"{name:14} {version}")
    import torch

    typer.echo(f"{'device':14} {'cuda' if torch.cuda.is_available() else 'cpu'}, {os.cpu_count()} cores")
    typer.echo(f"{'engine local':14} ready")
    try:
        from experiments.engines.ray_runtime import require_ray

        require_ray()
        typer.echo(f"{'engine ray':14} ready")
    except UsageError as error:
        typer.echo(f"{'engine ray':14} {error}")
    from common.processes import find_command

    missing = [
        tool for tool in ("flower-superlink", "flower-supernode", "flwr") if not shutil.which(find_command(tool))
    ]
    state = f"missing programs: {', '.join(missing)}" if missing else "ready"
    typer.echo(f"{'engine federation':14} {state}")


def main() -> None:
    """Run the command line; one clear line for every error, exit code 2 for the user's."""
    try:
        left = app(prog_name="wardround", standalone_mode=False)
        if left == 130:  # how typer tells of Ctrl-C
            raise KeyboardInterrupt
        sys.exit(left if isinstance(left, int) else 0)
    except WardroundError as error:
        if os.environ.get("WARDROUND_DEBUG"):
            raise
        typer.echo(f"wardround: {error}", err=True)
        sys.exit(error.exit_code)
    except typer.Exit as leave:
        sys.exit(leave.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        typer.echo("wardround: stopped; what was done so far is in the run's folder", err=True)
        sys.exit(130)
    except Exception as error:
        import click

        if isinstance(error, click.exceptions.NoArgsIsHelpError):
            error.show()
            sys.exit(error.exit_code)
        if isinstance(error, click.ClickException):
            place = getattr(error, "ctx", None)
            command = place.command_path if place else "wardround"
            what = " ".join(error.format_message().split())
            typer.echo(f"wardround: {what} (see {command} --help)", err=True)
            sys.exit(error.exit_code)
        if os.environ.get("WARDROUND_DEBUG"):
            raise
        text = str(error).strip().splitlines()
        typer.echo(
            f"wardround: unexpected {type(error).__name__}: {text[0] if text else ''} "
            "(a bug: run again with --debug before the command for the traceback)",
            err=True,
        )
        sys.exit(1)
