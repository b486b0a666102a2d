"""The audit log of a hospital: what was asked, what was decided and what left, in an append-only file of its own.

One line of JSON for each entry (audit_entry.py), written to the disk before the reply that it describes leaves. Each
line holds the hash of the line before; a second file (`.head`) repeats the number and hash of the last line. Both are
readable by their owner alone. Processes take turns by a lock on the file.

Tampering: `find_fault` names the line that was changed, removed, inserted or put elsewhere, and lines cut off at the
end. Someone who rewrites the whole chain and the second file is not detected, unless the hospital noted the last line's
number and hash elsewhere (`wardround audit verify` prints them, and compares with earlier ones).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from client.gate.audit_entry import INITIAL_HASH, AuditEntry
from client.state_folder import get_site_folder
from common.errors import DataError
from common.file_lock import take_lock
from common.files import write_atomically

AUDIT_FORMAT = "wardround.audit/1"
_PIECE = 1 << 16
"""Bytes that are read at a time in search of the last line's start."""


@dataclass(frozen=True)
class Head:
    """The last line, as the second file repeats it.

    Attributes:
        number: of the line; 0: there is none.
        hash: of the line.
    """

    number: int = 0
    hash: str = INITIAL_HASH

    @classmethod
    def from_text(cls, text: str) -> Head:
        """Read `NUMBER HASH` or `NUMBER:HASH`.

        Raises:
            DataError: it is something else.
        """
        number, _, digest = text.strip().replace(":", " ").partition(" ")
        if not number.isdecimal() or len(digest) != 64 or set(digest) - set("0123456789abcdef"):
            raise DataError(f"{text.strip()[:80]!r} names no line: give its number and its hash as NUMBER:HASH")
        return cls(int(number), digest)


@dataclass(frozen=True)
class AuditLog:
    """The audit log in one file, made at first use.

    Attributes:
        path: the file.
    """

    path: Path

    @property
    def head(self) -> Path:
        """The file that repeats the number and hash of the last line."""
        return self.path.with_name(self.path.name + ".head")

    def append(self, entry: AuditEntry) -> AuditEntry:
        """Write an entry as the last line and return it as written; then it is on the disk.

        Raises:
            DataError: it cannot be written, or the log was tampered with: nothing that it describes may leave.
        """
        try:
            with self._lock() as file:
                last = self._read_last(file)
                if last is None:
                    last = self._write(file, AuditEntry("opened", reason=AUDIT_FORMAT), None)
                return self._write(file, entry, last)
        except OSError as error:
            raise DataError(f"the audit log {self.path} cannot be written: {error.strerror or error}") from None

    def read(self) -> list[AuditEntry]:
        """Return all entries, after verifying them.

        Raises:
            DataError: there is no log, or it was tampered with; names the line.
        """
        if not self.path.is_file() and not self.head.is_file():
            raise DataError(f"no audit log {self.path}: it is made at the first request; check --site and --state")
        entries: list[AuditEntry] = []
        if fault := self.find_fault(entries):
            raise DataError(f"the audit log {self.path} is not intact: {fault}")
        return entries

    def find_fault(self, entries: list[AuditEntry] | None = None, noted: Head | None = None) -> str:
        """Return where the log was tampered with, as one line, or "".

        Args:
            entries: gets the entries of the lines up to the fault.
            noted: a last line of earlier, noted elsewhere.

        Raises:
            DataError: the log cannot be read.
        """
        intact_entries = [] if entries is None else entries
        try:
            with self._lock(os.O_RDONLY) as file:
                head, content = self._read_head(), _read_all(file)
        except FileNotFoundError:
            return f"it is gone, though {self.head.name} shows that there was one" if self.head.is_file() else ""
        except OSError as error:
            raise DataError(f"cannot read the audit log {self.path}: {error.strerror or error}") from None
        lines = content.split(b"\n")[:-1]  # what follows the last line's end was never written whole
        return (
            _verify_lines(lines, intact_entries)
            or _compare_head(intact_entries, head)
            or _compare_noted(intact_entries, noted)
        )

    @contextmanager
    def _lock(self, flags: int = os.O_RDWR | os.O_CREAT | os.O_APPEND) -> Iterator[int]:
        """Open the file and hold its lock."""
        if flags & os.O_CREAT:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = os.open(self.path, flags, 0o600)
        try:
            take_lock(file)
            yield file
        finally:
            os.close(file)  # which releases the lock

    def _read_head(self) -> Head | None:
        with suppress(FileNotFoundError):
            return Head.from_text(self.head.read_text(encoding="utf-8", errors="replace"))
        return None

    def _read_last(self, file: int) -> AuditEntry | None:
        """Return the last line, which the head must confirm; None in a new file.

        What an interrupted append left of a line is removed: nothing left the hospital with it.
        """
        size = os.fstat(file).st_size
        tail = _read_tail(file, size)
        line, complete, rest = tail.rpartition(b"\n")
        head = self._read_head()
        last = AuditEntry.from_line(line.rpartition(b"\n")[2]) if complete else None
        if last is None:
            intact = head is None
        elif head is None:
            intact = last.number == 1 and last.hash == last.digest()
        else:  # one behind, if the append of the last line was interrupted before the head was written
            same, before = Head(last.number, last.hash), Head(last.number - 1, last.previous)
            intact = head in (same, before) and last.hash == last.digest()
        if not intact:
            raise DataError(
                f"the audit log {self.path} was tampered with, so nothing is answered: wardround audit verify names "
                "the line; restore the intact file"
            )
        if rest:
            os.ftruncate(file, size - len(rest))
        return last

    def _write(self, file: int, entry: AuditEntry, last: AuditEntry | None) -> AuditEntry:
        """Append an entry, and write the head; leave both as they were if that fails."""
        number, previous = (1, INITIAL_HASH) if last is None else (last.number + 1, last.hash)
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        entry = replace(entry, number=number, time=now, previous=previous, hash="")
        entry = replace(entry, hash=entry.digest())
        size, line = os.fstat(file).st_size, entry.to_line()
        try:
            written = os.write(file, line)
            if written != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(file)
            with write_atomically(self.head, durable=True) as part:
                handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with os.fdopen(handle, "w", encoding="utf-8") as out:
                    out.write(f"{entry.number} {entry.hash}\n")
        except OSError:
            with suppress(OSError):
                os.ftruncate(file, size)
            raise
        return entry


