from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tornado")

from common.errors import ConfigError
from experiments.bench.monitor_outage import INFLUX_CONFIG
from experiments.monitor import influx
from experiments.monitor.influx import InfluxSettings, LineWriter, build_line, check_url
from experiments.monitor.store import Store, StoredAlert
from tests.experiments.monitor.receivers import run_receiver

CONFIG = (
    INFLUX_CONFIG
    + """
[continuous_queries]
  run-interval = "1s"
"""
)


class Database:
    """A real InfluxDB 1.x on this machine."""

    def __init__(self, folder: Path, program: str, ports: tuple[int, int]) -> None:
        self.folder, self.program, self.url = folder, program, f"http://127.0.0.1:{ports[0]}"
        (folder / "influxdb.conf").write_text(CONFIG.format(folder=folder, port=ports[0], rpc=ports[1]))
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with open(self.folder / "log", "ab") as log:
            arguments = [self.program, "-config", str(self.folder / "influxdb.conf")]
            self.process = subprocess.Popen(arguments, stdout=log, stderr=log)
        wait(lambda: self.answers())

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(self.url + "/ping", timeout=5) as answer:
                return answer.status == 204
        except OSError:
            return False

    def kill(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait(10)

    def query(self, text: str) -> list[Any]:
        parameters = urllib.parse.urlencode({"db": "wardround", "q": text})
        with urllib.request.urlopen(f"{self.url}/query?{parameters}", timeout=10) as answer:
            series = json.loads(answer.read())["results"][0].get("series", [])
        return [row for item in series for row in item["values"]]


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(influx, "TIMEOUT_SECONDS", 120.0)


def wait(condition: Callable[[], Any], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.05)


@pytest.fixture
def database(tmp_path: Path, unused_ports: tuple[int, int]) -> Iterator[Database]:
    program = shutil.which("influxd") or os.environ.get("WARDROUND_INFLUXD", "")
    if not program:
        pytest.skip("needs InfluxDB 1.x: apt install influxdb")
    folder = tmp_path / "influxdb"
    folder.mkdir()
    own = Database(folder, program, unused_ports)
    own.start()
    try:
        yield own
    finally:
        own.kill()


@pytest.fixture
def unused_ports() -> tuple[int, int]:
    import socket

    with socket.socket() as first, socket.socket() as second:
        first.bind(("127.0.0.1", 0))
        second.bind(("127.0.0.1", 0))
        return first.getsockname()[1], second.getsockname()[1]


@pytest.mark.slow
@pytest.mark.processes
def test_a_database_that_is_killed_loses_nothing(database: Database, tmp_path: Path) -> None:
    state, now = tmp_path / "state", time.time()
    lines = LineWriter(InfluxSettings(database.url), state)
    store = Store(state / "monitor.sqlite", lines=lines)
    for i in range(100):
        store.add_beat("bed-1", now - 300 + i, float(i), "N" if i % 10 else "V", 0.25)
    assert store.flush(120)
    database.kill()
    for i in range(100, 200):
        store.add_beat("bed-1", now - 300 + i, float(i), "N", 0.25)
    store.add_alert(StoredAlert(1, "bed-1", "ventricular run", "alarm", 3.0, now, 'three, "fast"', 0))
    wait(lambda: lines.failures > 1 and lines.spooled_bytes > 0)
    store.close()  # the monitor is stopped while the database is away, and starts again
    lines = LineWriter(InfluxSettings(database.url), state)
    store = Store(state / "monitor.sqlite", lines=lines)
    assert lines.spooled_bytes > 0
    assert lines.written == 0
    database.start()
    assert store.flush(120)
    rows = database.query('SELECT seconds FROM "beats"."beat"')
    assert sorted(row[1] for row in rows) == [float(i) for i in range(200)]
    assert database.query('SELECT count(alarm) FROM "beats"."beat" WHERE "class" = \'V\'')[0][1] == 10
    assert database.query('SELECT text FROM "beats"."alert"')[0][1] == 'three, "fast"'
    assert [alert.id for alert in store.read_alerts()] == [1]  # acknowledgements need it in the state folder
    assert any(row[0] == "beats" and row[1] == "24h0m0s" for row in database.query("SHOW RETENTION POLICIES"))
    wait(lambda: sum(row[1] for row in database.query('SELECT beats FROM "autogen"."minute"')) >= 190, 180)
    store.close()


def test_a_full_spool_refuses_more_instead_of_dropping(tmp_path: Path, unused_ports: tuple[int, int]) -> None:
    settings = InfluxSettings(f"http://127.0.0.1:{unused_ports[0]}", max_spool=2000)
    lines = LineWriter(settings, tmp_path)
    store = Store(tmp_path / "monitor.sqlite", lines=lines)
    assert not store.full
    for i in range(60):
        store.add_beat("bed-1", float(i), float(i), "N", 0.0)
    wait(lambda: store.full)
    with run_receiver(lambda path: 204, unused_ports[0]) as receiver:
        assert store.flush(120)
        assert not store.full
        written = b"".join(body for path, _, body in receiver.requests if path.startswith("/write"))
    assert [line.split()[-1] for line in written.splitlines()] == [str(1000 * i).encode() for i in range(60)]
    store.close()


def test_lines_that_are_refused_for_good_are_counted_and_do_not_block(tmp_path: Path) -> None:
    answers = iter([400])
    with run_receiver(lambda path: next(answers, 204) if path.startswith("/write") else 200) as receiver:
        lines = LineWriter(InfluxSettings(receiver.url), tmp_path)
        lines.add("bad")
        wait(lambda: lines.rejected == 1)
        lines.add("good a=1 1")
        wait(lambda: lines.written == 1)
        lines.close()
    assert not list((tmp_path / "influxdb-spool").iterdir())


def test_an_error_of_the_server_is_tried_again(tmp_path: Path) -> None:
    answers = iter([503, 503])
    with run_receiver(lambda path: next(answers, 204) if path.startswith("/write") else 200) as receiver:
        (tmp_path / "influxdb.login").write_text("ada:secret\n")
        (tmp_path / "influxdb.login").chmod(0o600)
        lines = LineWriter(InfluxSettings(receiver.url), tmp_path)
        lines.add(build_line("beat", {"device": "a b"}, {"x": 1}, 2.0))
        wait(lambda: lines.written == 1)
        assert lines.failures == 2
        assert {body for path, _, body in receiver.requests if path.startswith("/write")} == {
            b"beat,device=a\\ b x=1.0 2000\n"
        }
        assert receiver.requests[0][1]["Authorization"].startswith("Basic ")
        lines.close()
    (tmp_path / "influxdb.login").chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        LineWriter(InfluxSettings(receiver.url), tmp_path)


@pytest.mark.parametrize(
    "url", ["http://db.example:8086", "ftp://127.0.0.1", "https://ada:x@db.example", "db", "http://[x"]
)
def test_patients_data_goes_nowhere_unencrypted(url: str) -> None:
    with pytest.raises(ConfigError):
        check_url(url, "--influx-url")
    assert check_url("https://db.example:8086/", "--influx-url") == "https://db.example:8086"
    assert check_url("http://localhost:8086", "--influx-url") == "http://localhost:8086"
