"""The promise that only the transport differs: every engine ends with the same weights, to the last bit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from common import config
from common.config import RunConfig
from experiments.cli import run_progress
from experiments.runs import run

RAW = {
    "name": "engines",
    "seed": 5,
    "data": {"options": {"hospitals": 2, "patients": 4, "minutes": 1.0}},
    "sites": {"validation": 0.25},
    "training": {"batch_size": 32},
    "federation": {"rounds": 2, "connect_timeout": 900},
    "evaluation": {"bootstrap": 50},
    "baselines": {"local": False, "pooled": False},
}


def outcome(tmp_path: Path, *settings: str) -> dict[str, object]:
    wanted: RunConfig = config.parse_config(RAW, settings)
    folder = run.run_experiment(wanted, tmp_path, run_progress.QuietPrinter())
    result: dict[str, object] = json.loads((folder / "federated.json").read_text())
    assert result["status"] == "complete"
    return result


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    return outcome(tmp_path_factory.mktemp("one"), "federation.workers=1")


def same(one: dict[str, object], other: dict[str, object]) -> None:
    assert one["weights"] == other["weights"]
    assert one["chosen"] == other["chosen"]
    assert one["sites"] == other["sites"]


@pytest.mark.slow
def test_two_local_workers_give_the_weights_of_one(reference: dict[str, object], tmp_path: Path) -> None:
    other = outcome(tmp_path, "federation.workers=2")
    same(reference, other)
    assert other["test"] == reference["test"]
    assert other["pooled"] == reference["pooled"]


@pytest.mark.slow
def test_another_seed_gives_other_weights(reference: dict[str, object], tmp_path: Path) -> None:
    assert outcome(tmp_path, "seed=6")["weights"] != reference["weights"]


@pytest.mark.ray
def test_ray_gives_the_weights_of_local(reference: dict[str, object], tmp_path: Path) -> None:
    pytest.importorskip("ray")
    other = outcome(tmp_path, "federation.engine=ray", "federation.workers=2")
    same(reference, other)
    assert other["pooled"] == reference["pooled"]


@pytest.mark.processes
def test_real_processes_give_the_weights_of_local(reference: dict[str, object], tmp_path: Path) -> None:
    other = outcome(tmp_path, "federation.engine=federation")
    same(reference, other)
    assert other["test"] == reference["test"]
