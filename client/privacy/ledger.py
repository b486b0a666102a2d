"""The privacy ledger of a site: what each round was charged, in an append-only file of the hospital's own.

One SQLite file holds one budget: everything that was ever charged for a site's data, over rounds, restarts and runs.
People who train, who validate and who are tested are different people, and each of the three has a file.
A row is written before a round trains, in one transaction with the check that the budget allows it, so that a crash
can only overstate what was spent. Each row holds the hash of the row before; a second file (`.head`) repeats the
number and hash of the last row.

Durability: the rollback journal with `synchronous=EXTRA` writes each charge, and the journal's directory entry, to the
disk before `charge` returns. Neither kill -9 nor a power cut loses a charge, on a disk that keeps what it has
confirmed. SQLite locks the file, so that processes take turns; locks of network file systems are unreliable: keep the
ledger on a local disk.

Tampering: a row that was changed, removed or inserted is detected, and so are rows cut off at the end. Someone who
rewrites the whole chain and the second file, or removes both, is not: the ledger is an honest hospital's evidence, not
a defence against its own administrator.
"""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields
from pathlib import Path

from client.privacy.accounting import Accountant, compute_epsilon
from client.privacy.charges import INITIAL_HASH, Charge, LedgerRow, build_row
from client.state_folder import get_site_folder
from common.errors import DataError
from common.files import write_text

LEDGER_FORMAT = "wardround.ledger/1"
LOCK_TIMEOUT_SECONDS = 60.0
HEAD_SECONDS = 2.0
"""Longest wait for the head file of rows that others have just charged."""
RESTORE = "restore the intact file, never an older copy; until then nothing trains"
TRAIN = "train"
"""The split whose ledger is privacy.sqlite; those of other splits have its name in theirs."""
LEDGER_SPLITS = (TRAIN, "validation", "test")
"""The splits whose people have ledgers."""
SCHEMA = """
CREATE TABLE about (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE charges (number INTEGER PRIMARY KEY, time TEXT NOT NULL, run TEXT NOT NULL, round INTEGER NOT NULL,
  level TEXT NOT NULL, unit TEXT NOT NULL, units INTEGER NOT NULL, q REAL NOT NULL, sigma REAL NOT NULL,
  steps INTEGER NOT NULL, delta REAL NOT NULL, accountant TEXT NOT NULL, epsilon_run REAL NOT NULL,
  epsilon REAL NOT NULL, private INTEGER NOT NULL, data TEXT NOT NULL, hash TEXT NOT NULL UNIQUE);
CREATE TRIGGER charges_stay BEFORE UPDATE ON charges BEGIN SELECT RAISE(ABORT, 'charges are never changed'); END;
CREATE TRIGGER charges_last BEFORE DELETE ON charges BEGIN SELECT RAISE(ABORT, 'charges are never removed'); END;
"""


def get_ledger_path(state: Path, site: str, split: str = TRAIN) -> Path:
    """Return the path of a site's ledger in its state folder; each split's people have a ledger of their own."""
    return get_site_folder(state, site) / ("privacy.sqlite" if split == TRAIN else f"privacy-{split}.sqlite")


