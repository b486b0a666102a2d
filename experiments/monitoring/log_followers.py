"""Reading what is appended to a hospital's audit log, and to the events of a coordinator's runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from client.gate.audit_entry import INITIAL_HASH, AuditEntry
from common.errors import DataError


class LineFollower:
    """Reads the complete lines of a file that were appended since the last call; all of them at the first.

    Args:
        path: the file; it need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._position = 0

    def read_new(self) -> tuple[bool, list[bytes]]:
        """Return whether the file is a new one or shorter than before, so that it is read anew, and the lines."""
        try:
            with self._path.open("rb") as file:
                restarted = file.seek(0, 2) < self._position
                if restarted:
                    self._position = 0
                file.seek(self._position)
                content = file.read()
        except OSError:
            return False, []
        complete, _, _ = content.rpartition(b"\n")
        self._position += len(complete) + 1 if complete else 0
        return restarted, complete.split(b"\n") if complete else []


class AuditFollower:
    """Reads the entries that were appended to an audit log, and verifies that each follows the one before.

    Args:
        path: the log's file.

    Attributes:
        intact: whether all that was read is a chain.
    """

    def __init__(self, path: Path) -> None:
        self._lines = LineFollower(path)
        self._previous = INITIAL_HASH
        self.intact = True

    def read_new(self) -> tuple[bool, list[AuditEntry]]:
        """Return whether the log is read anew, and its entries since the last call."""
        restarted, lines = self._lines.read_new()
        if restarted:
            self._previous, self.intact = INITIAL_HASH, True
        entries = []
        for line in lines:
            try:
                entry = AuditEntry.from_line(line)
            except DataError:
                self.intact = False
                continue
            self.intact &= entry.previous == self._previous and entry.hash == entry.digest()
            self._previous = entry.hash
            entries.append(entry)
        return restarted, entries


def parse_events(lines: list[bytes]) -> Iterator[dict[str, Any]]:
    """Yield the events of lines of events.jsonl; a damaged line is passed over."""
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict):
            yield event
