"""A hospital's approvals: which runs somebody there has allowed, for how long and how often.

A run is known by the fingerprint of its configuration (common/config.py): a changed configuration asks anew. An
approval holds for some days and for a number of runs, which are distinguished by their ids. One JSON file in the site's
state folder, readable by its owner alone; processes take turns by a lock.
"""

from __future__ import annotations

import getpass
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field, TypeAdapter, ValidationError

from client.gate.audit_entry import AuditEntry
from client.gate.audit_trail import append_entry
from client.site_context import SiteContext
from client.state_folder import get_site_folder
from common.config import RunConfig, config_from_json, config_to_json, fingerprint_config
from common.errors import ApprovalPending, ConfigError, DataError, SiteError
from common.file_lock import take_lock
from common.files import write_text
from common.messages import WAITS_FOR_APPROVAL
from common.release import identify_release
from common.requests import HandshakeRequest, Request
from common.settings import Section

MAX_PENDING = 50
"""Runs that may wait at a time: whoever may start runs could fill the disk otherwise."""
MAX_CONFIG_BYTES = 1 << 18
DAY_SECONDS = 24 * 3600.0
PENDING_SECONDS = 30 * DAY_SECONDS
"""Time after which a run that nobody decided on is forgotten."""
SHORTEST_PREFIX = 6
DEFAULT_DAYS = 7.0
Status = Literal["pending", "approved", "declined"]


class Approval(Section):
    """What is known of one configuration.

    Attributes:
        status: whether somebody decided, and how.
        name: the configuration's name.
        words: what it asks of the hospital, one sentence a line.
        config: the configuration, as JSON.
        server: the server that asked.
        requested: when it asked first, seconds since 1970.
        decided: when somebody decided; 0: nobody has.
        user: the operating system's user who decided.
        until: when the approval ends.
        runs: number of runs that it holds for.
        used: ids of the runs that have used it.
    """

    status: Status = "pending"
    name: str
    words: tuple[str, ...] = ()
    config: str = ""
    server: str = ""
    requested: float = 0.0
    decided: float = 0.0
    user: str = ""
    until: float = 0.0
    runs: int = Field(1, ge=1)
    used: tuple[str, ...] = ()

    def covers(self, run: str, now: float, days: float) -> bool:
        """Return whether a run may go on under this approval.

        Args:
            run: its id.
            now: seconds since 1970.
            days: the longest time that the policy lets an approval hold.
        """
        end = min(self.until, self.decided + days * DAY_SECONDS)
        return self.status == "approved" and now < end and (run in self.used or len(self.used) < self.runs)


_FILE: TypeAdapter[dict[str, Approval]] = TypeAdapter(dict[str, Approval])
Approvals = Mapping[str, Approval]
"""What is known, by fingerprint."""


@dataclass(frozen=True)
class ApprovalFile:
    """The file of a site's approvals.

    Attributes:
        path: the file; made when the first run asks.
    """

    path: Path

    def read(self) -> dict[str, Approval]:
        """Return what is known, by fingerprint; the run that asked first comes first.

        Raises:
            DataError: the file is damaged.
        """
        try:
            approvals_by_fingerprint = _FILE.validate_json(self.path.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValidationError):
            raise DataError(f"{self.path} is damaged: restore it, or move it away to have every run ask anew") from None
        return dict(sorted(approvals_by_fingerprint.items(), key=lambda item: item[1].requested))

    @contextmanager
    def change(self) -> Iterator[dict[str, Approval]]:
        """Yield what is known, and write what became of it.

        Raises:
            DataError: the file is damaged or cannot be written.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = os.open(self.path.with_name(self.path.name + ".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise DataError(f"cannot write {self.path}: {error.strerror}") from None
        try:
            take_lock(lock)
            before = self.read()
            known = dict(before)
            yield known
            if known != before:
                write_text(self.path, _FILE.dump_json(known, indent=1).decode(), durable=True)
                self.path.chmod(0o600)
        except OSError as error:
            raise DataError(f"cannot write {self.path}: {error.strerror}") from None
        finally:
            os.close(lock)

    def find(self, prefix: str) -> str:
        """Return the fingerprint that starts with some hex digits.

        Raises:
            ConfigError: none does, or several.
        """
        matches = [fingerprint for fingerprint in self.read() if fingerprint.startswith(prefix)]
        if len(prefix) < SHORTEST_PREFIX or len(matches) != 1:
            count = "none" if not matches else f"{len(matches)}"
            raise ConfigError(
                f"{count} of the runs here has a configuration {prefix!r}: give at least {SHORTEST_PREFIX} digits of "
                "one that wardround site pending lists"
            )
        return matches[0]


def get_approval_file(state: Path, site: str) -> ApprovalFile:
    """Return the file of a site's approvals in its state folder."""
    return ApprovalFile(get_site_folder(state, site) / "approvals.json")