def get_audit_path(state: Path, site: str) -> Path:
    """Return the path of a site's audit log in its state folder."""
    return get_site_folder(state, site) / "audit.jsonl"


def _read_all(file: int) -> bytes:
    with os.fdopen(os.dup(file), "rb") as source:
        return source.read()


def _read_tail(file: int, size: int) -> bytes:
    """Return the end of a file, from the start of its last line or earlier."""
    start, tail = size, b""
    while start and b"\n" not in tail.rpartition(b"\n")[0]:
        start = max(0, start - _PIECE)
        tail = os.pread(file, size - start, start)
    return tail


def _verify_lines(lines: Sequence[bytes], entries: list[AuditEntry]) -> str:
    """Return what is wrong with the first line that does not continue the chain; `entries` gets those before it."""
    previous = INITIAL_HASH
    for position, line in enumerate(lines, start=1):
        try:
            entry = AuditEntry.from_line(line)
        except DataError as error:
            return f"line {position} was changed: {error}"
        if entry.hash != entry.digest():
            return f"line {position} was changed: its hash is that of another content"
        if entry.number != position:
            return _explain_number(position, entry.number, lines[position:])
        if entry.previous != previous:
            return f"line {position - 1} was replaced: line {position} follows another one"
        entries.append(entry)
        previous = entry.hash
    return ""


def _explain_number(position: int, number: int, later: Iterable[bytes]) -> str:
    if number < position:
        return f"line {position} was inserted or moved: it is numbered {number}"
    for line in later:
        with suppress(DataError):
            if AuditEntry.from_line(line).number == position:
                return f"line {position} was moved: line {number} stands in its place"
    missing = f"line {position} was" if number == position + 1 else f"lines {position} to {number - 1} were"
    return f"{missing} removed: line {number} stands there"


def _compare_head(entries: Sequence[AuditEntry], head: Head | None) -> str:
    """Return what is wrong with the end of an intact chain, given what the second file says about it."""
    hashes = [INITIAL_HASH, *(entry.hash for entry in entries)]
    last = len(entries)
    if head is None:
        return "" if last <= 1 else f"its second file (.head) is gone, so lines after line {last} may have been cut off"
    if head.number > last:
        gone = f"line {head.number} was" if head.number == last + 1 else f"lines {last + 1} to {head.number} were"
        return f"{gone} cut off at the end"
    if head.hash != hashes[head.number]:
        return f"line {head.number} was replaced: the second file (.head) names another one"
    if head.number < last - 1:
        return f"its second file (.head) is older than the log: it ends with line {head.number}, the log with {last}"
    return ""


def _compare_noted(entries: Sequence[AuditEntry], noted: Head | None) -> str:
    """Return how a chain differs from the last line that somebody noted, or ""."""
    if noted is None or noted.number == 0:
        return ""
    if noted.number > len(entries):
        return f"line {noted.number}, which was noted, is not there: it ends with line {len(entries)}"
    if entries[noted.number - 1].hash != noted.hash:
        return f"it was written anew: line {noted.number} is not the one that was noted"
    return ""
