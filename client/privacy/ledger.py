"""The privacy ledger of a site: what each round was charged, in an append-only file of the hospital's own.

One SQLite file holds one budget: all that was ever charged against a site's data, over rounds, restarts and runs.
A row is written before a round trains, in one transaction with the check that the budget bears it, so that a crash
can only overstate what was spent. Each row holds the hash of the one before it; the number and hash of the last row
stand once more in a file beside it (`.head`).

What survives: the rollback journal with `synchronous=EXTRA` writes each charge, and the folder's entry of the
journal, through to the disk before `charge` returns. A charge is lost neither to kill -9 at any moment nor to a power
cut, on a disk that keeps what it has confirmed. SQLite locks the file, so that processes take turns; over a network
file system its locks may not hold: keep the ledger on a local disk.

What is found: a row that was changed, taken out or added out of turn, and rows cut off at the end. What cannot be
found: someone who rewrites the whole chain and the file beside it, or removes both. The ledger is evidence for an
honest hospital, not a defence against its own administrator.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

from client.privacy.accounting import Accountant, GaussianSteps, compute_epsilon
from common.errors import DataError, SiteError
from common.files import escape_file_name, write_text
from common.messages import BUDGET_SPENT

LEDGER_FORMAT = "wardround.ledger/1"
INITIAL_HASH = "0" * 64
LOCK_TIMEOUT_SECONDS = 60.0
SCHEMA = """
CREATE TABLE about (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE charges (number INTEGER PRIMARY KEY, time TEXT NOT NULL, run TEXT NOT NULL, round INTEGER NOT NULL,
  level TEXT NOT NULL, unit TEXT NOT NULL, units INTEGER NOT NULL, q REAL NOT NULL, sigma REAL NOT NULL,
  steps INTEGER NOT NULL, delta REAL NOT NULL, accountant TEXT NOT NULL, epsilon_run REAL NOT NULL,
  epsilon REAL NOT NULL, private INTEGER NOT NULL, data TEXT NOT NULL, hash TEXT NOT NULL UNIQUE);
CREATE TRIGGER charges_stay BEFORE UPDATE ON charges BEGIN SELECT RAISE(ABORT, 'charges are never changed'); END;
CREATE TRIGGER charges_last BEFORE DELETE ON charges BEGIN SELECT RAISE(ABORT, 'charges are never removed'); END;
"""


class BudgetSpent(SiteError):
    """A round would spend more than the site's policy or the run allow; nothing was charged."""


@dataclass(frozen=True)
class LedgerRow:
    """One charge. `epsilon_run`, `epsilon`: spent with it by the run, and by all runs, at `delta`.

    `units`: how many people (level patient) or examples (level record) there were; `private`: false where a test
    used noise of a known seed; `data`: digest of the data's content.
    """

    number: int
    time: str
    run: str
    round: int
    level: str
    unit: str
    units: int
    q: float
    sigma: float
    steps: int
    delta: float
    accountant: Accountant
    epsilon_run: float
    epsilon: float
    private: bool
    data: str
    hash: str = ""

    @property
    def spent(self) -> GaussianSteps:
        """The steps that were charged."""
        return GaussianSteps(self.q, self.sigma, self.steps)

    def digest(self, previous: str) -> str:
        """Return the hash of a row that follows another."""
        held = asdict(self)
        del held["hash"]
        text = json.dumps([previous, held], sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Charge:
    """What a round asks for. Limits: epsilons at `delta`, of this run and of all runs; none: no limit."""

    run: str
    round: int
    level: str
    unit: str
    units: int
    spent: GaussianSteps
    delta: float
    accountant: Accountant
    run_limit: float | None = None
    total_limit: float | None = None
    private: bool = True


def get_ledger_path(state: Path, site: str) -> Path:
    """Return where the ledger of a site lies in its state folder."""
    return state / escape_file_name(site) / "privacy.sqlite"


class Ledger:
    """The ledger in `path`, of data with the digest `data`; made when the first use finds none.

    Raises:
        DataError: it is damaged, cannot be written, or belongs to other data.
    """

    def __init__(self, path: Path, data: str) -> None:
        self.path, self.data = path, data

    @classmethod
    def read(cls, path: Path) -> Ledger:
        """Return the ledger in a file, whatever its data.

        Raises:
            DataError: there is none.
        """
        if not path.is_file():
            raise DataError(f"no privacy ledger {path}: name the hospital and its --state folder, or --path")
        found = cls(path, "")
        with found._open() as connection:
            found.data = found._about(connection).get("data", "")
        return found

    def rows(self) -> list[LedgerRow]:
        """Return all charges, after checking that they are as they were written.

        Raises:
            DataError: they are not.
        """
        self._ready()
        with self._open() as connection:
            return self._checked(connection)

    def check(self) -> list[LedgerRow]:
        """Return all charges, after checking also that another can be written.

        Raises:
            DataError: the file is read-only or its disk full.
        """
        self._ready()
        with self._open() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                connection.execute("INSERT INTO about VALUES ('room', ?)", ("x" * 8192,))
            finally:
                with suppress(sqlite3.Error):  # a full disk has rolled back already, and is what the error must say
                    connection.execute("ROLLBACK")
            return self._checked(connection)

    def kept(self, key: str) -> str | None:
        """Return what `keep` was given under a key; None where nothing was."""
        self._ready()
        with self._open() as connection:
            found = connection.execute("SELECT value FROM about WHERE key = ?", (f"kept/{key}",)).fetchone()
        return None if found is None else str(found[0])

    def keep(self, key: str, value: str) -> None:
        """Keep a text beside the charges; what is there already stays.

        Raises:
            DataError: the file cannot be written.
        """
        self._ready()
        with self._open() as connection:
            connection.execute("INSERT OR IGNORE INTO about VALUES (?, ?)", (f"kept/{key}", value))

    def total(self, delta: float, accountant: Accountant, run: str | None = None) -> float:
        """Return the epsilon that one run, or all runs, have been charged."""
        return compute_epsilon((row.spent for row in self.rows() if run in (None, row.run)), delta, accountant)

    def charge(self, wanted: Charge) -> LedgerRow:
        """Charge a round before it trains; when this returns, the charge is on the disk.

        Raises:
            BudgetSpent: it would spend more than a limit; nothing is written.
            DataError: the ledger cannot be trusted or written: the round must not train.
        """
        self._ready()
        with self._open() as connection:
            connection.execute("BEGIN IMMEDIATE")  # from the check to the commit nobody else charges
            try:
                rows = self._checked(connection)
                row = self._next(rows, wanted)
                names = [item.name for item in fields(LedgerRow)]
                marks = ", ".join("?" * len(names))
                values = [getattr(row, name) for name in names]
                connection.execute(f"INSERT INTO charges ({', '.join(names)}) VALUES ({marks})", values)
                connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
                raise
        self._anchor(row)
        return row

    def _next(self, rows: list[LedgerRow], wanted: Charge) -> LedgerRow:
        other = next((row.level for row in rows if row.level != wanted.level), None)
        if other:
            raise BudgetSpent(
                f"{BUDGET_SPENT}: this data has been charged per {other}, which bounds nothing per {wanted.level}: "
                f"go on with privacy.level={other}"
            )
        own = [row.spent for row in rows if row.run == wanted.run] + [wanted.spent]
        every = [row.spent for row in rows] + [wanted.spent]
        of_run = compute_epsilon(own, wanted.delta, wanted.accountant)
        total = of_run if len(own) == len(every) else compute_epsilon(every, wanted.delta, wanted.accountant)
        for found, limit, whose in ((of_run, wanted.run_limit, "run"), (total, wanted.total_limit, "site")):
            if limit is not None and not found <= limit:
                raise BudgetSpent(
                    f"{BUDGET_SPENT}: round {wanted.round} would bring epsilon to {found:.3f} of the "
                    f"{whose}'s {limit:g} "
                    f"at delta {wanted.delta:g}"
                )
        if not math.isfinite(total):
            raise BudgetSpent(f"{BUDGET_SPENT}: round {wanted.round} has no finite epsilon")
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        row = LedgerRow(
            len(rows) + 1, now, wanted.run, wanted.round, wanted.level, wanted.unit, wanted.units, *wanted.spent,
            wanted.delta, wanted.accountant, of_run, total, wanted.private, self.data,
        )  # fmt: skip
        return LedgerRow(**{**asdict(row), "hash": row.digest(rows[-1].hash if rows else INITIAL_HASH)})

    @property
    def head(self) -> Path:
        """The file that says once more which row is the last."""
        return self.path.with_name(self.path.name + ".head")

    def _anchor(self, row: LedgerRow) -> None:
        try:
            write_text(self.head, f"{row.number} {row.hash}\n", durable=True)
        except OSError as error:
            raise DataError(f"cannot write {self.head}: {error.strerror}: the round does not train") from None

    def _ready(self) -> None:
        """Make the ledger if there is none, or one whose making was interrupted."""
        if self.path.is_file():
            with self._open() as connection:
                if connection.execute("SELECT 1 FROM sqlite_master").fetchone():
                    return
        self._make()

    def _make(self) -> None:
        """Make an empty ledger, unless another process does so at the same time."""
        if self.head.is_file():
            raise DataError(f"{self.path} is gone, but {self.head.name} shows that there was one: put it back")
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
            raise DataError(
                f"the privacy ledger {self.path} cannot be used ({error}): nothing trains until it can; put back a "
                "copy that is whole, never an older one"
            ) from None
        finally:
            if connection is not None:
                connection.close()

    def _about(self, connection: sqlite3.Connection) -> dict[str, str]:
        found = dict(connection.execute("SELECT key, value FROM about").fetchall())
        if found.get("format") != LEDGER_FORMAT:
            raise DataError(f"{self.path} is no privacy ledger of this version ({LEDGER_FORMAT})")
        return found

    def _checked(self, connection: sqlite3.Connection) -> list[LedgerRow]:
        """Return the rows, if the chain holds and reaches the head beside it."""
        about = self._about(connection)
        if self.data != about["data"]:
            raise DataError(
                f"the privacy ledger {self.path} belongs to other data: what people spent there would be forgotten "
                "here; if the data only grew, run wardround privacy ledger --accept-data"
            )
        try:
            anchor = self.head.read_text(encoding="utf-8").split()
        except FileNotFoundError:
            anchor = ["0", INITIAL_HASH]
        names = [item.name for item in fields(LedgerRow)]
        rows: list[LedgerRow] = []
        previous = INITIAL_HASH
        hashes = {0: INITIAL_HASH}
        for values in connection.execute(f"SELECT {', '.join(names)} FROM charges ORDER BY number"):
            held = dict(zip(names, values, strict=True))
            row = LedgerRow(**{**held, "private": bool(held["private"])})
            if row.number != len(rows) + 1 or row.hash != row.digest(previous):
                raise DataError(f"the privacy ledger {self.path} was changed at row {len(rows) + 1}: do not trust it")
            rows.append(row)
            previous = hashes[row.number] = row.hash
        number = int(anchor[0]) if len(anchor) == 2 and anchor[0].isdigit() else -1
        if hashes.get(number) != anchor[-1]:
            raise DataError(f"the privacy ledger {self.path} ends at row {len(rows)}: rows behind it were cut off")
        return rows

    def accept(self, data: str) -> None:
        """Let the ledger go on with data that changed; all that was charged goes on counting."""
        with self._open() as connection:
            self.data = self._about(connection)["data"]
            self._checked(connection)
            connection.execute("UPDATE about SET value = ? WHERE key = 'data'", (data,))
        self.data = data


def connect_sqlite(path: Path) -> sqlite3.Connection:
    """Open the file; transactions are begun by hand."""
    return sqlite3.connect(path, timeout=LOCK_TIMEOUT_SECONDS, isolation_level=None)