def check_approval(context: SiteContext, request: Request, run: str, now: float | None = None) -> None:
    """Refuse a run that nobody has approved, where the policy asks for it; it then waits for a decision.

    A handshake uses no approval up: the run may still fail to start.

    Raises:
        ApprovalPending: nobody has decided, or the approval ended or was used by other runs.
        SiteError: somebody declined the run.
        DataError: the approvals cannot be read or written.
    """
    if context.policy.approval == "none":
        return
    if context.state is None or context.site is None:
        raise SiteError("this hospital's approvals need a folder: give --state")
    now = time.time() if now is None else now
    fingerprint = fingerprint_config(request.config)
    with get_approval_file(context.state, context.site).change() as known:
        approval = known.get(fingerprint)
        if approval is not None and approval.status == "declined":
            raise SiteError("policy: somebody at this hospital has declined this run")
        if approval is not None and approval.covers(run, now, context.policy.approval_days):
            _check_bins(request.config, approval)
            if not isinstance(request, HandshakeRequest) and run not in approval.used:
                known[fingerprint] = approval.model_copy(update={"used": (*approval.used, run)})
            return
        if approval is None or approval.status != "pending":
            _drop_old(known, now)
            known[fingerprint] = _build_pending(context, request.config, known, now)
    raise ApprovalPending(
        f"{WAITS_FOR_APPROVAL}: somebody at this hospital must approve the configuration {fingerprint[:12]}"
    )


def _check_bins(config: RunConfig, approval: Approval) -> None:
    """Refuse more bins than were approved; fewer are the same run, since servers lower them to what hospitals send."""
    approved = config_from_json(approval.config).evaluation.bins
    if config.evaluation.bins > approved:
        raise SiteError(f"policy: evaluation.bins={config.evaluation.bins} is above the {approved} approved here")


def decide(
    context: SiteContext,
    fingerprint: str,
    approve: bool,
    *,
    days: float = DEFAULT_DAYS,
    runs: int = 1,
    reason: str = "",
) -> Approval:
    """Write down a decision on a run, in the approvals and in the audit log, and return it.

    Args:
        context: the site's context.
        fingerprint: of the configuration.
        approve: whether it may run.
        days: how long the approval holds.
        runs: how many runs it holds for.
        reason: for the audit log.

    Raises:
        DataError: the approvals cannot be written.
        SiteError: the audit log cannot be written; nothing is decided then.
    """
    assert context.state is not None
    assert context.site is not None
    now, user = time.time(), getpass.getuser()
    with get_approval_file(context.state, context.site).change() as known:
        decided = known[fingerprint].model_copy(
            update={
                "status": "approved" if approve else "declined",
                "decided": now,
                "user": user,
                "until": now + days * DAY_SECONDS if approve else 0.0,
                "runs": runs,
                "used": (),
            }
        )
        terms = f"for {days:g} days and {runs} runs" if approve else ""
        append_entry(
            context,
            AuditEntry(
                "approved" if approve else "declined",
                name=decided.name,
                config=fingerprint,
                server=decided.server,
                user=user,
                reason="; ".join(filter(None, (terms, reason))),
                release=identify_release(),
            ),
        )
        known[fingerprint] = decided
    return decided


def _build_pending(context: SiteContext, config: RunConfig, known: Approvals, now: float) -> Approval:
    from client.gate.run_words import describe_run  # with torch, which a decision does not need

    text = config_to_json(config)
    if len(text) > MAX_CONFIG_BYTES:
        raise SiteError(f"policy: a configuration of {len(text)} bytes is too long for anybody to approve")
    if sum(other.status == "pending" for other in known.values()) >= MAX_PENDING:
        raise SiteError(f"policy: {MAX_PENDING} runs already wait for this hospital's approval")
    return Approval(
        name=config.name, words=tuple(describe_run(context, config)), config=text, server=context.server, requested=now
    )


def _drop_old(known: dict[str, Approval], now: float) -> None:
    """Forget runs that nobody decided on for a long time, and approvals that ended as long ago."""
    for fingerprint, approval in list(known.items()):
        last = {"pending": approval.requested, "approved": approval.until, "declined": now}[approval.status]
        if now - last > PENDING_SECONDS:
            del known[fingerprint]
