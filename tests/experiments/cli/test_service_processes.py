"""A server and a hospital's client as an operator runs them: approval, audit log, metrics, status, and their end."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from common.processes import find_free_port
from sites.datasets.heart_disease import simulate

COMMAND = [sys.executable, "-m", "experiments.cli.launcher"]
ROOT = Path(__file__).parents[3]
SETTINGS = ["federation.rounds=2", "federation.engine=federation", "data.options={}", "baselines={}",
            "federation.expect=[north]", "federation.approval_timeout=900", "evaluation.bootstrap=0"]  # fmt: skip


def wardround(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *map(str, words)], cwd=ROOT, capture_output=True, text=True, timeout=600, check=False
    )


def wait_for(ready: Callable[[], Any], seconds: float = 300.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := ready()):
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.2)
    return value


def runs(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def read(url: str) -> str:
    with urllib.request.urlopen(url, timeout=60) as answer:
        return str(answer.read().decode())


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    with ExitStack() as exits:

        def start(name: str, *words: object, **variables: str) -> subprocess.Popen[bytes]:
            output = exits.enter_context((tmp_path / f"{name}.out").open("wb"))
            process = subprocess.Popen(
                [*COMMAND, *map(str, words)], cwd=ROOT, stdout=output, stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL, env={**os.environ, **variables},
            )  # fmt: skip

            def end() -> None:
                if process.poll() is None:
                    process.kill()
                process.wait()

            exits.callback(end)
            return process

        yield start


@pytest.mark.processes
@pytest.mark.slow
def test_a_hospital_approves_a_run_and_can_read_what_left(
    tmp_path: Path, start: Callable[..., subprocess.Popen[bytes]]
) -> None:
    state, hospital, data, key = (tmp_path / name for name in ("server", "hospital", "hearts", "node.key"))
    simulate.generate(data, hospitals=1, patients=90, seed=3)
    address, *metrics = (f"127.0.0.1:{find_free_port()}" for _ in range(3))
    (tmp_path / "policy.yaml").write_text("approval: required\n")
    assert wardround("server", "init", "--state", state, "--name", "localhost").returncode == 0
    assert wardround("client", "keygen", key).returncode == 0
    server = start("server", "server", "--state", state, "--listen", address, "--metrics", metrics[0])
    wait_for(lambda: wardround("server", "register", "north", f"{key}.pub", "--state", state).returncode == 0)
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind(str(tmp_path / "notify"))
    manager.settimeout(300)
    node = ("--site", "north", "--state", hospital)
    client = start(
        "client", "client", *node, "--data", data, "--policy", tmp_path / "policy.yaml", "--superlink", address,
        "--ca", state / "ca.pem", "--key", key, "--metrics", metrics[1], NOTIFY_SOCKET=str(tmp_path / "notify"),
    )  # fmt: skip
    assert manager.recv(4096).startswith(b"READY=1\nSTATUS=connected as node ")
    where = [f"federation.address={address}", f"federation.ca={state / 'ca.pem'}"]
    options = [word for setting in [*SETTINGS, *where] for word in ("--set", setting)]
    run = start("run", "run", "heart_disease", "--runs", tmp_path / "runs", "--quiet", *options)

    def find_pending() -> list[str]:
        result = wardround("site", "pending", *node, "--json")
        return list(json.loads(result.stdout)) if result.returncode == 0 else []

    (fingerprint,) = wait_for(find_pending)
    assert wardround("site", "approve", fingerprint[:8], *node).returncode == 0
    assert run.wait(900) == 0, (tmp_path / "run.out").read_text()
    verified = wardround("audit", "verify", *node)
    assert verified.returncode == 0, verified.stderr
    lines = [json.loads(line) for line in wardround("audit", "show", *node, "--json").stdout.splitlines()]
    events = [(line["event"], line.get("kind")) for line in lines]
    assert events.count(("released", "train")) == 2
    assert ("approved", None) in events
    assert events.index(("approved", None)) < events.index(("released", "handshake"))
    wait_for(lambda: "wardround_rounds_total 2.0" in read(f"http://{metrics[1]}/metrics"))
    wait_for(lambda: "wardround_server_rounds_total 2.0" in read(f"http://{metrics[0]}/metrics"))

    def read_status() -> tuple[bool, dict[str, str], str]:
        status = json.loads(wardround("server", "status", "--state", state, "--json").stdout)
        return status["running"], status["sites"], status["runs"][0]["status"]

    wait_for(lambda: read_status() == (True, {"north": "online"}, "complete"))
    for process in (client, server):
        process.send_signal(signal.SIGHUP)
    time.sleep(1)
    assert (client.poll(), server.poll()) == (None, None)
    children = [child for each in (client, server) for child in psutil.Process(each.pid).children(recursive=True)]
    for process in (client, server):
        process.send_signal(signal.SIGTERM)
        assert process.wait(300) == 130
    wait_for(lambda: not any(map(runs, children)))
    messages = []
    manager.setblocking(False)
    while True:
        try:
            messages.append(manager.recv(4096))
        except BlockingIOError:
            break
    assert messages[-1] == b"STOPPING=1"
    manager.close()
    assert wardround("client", "status", "--state", hospital).returncode == 1
    for log in (state / "superlink.log", hospital / "supernode.log"):
        text = log.read_text()
        assert "\x1b" not in text
        assert all(line[:4].isdigit() and line[10] == "T" for line in text.splitlines())
