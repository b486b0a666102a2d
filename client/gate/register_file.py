"""The register's SQLite file as a thread has it open, with what was read of it.

A hospital's client looks into its register several times for every message. Opening the file, reading everyone in it
and closing it again would take longer than all checks, so each thread keeps the last file open, and what it read of it
while nobody else has written to it.
"""

from __future__ import annotations

import atexit
import hashlib
import hmac
import os
import secrets
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from common.errors import DataError

FORMAT = "wardround.register/1"
LOCK_TIMEOUT_SECONDS = 60.0
MAX_GROUPS = 64
"""Groups of people by name that are kept; a site's are those of its splits and subgroups."""
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


@dataclass(frozen=True)
class PackedGroup:
    """A group of people.

    Attributes:
        content: a bit for each person by number, as `numpy.packbits` orders them.
        bits: the same as an integer, for fast comparison.
        size: number of people.
    """

    content: bytes
    bits: int
    size: int

    def count_difference(self, other: PackedGroup) -> int:
        """Return how many people are in one of two groups alone."""
        return (self.bits ^ other.bits).bit_count()


@dataclass
class OpenFile:
    """A register's file that a thread has open.

    Attributes:
        connection: of this thread's own.
        identity: process, device and file by which a file that was replaced is noticed.
        secret: the site's secret.
        site: the site that the file was found to be of.
        version: changes when somebody else has written.
        busy: whether a transaction is open.
        numbers: people's numbers by data set and keyed hash.
        releases: groups that were answered for, by data set and kind.
        groups: groups by data set and names.
    """

    connection: sqlite3.Connection
    identity: tuple[int, int, int]
    secret: bytes = b""
    site: str = ""
    version: int = -1
    busy: bool = False
    numbers: dict[str, dict[str, int]] = field(default_factory=dict)
    releases: dict[tuple[str, str], list[PackedGroup]] = field(default_factory=dict)
    groups: dict[tuple[str, tuple[str, ...]], PackedGroup] = field(default_factory=dict)

    def __del__(self) -> None:
        """Close the file when its thread has ended; a child process leaves its parent's file alone."""
        if self.identity[0] == os.getpid():
            self.connection.close()

    def forget(self) -> None:
        """Forget what was read."""
        self.numbers.clear()
        self.releases.clear()
        self.groups.clear()

    def number_people(self, dataset: str, names: Iterable[str]) -> dict[str, int]:
        """Return each person's number in a data set; new people get one, with side -1 until they have a split."""
        if dataset not in self.numbers:
            query = "SELECT person, number FROM people WHERE dataset = ?"
            self.numbers[dataset] = dict(self.connection.execute(query, (dataset,)))
        known = self.numbers[dataset]
        hashed = {name: hash_person(self.secret, name) for name in names}
        if fresh := sorted(key for key in set(hashed.values()) if key not in known):
            rows = [(dataset, key, len(known) + i, -1) for i, key in enumerate(fresh)]
            self.connection.executemany("INSERT INTO people VALUES (?, ?, ?, ?)", rows)
            known |= {key: number for _, key, number, _ in rows}
        return {name: known[key] for name, key in hashed.items()}

    def read_releases(self, dataset: str, kind: str) -> list[PackedGroup]:
        """Return the groups that were answered for; what is appended to the list must be stored too."""
        key = dataset, kind
        if key not in self.releases:
            query = "SELECT people FROM releases WHERE dataset = ? AND kind = ?"
            self.releases[key] = [pack_people(unpack_people(row[0])) for row in self.connection.execute(query, key)]
        return self.releases[key]

    def pack_names(self, dataset: str, names: tuple[str, ...]) -> PackedGroup:
        """Return a group of people by name."""
        key = dataset, names
        if key not in self.groups:
            numbers = list(self.number_people(dataset, names).values())
            members = np.zeros(max(numbers, default=-1) + 1, dtype=bool)
            members[numbers] = True
            if len(self.groups) >= MAX_GROUPS:
                self.groups.clear()
            self.groups[key] = pack_people(members)
        return self.groups[key]


_held = threading.local()


