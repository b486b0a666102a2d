from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import pytest

from common.errors import ConfigError, DataError
from experiments.monitor import store as storing
from experiments.monitor.store import Store
from experiments.monitor.tokens import load_tokens

ALERT = (1, "bed-1", "ventricular run", "alarm", 3.0, 1000.0, "three", 0)


def test_alerts_and_acknowledgements_survive_a_restart(tmp_path: Path) -> None:
    store = Store(tmp_path / "monitor.sqlite")
    store.add(storing.INSERT_ALERT, ALERT)
    store.add(storing.ACKNOWLEDGE, ("ada", 1001.0, 1))
    store.add(storing.ACKNOWLEDGE, ("bob", 1002.0, 1))
    store.add(storing.INSERT_AUDIT, (1001.0, "ada", "acknowledge", "alert 1"))
    assert store.flush(60)
    store.close()
    again = Store(tmp_path / "monitor.sqlite")
    (alert,) = again.read_alerts()
    assert (alert.device, alert.acknowledged_by, alert.acknowledged_at) == ("bed-1", "ada", 1001.0)
    start, *before = again.read_audit()
    assert start[1:3] == ("monitor", "start")
    assert before == [(1001.0, "ada", "acknowledge", "alert 1")]
    assert (tmp_path / "monitor.sqlite").stat().st_mode & 0o077 == 0
    again.close()


def test_a_locked_file_loses_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "monitor.sqlite")
    other = sqlite3.connect(tmp_path / "monitor.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    for i in range(100):
        store.add(storing.INSERT_BEAT, ("bed-1", 60.0 * i, float(i), "N", 0.0))
        store.add(storing.INSERT_MINUTE, ("bed-1", i // 10, "N"))
    assert not store.flush(60)  # until the first attempt has failed
    assert store.failures > 0
    other.execute("ROLLBACK")
    assert store.flush(60)
    assert store.read_minutes("bed-1", 8) == [(8, "N", 10), (9, "N", 10)]
    assert other.execute("SELECT count(*) FROM beat").fetchone() == (100,)
    other.close()
    store.close()


def test_old_beats_are_deleted_and_minutes_stay(tmp_path: Path) -> None:
    store = Store(tmp_path / "monitor.sqlite", keep_hours=1)
    for wall in (time.time() - 7200, time.time()):
        store.add(storing.INSERT_BEAT, ("bed-1", wall, 0.0, "N", 0.0))
        store.add(storing.INSERT_MINUTE, ("bed-1", int(wall // 60), "N"))
    store.delete_old_beats()
    assert store.flush(60)
    reader = sqlite3.connect(tmp_path / "monitor.sqlite")
    assert reader.execute("SELECT count(*) FROM beat").fetchone() == (1,)
    assert reader.execute("SELECT count(*) FROM minute").fetchone() == (2,)
    reader.close()
    store.close()


def test_a_file_that_is_no_store_is_refused(tmp_path: Path) -> None:
    (tmp_path / "monitor.sqlite").write_text("not a database" * 100)
    with pytest.raises(DataError, match="cannot be opened"):
        Store(tmp_path / "monitor.sqlite")


def test_tokens_are_made_once_and_private(tmp_path: Path) -> None:
    tokens = load_tokens(tmp_path)
    device = tokens.first("device").token
    assert load_tokens(tmp_path).first("device").token == device
    assert tokens.identify(device, "person") is None
    assert tokens.identify("x" + device, "device") is None
    assert tokens.identify(device, "device") is not None
    (tmp_path / "tokens.json").chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        load_tokens(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", '[{"name": "a", "role": "device", "token": "short"}]', '[{"name": "a"}]'])
def test_a_malformed_file_of_tokens_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "tokens.json").write_text(text)
    (tmp_path / "tokens.json").chmod(0o600)
    with pytest.raises(ConfigError):
        load_tokens(tmp_path)
