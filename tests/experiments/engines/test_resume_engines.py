"""A run that was stopped and resumed on any engine ends with the weights of an unbroken run of the local engine."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from safetensors.numpy import load_file

from client.policy import SIMULATION_POLICY
from common import config
from common.errors import EngineError
from common.run_folder import RunFolder
from experiments.cli.run_progress import QuietPrinter
from experiments.engines import link_site_recordings
from experiments.engines.federation import Federation, SiteProcess, Tail
from experiments.runs import run
from experiments.runs.checks import resolve_paths
from server.run import digest_weights
from sites import datasets

RAW = {
    "name": "resumed", "seed": 5,
    "data": {"options": {"hospitals": 2, "patients": 4, "minutes": 1.0}},
    "sites": {"validation": 0.25},
    "training": {"batch_size": 32, "optimizer": "sgd", "momentum": 0.0},
    "federation": {"rounds": 3, "connect_timeout": 900},
    "evaluation": {"bootstrap": 0},
    "baselines": {"local": False, "pooled": False},
}  # fmt: skip

ROUNDS = "federation.rounds=12"
"""Of a run whose end must not come before the test has seen its first round and done something to it."""


class Stopping(QuietPrinter):
    """Stops a run in its second round."""

    def handle(self, event: dict[str, Any]) -> None:
        if event["event"] == "reply" and (event["round"], event["phase"]) == (2, "train"):
            raise KeyboardInterrupt


def results(folder: Path) -> tuple[Any, ...]:
    outcome = json.loads((folder / "federated.json").read_text())
    weights = [json.loads(line)["weights"] for line in (folder / "rounds.jsonl").read_text().splitlines()]
    kept = {
        path.parent.parent.name: digest_weights(dict(load_file(path)))
        for path in (folder / "sites").glob("*/*/round-00003.safetensors")
    }
    return outcome["status"], outcome["weights"], outcome["test"], weights, kept


def resume_on(engine: str, strategy: str, root: Path) -> Path:
    """Return the folder of a run that was stopped in its second round and resumed."""
    settings = [f"federation.engine={engine}", f"federation.strategy.name={strategy}", "federation.workers=2"]
    with pytest.raises(KeyboardInterrupt):
        run.run_experiment(config.parse_config(RAW, settings), root, Stopping())
    (folder,) = root.iterdir()
    run.resume_experiment(folder, QuietPrinter())
    return folder


def whole_run(strategy: str, root: Path) -> tuple[Any, ...]:
    wanted = config.parse_config(RAW, [f"federation.strategy.name={strategy}"])
    return results(run.run_experiment(wanted, root, QuietPrinter()))


@pytest.mark.slow
def test_a_resumed_run_of_the_local_engine(tmp_path: Path) -> None:
    found = results(resume_on("local", "fedadam", tmp_path / "runs"))
    assert found == whole_run("fedadam", tmp_path / "whole")


@pytest.mark.ray
def test_a_resumed_run_on_ray_whose_nodes_have_other_numbers(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    assert results(resume_on("ray", "scaffold", tmp_path / "runs")) == whole_run("scaffold", tmp_path / "whole")


@pytest.mark.processes
def test_a_resumed_run_of_real_processes_with_other_keys(tmp_path: Path) -> None:
    found = results(resume_on("federation", "scaffold", tmp_path / "runs"))
    assert found == whole_run("scaffold", tmp_path / "whole")


@pytest.fixture
def both(tmp_path: Path) -> Iterator[tuple[Federation, str]]:
    """A server and two hospitals' nodes that stay up, and a configuration of many rounds for them."""
    wanted = resolve_paths(config.parse_config(RAW, ["federation.engine=federation", ROUNDS]))
    source = datasets.open_source(wanted, None)
    hospitals, _, _ = datasets.assign_hospitals(source, wanted)
    data = wanted.data.model_copy(update={"path": str(source.folder)})
    policy = tmp_path / "policy.yaml"
    policy.write_text(yaml.safe_dump(SIMULATION_POLICY.model_dump(mode="json")))
    sites = []
    for name, ids in hospitals.items():
        link_site_recordings(source, ids, tmp_path / "data" / name)
        paths = {"data": str(tmp_path / "data" / name), "policy": str(policy), "state": str(tmp_path / "state")}
        sites.append(SiteProcess(name, {"site": name, **paths}))
    with Federation(sites, log_dir=tmp_path / "logs") as federation:
        yield federation, config.config_to_json(wanted.model_copy(update={"data": data}))


def wait_for_a_round(out: Path) -> None:
    deadline = time.monotonic() + 900
    while not RunFolder(out).rounds.is_file() or not RunFolder(out).rounds.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def check_resumed(out: Path, root: Path) -> None:
    """Check that a run was resumed once, and has the rounds of an unbroken one."""
    resumed = [event["round"] for event in Tail(RunFolder(out).events, 0).read_new() if event["event"] == "resume"]
    assert len(resumed) == 1
    assert int(str(resumed[0])) >= 1
    lines = [json.loads(line) for line in RunFolder(out).rounds.read_text().splitlines()]
    whole = run.run_experiment(config.parse_config(RAW, [ROUNDS]), root, QuietPrinter())
    expected = [json.loads(line) for line in RunFolder(whole).rounds.read_text().splitlines()]
    assert [(line["round"], line["weights"]) for line in lines] == [
        (line["round"], line["weights"]) for line in expected
    ]


@pytest.mark.processes
def test_a_run_whose_follower_was_killed_goes_on_with_the_same_nodes(
    both: tuple[Federation, str], tmp_path: Path
) -> None:
    """The server and its nodes stay up; only `wardround run`, which submitted the run, is gone."""
    (federation, text), out = both, tmp_path / "run"
    out.mkdir()
    number = federation.link.connection.submit(text, out)
    RunFolder(out).server_run.write_text(f"{number}\n")
    wait_for_a_round(out)
    federation.run(text, out)
    assert federation.link.connection.run_status(number)[0] == "finished:stopped"
    assert not RunFolder(out).server_run.exists()
    check_resumed(out, tmp_path / "whole")


@pytest.mark.processes
def test_a_run_whose_server_app_was_killed_goes_on(both: tuple[Federation, str], tmp_path: Path) -> None:
    (federation, text), out = both, tmp_path / "run"
    killed: list[str] = []

    def watch(event: dict[str, object]) -> None:
        if event["event"] == "round" and not killed:
            apps = [each for each in psutil.process_iter(["cmdline"]) if is_server_app(each, federation)]
            killed.extend(" ".join(each.info["cmdline"]) for each in apps)
            for each in apps:
                each.kill()

    with pytest.raises(EngineError, match="the server's app ended without a result"):
        federation.run(text, out, watch)
    assert killed
    assert not RunFolder(out).outcome.exists()
    federation.run(text, out)
    check_resumed(out, tmp_path / "whole")


def is_server_app(process: psutil.Process, federation: Federation) -> bool:
    """Return whether a process runs the server's app of this federation."""
    line = " ".join(process.info["cmdline"] or ())
    return "serverapp" in line and federation.link.connection.address.rpartition(":")[2] in line
