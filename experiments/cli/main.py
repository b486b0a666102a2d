"""The `wardround` command. Each command imports what it needs when it is called, so that --help answers at once."""

from __future__ import annotations

import errno
import json
import os
import re
import sys
from pathlib import Path
from typing import Annotated

import typer

from common.errors import StoppedError, UsageError, WardroundError, describe_unexpected
from experiments.cli import (
    approval,
    audit,
    bench,
    canary,
    data,
    doctor,
    evaluate,
    export,
    federation,
    monitor,
    new,
    operations,
    privacy,
    proxy,
    reports,
    score,
    site,
)
from experiments.cli.interrupts import explain_interrupts
from experiments.cli.report_summary import print_summary

app = typer.Typer(
    name="wardround",
    help="Federated learning for hospitals: train a model together, keep the data, see how it performs at each.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(data.app, name="data")
federation.server_app.command("status")(operations.server_status_command)
federation.server_app.command("renew")(operations.renew_command)
federation.server_app.command("proxy")(proxy.proxy_command)
federation.client_app.command("status")(operations.client_status_command)
app.add_typer(federation.server_app, name="server")
app.add_typer(federation.client_app, name="client")
app.add_typer(privacy.app, name="privacy")
site.app.command("pending")(approval.pending_command)
site.app.command("approve")(approval.approve_command)
site.app.command("refuse")(approval.refuse_command)
app.add_typer(site.app, name="site")
app.add_typer(audit.app, name="audit")
app.add_typer(bench.app, name="bench")
app.add_typer(monitor.app, name="monitor")
app.command("score")(score.score_command)
app.command("evaluate")(evaluate.evaluate_command)
app.command("export")(export.export_command)
app.command("doctor")(doctor.doctor_command)
app.command("canary")(canary.canary_command)
app.command("reports")(reports.reports_command)
app.command("new")(new.new_command)

Settings = data.Settings
Config = Annotated[Path, typer.Argument(help="A YAML file, or the name of an experiment, such as synthetic.")]
OptionalConfig = Annotated[
    Path | None, typer.Argument(help="A YAML file, or the name of an experiment, such as synthetic.")
]
Runs = Annotated[Path, typer.Option("--runs", help="The folder of all run folders.")]

DISK_ERRORS = (
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EIO, errno.EACCES, errno.EPERM, errno.EISDIR,
    errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EMFILE, errno.ENFILE,
)  # fmt: skip
"""Errors of disks and folders: not the program's fault, so reported with the file and without the word bug."""
_SHORT_WRITE = re.compile(r"\d+ requested and \d+ written")
"""What numpy says, without a number of the error, if the disk is full."""


def print_version(wanted: bool) -> None:
    """Print the installed version and end, where it is asked for."""
    if wanted:
        from importlib.metadata import version

        typer.echo(f"wardround {version('wardround')}")
        raise typer.Exit


@app.callback()
def set_options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    """Apply the options that stand before a command."""
    if debug:
        os.environ["WARDROUND_DEBUG"] = "1"


@app.command("run")
def run_command(
    config: OptionalConfig = None,
    settings: Settings = None,
    root: Runs = Path("runs"),
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only the run's folder.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print events as JSON lines.")] = False,
    sink: Annotated[
        list[str] | None, typer.Option("--sink", help="Also log figures to mlflow:PATH or tensorboard:PATH.")
    ] = None,
    resume: Annotated[
        Path | None, typer.Option("--resume", help="A run folder: go on after its last complete round.")
    ] = None,
    leave_one_out: Annotated[
        bool,
        typer.Option("--leave-one-out", help="Also train once without each hospital; resumes where it was stopped."),
    ] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Show the run while it works, on a page that only this machine can open.")
    ] = False,
    watch_port: Annotated[
        int, typer.Option("--watch-port", min=0, max=65535, help="Port of that page; 0: any that is free.")
    ] = 0,
) -> None:
    """Train a federation and write its report."""
    from common.config import load_config
    from common.run_folder import RunFolder
    from experiments.cli.live import watch_if_wanted
    from experiments.cli.run_progress import RunPrinter, choose_printer
    from experiments.runs.experiment_files import find_experiment
    from experiments.runs.leave_one_out import run_leave_one_out
    from experiments.runs.run import resume_experiment, run_experiment
    from experiments.runs.series import make_series_folder

    if resume is not None and leave_one_out:
        raise UsageError("--resume: --leave-one-out goes on by itself where it was stopped")
    if config is None and resume is None:
        raise UsageError("run: name a configuration, such as synthetic, or a run folder with --resume")
    overrides = list(settings or [])
    source = find_experiment(config) if config is not None else RunFolder(resume or Path()).config
    loaded = load_config(source, overrides) if config is not None or overrides or sink else None
    if sink and loaded is not None:
        overrides.append(f"report.sinks={json.dumps([*loaded.report.sinks, *sink])}")
        loaded = load_config(source, overrides)
    printer = choose_printer(RunPrinter, quiet=quiet, as_json=as_json)
    with explain_interrupts(printer), watch_if_wanted(printer, watch or watch_port > 0, watch_port) as watcher:
        if resume is not None:
            folder = resume_experiment(resume, watcher, loaded)
        elif leave_one_out:
            series_folder = make_series_folder(source, root, "leave-one-out")
            folder = run_leave_one_out(source, overrides, series_folder, watcher)
        else:
            assert loaded is not None
            folder = run_experiment(loaded, root, watcher)
    if as_json:
        printer.handle({"event": "report", "folder": str(folder), "report": str(RunFolder(folder).report)})
    elif quiet:
        typer.echo(folder)
    else:
        print_summary(folder)