class Ledger:
    """The ledger of a site's data, created at first use.

    Args:
        path: the SQLite file.
        data: digest of the data that the ledger is bound to.

    Raises:
        DataError: in every method: the file is damaged, cannot be written, or belongs to other data.
    """

    def __init__(self, path: Path, data: str) -> None:
        self.path, self.data = path, data

    @classmethod
    def read(cls, path: Path) -> Ledger:
        """Return the ledger in an existing file, with the data that it is bound to.

        Raises:
            DataError: there is no such file.
        """
        if not path.is_file():
            raise DataError(f"no privacy ledger {path}: name the hospital and its --state folder, or --path")
        ledger = cls(path, "")
        with ledger._open() as connection:
            ledger.data = ledger._about(connection).get("data", "")
        return ledger

    def rows(self) -> list[LedgerRow]:
        """Return all charges, after verifying the chain of hashes.

        Raises:
            DataError: a row was changed, removed or inserted.
        """
        self._ensure_created()
        with self._open() as connection:
            return self._verify(connection)

    def check(self) -> list[LedgerRow]:
        """Return all charges, after verifying the chain and that another charge can be written.

        Raises:
            DataError: the file is read-only or its disk full.
        """
        self._ensure_created()
        with self._open() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                connection.execute("INSERT INTO about VALUES ('room', ?)", ("x" * 8192,))
            finally:
                with suppress(
                    sqlite3.Error
                ):  # on a full disk SQLite has rolled back already; raise the error about the disk
                    connection.execute("ROLLBACK")
            return self._verify(connection)

    def read_text(self, key: str) -> str | None:
        """Return the text that `store_text` stored under a key, or None."""
        self._ensure_created()
        with self._open() as connection:
            row = connection.execute("SELECT value FROM about WHERE key = ?", (f"kept/{key}",)).fetchone()
        return None if row is None else str(row[0])

    def store_text(self, key: str, value: str) -> None:
        """Store a text under a key; a text that is stored already stays.

        Raises:
            DataError: the file cannot be written.
        """
        self._ensure_created()
        with self._open() as connection:
            connection.execute("INSERT OR IGNORE INTO about VALUES (?, ?)", (f"kept/{key}", value))

    def total(self, delta: float, accountant: Accountant, run: str | None = None) -> float:
        """Return the epsilon that one run (default: all runs together) has been charged."""
        return compute_epsilon((row.spent for row in self.rows() if run in (None, row.run)), delta, accountant)

    def charge(self, wanted: Charge) -> LedgerRow:
        """Charge a round before it trains; when this returns, the charge is on the disk.

        Raises:
            BudgetSpent: it would spend more than a limit; nothing is written.
            DataError: the ledger cannot be trusted or written: the round must not train.
        """
        self._ensure_created()
        with self._open() as connection:
            connection.execute("BEGIN IMMEDIATE")  # locks out other processes from the check to the commit
            try:
                rows = self._verify(connection)
                row = build_row(rows, wanted, self.data)
                names = [item.name for item in fields(LedgerRow)]
                marks = ", ".join("?" * len(names))
                values = [getattr(row, name) for name in names]
                connection.execute(f"INSERT INTO charges ({', '.join(names)}) VALUES ({marks})", values)
                connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
                raise
        self._write_head(row)
        return row

    @property
    def head(self) -> Path:
        """The file that repeats the number and hash of the last row."""
        return self.path.with_name(self.path.name + ".head")

    def _write_head(self, row: LedgerRow) -> None:
        try:
            write_text(self.head, f"{row.number} {row.hash}\n", durable=True)
        except OSError as error:
            raise DataError(f"cannot write {self.head}: {error.strerror}: the round does not train") from None

    def _ensure_created(self) -> None:
        """Create the ledger if there is none, or if its creation was interrupted."""
        if self.path.is_file():
            with self._open() as connection:
                if connection.execute("SELECT 1 FROM sqlite_master").fetchone():
                    return
        self._create()

    def _create(self) -> None:
        """Create an empty ledger, unless another process has just done so."""
        if self.head.is_file():
            raise DataError(f"{self.path} is gone, but {self.head.name} shows that there was one: restore it")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise DataError(f"cannot make the folder {self.path.parent}: {error.strerror}") from None
        with self._open() as connection:
            connection.execute("BEGIN EXCLUSIVE")
            if not connection.execute("SELECT 1 FROM sqlite_master").fetchone():
                for statement in re.split(r";\n(?=CREATE|$)", SCHEMA.strip() + "\n"):
                    if statement.strip():
                        connection.execute(statement)
                connection.executemany(
                    "INSERT INTO about VALUES (?, ?)", [("format", LEDGER_FORMAT), ("data", self.data)]
                )
            connection.execute("COMMIT")
        with suppress(OSError):
            self.path.chmod(0o600)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        connection: sqlite3.Connection | None = None
        try:
            connection = connect_sqlite(self.path)
            connection.execute("PRAGMA journal_mode=DELETE")
            connection.execute("PRAGMA synchronous=EXTRA")
            yield connection
        except sqlite3.DatabaseError as error:
            raise DataError(f"the privacy ledger {self.path} cannot be used ({error}): {RESTORE}") from None
        finally:
            if connection is not None:
                connection.close()

    def _about(self, connection: sqlite3.Connection) -> dict[str, str]:
        about = dict(connection.execute("SELECT key, value FROM about").fetchall())
        if about.get("format") != LEDGER_FORMAT:
            raise DataError(f"{self.path} is not a privacy ledger of this version ({LEDGER_FORMAT})")
        return about

    def _verify(self, connection: sqlite3.Connection) -> list[LedgerRow]:
        """Return the rows, after verifying the chain of hashes up to the row that the head file names."""
        about = self._about(connection)
        if self.data != about["data"]:
            raise DataError(
                f"the privacy ledger {self.path} belongs to other data, and what was spent on those would be "
                "forgotten; if the data only grew, run wardround privacy ledger --accept-data"
            )
        missing = False
        try:
            head = self.head.read_text(encoding="utf-8").split()
        except FileNotFoundError:
            head, missing = ["0", INITIAL_HASH], True
        names = [item.name for item in fields(LedgerRow)]
        rows: list[LedgerRow] = []
        previous = INITIAL_HASH
        hashes = {0: INITIAL_HASH}
        for values in connection.execute(f"SELECT {', '.join(names)} FROM charges ORDER BY number"):
            content = dict(zip(names, values, strict=True))
            row = LedgerRow(**{**content, "private": bool(content["private"])})
            if row.number != len(rows) + 1 or row.hash != row.digest(previous):
                raise DataError(f"the privacy ledger {self.path} was changed at row {len(rows) + 1}: {RESTORE}")
            rows.append(row)
            previous = hashes[row.number] = row.hash
        if missing and len(rows) > 1:
            self._await_head(len(rows))
            return self._verify(connection)
        number = int(head[0]) if len(head) == 2 and head[0].isdigit() else -1
        if hashes.get(number) != head[-1]:
            raise DataError(
                f"the privacy ledger {self.path} ends at row {len(rows)}: rows after it were cut off: {RESTORE}"
            )
        return rows

    def _await_head(self, rows: int) -> None:
        """Wait for the head file: others that charged at the same moment write it after their row is committed."""
        end = time.monotonic() + HEAD_SECONDS
        while not self.head.is_file():
            if time.monotonic() > end:
                raise DataError(f"{self.head} is gone, though {rows} rows were charged: {RESTORE}")
            time.sleep(0.01)

    def accept(self, data: str) -> None:
        """Bind the ledger to data that were extended; all that was charged continues to count."""
        with self._open() as connection:
            self.data = self._about(connection)["data"]
            self._verify(connection)
            connection.execute("UPDATE about SET value = ? WHERE key = 'data'", (data,))
        self.data = data


