"""What the gate writes into the audit log about one request: its admission or refusal, and what left.

A simulation writes none: its researcher holds all data. At a hospital nothing leaves that is not in the log: where it
cannot be written, the request is refused.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from client.gate.audit_entry import AuditEntry, AuditEvent
from client.gate.audit_log import AuditLog, get_audit_path
from client.gate.run_limits import measure_change
from client.privacy.ledger import TRAIN, count_charges, get_ledger_path, list_charges
from client.site_context import SiteContext
from common.config import fingerprint_config
from common.errors import DataError, SiteError, describe_unexpected
from common.private_evaluation import EVALUATED_SPLITS, EvaluatedSplit
from common.release import identify_release
from common.replies import Reply, TrainReply
from common.reply_arrays import name_arrays
from common.requests import Request, RequestKind, TrainRequest
from common.untrusted import clean_text

log = logging.getLogger("wardround.site")
UNWRITABLE = "this hospital cannot write its audit log, so it answers nothing: its own log says why"
PHASES: dict[EvaluatedSplit, RequestKind] = {"validation": "validate", "test": "test"}
"""The kind of request that evaluates each split's people."""
MAX_NAMED_ARRAYS = 200
"""Arrays of a reply that a line names; of further ones it states the number."""


def open_audit_log(context: SiteContext) -> AuditLog:
    """Return the audit log of a hospital's site, in its state folder.

    Raises:
        SiteError: the site has no state folder or no name.
    """
    if context.state is None or context.site is None:
        raise SiteError("this hospital keeps an audit log, but has no folder for it: give --state")
    return AuditLog(get_audit_path(context.state, context.site))


def append_entry(context: SiteContext, entry: AuditEntry) -> AuditEntry:
    """Write an entry into the site's audit log, and return it as written.

    Raises:
        SiteError: it cannot be written; its own log says why.
    """
    try:
        return open_audit_log(context).append(entry)
    except DataError as error:
        log.error("%s", error)
        raise SiteError(UNWRITABLE) from None


def record_unreadable(context: SiteContext, kind: str, error: Exception) -> None:
    """Write down that a message was refused because it is no request of this release.

    Raises:
        SiteError: the log cannot be written.
    """
    if not context.simulated:
        entry = AuditEntry("unreadable", kind=kind, reason=explain_error(error), release=identify_release())
        append_entry(context, replace(entry, server=context.server, server_run=context.server_run))


def explain_error(error: Exception) -> str:
    """Return why something failed, without a patient's value: of an unplanned error only its type and place."""
    return clean_text(str(error)) if isinstance(error, SiteError) else describe_unexpected(error)


@dataclass
class AuditTrail:
    """Writes the lines about one request.

    Attributes:
        context: the site's context.
        request: what is asked.
        admitted: number of the line that admitted it; 0 before.
    """

    context: SiteContext
    request: Request
    admitted: int = 0
    _start: float = field(default_factory=time.monotonic)
    _charged: dict[Path, int] = field(default_factory=dict)

    @contextmanager
    def record_errors(self, event: AuditEvent) -> Iterator[None]:
        """Write a line for an error in this block: `event`, or "refused" for a planned one that the server may read.

        Raises:
            SiteError: the log cannot be written.
        """
        try:
            yield
        except Exception as error:
            planned = isinstance(error, SiteError)
            self._append(AuditEntry("refused" if planned and event == "failed" else event, reason=explain_error(error)))
            raise

    def record_admission(self) -> None:
        """Write down that the request is worked on.

        Raises:
            SiteError: the log cannot be written.
        """
        for ledger in () if self.context.simulated else self._list_ledgers():
            with suppress(DataError):  # the work will say so
                self._charged[ledger] = count_charges(ledger)
        self.admitted = self._append(AuditEntry("admitted"))

    def record_release(self, reply: Reply) -> None:
        """Write down what is about to leave.

        Raises:
            SiteError: the log cannot be written.
        """
        if self.context.simulated:
            return
        arrays = name_arrays(reply)
        facts = [(name, value.dtype.name, value.shape, _measure_norm(value)) for name, value in arrays.items()]
        if len(facts) > MAX_NAMED_ARRAYS:
            rest = len(facts) - MAX_NAMED_ARRAYS
            facts = [*facts[:MAX_NAMED_ARRAYS], (f"and {rest} more", "", (), 0.0)]
        change = 0.0
        if isinstance(reply, TrainReply) and isinstance(self.request, TrainRequest):
            change = measure_change(self.request, reply)
        text = reply.report.to_json()
        self._append(
            AuditEntry(
                "released",
                arrays=tuple(facts),
                report=tuple(sorted(reply.report.to_dict())),
                size=len(text.encode()) + sum(value.nbytes for value in arrays.values()),
                change=_round_number(change),
            )
        )

    def _append(self, entry: AuditEntry) -> int:
        """Write an entry with all that is known of the request, and return its number; 0 in a simulation."""
        context, request = self.context, self.request
        if context.simulated:
            return 0
        charges: tuple[tuple[int, float, float, float], ...] = ()
        reason = entry.reason
        for ledger in self._list_ledgers() if self.admitted else ():
            try:
                rows = list_charges(ledger, self._charged.get(ledger, 0))
                charges += tuple((row.number, row.epsilon_run, row.epsilon, row.delta) for row in rows)
            except DataError:
                reason = f"{reason} (the privacy ledger cannot be read)".strip()
        entry = replace(
            entry,
            reason=reason,
            kind=request.kind,
            run=clean_text(getattr(request, "run_id", ""), 64),
            round=getattr(request, "round", 0),
            server=context.server,
            server_run=context.server_run,
            name=request.config.name,
            config=fingerprint_config(request.config),
            policy=hashlib.sha256(context.policy.model_dump_json().encode()).hexdigest()[:16],
            release=identify_release(),
            answers=self.admitted,
            charges=charges,
            seconds=round(time.monotonic() - self._start, 3) if self.admitted else 0.0,
        )
        return append_entry(context, entry).number

    def _list_ledgers(self) -> list[Path]:
        """Return the ledgers that the request may charge: of those who train, or of those whom it evaluates."""
        privacy, kind = self.request.config.privacy, self.request.kind
        splits = [TRAIN] if privacy.on else []
        if privacy.evaluation_on:
            splits += [split for split in EVALUATED_SPLITS if kind in ("handshake", PHASES[split])]
        return [get_ledger_path(self.context.state or Path(), self.context.site or "", split) for split in splits]


def _measure_norm(values: npt.NDArray[np.generic]) -> float:
    return _round_number(float(np.linalg.norm(values.astype(np.float64).ravel())))


def _round_number(value: float) -> float:
    """Return a number with six significant digits; one that is not finite becomes -1, which no norm is."""
    return float(f"{value:.6g}") if np.isfinite(value) else -1.0
