"""`wardround audit`: the audit log of a hospital, in words, and whether it is intact."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from experiments.cli.site import wrap_line

if TYPE_CHECKING:
    from client.gate.audit_log import AuditLog

app = typer.Typer(help="At a hospital: what was asked, what was decided, what left.", no_args_is_help=True)
SiteName = Annotated[str, typer.Option("--site", help="The hospital's name.")]
StateFolder = Annotated[Path, typer.Option("--state", help="The hospital's state folder, as for wardround client.")]
LogFile = Annotated[Path | None, typer.Option("--path", help="The log file itself, instead of --site and --state.")]


@app.command("show")
def show_command(
    site: SiteName = "",
    state: StateFolder = Path(".wardround/client"),
    path: LogFile = None,
    run: Annotated[str, typer.Option(help="Only of this run: the start of its id, or its name.")] = "",
    last: Annotated[int, typer.Option(min=0, help="Only so many last lines; 0: all.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the lines as they stand in the file.")] = False,
) -> None:
    """Print the audit log in words, after checking that no line was changed or removed."""
    entries = _open_log(site, state, path).read()
    if run:
        entries = [entry for entry in entries if entry.run.startswith(run) or entry.name == run]
    for entry in entries[-last:]:
        if as_json:
            typer.echo(entry.to_line().decode(), nl=False)
        else:
            time = entry.time.replace("T", " ").replace("+00:00", "Z")
            typer.echo(wrap_line(entry.describe(), f"{entry.number:5} {time} "))


@app.command("verify")
def verify_command(
    site: SiteName = "",
    state: StateFolder = Path(".wardround/client"),
    path: LogFile = None,
    noted: Annotated[
        str, typer.Option("--noted", help="NUMBER:HASH of a last line that was printed earlier and noted elsewhere.")
    ] = "",
) -> None:
    """Check the audit log; name the line that was changed, moved, removed or cut off."""
    from client.gate.audit_entry import AuditEntry
    from client.gate.audit_log import Head
    from common.errors import DataError

    log = _open_log(site, state, path)
    if not log.path.is_file() and not log.head.is_file():
        log.read()
    entries: list[AuditEntry] = []
    if fault := log.find_fault(entries, Head.from_text(noted) if noted else None):
        raise DataError(f"the audit log {log.path} is not intact: {fault}")
    last = f"; the last is {entries[-1].number}:{entries[-1].hash}" if entries else ""
    typer.echo(f"{log.path}: {len(entries)} lines, none changed, moved or removed{last}")


def _open_log(site: str, state: Path, path: Path | None) -> AuditLog:
    from client.gate.audit_log import AuditLog, get_audit_path
    from common.errors import ConfigError

    if path is None and not site:
        raise ConfigError("wardround audit needs --site NAME or --path FILE")
    return AuditLog(path if path is not None else get_audit_path(state / "runs", site))
