"""A monitor with an untrained model, on a thread of its own, and a client that talks to it."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tornado")

from experiments.monitor.protocol import Packet
from experiments.monitor.service import Running, Settings, run_service
from experiments.monitor.worker import NewModel
from tests.experiments.scoring.scored_runs import make_run_folder


@dataclass
class Client:
    """Talks to a monitor.

    Attributes:
        running: the monitor.
        loop: its event loop.
    """

    running: Running
    loop: asyncio.AbstractEventLoop

    def token(self, role: Any) -> str:
        return self.running.tokens.first(role).token

    def call(self, path: str, body: bytes | None = None, role: str = "person", **headers: str) -> tuple[int, bytes]:
        """Return the status and body of a request with a token of a role; "" for none.

        Packets that a busy monitor asks to wait with are sent again, as a device does.
        """
        end = time.monotonic() + 120
        while True:
            status, answer = self._call_once(path, body, role, **headers)
            if status != 503 or path != "/api/samples" or time.monotonic() > end:
                return status, answer
            time.sleep(0.1)

    def _call_once(self, path: str, body: bytes | None, role: str, **headers: str) -> tuple[int, bytes]:
        given = {"Authorization": f"Bearer {self.token(role)}"} if role else {}
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(self.running.url.rstrip("/") + path, body, given | headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def send(self, packet: Packet, name: str = "") -> tuple[int, bytes]:
        """Send a packet as JSON."""
        content = {"device_id": name or packet.device, "rate": packet.rate, "leads": list(packet.leads)}
        rows = [[None if np.isnan(v) else float(v) for v in row] for row in packet.samples]
        body = json.dumps(content | {"first": packet.first, "samples": rows}).encode()
        return self.call("/api/samples", body, "device")

    def overview(self) -> dict[str, Any]:
        return {row["device"]: row for row in json.loads(self.call("/api/ward")[1])["patients"]}

    def wait(self, condition: Callable[[], Any], seconds: float = 120.0) -> Any:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if value := condition():
                return value
            time.sleep(0.05)
        pytest.fail("nothing happened")


def heartbeats(seconds: float, rate: float = 250.0, leads: int = 1) -> np.ndarray:
    """Return a generated signal of 75 beats a minute, `(samples, leads)` in mV."""
    clock = np.arange(int(seconds * rate)) / rate
    beat = np.exp(-((((clock % 0.8) - 0.4) / 0.015) ** 2)) + 0.2 * np.exp(-((((clock % 0.8) - 0.65) / 0.05) ** 2))
    noise = 0.01 * np.random.default_rng(1).normal(size=(len(clock), leads))
    return np.asarray(beat[:, None] + noise, dtype=np.float32)


def cut(signal: np.ndarray, device: str = "bed-1", rate: float = 250.0, size: int = 250) -> list[Packet]:
    names = tuple(["II", "V1", "V5"][: signal.shape[1]])
    return [Packet(device, rate, names, start, signal[start : start + size]) for start in range(0, len(signal), size)]


def run_in_thread(settings: Settings) -> Iterator[Client]:
    clients: list[Client] = []
    failures: list[BaseException] = []
    ready, stop = threading.Event(), threading.Event()

    async def main() -> None:
        async with run_service(settings) as running:
            clients.append(Client(running, asyncio.get_running_loop()))
            ready.set()
            while not stop.is_set():
                await asyncio.sleep(0.02)

    def target() -> None:
        try:
            asyncio.run(main())
        except BaseException as error:
            failures.append(error)
            ready.set()

    thread = threading.Thread(target=target)
    thread.start()
    assert ready.wait(300)
    if failures:
        raise failures[0]
    try:
        yield clients[0]
    finally:
        stop.set()
        thread.join(120)
        assert not thread.is_alive()
        assert not failures, failures


@pytest.fixture(scope="session")
def causal_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    options = {"leads": 1, "shape": 1, "causal": True}
    return make_run_folder(tmp_path_factory.mktemp("run") / "run", {"data": {"dataset": "mitdb", "options": options}})


@pytest.fixture(scope="session")
def monitor(causal_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    state = tmp_path_factory.mktemp("monitor")
    raw = {"data": {"dataset": "sepsis", "scaling": "none"}, "model": {"name": "mlp"}}
    hourly = make_run_folder(tmp_path_factory.mktemp("hourly") / "run", raw)
    model, notice = NewModel(causal_run), "SYNTHETIC: a test"
    yield from run_in_thread(Settings(model, state, port=0, udp_port=0, notice=notice, hourly_run=hourly))


@pytest.fixture
def free_socket() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
        yield own
