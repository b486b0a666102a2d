"""What must not stop a monitor: kill -9, clocks that are set, slow and hostile clients."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import sqlite3
import struct
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit

import numpy as np
import pytest

pytest.importorskip("tornado")

from common.errors import DataError
from experiments.monitor import store as storing
from experiments.monitor import ward
from experiments.monitor.protocol import HEAD, read_binary, read_json, sign_datagram, write_binary
from experiments.monitor.store import Store
from tests.experiments.monitor.conftest import Client, cut, heartbeats

ODD_PACKETS = 100_000


@dataclass
class Process:
    """A monitor in a process of its own.

    Attributes:
        process: the process.
        url: its address.
        state: its state folder.
    """

    process: subprocess.Popen[str]
    url: str
    state: Path

    def send(self, first: int, samples: np.ndarray) -> None:
        """Send samples of one bed, again if the monitor asks to wait."""
        rows = [[float(v) for v in row] for row in samples]
        content = {"device_id": "bed-1", "rate": 250, "leads": ["II"], "first": first, "samples": rows}
        body = json.dumps(content).encode()
        wait(lambda: (status := self.call("/api/samples", body, "device")[0]) != 503 and status == 202)

    def call(self, path: str, body: bytes | None = None, role: str = "person") -> tuple[int, Any]:
        holders = json.loads((self.state / "tokens.json").read_text())
        token = next(item["token"] for item in holders if item["role"] == role)
        request = urllib.request.Request(self.url + path, body, {"Authorization": f"Bearer {token}"})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, json.loads(answer.read())
        except HTTPError as error:
            with error:
                return error.code, json.loads(error.read())


@contextlib.contextmanager
def start_process(run: Path, state: Path) -> Iterator[Process]:
    command = [
        sys.executable,
        "-m",
        "experiments.cli.launcher",
        "monitor",
        "--run",
        str(run),
        "--state",
        str(state),
        "--port",
        "0",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        try:
            line = next(line for line in process.stdout if line.startswith("page: "))
            yield Process(process, line.split()[1].rstrip("/"), state)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def wait(condition: Any, seconds: float = 120.0) -> Any:
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.1)
    return value


@pytest.mark.slow
@pytest.mark.processes
def test_after_kill_9_alerts_are_there_and_the_pause_is_reported(causal_run: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    flat = np.concatenate([heartbeats(12), np.full((250 * 15, 1), 0.2, np.float32)])
    with start_process(causal_run, state) as own:
        for start in range(0, len(flat), 250):
            own.send(start, flat[start : start + 250])
        alert = wait(lambda: own.call("/api/ward")[1]["patients"][0]["alert"])
        assert own.call(f"/api/alerts/{alert['id']}/acknowledge", b"")[0] == 200
        wait(lambda: own.call("/api/audit")[1]["entries"])
        os.kill(own.process.pid, signal.SIGKILL)
        own.process.wait(60)
    with start_process(causal_run, state) as own:
        (error,) = own.call("/api/ward")[1]["errors"]
        assert re.fullmatch(
            r"nobody was watched from [-\d]+ [:\d]+ for \d+ s: the monitor ended without notice; .*", error
        )
        entries = own.call("/api/audit")[1]["entries"]
        assert [(entry["name"], entry["action"]) for entry in entries] == [
            ("monitor", "start"),
            ("ward", "acknowledge"),
        ]
        later = heartbeats(12)
        for start in range(0, len(later), 250):  # the device goes on with its own numbers
            own.send(len(flat) + 2500 + start, later[start : start + 250])
        wait(lambda: sum(own.call("/api/ward")[1]["patients"][0]["counts"].values()) > 8)
        detail = own.call("/api/patients/bed-1")[1]
        assert {item["id"]: item["acknowledged_by"] for item in detail["alerts"]}[alert["id"]] == "ward"
        own.process.send_signal(signal.SIGTERM)
        assert own.process.wait(120) == 0
    store = Store(state / "monitor.sqlite")
    assert store.pause.endswith("the monitor was stopped")
    store.close()


@pytest.mark.slow
@pytest.mark.processes
def test_kill_9_loses_no_row_that_waits_for_a_locked_store(causal_run: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    signal_ = np.concatenate([heartbeats(12), np.full((250 * 15, 1), 0.2, np.float32)])
    with start_process(causal_run, state) as own:
        own.send(0, signal_[:250])
        with contextlib.closing(sqlite3.connect(state / "monitor.sqlite", isolation_level=None, timeout=60)) as other:
            other.execute("BEGIN IMMEDIATE")
            for start in range(250, len(signal_), 250):
                own.send(start, signal_[start : start + 250])
            alert = wait(lambda: own.call("/api/ward")[1]["patients"][0]["alert"])
            assert own.call(f"/api/alerts/{alert['id']}/acknowledge", b"")[0] == 200
            counts = own.call("/api/ward")[1]["patients"][0]["counts"]
            os.kill(own.process.pid, signal.SIGKILL)
            own.process.wait(60)
            assert other.execute("SELECT count(*) FROM beat").fetchone() == (0,)  # nothing was stored before
            other.execute("ROLLBACK")
    store = Store(state / "monitor.sqlite")
    (stored,) = store.read_alerts()
    assert (stored.id, stored.acknowledged_by) == (alert["id"], "ward")
    rows = dict(store._read("SELECT name, count(*) FROM beat GROUP BY name", ()))
    minutes = dict(store._read("SELECT name, sum(beats) FROM minute GROUP BY name", ()))
    store.close()
    assert sum(counts.values()) > 8
    assert rows == minutes
    assert all(rows[name] >= count for name, count in counts.items())  # what the page gave, and what came after


def test_a_clock_that_is_set_changes_no_beat_and_deletes_none(
    monitor: Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(ward, "SILENT_SECONDS", 3600.0)  # a busy machine needs longer than 5 s; clocks jump further
    real, offset = time.time, [0.0]
    packets = cut(heartbeats(24), "bed-clock")
    for number, packet in enumerate(packets):
        if number % 6 == 0:
            offset[0] = [0.0, 86400.0 * 400, -7200.0, 3600.0][number // 6]
            monkeypatch.setattr(time, "time", lambda: real() + offset[0])
        assert monitor.send(packet)[0] == 202
    row = monitor.wait(lambda: (own := monitor.overview()["bed-clock"]) and sum(own["counts"].values()) > 24 and own)
    assert not row["silent"]
    monkeypatch.undo()
    assert row["losses"] == {"lost": 0, "double": 0, "late": 0, "restarts": 0, "shed": 0}
    beats = json.loads(monitor.call("/api/patients/bed-clock")[1])["beats"]
    assert {beat["rate"] for beat in beats[2:]} == {75}
    store = Store(tmp_path / "monitor.sqlite", keep_hours=1)
    store.add(storing.INSERT_BEAT, ("bed-1", time.time(), 0.0, "N", 0.0))
    monkeypatch.setattr(time, "time", lambda: real() + 86400.0)
    store.delete_old_beats()
    assert store.flush(60)
    assert store._read("SELECT count(*) FROM beat", ()) == [(1,)]
    monkeypatch.undo()
    store.close()


def test_slow_clients_keep_nobody_waiting(monitor: Client) -> None:
    parts = urlsplit(monitor.running.url)
    address = (str(parts.hostname), int(parts.port or 0))
    token = monitor.token("device").encode()
    with contextlib.ExitStack() as stack:
        own = [stack.enter_context(socket.create_connection(address, 5)) for _ in range(120)]
        for number, connection in enumerate(own):
            head = b"POST /api/samples HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer " + token
            connection.sendall(head[: 20 + number] if number % 2 else head + b"\r\nContent-Length: 4000000\r\n\r\n[1")
        reader = stack.enter_context(socket.create_connection(address, 5))  # of the page's events, who never reads
        person = monitor.token("person").encode()
        reader.sendall(b"GET /api/events HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer " + person + b"\r\n\r\n")
        readers, publish = monitor.running.ward._readers, monitor.running.ward.publish
        monitor.wait(lambda: len(readers) > 0)
        for _ in range(30):
            for _ in range(100):
                monitor.loop.call_soon_threadsafe(publish, {"event": "alert", "alert": {"text": "x" * 10_000}})
            assert monitor.call("/health", role="")[0] in (200, 503)  # at all: one that is kept waiting raises an error
        monitor.wait(lambda: not readers)  # sent away, and what waited for them is freed
        for packet in cut(heartbeats(3), "bed-patient"):
            assert monitor.send(packet)[0] == 202


def test_wrong_tokens_are_refused_and_counted(monitor: Client) -> None:
    before = monitor.running.ward.refused["token"]
    token = monitor.token("person")
    wrong = [token[:-1], token + "x", token.swapcase(), "", "x" * 5000, "Bearer", "\u00e9" * 20, token[::-1]]
    for i in range(200):
        assert monitor.call("/api/ward", role="", Authorization=f"Bearer {wrong[i % len(wrong)]}")[0] == 401
    assert monitor.running.ward.refused["token"] == before + 200
    assert monitor.call("/api/ward")[0] == 200


def spoil(body: bytes, draw: np.random.Generator) -> bytes:
    """Return a packet with a few bytes changed, cut off, repeated, or a header of odd numbers."""
    out = bytearray(body)
    kind = int(draw.integers(0, 5))
    if kind == 0:
        for _ in range(int(draw.integers(1, 6))):
            out[int(draw.integers(0, len(out)))] = int(draw.integers(0, 256))
    elif kind == 1:
        return bytes(out[: int(draw.integers(0, len(out)))])
    elif kind == 2:
        at = int(draw.integers(0, len(out)))
        return bytes(out[:at] + out[at:] + out[at:])
    elif kind == 3:
        odd = [float("nan"), float("inf"), -1.0, 0.0, 1e38, 250.0]
        rate, unit = odd[int(draw.integers(0, 6))], odd[int(draw.integers(0, 6))]
        first = int(draw.choice(np.array([0, 1, 2**31, 2**53 - 1, 2**53, 2**63], dtype=np.uint64)))
        HEAD.pack_into(
            out, 0, b"WRM1", int(draw.integers(0, 256)), out[5], struct.unpack_from("<H", out, 6)[0], rate, unit, first
        )
    else:
        return draw.bytes(int(draw.integers(0, 400)))
    return bytes(out)


@pytest.mark.slow
def test_1e5_odd_packets_are_read_or_refused_in_one_line() -> None:
    draw = np.random.default_rng(5)
    body = write_binary(cut(heartbeats(1, leads=2), size=50)[1])
    text = json.dumps(
        {"device_id": "bed-1", "rate": 250, "leads": ["II"], "first": 3, "samples": [[0.1], [None]]}
    ).encode()
    refused = lines = 0
    for number in range(ODD_PACKETS):
        try:
            packets = [read_binary(spoil(body, draw))] if number % 2 else read_json(spoil(text, draw))
        except DataError as error:
            refused += 1
            lines += len(str(error).splitlines())
            continue
        for packet in packets:
            assert 125 <= packet.rate <= 1000
            assert packet.samples.shape[1] == len(packet.leads)
            assert not np.isinf(packet.samples).any()
    assert lines == refused
    assert ODD_PACKETS // 2 < refused < ODD_PACKETS


@pytest.mark.slow
@pytest.mark.processes
def test_1e5_odd_datagrams_do_not_stop_the_service(monitor: Client, free_socket: socket.socket) -> None:
    draw, token = np.random.default_rng(7), monitor.token("device")
    good = cut(heartbeats(20), "bed-odd")
    body = write_binary(replace(good[0], device="bed-fuzz"))
    address = ("127.0.0.1", int(monitor.running.udp_port or 0))
    refused, packets = monitor.running.ward.refused, monitor.running.ward.packets
    before = dict(refused)

    def count_seen() -> int:
        return refused["datagram"] + refused["malformed"] + refused["busy"] + packets["udp"]

    first = count_seen()
    for number in range(ODD_PACKETS):
        odd = spoil(body, draw)[:1400]
        free_socket.sendto(sign_datagram(odd, token) if number % 2 else odd, address)
        if number % 100 == 99:  # as many as the kernel keeps: none is lost on the way
            end = time.monotonic() + 120
            while count_seen() - first <= number:
                assert time.monotonic() < end
                time.sleep(0.001)
        if number % 500 == 0:
            assert monitor.call("/health", role="")[0] in (200, 503)
    monitor.wait(lambda: all(worker.age == 0 for worker in monitor.running.ward.workers), 300)
    for packet in good:  # the workers have done or shed all before
        monitor.wait(lambda packet=packet: monitor.send(packet)[0] == 202)
    monitor.wait(lambda: sum(monitor.overview()["bed-odd"]["counts"].values()) > 16)
    assert refused["datagram"] - before.get("datagram", 0) == ODD_PACKETS // 2
    assert refused["malformed"] - before.get("malformed", 0) > 0.1 * ODD_PACKETS
    assert all(worker.load.restarts == 0 for worker in monitor.running.ward.workers)


def build_caller(url: str, token: str) -> Callable[[Any], None]:
    from schemathesis.checks import CHECKS, load_all_checks

    load_all_checks()
    inexact = CHECKS.get_one("positive_data_acceptance")  # a schema cannot say that all rows have the same length
    no_error = CHECKS.get_one("not_a_server_error")

    def send_case(case: Any) -> None:
        headers = {"Authorization": f"Bearer {token}"}
        answer = case.call(base_url=url, headers=headers)
        busy = answer.status_code == 503  # on a busy machine, as the interface says
        case.validate_response(answer, headers=headers, excluded_checks=[inexact, no_error] if busy else [inexact])

    return send_case


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.parametrize("mode", ["positive", "negative"])
def test_the_published_interface_survives_schemathesis(monitor: Client, mode: str) -> None:
    """Requests that the interface allows, and ones that it does not, are answered as it describes, never with 500."""
    import schemathesis
    from hypothesis import HealthCheck, given, settings

    interface = json.loads(monitor.call("/page/openapi.json", role="")[1])
    del interface["paths"]["/api/events"]  # an answer without end
    schema = schemathesis.openapi.from_dict(interface)
    for operation in (item.ok() for item in schema.get_all_operations()):
        if operation.path == "/health" and mode == "negative":
            continue  # it takes nothing that could be wrong
        role = "device" if operation.path in ("/api/samples", "/api/rows") else "person"
        send = build_caller(monitor.running.url.rstrip("/"), monitor.token(role))
        cases = operation.as_strategy(generation_mode=schemathesis.GenerationMode(mode))
        quiet = settings(
            max_examples=50, deadline=None, database=None, derandomize=True, suppress_health_check=HealthCheck
        )
        quiet(given(cases)(send))()
    assert monitor.call("/health", role="")[0] in (200, 503)