@contextmanager
def open_register_file(path: Path, site: str) -> Iterator[OpenFile]:
    """Open a register's file in one exclusive transaction, which is rolled back where anything is raised.

    Inside of another transaction of the same thread on the same file it is a part of that one.

    Args:
        path: the file; made where there is none.
        site: the site's name, to which the file is bound.

    Raises:
        DataError: the file is damaged, or belongs to another site.
    """
    held: OpenFile | None = getattr(_held, "file", None)
    if held is not None and held.busy and held.identity == _identify(path):
        yield held
        return
    try:
        held = _hold(path)
        connection = held.connection
        connection.execute("BEGIN IMMEDIATE")
        held.busy = True
        version: int = connection.execute("PRAGMA data_version").fetchone()[0]
        if (version, site) != (held.version, held.site):
            held.forget()
            held.secret, held.version, held.site = _prepare(connection, path, site), version, site
        yield held
        connection.execute("COMMIT")
        held.busy = False
    except sqlite3.DatabaseError as error:
        raise DataError(f"{path}: the register cannot be used ({error}): restore it from a copy") from None
    finally:
        if held is not None and held.busy:  # something was raised: nothing of the transaction stays
            release_register_file()


def release_register_file() -> None:
    """Close the file that this thread has open, without committing."""
    held: OpenFile | None = getattr(_held, "file", None)
    if held is not None:
        _held.file = None
        if held.identity[0] == os.getpid():
            held.connection.close()


atexit.register(release_register_file)


def _identify(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return os.getpid(), status.st_dev, status.st_ino


def _hold(path: Path) -> OpenFile:
    """Return the file as this thread has it open, after opening it if it has not."""
    held: OpenFile | None = getattr(_held, "file", None)
    identity = _identify(path)
    if held is not None and identity == held.identity:
        return held
    assert held is None or not held.busy, "a transaction on one register is open: another cannot be opened inside of it"
    release_register_file()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    os.chmod(path.parent, 0o700)
    if identity is None:
        with os.fdopen(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600)):
            pass
        identity = _identify(path)
    assert identity is not None
    # used by this thread alone; whichever thread ends it may close it
    connection = sqlite3.connect(path, timeout=LOCK_TIMEOUT_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        # written ahead and not synced each time: a power cut may lose the last entries, never the file
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
    except sqlite3.DatabaseError:
        connection.close()
        raise
    _held.file = OpenFile(connection, identity)
    file: OpenFile = _held.file
    return file


def _prepare(connection: sqlite3.Connection, path: Path, site: str) -> bytes:
    """Create the tables where there are none, check whose file it is, and return its secret."""
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'about'").fetchone():
        for statement in filter(str.strip, SCHEMA.split(";")):
            connection.execute(statement)
        rows = (("format", FORMAT), ("site", site), ("secret", secrets.token_hex(32)))
        connection.executemany("INSERT INTO about VALUES (?, ?)", rows)
    connection.execute(CONTENTS)
    about = dict(connection.execute("SELECT key, value FROM about"))
    if about.get("format") != FORMAT or len(about.get("secret", "")) != 64:
        raise DataError(f"{path}: not a register of this version: restore it from a copy")
    if about.get("site") != site:
        raise DataError(f"{path} belongs to the site {about.get('site')}, not to {site}: use its own --state")
    return bytes.fromhex(about["secret"])


@lru_cache(maxsize=1 << 17)
def hash_person(secret: bytes, name: str) -> str:
    """Return the keyed hash under which the register knows a person."""
    return hmac.new(secret, name.encode(), hashlib.sha256).hexdigest()


def pack_people(members: npt.NDArray[np.bool_]) -> PackedGroup:
    """Return a group from truth values by number."""
    content = np.packbits(members).tobytes()
    return PackedGroup(content, int.from_bytes(content, "little"), int(members.sum()))


def draw_error(secret: bytes, group: bytes, deviation: float) -> int:
    """Return by how many people an answer about a group is off: at most 4 deviations, the same for the same group.

    The deviation is part of what it is drawn from. One draw in two sizes, before and after the hospital sets another
    `count_noise`, would show the number without it.
    """
    key = hmac.new(secret, f"error of {deviation!r}:".encode() + group, hashlib.sha256).digest()
    drawn = np.random.default_rng(int.from_bytes(key[:16], "big")).normal()
    return round(deviation * float(np.clip(drawn, -4, 4)))


def unpack_people(packed: bytes) -> npt.NDArray[np.bool_]:
    """Return people as truth values by number."""
    return np.unpackbits(np.frombuffer(packed, dtype=np.uint8)).astype(bool)
