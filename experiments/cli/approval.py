"""`wardround site pending | approve | refuse`: decide on the runs that ask a hospital."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from experiments.cli.site import SiteName, StateFolder, wrap_line

if TYPE_CHECKING:
    from client.gate.approvals import Approval
    from client.site_context import SiteContext

Fingerprint = Annotated[str, typer.Argument(help="The first digits of the configuration, as pending prints them.")]
Reason = Annotated[str, typer.Option(help="For the audit log; it is not sent.")]


def pending_command(
    site: SiteName,
    state: StateFolder,
    everything: Annotated[bool, typer.Option("--all", help="Also runs that were decided on.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Print the runs that wait for this hospital's approval: what they train, spend and send."""
    from client.gate.approvals import get_approval_file

    known = get_approval_file(state / "runs", site).read()
    chosen = {key: each for key, each in known.items() if everything or each.status == "pending"}
    if as_json:
        typer.echo(json.dumps({key: _to_json(each) for key, each in chosen.items()}, indent=1))
        return
    if not chosen:
        typer.echo("no run waits for approval")
    for fingerprint, each in chosen.items():
        typer.echo(wrap_line(f"{each.name}: {describe_status(each)}", f"{fingerprint[:12]}  "))
        for line in each.words:
            typer.echo(wrap_line(line, "  - "))
    if chosen and (spent := _describe_budget(site, state)):
        typer.echo(wrap_line(spent, ""))


def approve_command(
    fingerprint: Fingerprint,
    site: SiteName,
    state: StateFolder,
    days: Annotated[float, typer.Option(min=0.01, max=366, help="Days that the approval holds.")] = 7.0,
    runs: Annotated[int, typer.Option(min=1, help="Runs of this configuration that it holds for.")] = 1,
    reason: Reason = "",
) -> None:
    """Let a run take place, for some days; a policy's approval_days may make it fewer."""
    from client.gate.approvals import decide, get_approval_file

    whole = get_approval_file(state / "runs", site).find(fingerprint)
    approval = decide(_open_context(site, state), whole, True, days=days, runs=runs, reason=reason)
    typer.echo(f"{whole[:12]}  {approval.name}: {describe_status(approval)}")


def refuse_command(fingerprint: Fingerprint, site: SiteName, state: StateFolder, reason: Reason = "") -> None:
    """Refuse a run, even if it was approved before. It stays refused until somebody approves it."""
    from client.gate.approvals import decide, get_approval_file

    whole = get_approval_file(state / "runs", site).find(fingerprint)
    approval = decide(_open_context(site, state), whole, False, reason=reason)
    typer.echo(f"{whole[:12]}  {approval.name}: {describe_status(approval)}")


def describe_status(approval: Approval) -> str:
    """Return in words whether a run waits or was decided on, and until when that holds."""
    if approval.status == "pending":
        return f"waits since {_format_time(approval.requested)}" + (
            f", asked by {approval.server}" if approval.server else ""
        )
    decided = f"{approval.status} by {approval.user} on {_format_time(approval.decided)}"
    if approval.status == "declined":
        return decided
    return f"{decided}, until {_format_time(approval.until)}, used by {len(approval.used)} of {approval.runs} runs"


def _describe_budget(site: str, state: Path) -> str:
    """Return what the privacy ledgers were charged so far; empty if nothing was."""
    from client.privacy.ledger import LEDGER_SPLITS, get_ledger_path, list_charges

    ledgers = {split: list_charges(get_ledger_path(state / "runs", site, split)) for split in LEDGER_SPLITS}
    spent = [
        f"epsilon {rows[-1].epsilon:.4g} at delta {rows[-1].delta:g} ({split} patients)"
        for split, rows in ledgers.items()
        if rows
    ]
    return f"Charged here so far, by all private runs together: {', '.join(spent)}." if spent else ""


def _to_json(approval: Approval) -> dict[str, object]:
    content = approval.model_dump(mode="json")
    return {**content, "config": json.loads(approval.config) if approval.config else None}


def _format_time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _open_context(site: str, state: Path) -> SiteContext:
    from client.policy import SitePolicy
    from client.site_context import SiteContext

    return SiteContext(SitePolicy(), site=site, data=state, state=state / "runs")