def count_charges(path: Path) -> int:
    """Return how many charges a ledger holds; 0 if there is no ledger."""
    return len(list_charges(path))


def list_charges(path: Path, after: int = 0) -> list[LedgerRow]:
    """Return the charges of a ledger after a number, without verifying the chain; none if there is no ledger.

    Raises:
        DataError: the file cannot be read.
    """
    if not path.is_file():
        return []
    names = [item.name for item in fields(LedgerRow)]
    connection: sqlite3.Connection | None = None
    try:
        connection = connect_sqlite(path)
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'charges'").fetchone():
            return []
        query = f"SELECT {', '.join(names)} FROM charges WHERE number > ? ORDER BY number"
        rows = [dict(zip(names, values, strict=True)) for values in connection.execute(query, (after,))]
    except sqlite3.DatabaseError as error:
        raise DataError(f"the privacy ledger {path} cannot be read ({error}): {RESTORE}") from None
    finally:
        if connection is not None:
            connection.close()
    return [LedgerRow(**{**row, "private": bool(row["private"])}) for row in rows]


def connect_sqlite(path: Path) -> sqlite3.Connection:
    """Open the file without implicit transactions: callers begin them."""
    return sqlite3.connect(path, timeout=LOCK_TIMEOUT_SECONDS, isolation_level=None)
