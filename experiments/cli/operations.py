"""`wardround server status | nodes | renew` and `wardround client status`: look after what runs."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from experiments.cli.site import wrap_line

if TYPE_CHECKING:
    from server.run_list import RunStart

ServerState = Annotated[Path, typer.Option("--state", help="Folder of certificates, keys and the server's database.")]
ClientState = Annotated[Path, typer.Option("--state", help="The hospital's state folder, as for wardround client.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
MAX_RUNS = 10
"""Runs that `wardround server status` lists."""


def renew_command(
    state: ServerState = Path(".wardround/server"),
    name: Annotated[
        list[str] | None, typer.Option(help="Another name or address of the server; repeatable. Default: as before.")
    ] = None,
    days: Annotated[int, typer.Option(min=1, max=3650, help="Days that the new certificate is valid.")] = 397,
) -> None:
    """Make a new server certificate under the same authority: hospitals need nothing new."""
    from common.service_file import find_service
    from server.credentials import renew_credentials

    files = renew_credentials(state.resolve(), name or [], days=days)
    typer.echo(f"renewed {files.certificate} for {days} days; the old one is {files.certificate.name}.old")
    if find_service(state):
        typer.echo("restart the server, which uses the old one until then")


def server_status_command(state: ServerState = Path(".wardround/server"), as_json: Json = False) -> None:
    """Print whether the server runs, certificates, sites and the last runs; exit code 1 if it does not run."""
    from common.certificates import days_left, read_certificates
    from common.errors import ConfigError, WardroundError
    from common.service_file import find_service
    from server.credentials import Credentials
    from server.run_list import read_runs
    from server.superlink import Connection

    state = state.resolve()
    credentials = Credentials.in_folder(state)
    if not credentials.ca.is_file():
        raise ConfigError(f"no server in {state}: make one with wardround server init, or name its folder with --state")
    service = find_service(state)
    sites: dict[str, str] = {}
    if service is not None:
        try:
            sites = Connection(service.address, credentials.ca, state).nodes()
        except WardroundError as error:
            sites = {"": str(error)}
    status: dict[str, Any] = {
        "running": service is not None,
        "address": service.address if service else None,
        "process": service.pid if service else None,
        "metrics": (service.metrics or None) if service else None,
        "release": service.release if service else None,
        "started": _to_time(service.started) if service else None,
        "certificate_days": round(days_left(read_certificates(credentials.certificate)[0]), 1),
        "authority_days": round(days_left(read_certificates(credentials.ca)[0]), 1),
        "sites": sites,
        "runs": _describe_runs(read_runs(state))[-MAX_RUNS:],
    }
    if as_json:
        typer.echo(json.dumps(status, indent=1))
    else:
        _print_server(status)
    if service is None:
        raise typer.Exit(1)


def client_status_command(
    site: Annotated[str, typer.Option(help="The hospital's name; default: that of the running client.")] = "",
    state: ClientState = Path(".wardround/client"),
    as_json: Json = False,
) -> None:
    """Print whether the client runs, its last request, runs that wait and epsilon; exit code 1 if it does not run."""
    from client.gate.approvals import get_approval_file
    from client.gate.audit_log import AuditLog, get_audit_path
    from client.privacy.ledger import get_ledger_path, list_charges
    from common.errors import ConfigError
    from common.service_file import find_service

    service = find_service(state)
    owner = state / "site"
    name = site or (owner.read_text(encoding="utf-8").strip() if owner.is_file() else "")
    if not name:
        raise ConfigError(f"no client has used {state}: name its folder with --state")
    runs = state / "runs"
    entries, rows = _read_log(AuditLog(get_audit_path(runs, name))), list_charges(get_ledger_path(runs, name))
    status: dict[str, Any] = {
        "site": name,
        "running": service is not None,
        "server": service.address if service else None,
        "process": service.pid if service else None,
        "metrics": (service.metrics or None) if service else None,
        "release": service.release if service else None,
        "started": _to_time(service.started) if service else None,
        "log_lines": len(entries),
        "last": entries[-1] if entries else None,
        "pending": [each.name for each in get_approval_file(runs, name).read().values() if each.status == "pending"],
        "epsilon": rows[-1].epsilon if rows else 0.0,
    }
    if as_json:
        typer.echo(json.dumps(status, indent=1))
    else:
        _print_client(status)
    if service is None:
        raise typer.Exit(1)


def _read_log(log: Any) -> list[str]:
    """Return the lines of an audit log in words; none where there is none yet."""
    if not log.path.is_file():
        return []
    return [f"{entry.time[:19].replace('T', ' ')} UTC: {entry.describe()}" for entry in log.read()]


def _describe_runs(starts: list[RunStart]) -> list[dict[str, Any]]:
    """Return what became of each start; a start after which its run was resumed only states by which start."""
    last = {start.folder: start.run for start in starts}
    return [
        _describe_run(start) if last[start.folder] == start.run else _describe_superseded(start, last[start.folder])
        for start in starts
    ]


def _describe_superseded(start: RunStart, later: str) -> dict[str, Any]:
    """Return what is known of a start whose run went on as another one: its folder states the other's progress."""
    known = {"name": start.name, "run": start.run, "started": _to_time(start.time), "rounds": start.rounds}
    return {**known, "status": "resumed", "round": None, "resumed_as": later, "folder": start.folder}


def _describe_run(start: RunStart) -> dict[str, Any]:
    from experiments.monitoring.server_metrics import RunFollower

    follower = RunFollower(Path(start.folder))
    follower.update()
    return {
        "name": start.name,
        "run": start.run,
        "started": _to_time(start.time),
        "status": follower.status,
        "round": follower.rounds,
        "rounds": start.rounds,
        "folder": start.folder,
    }


def _print_server(status: dict[str, Any]) -> None:
    if status["running"]:
        typer.echo(f"runs on {status['address']} as process {status['process']} since {status['started']}")
        typer.echo(f"release {status['release']}")
        if status["metrics"]:
            typer.echo(f"metrics on http://{status['metrics']}/metrics")
    else:
        typer.echo("does not run")
    typer.echo(f"certificate: {status['certificate_days']:.0f} days left, authority: {status['authority_days']:.0f}")
    for site, what in status["sites"].items():
        typer.echo(f"site {site}: {what}" if site else wrap_line(what, "sites: "))
    for run in status["runs"]:
        progress = f"{run['status']}, round {run['round']} of {run['rounds']}"
        if run["round"] is None:
            progress = "broken off, and resumed by a later start"
        text = f"{run['name']}: {progress}, started {run['started']}"
        typer.echo(wrap_line(f"{text}, {run['folder']}", "run "))


def _print_client(status: dict[str, Any]) -> None:
    if status["running"]:
        typer.echo(f"{status['site']}: runs as process {status['process']} since {status['started']}")
        typer.echo(f"server {status['server']}, release {status['release']}")
        if status["metrics"]:
            typer.echo(f"metrics on http://{status['metrics']}/metrics")
    else:
        typer.echo(f"{status['site']}: does not run")
    if status["last"]:
        typer.echo(wrap_line(status["last"], f"last of {status['log_lines']} log lines: "))
    typer.echo(f"epsilon charged so far: {status['epsilon']:.4g}")
    if status["pending"]:
        typer.echo(f"waiting for approval: {', '.join(status['pending'])}")


def _to_time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
