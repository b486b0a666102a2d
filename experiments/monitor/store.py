"""What the monitor remembers, in SQLite: alerts with their acknowledgements, an audit log, beats, and minutes.

A thread writes in batches; until then rows are in the files of a journal (`journal.py`), so that a service that is
killed loses none. What could not be written, because the disk is full or the file locked, stays queued and is tried
again; a queue that is full makes the service refuse samples (503). Beats are deleted after `keep_hours`; their sums by
minute stay.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import DataError
from experiments.monitor.influx import LineWriter, build_line
from experiments.monitor.journal import Journal, Row

BATCH_SECONDS, RETRY_SECONDS, ALIVE_SECONDS, CLEAN_SECONDS = 0.25, 1.0, 1.0, 600.0
MAX_QUEUED = 200_000
"""Rows that wait at most: about an hour of 50 patients."""
TABLES = """
CREATE TABLE IF NOT EXISTS alert (id INTEGER PRIMARY KEY, device TEXT NOT NULL, kind TEXT NOT NULL, level TEXT NOT NULL,
    seconds REAL NOT NULL, wall REAL NOT NULL, text TEXT NOT NULL, withheld INTEGER NOT NULL,
    acknowledged_by TEXT, acknowledged_at REAL);
CREATE TABLE IF NOT EXISTS audit (id INTEGER PRIMARY KEY, wall REAL NOT NULL, name TEXT NOT NULL, action TEXT NOT NULL,
    subject TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS beat (device TEXT NOT NULL, wall REAL NOT NULL, seconds REAL NOT NULL, name TEXT NOT NULL,
    alarm REAL NOT NULL);
CREATE INDEX IF NOT EXISTS beat_wall ON beat (wall);
CREATE INDEX IF NOT EXISTS beat_device ON beat (device, seconds);
CREATE TABLE IF NOT EXISTS minute (device TEXT NOT NULL, minute INTEGER NOT NULL, name TEXT NOT NULL,
    beats INTEGER NOT NULL, PRIMARY KEY (device, minute, name)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS risk (device TEXT NOT NULL, hour INTEGER NOT NULL, wall REAL NOT NULL, risk REAL NOT NULL,
    factors TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS outcome (kind TEXT NOT NULL, device TEXT NOT NULL, at REAL NOT NULL,
    probability REAL NOT NULL, event INTEGER NOT NULL, wall REAL NOT NULL, name TEXT NOT NULL,
    PRIMARY KEY (kind, device, at));
CREATE TABLE IF NOT EXISTS journal (id INTEGER PRIMARY KEY, stored INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS life (id INTEGER PRIMARY KEY, started REAL NOT NULL, alive REAL NOT NULL, stopped REAL);
"""
INSERT_ALERT = "INSERT OR IGNORE INTO alert VALUES (?, ?, ?, ?, ?, ?, ?, ?, NULL, NULL)"
INSERT_BEAT = "INSERT INTO beat VALUES (?, ?, ?, ?, ?)"
INSERT_MINUTE = "INSERT INTO minute VALUES (?, ?, ?, 1) ON CONFLICT DO UPDATE SET beats = beats + 1"
INSERT_AUDIT = "INSERT INTO audit (wall, name, action, subject) VALUES (?, ?, ?, ?)"
INSERT_RISK = "INSERT INTO risk VALUES (?, ?, ?, ?, ?)"
INSERT_OUTCOME = "INSERT OR REPLACE INTO outcome VALUES (?, ?, ?, ?, ?, ?, ?)"
ACKNOWLEDGE = "UPDATE alert SET acknowledged_by = ?, acknowledged_at = ? WHERE id = ? AND acknowledged_by IS NULL"

JOURNALED = {
    "alert": INSERT_ALERT,
    "beat": INSERT_BEAT,
    "minute": INSERT_MINUTE,
    "audit": INSERT_AUDIT,
    "risk": INSERT_RISK,
    "outcome": INSERT_OUTCOME,
    "acknowledge": ACKNOWLEDGE,
}
"""Statements whose rows are in the journal until they are stored, by their names there."""
JOURNAL_FOLDER = "journal"
"""In the folder of the store's file."""


@dataclass(frozen=True)
class StoredAlert:
    """An alert of the store.

    Attributes:
        id: its number.
        device: of which device.
        kind: see `decisions.LEVELS`.
        level: its urgency.
        seconds: since the start of the stream.
        wall: when it was given, seconds since 1970.
        text: one line.
        withheld: alerts of its kind that were withheld in the hour before.
        acknowledged_by: who acknowledged it, "" for nobody.
        acknowledged_at: when, seconds since 1970.
    """

    id: int
    device: str
    kind: str
    level: str
    seconds: float
    wall: float
    text: str
    withheld: int
    acknowledged_by: str = ""
    acknowledged_at: float = 0.0


def _read_alert(row: Sequence[Any]) -> StoredAlert:
    number, device, kind, level, seconds, wall, text, withheld, name, when = row
    return StoredAlert(number, device, kind, level, seconds, wall, text, withheld, name or "", when or 0.0)


class Store:
    """A monitor's file of alerts, beats and its audit log."""

    def __init__(self, path: Path, keep_hours: float = 24.0, lines: LineWriter | None = None) -> None:
        """Open the file, and start writing.

        Args:
            path: the file.
            keep_hours: hours that single beats are kept.
            lines: writes beats and risks to an InfluxDB instead, and alerts to both.

        Raises:
            DataError: it cannot be opened.
        """
        self.path, self._keep_hours, self.lines = path, keep_hours, lines
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=2.0)
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=NORMAL")
            self._database.executescript(TABLES)
            path.chmod(0o600)
            self.journal = Journal(path.parent / JOURNAL_FOLDER, JOURNALED)
            self.pause = self._start_life(self._store_journal())
        except (OSError, sqlite3.Error) as error:
            raise DataError(f"{path}: the monitor's store cannot be opened ({error}); move it away") from None
        self._queue: deque[Row] = deque()
        self._clock = time.time() - time.monotonic()  # a clock that is set while the monitor runs deletes nothing
        self._lock, self._adding = threading.Lock(), threading.Lock()
        self._closed = threading.Event()
        self.failures = 0
        self.written = 0
        self._cleaned = self._lived = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="store", daemon=True)
        self._thread.start()

    def _store_journal(self) -> int:
        """Store the rows that waited when the monitor was killed; return how many there were."""
        noted = self._database.execute("SELECT stored FROM journal").fetchone()
        rows = self.journal.read(noted[0] if noted else 0)
        if rows:
            number = self.journal.turn()
            self._execute(rows, number)
            self.journal.delete(number)
        return len(rows)

    def _execute(self, rows: Sequence[Row], number: int) -> None:
        """Store rows in one transaction, which notes the number of the last file of the journal that holds them."""
        try:
            self._database.execute("BEGIN IMMEDIATE")
            for statement, values in rows:
                self._database.execute(statement, values)
            self._database.execute("INSERT OR REPLACE INTO journal VALUES (1, ?)", (number,))
            self._database.execute("COMMIT")
        except sqlite3.Error:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            raise

    def _start_life(self, recovered: int) -> str:
        """Note that the monitor starts; return for how long nobody was watched, "" at the first start.

        Args:
            recovered: rows that were stored from the journal.
        """
        now = time.time()
        row = self._database.execute("SELECT alive, stopped FROM life ORDER BY id DESC LIMIT 1").fetchone()
        self._life = self._database.execute("INSERT INTO life (started, alive) VALUES (?, ?)", (now, now)).lastrowid
        if row is None:
            return ""
        alive, stopped = row
        last = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(stopped or alive))
        away = f"from {last} for {max(0, round(now - (stopped or alive)))} s"
        text = f"nobody was watched {away}: the monitor was stopped"
        if stopped is None:
            text = f"nobody was watched {away}: the monitor ended without notice; what it had not yet scored is lost"
        if recovered:
            text += f"; {recovered} rows that waited were stored"
        self._database.execute(INSERT_AUDIT, (now, "monitor", "start", text))
        return text

    @property
    def queued(self) -> int:
        """Rows that wait to be written."""
        return len(self._queue)

    @property
    def full(self) -> bool:
        """Whether so much waits that no more may come."""
        return len(self._queue) > MAX_QUEUED or (self.lines is not None and self.lines.full)

    def add_beat(self, device: str, wall: float, seconds: float, name: str, alarm: float) -> None:
        """Queue a beat."""
        if self.lines is not None:
            values: dict[str, float | str] = {"alarm": alarm, "seconds": seconds}
            self.lines.add(build_line("beat", {"device": device, "class": name}, values, wall))
            return
        minute = (device, int(wall // 60), name)
        self._add_rows([(INSERT_BEAT, (device, wall, seconds, name, alarm)), (INSERT_MINUTE, minute)])

    def add_alert(self, alert: StoredAlert) -> None:
        """Queue an alert."""
        self.add(INSERT_ALERT, tuple(vars(alert).values())[:8])
        if self.lines is not None:
            tags = {"device": alert.device, "kind": alert.kind, "level": alert.level}
            self.lines.add(build_line("alert", tags, {"text": alert.text, "id": alert.id}, alert.wall))

    def add_risk(self, device: str, hour: int, wall: float, risk: float, factors: str) -> None:
        """Queue a risk; `factors` is JSON."""
        if self.lines is not None:
            self.lines.add(build_line("risk", {"device": device}, {"risk": risk, "hour": hour}, wall))
            return
        self.add(INSERT_RISK, (device, hour, wall, risk, factors))

    def add(self, statement: str, values: tuple[Any, ...]) -> None:
        """Queue a row; from now on kill -9 does not lose it."""
        self._add_rows([(statement, values)])

    def _add_rows(self, rows: Sequence[Row]) -> None:
        with self._adding:
            self.journal.append(rows)
            self._queue.extend(rows)

    def read_alerts(self, limit: int = 500) -> list[StoredAlert]:
        """Return the last alerts, the oldest first."""
        rows = self._read("SELECT * FROM alert ORDER BY id DESC LIMIT ?", (limit,))
        return [_read_alert(row) for row in reversed(rows)]

    def read_audit(self, limit: int = 200) -> list[tuple[float, str, str, str]]:
        """Return the last entries of the audit log (time, name, action, subject), the newest first."""
        rows = self._read("SELECT wall, name, action, subject FROM audit ORDER BY id DESC LIMIT ?", (limit,))
        return [(float(row[0]), str(row[1]), str(row[2]), str(row[3])) for row in rows]

    def read_minutes(self, device: str, since: int) -> list[tuple[int, str, int]]:
        """Return the number of beats of a device by minute (since 1970) and class."""
        rows = self._read("SELECT minute, name, beats FROM minute WHERE device = ? AND minute >= ?", (device, since))
        return [(int(row[0]), str(row[1]), int(row[2])) for row in rows]

    def read_outcomes(self, limit: int = 100_000) -> list[tuple[Any, str, float, float, bool]]:
        """Return the last outcomes (kind, device, hour or second, probability, event), the oldest first."""
        query = "SELECT kind, device, at, probability, event FROM outcome ORDER BY wall DESC LIMIT ?"
        rows = self._read(query, (limit,))
        return [(kind, device, at, given, bool(event)) for kind, device, at, given, event in reversed(rows)]

    def find_beat(self, device: str, seconds: float, near: float) -> tuple[float, float] | None:
        """Return the second and probability of a device's usable beat that is next to a time; None: there is none."""
        query = (
            "SELECT seconds, alarm FROM beat WHERE device = ? AND seconds BETWEEN ? AND ? AND name != 'unusable' "
            "ORDER BY abs(seconds - ?), wall DESC LIMIT 1"
        )
        rows = self._read(query, (device, seconds - near, seconds + near, seconds))
        return (float(rows[0][0]), float(rows[0][1])) if rows else None

    def find_risk(self, device: str, hour: int) -> float | None:
        """Return the newest risk of a device's hour; None: there is none."""
        rows = self._read(
            "SELECT risk FROM risk WHERE device = ? AND hour = ? ORDER BY wall DESC LIMIT 1", (device, hour)
        )
        return float(rows[0][0]) if rows else None

    def flush(self, seconds: float = 5.0) -> bool:
        """Wait until everything queued is written; return whether it is."""
        end = time.monotonic() + seconds
        while self._queue and time.monotonic() < end:
            time.sleep(0.01)
        with self._lock:
            done = not self._queue
        return done and (self.lines is None or self.lines.flush(max(0.1, end - time.monotonic())))

    def close(self) -> None:
        """Write what is queued, and close the file."""
        self._closed.set()
        if self.lines is not None:
            self.lines.close()
        self._thread.join(10)
        with contextlib.suppress(sqlite3.Error):
            self._database.execute("UPDATE life SET stopped = ? WHERE id = ?", (time.time(), self._life))
        self._database.close()
        self.journal.close()

    def _read(self, statement: str, values: Sequence[Any]) -> list[Any]:
        with self._lock:
            return self._database.execute(statement, values).fetchall()

    def _run(self) -> None:
        while not self._closed.wait(BATCH_SECONDS) or self._queue:
            if not self._write() and self._closed.wait(RETRY_SECONDS):
                return
            if time.monotonic() - self._lived > ALIVE_SECONDS:
                self._lived = time.monotonic()
                self.add("UPDATE life SET alive = ? WHERE id = ?", (time.time(), self._life))
            if time.monotonic() - self._cleaned > CLEAN_SECONDS:
                self.delete_old_beats()

    def _write(self) -> bool:
        """Write all that is queued in one transaction; return whether that worked."""
        with self._lock:
            with self._adding:  # the batch is what the files up to this number hold
                batch = list(self._queue)
                number = self.journal.turn()
                self._queue.clear()
            if not batch:
                return True
            try:
                self._execute(batch, number)
            except sqlite3.Error:
                self.failures += 1
                self._queue.extendleft(reversed(batch))
                return False
            self.written += len(batch)
        self.journal.delete(number)
        return True

    def delete_old_beats(self) -> None:
        """Delete beats beyond the retention; minutes, alerts and the audit log stay."""
        self._cleaned = time.monotonic()
        self.add("DELETE FROM beat WHERE wall < ?", (self._clock + time.monotonic() - 3600 * self._keep_hours,))
