"""What is on disk at any moment: a copy of the state folder is what a killed service leaves."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from experiments.monitor import store as storing
from experiments.monitor.store import JOURNAL_FOLDER, Store
from tests.experiments.monitor.test_store import ALERT


def read(state: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(state / "monitor.sqlite")) as own:
        return own.execute(query).fetchall()


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[Store]:
    """A store whose file another program has locked, with rows that wait."""
    store = Store(tmp_path / "state" / "monitor.sqlite")
    with closing(sqlite3.connect(tmp_path / "state" / "monitor.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        for i in range(100):
            store.add_beat("bed-1", 60.0 * (i // 10), float(i), "N", 0.25)
        store.add(storing.INSERT_ALERT, ALERT)
        store.add(storing.ACKNOWLEDGE, ("ada", 1001.0, 1))
        store.add(storing.INSERT_AUDIT, (1001.0, "ada", "acknowledge", "alert 1"))
        yield store
        other.execute("ROLLBACK")
    assert store.flush(60) or store.flush(60)  # the first may end with an attempt that was refused
    store.close()
    assert not list((tmp_path / "state" / JOURNAL_FOLDER).iterdir())


def test_rows_that_wait_survive_a_kill_and_are_stored_once(locked: Store, tmp_path: Path) -> None:
    shutil.copytree(tmp_path / "state", tmp_path / "left")
    for _ in range(2):  # the second start finds nothing more to store
        again = Store(tmp_path / "left" / "monitor.sqlite")
        (alert,) = again.read_alerts()
        assert (alert.acknowledged_by, alert.acknowledged_at) == ("ada", 1001.0)
        assert [row[1:3] for row in again.read_audit() if row[1] != "monitor"] == [("ada", "acknowledge")]
        assert again.read_minutes("bed-1", 0) == [(minute, "N", 10) for minute in range(10)]
        again.close()
        assert read(tmp_path / "left", "SELECT seconds FROM beat ORDER BY seconds") == [(float(i),) for i in range(100)]
    assert "203 rows that waited were stored" in read(tmp_path / "left", "SELECT subject FROM audit")[1][0]


def test_a_kill_between_the_transaction_and_its_file_stores_nothing_twice(tmp_path: Path) -> None:
    state = tmp_path / "state"
    store = Store(state / "monitor.sqlite")
    store.journal.delete = lambda number: None  # type: ignore[method-assign]  # killed before this
    for i in range(30):
        store.add_beat("bed-1", 0.0, float(i), "V", 0.9)
    assert store.flush(60)
    store.close()
    assert list((state / JOURNAL_FOLDER).iterdir())
    again = Store(state / "monitor.sqlite")
    assert again.read_minutes("bed-1", 0) == [(0, "V", 30)]
    again.add_beat("bed-1", 0.0, 30.0, "V", 0.9)  # numbers of files go on: this row is in a later one
    assert again.flush(60)
    again.close()
    assert read(state, "SELECT count(*) FROM beat") == [(31,)]


def test_a_torn_line_costs_no_other_row(locked: Store, tmp_path: Path) -> None:
    shutil.copytree(tmp_path / "state", tmp_path / "left")
    path = max((tmp_path / "left" / JOURNAL_FOLDER).iterdir())
    path.write_bytes(path.read_bytes()[:-7])  # the disk was full: the last row is not whole
    with path.open("ab") as file:
        file.write(b'\n["alert", [2, "bed-2", "no beat", "alarm", 4.0, 1002.0, "none", 0]]\n["unknown", [1]]')
    again = Store(tmp_path / "left" / "monitor.sqlite")
    assert [alert.id for alert in again.read_alerts()] == [1, 2]
    again.close()
    assert read(tmp_path / "left", "SELECT count(*) FROM beat") == [(100,)]


def test_a_journal_that_cannot_be_written_is_counted_and_stops_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "state" / "monitor.sqlite")
    shutil.rmtree(tmp_path / "state" / JOURNAL_FOLDER)
    store.add(storing.INSERT_ALERT, ALERT)
    assert store.journal.failures == 1
    assert store.flush(60)
    assert len(store.read_alerts()) == 1
    store.close()


def test_nobody_else_can_read_the_journal(locked: Store, tmp_path: Path) -> None:
    folder = tmp_path / "state" / JOURNAL_FOLDER
    assert all(path.stat().st_mode & 0o077 == 0 for path in (folder, *folder.iterdir()))
