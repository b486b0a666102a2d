"""A real server behind nginx: a hospital takes part in a run through the proxy, and reaches nothing else through it."""

from __future__ import annotations

import json
import os
import signal
import ssl
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil
import pytest
from flwr.proto.control_pb2 import ListRunsRequest, ListRunsResponse
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor

from client.supernode import check_server
from common.errors import EngineError
from common.processes import find_free_port
from sites.datasets.heart_disease import simulate
from tests.experiments.cli.test_service_processes import SETTINGS, start, wait_for, wardround

__all__ = ["start"]  # a fixture


@pytest.mark.nginx
@pytest.mark.processes
@pytest.mark.slow
def test_a_hospital_completes_a_run_through_the_proxy_and_reaches_nothing_else(
    tmp_path: Path, start: Callable[..., subprocess.Popen[bytes]], nginx: str
) -> None:
    state, hospital, data, key = (tmp_path / name for name in ("server", "hospital", "hearts", "node.key"))
    simulate.generate(data, hospitals=1, patients=90, seed=3)
    ports = [find_free_port() for _ in range(2)]
    inside, outside = (f"127.0.0.1:{port}" for port in ports)
    assert wardround("server", "init", "--state", state, "--name", "localhost").returncode == 0
    assert wardround("client", "keygen", key).returncode == 0
    start("server", "server", "--state", state, "--listen", inside)
    wait_for(lambda: wardround("server", "register", "north", f"{key}.pub", "--state", state).returncode == 0)
    folder = tmp_path / "proxy"
    written = wardround(
        "server", "proxy", folder, "--state", state, "--name", "localhost", "--listen", outside, "--server", inside
    )
    assert written.returncode == 0, written.stderr
    user = "user root;" if os.geteuid() == 0 else ""
    proxy = subprocess.Popen([nginx, "-c", folder / "nginx.conf", "-g", f"daemon off; {user}"], stderr=subprocess.PIPE)
    try:
        ca = state / "ca.pem"
        wait_for(lambda: _answers(outside, ca))
        client = start(
            "client", "client", "--site", "north", "--state", hospital, "--data", data,
            "--superlink", f"localhost:{ports[1]}", "--ca", ca, "--key", key,
        )  # fmt: skip
        where = [f"federation.address={inside}", f"federation.ca={ca}"]
        options = [word for setting in [*SETTINGS, *where] for word in ("--set", setting)]
        run = wardround("run", "heart_disease", "--runs", tmp_path / "runs", "--quiet", *options)
        assert run.returncode == 0, run.stderr
        (report,) = (tmp_path / "runs").glob("*/run.json")
        assert json.loads(report.read_text())["status"] == "complete"
        refused = (folder / "refused.log").read_text()
        assert refused == "", "no call of a node is refused"
        checked = wardround(
            "doctor", "--site", "north", "--superlink", f"localhost:{ports[1]}", "--ca", ca, "--key", key, "--json"
        )
        findings = {(item["topic"], item["level"]) for item in json.loads(checked.stdout)["checks"]}
        assert ("server", "ok") in findings
        assert not {item for item in findings if item[1] == "fail" and item[0] in ("server", "control interface")}
        _refuse_control(outside, ca)
        # the same call reaches the server directly, so that it is the proxy that refuses it
        assert _list_runs(inside, ca).run_dict
        proxy.send_signal(signal.SIGHUP)
        time.sleep(1)
        assert _answers(outside, ca)
        assert client.poll() is None
    finally:
        proxy.terminate()
        proxy.wait(120)
        assert proxy.stderr is not None
        proxy.stderr.close()
    wait_for(
        lambda: (
            not [
                each for each in psutil.process_iter(["cmdline"]) if str(folder) in " ".join(each.info["cmdline"] or ())
            ]
        )
    )


def _answers(address: str, ca: Path) -> bool:
    try:
        check_server(address, ca)
    except EngineError:
        return False
    return True


def _list_runs(address: str, ca: Path) -> ListRunsResponse:
    client = ControlHttpClient.from_server_address(
        server_address=address,
        insecure=False,
        root_certificates=ca.read_bytes(),
        interceptors=[RuntimeVersionHttpInterceptor(component_name="flwr CLI")],
    )
    try:
        return client.ListRuns(ListRunsRequest())
    finally:
        client.close()


def _refuse_control(address: str, ca: Path) -> None:
    with pytest.raises(httpx.HTTPStatusError) as refused:
        _list_runs(address, ca)
    assert refused.value.response.status_code == 404
    for path in ("/v1/runtime/acquire-task", "/v1/runtime/pull-messages", "/v1/fleet/register-node", "/docs"):
        answer = httpx.post(f"https://{address}{path}", verify=ssl.create_default_context(cafile=ca), timeout=60)
        assert answer.status_code == 404, path
