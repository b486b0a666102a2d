"""Rows that wait for the monitor's store, on disk from the moment that they are added: kill -9 loses none.

A row is a line of a numbered file. The store writes all rows of a file in one transaction, which also notes the
file's number; then the file is deleted. After a new start, rows of a file whose number is noted were stored, and the
others are stored first: each once. Lines are handed to the operating system, and not forced to the disk: a power cut
loses those of the last seconds.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common.files import make_private_folder

log = logging.getLogger("wardround.monitor")
Row = tuple[str, tuple[Any, ...]]
"""A statement of SQL, and its values."""


class Journal:
    """The files of one monitor.

    Attributes:
        failures: rows that could not be written, and are in memory alone.
    """

    def __init__(self, folder: Path, statements: Mapping[str, str]) -> None:
        """Open the folder.

        Args:
            folder: where the files are.
            statements: the statements whose rows are written, by the name that stands for each in a file.

        Raises:
            OSError: the folder cannot be written.
        """
        self.failures = 0
        self._folder, self._statements = folder, dict(statements)
        self._names = {statement: name for name, statement in statements.items()}
        make_private_folder(folder)
        self._lock = threading.Lock()
        self._number = max((number for number, _ in self._list_files()), default=0)
        self._file: int | None = None

    def _list_files(self) -> list[tuple[int, Path]]:
        paths = self._folder.glob("*.jsonl")
        return sorted((int(path.stem), path) for path in paths if path.stem.isdigit())

    def read(self, stored: int) -> list[Row]:
        """Return the rows of the files after one; files up to it are deleted, and a torn line is skipped."""
        self.delete(stored)
        rows: list[Row] = []
        for _, path in self._list_files():
            for line in path.read_bytes().splitlines():
                try:
                    name, values = json.loads(line)
                    rows.append((self._statements[name], tuple(values)))
                except (ValueError, TypeError, KeyError):
                    continue
        with self._lock:
            self._number = max(self._number, stored)
        return rows

    def append(self, rows: Sequence[Row]) -> None:
        """Write rows; those of other statements are left out."""
        known = [(self._names[statement], values) for statement, values in rows if statement in self._names]
        if not known:
            return
        data = memoryview("".join("\n" + json.dumps(row) for row in known).encode())
        with self._lock:
            try:
                if self._file is None:
                    self._number += 1
                    path = self._folder / f"{self._number:012d}.jsonl"
                    self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
                while data:
                    data = data[os.write(self._file, data) :]
            except OSError as error:
                if not self.failures:
                    log.warning("rows that wait for the store are in memory alone: %s", error.strerror)
                self.failures += len(known)

    def turn(self) -> int:
        """Let later rows go to another file, and return the number of the last file before it."""
        with self._lock:
            self._close_file()
            return self._number

    def delete(self, number: int) -> None:
        """Delete the files up to a number: their rows are stored."""
        for own, path in self._list_files():
            if own <= number:
                with contextlib.suppress(OSError):  # its number is noted: its rows are not stored again
                    path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file that is written."""
        with self._lock:
            self._close_file()

    def _close_file(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None