@app.command("series")
def series_command(
    config: Config,
    over: Annotated[list[str], typer.Option("--over", help="What varies: seed=1,2,3 or sites.fold=0,1,2,3,4.")],
    settings: Settings = None,
    root: Runs = Path("runs"),
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only the tables.")] = False,
) -> None:
    """Run one configuration several times, such as all folds, and summarise the runs.

    Complete runs are not repeated, and the same command goes on with a series that was stopped, after the last
    complete round.
    """
    from common.config import load_config
    from experiments.cli.run_progress import RunPrinter, choose_printer
    from experiments.runs.experiment_files import find_experiment
    from experiments.runs.series import Plan, make_series_folder, run_series

    config, plan = find_experiment(config), Plan.from_texts(over)
    load_config(config, settings or [])
    printer = choose_printer(RunPrinter, quiet=quiet)
    folder = make_series_folder(config, root)
    with explain_interrupts(printer):
        run_series(config, settings or [], plan, folder, printer)
    typer.echo((folder / "series.md").read_text(encoding="utf-8"))


@app.command("report")
def report_command(
    folder: Annotated[Path, typer.Argument(help="A run folder.")],
    show: Annotated[bool, typer.Option(help="Print the summary.")] = True,
) -> None:
    """Render a run's report again, from its report.json alone."""
    from common.errors import DataError
    from common.run_folder import RunFolder

    if RunFolder(folder).report.is_file():
        from experiments.report.write import render_report

        render_report(folder)
    elif RunFolder(folder).about.is_file():
        from experiments.runs.run import write_run_report

        write_run_report(folder)
    else:
        raise DataError(f"{folder} is no run folder: it holds no report.json")
    if show:
        print_summary(folder)


@app.command("compare")
def compare_command(
    folders: Annotated[list[Path], typer.Argument(help="Run folders; the others are compared with the first.")],
    out: Annotated[Path | None, typer.Option("--out", help="Folder for compare.html, .md, .csv and .json.")] = None,
    metric: Annotated[
        str | None, typer.Option("--metric", help="The metric of the table; default: the first run's.")
    ] = None,
) -> None:
    """Compare runs, with paired intervals of their differences where they tested the same patients."""
    from common.errors import DataError
    from experiments.cli.run_progress import open_console
    from experiments.comparison.compare import compare_runs
    from experiments.comparison.output import render_terminal, write_comparison
    from experiments.report.text.formatting import METRICS

    if metric is not None and metric not in METRICS:
        raise UsageError(f"compare: no metric named {metric!r}: choose one of {', '.join(METRICS)}")
    comparison = compare_runs(folders, metric)
    console = open_console(width=140)
    console.print(render_terminal(comparison))
    if out is not None:
        try:
            files = write_comparison(comparison, out)
        except OSError as error:
            raise DataError(f"cannot write {out}: {error.strerror}") from None
        console.print(f"comparison: {files[-1]}", soft_wrap=True, highlight=False)


def main() -> None:
    """Run the command line: one line for each error; exit code 2 where the user can correct it, 130 for Ctrl-C."""
    try:
        result = app(prog_name="wardround", standalone_mode=False)
        if result == 130:  # what typer returns after Ctrl-C
            raise KeyboardInterrupt
        sys.exit(result if isinstance(result, int) else 0)
    except typer.Exit as stop:
        sys.exit(stop.exit_code)
    except BrokenPipeError:  # the reader of standard output has ended, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (KeyboardInterrupt, typer.Abort):
        typer.echo("wardround: stopped; what was done so far is in the run's folder", err=True)
        sys.exit(130)
    except Exception as error:
        if os.environ.get("WARDROUND_DEBUG") and not isinstance(error, StoppedError) and not _is_usage_error(error):
            raise
        _report_error(error)


def _is_usage_error(error: Exception) -> bool:
    import click

    return isinstance(error, click.ClickException)


def _report_error(error: Exception) -> None:
    """Print one line about an error, and end the process with its exit code."""
    import click

    if isinstance(error, WardroundError):
        text, code = str(error), error.exit_code
    elif isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()
        sys.exit(error.exit_code)
    elif isinstance(error, click.ClickException):
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "wardround"
        text, code = f"{_without_repeats(error.format_message())} (see {command} --help)", error.exit_code
    elif isinstance(error, OSError) and (error.errno in DISK_ERRORS or _SHORT_WRITE.fullmatch(str(error))):
        where = f"cannot write or read {error.filename}" if error.filename else "cannot write or read a file"
        reason = error.strerror or os.strerror(errno.ENOSPC)
        text, code = f"{where}: {reason}; free the disk or choose another folder, then run again", 2
    else:
        text, code = f"unexpected {describe_unexpected(error)} (a bug: run again with --debug before the command ", 1
        text += "for the traceback, which may quote patients' values)"
    notes = "".join(f"; {note}" for note in getattr(error, "__notes__", ()))
    typer.echo(f"wardround: {text}{notes}", err=True)
    sys.exit(code)


def _without_repeats(text: str) -> str:
    """Return a message on one line, with the hint that typer and click both append only once.

    >>> _without_repeats("No such command 'rum'. Did you mean 'run'? Did you mean 'run'?")
    "No such command 'rum'. Did you mean 'run'?"
    """
    return re.sub(r"(Did you mean [^?]*\?)(?: \1)+", r"\1", " ".join(text.split()))
