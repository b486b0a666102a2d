"""A database that is gone while devices send: nothing is lost, and a full spool is a clear refusal."""

from __future__ import annotations

import json
import sqlite3
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("tornado")

from experiments.bench.monitor_outage import lock_embedded
from experiments.monitor.influx import InfluxSettings
from experiments.monitor.service import Settings
from experiments.monitor.worker import NewModel
from tests.experiments.monitor.conftest import Client, cut, heartbeats, run_in_thread
from tests.experiments.monitor.receivers import run_receiver
from tests.experiments.monitor.test_influx import unused_ports  # noqa: F401  a fixture

pytestmark = [pytest.mark.slow, pytest.mark.processes]


@pytest.fixture
def spooling_monitor(
    causal_run: Path,
    tmp_path: Path,
    unused_ports: tuple[int, int],  # noqa: F811
) -> Iterator[Client]:
    influx = InfluxSettings(f"http://127.0.0.1:{unused_ports[0]}", max_spool=1500)
    yield from run_in_thread(Settings(NewModel(causal_run), tmp_path / "state", port=0, influx=influx))


def post(client: Client, body: bytes) -> tuple[int, str | None]:
    headers = {"Authorization": f"Bearer {client.token('device')}", "Content-Type": "application/json"}
    request = urllib.request.Request(client.running.url + "api/samples", body, headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.headers["Retry-After"]
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["Retry-After"]


def test_a_full_spool_is_a_503_and_every_beat_comes_once_the_database_is_back(
    spooling_monitor: Client,
    unused_ports: tuple[int, int],  # noqa: F811
) -> None:
    client, ward = spooling_monitor, spooling_monitor.running.ward
    bodies = [
        json.dumps(
            {"device_id": "bed-1", "rate": 250, "leads": ["II"], "first": packet.first,
             "samples": [float(value) for value in packet.samples[:, 0]]}
        ).encode()
        for packet in cut(heartbeats(120))
    ]  # fmt: skip
    statuses: list[tuple[int, str | None]] = []
    waiting = iter(bodies)
    body = next(waiting)
    while (answer := post(client, body))[0] == 202:
        statuses.append(answer)
        body = next(waiting)
        time.sleep(0.05)
    assert answer == (503, "1")  # clear, with a time to come again
    assert len(statuses) > 20  # it was not full at once
    assert post(client, body) == (503, "1")
    scored = sum(worker.load.scored for worker in ward.workers)
    with run_receiver(lambda path: 204, unused_ports[0]) as receiver:
        for later in (body, *waiting):
            client.wait(lambda later=later: post(client, later)[0] == 202)
        client.wait(lambda: sum(worker.load.scored for worker in ward.workers) > scored + 20)
        time.sleep(1)
        assert ward.store.flush(20)
        lines = b"".join(text for path, _, text in receiver.requests if path.startswith("/write")).splitlines()
    beats = [line for line in lines if line.startswith(b"beat,")]
    assert len(set(beats)) == sum(worker.load.scored for worker in ward.workers)
    assert ward.streams["bed-1"].sequencer.losses.lost == 0


@pytest.fixture
def own_monitor(causal_run: Path, tmp_path: Path) -> Iterator[Client]:
    yield from run_in_thread(Settings(NewModel(causal_run), tmp_path / "state", port=0))


def test_a_locked_store_loses_nothing(own_monitor: Client, tmp_path: Path) -> None:
    ward, database = own_monitor.running.ward, lock_embedded(tmp_path / "state")
    packets = iter(cut(heartbeats(60)))
    for _ in range(20):
        assert own_monitor.send(next(packets))[0] == 202
    database.take_away()
    for packet in packets:
        assert own_monitor.send(packet)[0] == 202
    own_monitor.wait(lambda: ward.store.failures > 0)
    own_monitor.wait(lambda: sum(worker.load.scored for worker in ward.workers) >= 70)
    assert ward.store.queued > 40
    database.bring_back()
    assert ward.store.flush(20)
    assert database.count() == sum(worker.load.scored for worker in ward.workers)
    with sqlite3.connect(tmp_path / "state" / "monitor.sqlite") as own:
        assert own.execute("SELECT sum(beats) FROM minute").fetchone()[0] == database.count()
