"""One line of a hospital's audit log: who asked for what, what was decided and why, and what left.

A line describes what left by names, shapes, sizes and norms. It holds no value of a patient: of an error only the text
that the server may read (common/errors.py, SiteError), else its type.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from common.errors import DataError

AuditEvent = Literal[
    "opened", "admitted", "refused", "released", "withheld", "failed", "unreadable", "approved", "declined"
]
INITIAL_HASH = "0" * 64
"""What stands for the hash of the line before the first."""
EVENT_WORDS: Mapping[str, str] = {
    "opened": "log opened",
    "admitted": "request admitted",
    "refused": "request refused",
    "released": "reply released",
    "withheld": "reply withheld",
    "failed": "work failed, nothing left",
    "unreadable": "request not understood, refused",
    "approved": "run approved",
    "declined": "run declined",
}


@dataclass(frozen=True)
class AuditEntry:
    """What one line of the log says; fields that are empty do not stand in the line.

    Attributes:
        event: what happened.
        kind: the kind of request.
        run: the run's id, 32 hex digits.
        round: the round; 0 before the first.
        server: the server that this hospital is connected to, HOST:PORT.
        server_run: the server's own number of the run.
        name: the configuration's name.
        config: fingerprint of the configuration (common/config.py).
        policy: 16 hex digits of the policy that was in force.
        release: the program's release (common/release.py).
        answers: number of the line of the request that this line concludes.
        reason: why.
        arrays: what left: name, type, shape and Euclidean norm of each array.
        report: what left: keys of the reply's JSON part.
        size: bytes of arrays and JSON that left.
        change: Euclidean distance of an update from the weights that were sent.
        charges: what the privacy ledger was charged meanwhile: number of the charge, epsilon of the run so far, epsilon
            of all runs so far, delta.
        seconds: from the request to this line.
        user: the operating system's user who decided.
        number: of the line, from 1; set when it is written.
        time: when it was written, ISO 8601 in UTC.
        previous: hash of the line before.
        hash: of this line.
    """

    event: AuditEvent
    kind: str = ""
    run: str = ""
    round: int = 0
    server: str = ""
    server_run: str = ""
    name: str = ""
    config: str = ""
    policy: str = ""
    release: str = ""
    answers: int = 0
    reason: str = ""
    arrays: tuple[tuple[str, str, tuple[int, ...], float], ...] = ()
    report: tuple[str, ...] = ()
    size: int = 0
    change: float = 0.0
    charges: tuple[tuple[int, float, float, float], ...] = ()
    seconds: float = 0.0
    user: str = ""
    number: int = 0
    time: str = ""
    previous: str = INITIAL_HASH
    hash: str = ""

    def digest(self) -> str:
        """Return the line's hash: SHA-256 of all that it says, the hash of the line before included."""
        return hashlib.sha256(self._to_json(without="hash").encode()).hexdigest()

    def to_line(self) -> bytes:
        """Return the line as it stands in the file, with its end."""
        return self._to_json().encode() + b"\n"

    def _to_json(self, without: str = "") -> str:
        defaults = {item.name: item.default for item in fields(self)}
        content = {
            key: value
            for key, value in asdict(self).items()
            if key != without and (key in ("event", "number", "previous") or value != defaults[key])
        }
        return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)

    @classmethod
    def from_line(cls, line: bytes) -> AuditEntry:
        """Return the entry that a line of the audit log holds.

        Raises:
            DataError: it is no line that `to_line` wrote.
        """
        try:
            content: Any = {key: _to_tuples(value) for key, value in json.loads(line).items()}
            entry = cls(**content)
            same = entry.event in get_args(AuditEvent) and entry.to_line() == line.rstrip(b"\n") + b"\n"
        except (ValueError, TypeError, AttributeError, RecursionError):
            same = False
        if not same:
            raise DataError("it is no line of this log")
        return entry

    def describe(self) -> str:
        """Return the line in words, without its number and time."""
        parts = [EVENT_WORDS[self.event]]
        if self.kind:
            parts.append(self.kind + (f" of round {self.round}" if self.round else ""))
        if self.answers:
            parts.append(f"on line {self.answers}")
        if self.name:
            parts.append(f"run {self.run[:8] or 'without id'} ({self.name}, configuration {self.config[:12]})")
        if self.server and not self.answers:
            parts.append(f"asked by {self.server} as its run {self.server_run or 'without number'}")
        if self.event == "released":
            parts.append(self._describe_content())
        for number, epsilon_run, epsilon, delta in self.charges:
            parts.append(
                f"charge {number}: epsilon {epsilon_run:.4g} of the run, {epsilon:.4g} of all at delta {delta:g}"
            )
        if self.user:
            parts.append(f"by {self.user}")
        if self.seconds:
            parts.append(f"{self.seconds:.3g} s")
        if self.reason:
            parts.append(f"reason: {self.reason}")
        return "; ".join(parts)

    def _describe_content(self) -> str:
        parts = [f"{self.size} bytes", f"report ({', '.join(self.report)})"]
        if self.arrays:
            names = ", ".join(f"{name} {'x'.join(map(str, shape)) or '1'}" for name, _, shape, _ in self.arrays)
            parts.append(f"{len(self.arrays)} arrays ({names})")
        if self.change:
            parts.append(f"changed by {self.change:.4g}")
        return ", ".join(parts)


def _to_tuples(value: object) -> object:
    return tuple(_to_tuples(item) for item in value) if isinstance(value, list) else value
