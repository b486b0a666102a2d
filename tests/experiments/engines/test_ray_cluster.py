"""The `ray` engine on a cluster of two nodes on this machine, each with its own copy of the data."""

from __future__ import annotations

import importlib
import json
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from client.cluster_node import CLUSTER_VARIABLE, DATA_VARIABLE, find_data_of_node
from client.site_context import STATE_VARIABLE
from common import config, processes
from common.config import RunConfig, config_to_json
from common.errors import ConfigError, DataError, EngineError
from common.run_folder import RunFolder
from experiments.engines import ray_runtime
from experiments.engines.local import run_local
from sites import datasets

RAW = {
    "name": "cluster",
    "seed": 5,
    "data": {"dataset": "heart_disease", "options": {"simulated": True}},
    "model": {"name": "logreg"},
    "federation": {"rounds": 2, "connect_timeout": 300},
    "evaluation": {"bootstrap": 0, "domain_shift": False},
    "baselines": {"local": False, "pooled": False},
}


def prepare(data: Path) -> tuple[RunConfig, int]:
    """Return a run on a folder's data, and the number of its hospitals."""
    wanted = config.parse_config(RAW, [f"data.path={data}"])
    hospitals, _, _ = datasets.assign_hospitals(datasets.open_source(wanted, None), wanted)
    named = wanted.federation.model_copy(update={"engine": "ray", "expect": tuple(sorted(hospitals))})
    return wanted.model_copy(update={"federation": named}), len(hospitals)


def read_weights(out: Path) -> list[str]:
    """Return the digest of the weights after each round."""
    return [json.loads(line)["weights"] for line in RunFolder(out).rounds.read_text().splitlines()]


class Cluster:
    """A Ray cluster on this machine, whose nodes are started by `ray start` as on several ones."""

    def __init__(self, scratch: Path) -> None:
        self.scratch, self._temporary = scratch, tempfile.mkdtemp(prefix="wr-")  # short: it holds sockets
        self.address = f"127.0.0.1:{processes.find_free_port()}"
        self._nodes: list[processes.ProcessTree] = []

    def add_node(self, data: Path | None = None) -> None:
        """Start a node of one core and wait until the cluster has it."""
        head = ["--head", "--port", self.address.rpartition(":")[2], "--temp-dir", self._temporary]
        head += ["--include-dashboard", "false", "--ray-client-server-port", str(processes.find_free_port())]
        command = [processes.find_command("ray"), "start", "--block", "--num-cpus", "1", "--disable-usage-stats"]
        command += ["--node-ip-address", "127.0.0.1", "--min-worker-port", "0", "--max-worker-port", "0"]
        command += [
            "--dashboard-agent-listen-port",
            str(processes.find_free_port()),
            "--object-store-memory",
            "100000000",
        ]
        command += ["--address", self.address] if self._nodes else head
        variables = {**processes.ONE_THREAD_VARIABLES, **({DATA_VARIABLE: str(data)} if data else {})}
        log = self.scratch / f"node-{len(self._nodes)}.log"
        tree = processes.ProcessTree(command, home=self.scratch / "flower", log=log, variables=variables)
        self._nodes.append(tree)
        deadline = time.monotonic() + 300
        while self._count() < len(self._nodes):
            assert tree.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)

    def stop(self) -> None:
        """End all nodes."""
        for tree in reversed(self._nodes):
            tree.stop()
        shutil.rmtree(self._temporary, ignore_errors=True)

    def _count(self) -> int:
        raylet: Any = importlib.import_module("ray._raylet")
        host, _, port = self.address.rpartition(":")
        try:
            socket.create_connection((host, int(port)), 1).close()
        except OSError:
            return 0
        try:
            return len(raylet.GcsClient(address=self.address).get_all_node_info())
        except Exception:
            return 0  # it does not answer yet


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    pytest.importorskip("ray")
    ours = Cluster(tmp_path)
    monkeypatch.setenv("RAY_ADDRESS", ours.address)
    yield ours
    ours.stop()


def copy_data(to: Path) -> Path:
    """Return a copy of the folder that the run's data are in."""
    source = datasets.open_source(config.parse_config(RAW), None)
    shutil.copytree(source.folder, to)
    return to


@pytest.mark.ray
def test_two_nodes_give_the_weights_of_local(cluster: Cluster, tmp_path: Path) -> None:
    wanted, sites = prepare(copy_data(tmp_path / "first"))
    cluster.add_node()
    cluster.add_node(copy_data(tmp_path / "second"))
    local, ray, again = (tmp_path / name for name in ("local", "ray", "again"))
    for out in (local, ray, again):
        out.mkdir()
    run_local(wanted, local, sites)
    ray_runtime.run_on_ray(config_to_json(wanted), ray, sites=sites, workers=1)
    assert len(read_weights(local)) == 2
    assert read_weights(ray) == read_weights(local)
    shutil.rmtree(tmp_path / "second")
    expected = f"Ray node .* has no data at {tmp_path / 'second'}: correct {DATA_VARIABLE}"
    with pytest.raises(EngineError, match=expected):
        ray_runtime.run_on_ray(config_to_json(wanted), again, sites=sites, workers=1)


def test_an_address_without_a_cluster_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_runtime, "require_ray", lambda: None)
    address = f"127.0.0.1:{processes.find_free_port()}"
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(ConfigError, match=f"RAY_ADDRESS={address}: no Ray cluster answers there .*: start one with"):
        ray_runtime.run_on_ray("{}", tmp_path, sites=2, workers=2)


def test_a_node_has_its_own_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = config.parse_config(RAW, [f"data.path={tmp_path / 'away'}"])
    assert find_data_of_node(wanted) is wanted
    monkeypatch.setenv(CLUSTER_VARIABLE, "1")
    with pytest.raises(DataError, match=f"no data at {tmp_path / 'away'}: copy them to it, or set {DATA_VARIABLE} "):
        find_data_of_node(wanted)
    monkeypatch.setenv(DATA_VARIABLE, str(tmp_path))
    assert find_data_of_node(wanted).data.path == str(tmp_path)
    monkeypatch.setenv(STATE_VARIABLE, str(tmp_path / "run" / "sites"))
    with pytest.raises(DataError, match=f"has no folder {tmp_path / 'run'}: keep runs"):
        find_data_of_node(wanted)
