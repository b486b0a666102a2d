"""A monitor as devices and people meet it: HTTP, WebSocket and UDP, tokens, alerts, limits."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest

pytest.importorskip("tornado")
from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.websocket import websocket_connect

from common.errors import ConfigError
from experiments.monitor.handlers import build_application
from experiments.monitor.model_sources import open_beat_model
from experiments.monitor.protocol import Packet, sign_datagram, write_binary
from experiments.monitor.service import Settings, check_address
from experiments.monitor.worker import NewModel
from sites.ecg.streaming.whole import cut_causal_beats, detect_beats
from tests.experiments.monitor.conftest import Client, cut, heartbeats

pytestmark = [pytest.mark.slow, pytest.mark.processes]


def test_beats_are_scored_as_the_batch_path_scores_them(monitor: Client, causal_run: Path) -> None:
    signal = heartbeats(30)
    for packet in cut(signal, "bed-batch"):
        assert monitor.send(packet)[0] == 202
    model = open_beat_model(causal_run)
    seconds = detect_beats(signal, 250.0)
    names = model.score_cut(cut_causal_beats(signal, 250.0, seconds, 1)).names
    assert len(names) > 30
    monitor.wait(lambda: sum(monitor.overview()["bed-batch"]["counts"].values()) >= len(names) - 4)
    beats = json.loads(monitor.call("/api/patients/bed-batch")[1])["beats"]
    by_time = {round(float(second), 2): name for second, name in zip(seconds, names, strict=True)}
    assert [by_time[round(beat["seconds"], 2)] for beat in beats] == [beat["class"] for beat in beats]
    assert {beat["rate"] for beat in beats[2:]} == {75}


def test_http_binary_websocket_and_udp_take_the_same_packets(monitor: Client, free_socket: socket.socket) -> None:
    packets = cut(heartbeats(12, leads=2), size=100)
    for packet in packets:
        status, _ = monitor.call(
            "/api/samples", _named(packet, "bed-http"),
            "device", Content_Type="application/octet-stream",
        )  # fmt: skip
        assert status == 202
        body = sign_datagram(_named(packet, "bed-udp"), monitor.token("device"))
        free_socket.sendto(body, ("127.0.0.1", monitor.running.udp_port))

    async def send() -> None:
        url = monitor.running.url.replace("http", "ws") + "api/stream"
        request = HTTPRequest(url, headers={"Authorization": f"Bearer {monitor.token('device')}"})
        connection = await websocket_connect(request)
        for packet in packets:
            await connection.write_message(_named(packet, "bed-ws"), binary=True)
        await connection.write_message("{")
        assert "no JSON" in str(await connection.read_message())
        connection.close()
        assert await connection.read_message() is None  # closed by the service as well

    asyncio.run(send())
    names = ("bed-http", "bed-udp", "bed-ws")
    monitor.wait(lambda: all(sum(monitor.overview()[name]["counts"].values()) > 8 for name in names))
    rows = monitor.overview()
    assert {rows[name]["seconds"] for name in names} == {12.0}
    assert {rows[name]["losses"]["lost"] for name in names} == {0}


def _named(packet: Packet, device: str) -> bytes:
    return write_binary(replace(packet, device=device))


def test_a_fault_raises_an_alert_that_a_person_acknowledges_once(monitor: Client) -> None:
    signal = np.concatenate([heartbeats(12), np.full((250 * 15, 1), 0.2, np.float32)])
    for packet in cut(signal, "bed-flat"):
        assert monitor.send(packet)[0] == 202
    row = monitor.wait(lambda: (own := monitor.overview()["bed-flat"]) and own["alert"] and own)
    assert row["alert"]["kind"] == "signal not usable"
    assert row["faults"] == ["flat lead"]
    assert row["urgency"] > 0
    number = row["alert"]["id"]
    assert monitor.call(f"/api/alerts/{number}/acknowledge", b"", "device")[0] == 401
    assert monitor.call(f"/api/alerts/{number}/acknowledge", b"", Sec_Fetch_Site="cross-site")[0] == 403
    assert monitor.call("/api/alerts/99999/acknowledge", b"")[0] == 404
    status, body = monitor.call(f"/api/alerts/{number}/acknowledge", b"")
    assert (status, json.loads(body)["by"]) == (200, "ward")
    assert monitor.overview()["bed-flat"]["unacknowledged"] == 0
    expected = ("ward", "acknowledge", f"alert {number}")
    monitor.wait(lambda: expected in [_read_entry(entry) for entry in read_audit(monitor)])


def read_audit(monitor: Client) -> list[dict[str, str]]:
    entries: list[dict[str, str]] = json.loads(monitor.call("/api/audit")[1])["entries"]
    return entries


def _read_entry(entry: dict[str, str]) -> tuple[str, str, str]:
    return entry["name"], entry["action"], entry["subject"]


def test_nobody_without_a_token_of_the_right_role_gets_anything(monitor: Client) -> None:
    paths = ["/api/ward", "/api/patients/bed-1", "/api/audit", "/api/events", "/metrics"]
    for path in paths:
        assert monitor.call(path, role="")[0] == 401
        assert monitor.call(path, role="device")[0] == 401
        assert monitor.call(path, role="", Authorization="Bearer \u00e9")[0] == 401
    assert monitor.call("/api/samples", b"{}", "person")[0] == 401
    assert monitor.call("/api/samples", b"{}", "")[0] == 401
    status, page = monitor.call("/", role="")
    assert status == 200
    assert b'name="token"' in page
    assert monitor.call("/login", b"token=wrong", role="")[0] == 401

    async def connect() -> None:
        with pytest.raises(HTTPClientError):
            await websocket_connect(monitor.running.url.replace("http", "ws") + "api/stream")

    asyncio.run(connect())


def test_odd_requests_are_refused_in_one_line(monitor: Client) -> None:
    for body in (b"", b"{", b"\xff\xfe", b"[" * 50_000, b'{"device_id": "x", "samples": ["Ada Lovelace"]}'):
        status, answer = monitor.call("/api/samples", body, "device")
        assert status == 400
        assert set(json.loads(answer)) == {"error"}
        assert b"Ada" not in answer
    assert monitor.call("/api/samples", b"WRM1", "device", Content_Type="application/octet-stream")[0] == 400
    assert monitor.call("/nothing")[0] == 404
    assert monitor.call("/api/patients/nobody")[0] == 404
    assert monitor.call("/page/..%2f..%2fstore.py")[0] == 404
    assert monitor.call("/health", role="")[0] in (200, 503)  # 503: on a busy machine, as the interface says


def test_a_body_of_10_megabytes_is_refused_and_the_service_goes_on(monitor: Client) -> None:
    try:
        status = monitor.call("/api/samples", b"1" * 10_000_000, "device")[0]
    except OSError:  # the connection is closed before the body is sent
        status = 400
    assert status in (400, 413)
    assert monitor.call("/health", role="")[0] in (200, 503)


def test_odd_datagrams_do_not_stop_the_service(monitor: Client, free_socket: socket.socket) -> None:
    draw = np.random.default_rng(3)
    token = monitor.token("device")
    before = monitor.running.ward.refused["datagram"] + monitor.running.ward.refused["malformed"]
    for i in range(2000):
        body = draw.bytes(int(draw.integers(0, 300)))
        signed = sign_datagram(b"WRM1" + body, token) if i % 2 else body
        free_socket.sendto(signed, ("127.0.0.1", monitor.running.udp_port))
        if i % 100 == 0:
            monitor.call("/health", role="")
    refused = monitor.running.ward.refused
    monitor.wait(lambda: refused["datagram"] + refused["malformed"] - before > 1000)
    assert monitor.call("/health", role="")[0] in (200, 503)


def test_the_published_interface_is_the_one_that_answers(monitor: Client) -> None:
    status, body = monitor.call("/page/openapi.json", role="")
    assert status == 200
    interface = json.loads(body)
    routes = {rule.matcher.regex.pattern for rule in build_application(monitor.running.service).wildcard_router.rules}
    for path, methods in interface["paths"].items():
        pattern = path.replace("{device}", "bed-1").replace("{number}", "1")
        assert any(re.fullmatch(route, pattern) for route in routes), path
        for method, about in methods.items():
            if about.get("security") == []:
                continue
            status, answer = monitor.call(pattern, b"" if method == "post" else None, role="")
            assert status == 401
            jsonschema.validate(json.loads(answer), interface["components"]["schemas"]["Error"])
    schema = interface["components"]["schemas"]["Packet"]
    for given, valid in (
        ({"device_id": "bed-1", "samples": [0.1, None]}, True),
        ({"device_id": "bed 1", "samples": [0.1]}, False),
        ({"device_id": "bed-1", "samples": []}, False),
        ({"device_id": "bed-1", "samples": [1], "rate": 1}, False),
        ({"device_id": "bed-1", "samples": [1], "first": -1}, False),
        ({"device_id": "bed-1", "samples": [1], "name": "x"}, False),
    ):
        assert jsonschema.Draft202012Validator(schema).is_valid(given) == valid
        assert (monitor.call("/api/samples", json.dumps(given).encode(), "device")[0] == 202) == valid


def test_rows_and_observations_give_the_hourly_risk(monitor: Client) -> None:
    def send(content: object, role: str = "device") -> tuple[int, dict[str, object]]:
        status, body = monitor.call("/api/rows", json.dumps(content).encode(), role)
        return status, json.loads(body)

    monitor.send(cut(heartbeats(1), "bed-rows")[0])
    status, first = send({"device_id": "bed-rows", "hour": 3, "values": {"HR": 88, "Age": 61, "Lactate": 2.1}})
    assert (status, first["hour"]) == (200, 3)
    code = {"coding": [{"code": "8480-6"}]}
    observation = {"resourceType": "Observation", "code": code, "valueQuantity": {"value": 90}}
    status, second = send({"device_id": "bed-rows", "hour": 4, "observation": observation})
    assert (status, second["hour"]) == (200, 4)
    risks = json.loads(monitor.call("/api/patients/bed-rows")[1])["risk"]
    assert risks == [first, second]
    assert send({"device_id": "bed-rows", "hour": 3, "values": {"HR": 88}}, "person")[0] == 401
    bed: dict[str, object] = {"device_id": "a", "hour": 1}
    odd_rows: list[object] = [
        {},
        [],
        bed,
        bed | {"values": {"HR": "x"}},
        bed | {"observation": 3},
    ]
    odd_rows += [bed | {"hour": True, "values": {"HR": 80}}, bed | {"hour": 10**9, "values": {"HR": 80}}]
    for odd in odd_rows:
        status, answer = send(odd)
        assert status == 400
        assert set(answer) == {"error"}


def test_no_log_line_names_a_device(monitor: Client, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="wardround.monitor"):
        for packet in cut(heartbeats(2), "bed-of-nobody-else"):
            monitor.send(packet)
    assert "starts" in caplog.text
    assert "nobody-else" not in caplog.text


def test_metrics_name_no_device(monitor: Client) -> None:
    monitor.send(cut(heartbeats(1), "bed-metrics")[0])
    status, body = monitor.call("/metrics")
    assert status == 200
    assert b"wardround_monitor_beats_scored_total" in body
    assert b"wardround_monitor_delay_seconds_bucket" in body
    assert b"bed-metrics" not in body


def test_events_arrive_as_they_happen(monitor: Client) -> None:
    monitor.send(cut(heartbeats(1), "bed-events")[0])
    from urllib.request import Request, urlopen

    headers = {"Authorization": f"Bearer {monitor.token('person')}"}
    with urlopen(Request(monitor.running.url + "api/events?device=bed-events", headers=headers), timeout=60) as stream:
        lines = [stream.readline().decode() for _ in range(6)]
    assert lines[0] == "event: ward\n"
    assert json.loads(lines[1].removeprefix("data: "))["notice"] == "SYNTHETIC: a test"
    assert lines[3] == "event: patient\n"


def test_listening_beyond_this_machine_needs_tls(tmp_path: Path) -> None:
    model = NewModel(tmp_path)
    for host in ("0.0.0.0", "192.168.1.2", "::", "ward.example"):
        with pytest.raises(ConfigError, match="--certificate"):
            check_address(Settings(model, tmp_path, host=host))
    for host in ("127.0.0.1", "::1", "localhost"):
        check_address(Settings(model, tmp_path, host=host))
    with pytest.raises(ConfigError, match="go together"):
        check_address(Settings(model, tmp_path, certificate=tmp_path / "a.pem"))


def test_a_worker_that_is_killed_is_started_again(monitor: Client) -> None:
    import psutil

    worker = monitor.running.ward.workers[0]
    before = worker.load.restarts
    (child,) = [p for p in psutil.Process(os.getpid()).children() if "spawn_main" in " ".join(p.cmdline())]
    child.kill()
    monitor.wait(lambda: worker.load.restarts == before + 1)
    for packet in cut(heartbeats(12), "bed-after"):
        monitor.wait(lambda packet=packet: monitor.send(packet)[0] == 202)
    monitor.wait(lambda: sum(monitor.overview()["bed-after"]["counts"].values()) > 8)
