"""The site's register: the split of its people, the groups answered for, and the questions asked.

One SQLite file in the site's state folder, readable by its owner alone. It holds no patient's value and no identifier:
a person is a keyed hash (HMAC-SHA-256) under a secret that is drawn once and never leaves the file. Every check and
what it records are one transaction, so two simultaneous requests cannot both slip past a limit.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from client.privacy.ledger import get_ledger_path
from client.site_context import SiteContext
from common.errors import DataError, SiteError

FORMAT = "wardround.register/1"
LOCK_TIMEOUT_SECONDS = 60.0
DAY_SECONDS = 24 * 3600.0
MONTH_SECONDS = 30 * DAY_SECONDS
SCHEMA = """
CREATE TABLE about (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE people (dataset TEXT NOT NULL, person TEXT NOT NULL, number INTEGER NOT NULL, side INTEGER NOT NULL,
  PRIMARY KEY (dataset, person));
CREATE TABLE releases (dataset TEXT NOT NULL, kind TEXT NOT NULL, people BLOB NOT NULL, run TEXT NOT NULL,
  time REAL NOT NULL, PRIMARY KEY (dataset, kind, people));
CREATE TABLE questions (run TEXT NOT NULL, kind TEXT NOT NULL, digest TEXT NOT NULL, time REAL NOT NULL,
  PRIMARY KEY (run, kind, digest));
"""
CONTENTS = """
CREATE TABLE IF NOT EXISTS contents (dataset TEXT NOT NULL, options TEXT NOT NULL, person TEXT NOT NULL,
  digest TEXT NOT NULL, PRIMARY KEY (dataset, options, person))
"""
"""What people's records hold (client/gate/own_records.py); registers of earlier versions get the table when opened."""
SMALL = 2
"""The size that is reported for every group of fewer people than the floor, also for an empty one."""
TOO_FEW = "policy: the answer would rest on too few people"
"""The one text of every refusal on counts: a text that differed would itself be an answer."""


@dataclass(frozen=True)
class Register:
    """The register of one site.

    Attributes:
        path: the SQLite file; made on first use.
        site: the site's name, to which the file is bound.
    """

    path: Path
    site: str

    @contextmanager
    def open(self) -> Iterator[sqlite3.Connection]:
        """Open the file in one exclusive transaction, which is rolled back where anything is raised.

        Raises:
            DataError: the file is damaged, or belongs to another site.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.chmod(self.path.parent, 0o700)
        if not self.path.exists():
            with os.fdopen(os.open(self.path, os.O_CREAT | os.O_WRONLY, 0o600)):
                pass
        connection = sqlite3.connect(self.path, timeout=LOCK_TIMEOUT_SECONDS, isolation_level=None)
        try:
            # written ahead and not synced each time: a power cut may lose the last entries, never the file
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("BEGIN IMMEDIATE")
            self._prepare(connection)
            yield connection
            connection.execute("COMMIT")
        except sqlite3.DatabaseError as error:
            raise DataError(f"{self.path}: the register cannot be used ({error}): restore it from a copy") from None
        finally:
            connection.close()  # without COMMIT nothing of the transaction stays

    def _prepare(self, connection: sqlite3.Connection) -> None:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'about'").fetchone():
            for statement in filter(str.strip, SCHEMA.split(";")):
                connection.execute(statement)
            rows = (("format", FORMAT), ("site", self.site), ("secret", secrets.token_hex(32)))
            connection.executemany("INSERT INTO about VALUES (?, ?)", rows)
        connection.execute(CONTENTS)
        about = dict(connection.execute("SELECT key, value FROM about"))
        if about.get("format") != FORMAT or len(about.get("secret", "")) != 64:
            raise DataError(f"{self.path}: not a register of this version: restore it from a copy")
        if about.get("site") != self.site:
            raise DataError(
                f"{self.path} belongs to the site {about.get('site')}, not to {self.site}: use its own --state"
            )

    def secret(self, connection: sqlite3.Connection) -> bytes:
        """Return the site's secret."""
        return bytes.fromhex(connection.execute("SELECT value FROM about WHERE key = 'secret'").fetchone()[0])

    def read_sides(self, connection: sqlite3.Connection, dataset: str, persons: Iterable[str]) -> dict[str, int]:
        """Return the split (0 training, 1 validation, 2 test) of those of the people who have one."""
        known = dict(connection.execute("SELECT person, side FROM people WHERE dataset = ?", (dataset,)))
        secret = self.secret(connection)
        return {name: known[key] for name in persons if (key := hash_person(secret, name)) in known}

    def set_sides(self, connection: sqlite3.Connection, dataset: str, sides: Mapping[str, int]) -> None:
        """Record the split of people who have none yet; nobody's ever changes."""
        numbers = self._numbers(connection, dataset, self.secret(connection), sides)
        rows = [(side, dataset, numbers[name]) for name, side in sides.items()]
        query = "UPDATE people SET side = ? WHERE dataset = ? AND number = ? AND side = -1"
        connection.executemany(query, rows)

    def redraw(self, dataset: str) -> int:
        """Forget who trains and who is tested in a data set, so that the next request draws anew; return how many."""
        with self.open() as connection:
            forgotten: int = connection.execute("DELETE FROM people WHERE dataset = ?", (dataset,)).rowcount
            for table in ("releases", "contents"):
                connection.execute(f"DELETE FROM {table} WHERE dataset = ?", (dataset,))
            redraws = str(self.count_redraws(connection, dataset) + 1)
            connection.execute("INSERT OR REPLACE INTO about VALUES (?, ?)", (f"redraws of {dataset}", redraws))
        return forgotten

    def count_redraws(self, connection: sqlite3.Connection, dataset: str) -> int:
        """Return how often a data set's split was redrawn; each time it is drawn from another seed."""
        query = "SELECT value FROM about WHERE key = ?"
        row = connection.execute(query, (f"redraws of {dataset}",)).fetchone()
        return int(row[0]) if row else 0

    def release(self, dataset: str, kind: str, groups: Sequence[Iterable[str]], floor: int, run: str) -> list[bool]:
        """Return for each group of people whether figures over it may leave, and record those that do.

        A group may not leave if it differs from one that left before, or from another of these, by fewer than `floor`
        people: the difference of two answers would rest on them. The same people again are no difference.

        Args:
            dataset: the data set's name.
            kind: what is answered about them, such as "train" or "test"; groups of one kind are compared.
            groups: names of people, group by group.
            floor: the smallest number of people that a difference may rest on.
            run: the run that asked.
        """
        with self.open() as connection:
            secret = self.secret(connection)
            numbers = self._numbers(connection, dataset, secret, {name for group in groups for name in group})
            earlier = [
                unpack_people(row[0])
                for row in connection.execute(
                    "SELECT people FROM releases WHERE dataset = ? AND kind = ?", (dataset, kind)
                )
            ]
            allowed = []
            for group in groups:
                bits = np.zeros(len(numbers) and max(numbers.values()) + 1, dtype=bool)
                bits[[numbers[name] for name in set(group)]] = True
                good = all(not 0 < count_difference(bits, other) < floor for other in earlier)
                allowed.append(good)
                if good and not any(count_difference(bits, other) == 0 for other in earlier):
                    earlier.append(bits)
                    row = (dataset, kind, np.packbits(bits).tobytes(), run, time.time())
                    connection.execute("INSERT INTO releases VALUES (?, ?, ?, ?, ?)", row)
        return allowed

    def answer_sizes(
        self,
        dataset: str,
        kind: str,
        names: Sequence[str],
        groups: npt.NDArray[np.bool_],
        floor: int,
        run: str,
        noise: float = 0.0,
    ) -> npt.NDArray[np.int64]:
        """Return the number of people to report for each group: the earlier answer for a group that differs by few.

        A group of fewer than `floor` people, or of nobody, gives SMALL. Every other answer is some people off, always
        the same for the same people, so that several answers do not give the size of a group of few (the cell key
        method: Fraser and Wooton 2005, UNECE work session on statistical data confidentiality).

        Args:
            dataset: the data set's name.
            kind: what is answered about them; groups of one kind are compared.
            names: the people.
            groups: `(groups, people)`, who is in each.
            floor: groups that differ by fewer people get the same answer. A secret offset raises this to up to twice as
                many, so that a changed answer does not show whose change it was.
            run: the run that asked.
            noise: standard deviation of what an answer is off, in people.
        """
        sizes = np.full(len(groups), SMALL, dtype=np.int64)
        with self.open() as connection:
            numbers = self._numbers(connection, dataset, self.secret(connection), names)
            width = max(numbers.values(), default=-1) + 1
            numbers_in_group = np.asarray([numbers[name] for name in names], dtype=np.int64)
            query = "SELECT people FROM releases WHERE dataset = ? AND kind = ?"
            earlier = [unpack_people(row[0]) for row in connection.execute(query, (dataset, kind))]
            known = np.zeros((len(earlier), max([width, *(len(each) for each in earlier)], default=0)), dtype=bool)
            for row, each in zip(known, earlier, strict=True):
                row[: len(each)] = each
            secret = self.secret(connection)
            limits = np.asarray([floor + draw_offset(secret, row, floor) for row in known], dtype=np.int64)
            for index, group in enumerate(groups):
                if int(group.sum()) < floor:
                    continue
                bits = np.zeros(known.shape[1], dtype=bool)
                bits[numbers_in_group[group]] = True
                apart = (known != bits).sum(1)
                near = np.flatnonzero(apart < limits)
                if len(near):
                    answered = known[near[apart[near].argmin()]]
                    sizes[index] = max(floor, int(answered.sum()) + draw_error(secret, answered, noise))
                    continue
                known = np.vstack([known, bits])
                limits = np.append(limits, floor + draw_offset(secret, bits, floor))
                sizes[index] = max(floor, int(bits.sum()) + draw_error(secret, bits, noise))
                row_ = (dataset, kind, np.packbits(bits[:width]).tobytes(), run, time.time())
                connection.execute("INSERT OR IGNORE INTO releases VALUES (?, ?, ?, ?, ?)", row_)
        return sizes

    def _numbers(
        self, connection: sqlite3.Connection, dataset: str, secret: bytes, names: Iterable[str]
    ) -> dict[str, int]:
        """Return each person's number in the data set; new people get one, with side -1 until they have a split."""
        query = "SELECT person, number FROM people WHERE dataset = ?"
        known = dict(connection.execute(query, (dataset,)))
        hashed = {name: hash_person(secret, name) for name in names}
        fresh = sorted(key for key in set(hashed.values()) if key not in known)
        rows = [(dataset, key, len(known) + i, -1) for i, key in enumerate(fresh)]
        connection.executemany("INSERT INTO people VALUES (?, ?, ?, ?)", rows)
        known |= {key: number for _, key, number, _ in rows}
        return {name: int(known[key]) for name, key in hashed.items()}

    def ask(
        self,
        run: str,
        kind: str,
        digest: str,
        per_run: int | None,
        per_month: int | None,
        per_day: int | None = None,
    ) -> None:
        """Count a question; the same question again is answered without being counted.

        Args:
            run: the run that asks.
            kind: the kind of question, such as "test".
            digest: what it asks about, such as a digest of the model.
            per_run: most different questions of the kind a run may ask; None: any number.
            per_month: likewise within 30 days, over all runs.
            per_day: likewise within 24 hours.

        Raises:
            SiteError: the limit is reached.
        """
        now = time.time()
        with self.open() as connection:
            key = (run, kind, digest)
            query = "SELECT 1 FROM questions WHERE run = ? AND kind = ? AND digest = ?"
            if connection.execute(query, key).fetchone():
                return
            count = "SELECT COUNT(*) FROM questions WHERE kind = ?"
            in_run = connection.execute(f"{count} AND run = ?", (kind, run)).fetchone()[0]
            in_month = connection.execute(f"{count} AND time > ?", (kind, now - MONTH_SECONDS)).fetchone()[0]
            in_day = connection.execute(f"{count} AND time > ?", (kind, now - DAY_SECONDS)).fetchone()[0]
            limits = ((per_run, in_run, "one run"), (per_month, in_month, "30 days"), (per_day, in_day, "24 hours"))
            for limit, number, span in limits:
                if limit is not None and number >= limit:
                    raise SiteError(f"policy: this hospital answers {kind} for at most {limit} models in {span}")
            connection.execute("INSERT INTO questions VALUES (?, ?, ?, ?)", (*key, now))

    def bind(self, run: str, digest: str) -> None:
        """Require that a run keeps the settings of its first request.

        Raises:
            SiteError: the settings have changed.
        """
        with self.open() as connection:
            query = "SELECT digest FROM questions WHERE run = ? AND kind = 'settings'"
            known = connection.execute(query, (run,)).fetchone()
            if known is None:
                connection.execute("INSERT INTO questions VALUES (?, 'settings', ?, ?)", (run, digest, time.time()))
            elif known[0] != digest:
                raise SiteError("policy: a run keeps its configuration, strategy and scaling; start another run")

    def summary(self) -> dict[str, dict[str, int]]:
        """Return counts for the hospital itself: people by data set and split, releases and questions by kind."""
        names = {0: "train", 1: "validation", 2: "test", -1: "none"}
        with self.open() as connection:
            people: dict[str, int] = {}
            for dataset, side, count in connection.execute("SELECT dataset, side, COUNT(*) FROM people GROUP BY 1, 2"):
                people[f"{dataset}: {names[side]}"] = count
            counts = {
                table: dict(connection.execute(f"SELECT kind, COUNT(*) FROM {table} GROUP BY kind"))
                for table in ("releases", "questions")
            }
        return {"people": people, **counts}


def open_register(context: SiteContext) -> Register:
    """Return the register of a hospital's site, in its state folder.

    Raises:
        SiteError: the site has no state folder or no name.
    """
    if context.state is None or context.site is None:
        raise SiteError("this hospital keeps a register of what it answered, but has no folder for it: give --state")
    return Register(get_ledger_path(context.state, context.site).with_name("register.sqlite"), context.site)


def draw_offset(secret: bytes, group: npt.NDArray[np.bool_], floor: int) -> int:
    """Return a number below `floor` that only the site can compute; the same group always has the same number."""
    members = np.flatnonzero(group).astype(np.int64).tobytes()
    return hmac.new(secret, b"offset" + members, hashlib.sha256).digest()[0] % floor


def draw_error(secret: bytes, group: npt.NDArray[np.bool_], deviation: float) -> int:
    """Return by how many people an answer about a group is off: at most 4 deviations, the same for the same group."""
    members = np.flatnonzero(group).astype(np.int64).tobytes()
    key = hmac.new(secret, b"error" + members, hashlib.sha256).digest()
    drawn = np.random.default_rng(int.from_bytes(key[:16], "big")).normal()
    return round(deviation * float(np.clip(drawn, -4, 4)))


def hash_person(secret: bytes, name: str) -> str:
    """Return the keyed hash under which the register knows a person."""
    return hmac.new(secret, name.encode(), hashlib.sha256).hexdigest()


def unpack_people(packed: bytes) -> npt.NDArray[np.bool_]:
    """Return a group of people as booleans by the person's number."""
    return np.unpackbits(np.frombuffer(packed, dtype=np.uint8)).astype(bool)


def count_difference(one: npt.NDArray[np.bool_], other: npt.NDArray[np.bool_]) -> int:
    """Return how many people are in one of two groups alone; arrays may be of different lengths.

    >>> count_difference(np.array([True, False]), np.array([True, False, True]))
    1
    """
    width = min(len(one), len(other))
    rest = int(one[width:].sum()) + int(other[width:].sum())
    return int((one[:width] != other[:width]).sum()) + rest
