"""The site's register: the split of its people, the groups answered for, and the questions asked.

One SQLite file in the site's state folder, readable by its owner alone. It holds no patient's value and no identifier:
a person is a keyed hash (HMAC-SHA-256) under a secret that is drawn once and never leaves the file. Every check and
what it records are one transaction, so two simultaneous requests cannot both slip past a limit.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from client.gate.register_file import OpenFile, PackedGroup, draw_error, hash_person, open_register_file
from client.privacy.ledger import get_ledger_path
from client.site_context import SiteContext
from common.errors import SiteError

DAY_SECONDS = 24 * 3600.0
MONTH_SECONDS = 30 * DAY_SECONDS
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

        Inside of another such transaction of the same thread it is a part of that one.

        Raises:
            DataError: the file is damaged, or belongs to another site.
        """
        with self._open() as file:
            yield file.connection

    @contextmanager
    def _open(self) -> Iterator[OpenFile]:
        with open_register_file(self.path, self.site) as file:
            yield file

    def read_secret(self) -> bytes:
        """Return the site's secret."""
        with self._open() as file:
            return file.secret

    def read_sides(self, connection: sqlite3.Connection, dataset: str, persons: Iterable[str]) -> dict[str, int]:
        """Return the split (0 training, 1 validation, 2 test) of those of the people who have one."""
        known = dict(connection.execute("SELECT person, side FROM people WHERE dataset = ?", (dataset,)))
        secret = self.read_secret()
        return {name: known[key] for name in persons if (key := hash_person(secret, name)) in known}

    def record_split(self, connection: sqlite3.Connection, dataset: str, sides: Mapping[str, int]) -> None:
        """Record the split of people who have none yet; a recorded split never changes."""
        with self._open() as file:
            numbers = file.number_people(dataset, sides)
        rows = [(side, dataset, numbers[name]) for name, side in sides.items()]
        query = "UPDATE people SET side = ? WHERE dataset = ? AND number = ? AND side = -1"
        connection.executemany(query, rows)

    def redraw(self, dataset: str) -> int:
        """Forget who trains and who is tested in a data set, so that the next request draws anew; return how many."""
        with self._open() as file:
            connection = file.connection
            forgotten: int = connection.execute("DELETE FROM people WHERE dataset = ?", (dataset,)).rowcount
            for table in ("releases", "contents"):
                connection.execute(f"DELETE FROM {table} WHERE dataset = ?", (dataset,))
            redraws = str(self.count_redraws(connection, dataset) + 1)
            connection.execute("INSERT OR REPLACE INTO about VALUES (?, ?)", (f"redraws of {dataset}", redraws))
            file.forget()
        return forgotten

    def count_redraws(self, connection: sqlite3.Connection, dataset: str) -> int:
        """Return how often a data set's split was redrawn; each time it is drawn from another seed."""
        query = "SELECT value FROM about WHERE key = ?"
        row = connection.execute(query, (f"redraws of {dataset}",)).fetchone()
        return int(row[0]) if row else 0

    def keep_spread(self, dataset: str, column: str, spread: float) -> float:
        """Return the size of an input's noise that this hospital uses, once and for all requests.

        Where other options of a data set give other patients, the deviation differs a little, and noise of another size
        would be a second draw about the same value. A size that differs from all earlier ones by more than a factor of
        2, as in another unit, is kept in addition.

        Args:
            dataset: the data set's name.
            column: the input, and by what policy its noise is set.
            spread: the size now.
        """
        key = f"spread of {dataset}: {column}"
        with self.open() as connection:
            row = connection.execute("SELECT value FROM about WHERE key = ?", (key,)).fetchone()
            known = [float(value) for value in row[0].split()] if row else []
            for earlier in known:
                if 0.5 <= spread / earlier <= 2.0:
                    return earlier
            values = " ".join(repr(value) for value in [*known, spread])
            connection.execute("INSERT OR REPLACE INTO about VALUES (?, ?)", (key, values))
        return spread

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
        with self._open() as file:
            earlier = file.read_releases(dataset, kind)
            allowed = []
            for group in groups:
                packed = file.pack_names(dataset, tuple(group))
                apart = [packed.count_difference(other) for other in earlier]
                good = all(not 0 < count < floor for count in apart)
                allowed.append(good)
                if good and 0 not in apart:
                    self._store(file, dataset, kind, packed, run)
        return allowed

    def answer_sizes(
        self,
        names: Sequence[str],
        groups: npt.NDArray[np.bool_],
        floor: int,
        question: str,
        noise: float = 0.0,
    ) -> npt.NDArray[np.int64]:
        """Return the number of people to report for each group: its size and an error that the site alone can compute.

        A number below `floor` is reported as SMALL. Whether it is so is judged with the error, and so for a group of
        nobody: by the exact number, an answer would show whether one more person is in a group of a crafted model. The
        error of a group is another for each question: if it were the same, an answer that changes would show that
        somebody is in one group and not in the other. The same question again gets the same answer.

        Args:
            names: the people.
            groups: `(groups, people)`, who is in each.
            floor: the smallest number that is reported.
            question: a digest of what was asked, as it is counted (`ask`).
            noise: standard deviation of the error, in people.
        """
        key = self.read_secret() + question.encode()
        groups = groups[:, : len(names)]  # a table of nobody has one row of zeros
        errors = []
        for group in groups:
            members = sorted(name for name, inside in zip(names, group.tolist(), strict=True) if inside)
            errors.append(draw_error(key, "\x1f".join(members).encode(), noise))
        sizes = groups.sum(1) + np.asarray(errors, dtype=np.int64)
        return np.where(sizes >= floor, sizes, SMALL)

    def _store(self, file: OpenFile, dataset: str, kind: str, group: PackedGroup, run: str) -> None:
        """Store that a group was answered for."""
        row = (dataset, kind, group.content, run, time.time())
        file.connection.execute("INSERT OR IGNORE INTO releases VALUES (?, ?, ?, ?, ?)", row)
        file.read_releases(dataset, kind).append(group)

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

    def has_counted(self, run: str, kind: str, digest: str) -> bool:
        """Return whether a question was counted (`ask`), and so may be answered."""
        with self.open() as connection:
            query = "SELECT 1 FROM questions WHERE run = ? AND kind = ? AND digest = ?"
            return connection.execute(query, (run, kind, digest)).fetchone() is not None

    def count_questions(self, run: str, kind: str, digest: str) -> int:
        """Return which question of its kind in 30 days one is, from 1; the same question again has the same number.

        Raises:
            SiteError: it has not been counted (`ask`).
        """
        with self.open() as connection:
            query = "SELECT rowid, time FROM questions WHERE run = ? AND kind = ? AND digest = ?"
            counted = connection.execute(query, (run, kind, digest)).fetchone()
            if counted is None:
                raise SiteError("policy: what this hospital keeps of the run has changed since the request came")
            row, when = counted
            count = "SELECT COUNT(*) FROM questions WHERE kind = ? AND rowid <= ? AND time > ?"
            number: int = connection.execute(count, (kind, row, when - MONTH_SECONDS)).fetchone()[0]
            return max(1, number)

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
