"""`wardround doctor`: checks of this machine, of a hospital's node, of a coordinator's server, and of a run."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from experiments.cli.site import wrap_line

if TYPE_CHECKING:
    from experiments.doctor.checks import Check


def doctor_command(
    site: Annotated[str, typer.Option(help="Check the node of this hospital, with the options below.")] = "",
    data: Annotated[Path | None, typer.Option(help="The hospital's data folder; with --run it is opened.")] = None,
    superlink: Annotated[str, typer.Option(help="HOST:PORT of the server.")] = "",
    ca: Annotated[Path, typer.Option(help="The authority's certificate from the coordinator.")] = Path("ca.pem"),
    key: Annotated[Path, typer.Option(help="The hospital's node key.")] = Path(".wardround/node.key"),
    policy: Annotated[Path | None, typer.Option(help="The hospital's policy.")] = None,
    state: Annotated[Path, typer.Option(help="The hospital's state folder.")] = Path(".wardround/client"),
    server: Annotated[Path | None, typer.Option(help="Check the coordinator's server with this state folder.")] = None,
    run: Annotated[Path | None, typer.Option(help="Check this run: a YAML file or an experiment's name.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="Override a setting of the run.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Check what a federation needs, and say what to do; exit code 1 if a check fails.

    Without options this machine is checked. A check prints `ok`, `warn` or `fail`.
    """
    checks = _collect_checks(site, data, superlink, ca, key, policy, state, server, run, settings or [])
    failed = [check for check in checks if check.level == "fail"]
    if as_json:
        typer.echo(json.dumps({"ok": not failed, "checks": [asdict(check) for check in checks]}, indent=1))
    else:
        width = max(len(check.topic) for check in checks)
        for check in checks:
            text = f"{check.finding}: {check.advice}" if check.advice else check.finding
            typer.echo(wrap_line(text, f"{check.level:4}  {check.topic:{width}}  "))
        warned = sum(check.level == "warn" for check in checks)
        typer.echo(f"{len(checks)} checks: {len(failed)} failed, {warned} warnings")
    if failed:
        raise typer.Exit(1)


def _collect_checks(
    site: str,
    data: Path | None,
    superlink: str,
    ca: Path,
    key: Path,
    policy: Path | None,
    state: Path,
    server: Path | None,
    run: Path | None,
    settings: list[str],
) -> list[Check]:
    from common.config import load_config
    from common.errors import ConfigError
    from experiments.doctor.coordinator import check_coordinator
    from experiments.doctor.experiment import check_experiment
    from experiments.doctor.hospital import Hospital, check_hospital
    from experiments.doctor.machine import check_machine
    from experiments.runs.experiment_files import find_experiment

    if not site and (data is not None or superlink or policy is not None):
        raise ConfigError("wardround doctor: --data, --superlink and --policy are of a hospital: add --site NAME")
    config = None if run is None else load_config(find_experiment(run), settings)
    checks = check_machine(state if site else server or Path("runs"))
    if site:
        checks += check_hospital(Hospital(site, data, superlink, ca, key, policy, state), config)
    if server is not None:
        checks += check_coordinator(server, config)
    if config is not None:
        checks += check_experiment(config)
    return checks
