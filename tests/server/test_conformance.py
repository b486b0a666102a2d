"""Every strategy against its paper's formulas in plain loops: training, merging and what stays at the sites.

A new file in server/strategies needs an entry in `CASES` of reference_strategies.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from client.site import Site
from client.training.local_update import copy_weights
from common import models
from experiments.cli import run_progress
from experiments.engines import local as simulation
from experiments.runs import run as launch
from server import strategies
from server.run import digest_weights
from sites.cohort import Cohort
from tests import tiny
from tests.server.reference_strategies import CASES, Model, World, network, run_config

WEIGHTS: dict[str, Callable[[Cohort], float]] = {
    "examples": lambda train: float(len(train.y)),
    "patients": lambda train: float(len(np.unique(train.patient))),
    "equal": lambda train: 1.0,
}


@pytest.fixture
def sites(monkeypatch: pytest.MonkeyPatch) -> list[Site]:
    """Sites of different numbers of patients, and of examples a patient."""
    sizes = {"east": (6, 8), "north": (8, 3), "south": (7, 6), "up": (5, 9), "west": (9, 4)}
    result = []
    for i, (name, (people, each)) in enumerate(sizes.items()):
        parts = (2, 2, 1, *[0] * (people - 3))
        result.append(tiny.site(name, i, tiny.cohort(i, people=people, each=each), parts=parts))
    monkeypatch.setattr("client.site.read_site", lambda context, config: result[context.index])
    return result


def done(out: Path) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((out / "federated.json").read_text())
    assert (result["status"], result["lost"]) == ("complete", {})
    return result


def state(out: Path, site: str, number: int) -> Model:
    (file,) = (out / "sites" / site).glob(f"*/round-{number:05d}.safetensors")
    return dict(load_file(file))


def close(result: Mapping[str, np.ndarray], expected: Model) -> None:
    assert set(result) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(result[name], value, rtol=2e-4, atol=2e-6, err_msg=name)


def confusion(weights: Model, cohort: Cohort) -> list[list[int]]:
    with torch.no_grad():
        logits = network(weights).eval()(torch.tensor(cohort.x), torch.tensor(cohort.features))
    counts = np.zeros((3, 3), int)
    for truth, result in zip(cohort.y.tolist(), logits.argmax(1).tolist(), strict=True):
        counts[truth, result] += 1
    return counts.tolist()


ALL_WEIGHTS = [(name, "patients") for name in strategies.list_strategies()]
ALL_WEIGHTS += [(name, how) for name in ("fedavg", "multikrum", "scaffold") for how in ("examples", "equal")]


@pytest.mark.parametrize(("name", "weights"), ALL_WEIGHTS)
def test_a_strategy_does_what_its_paper_says(sites: list[Site], tmp_path: Path, name: str, weights: str) -> None:
    assert name in CASES, f"server/strategies/{name}.py has no expectation in CASES"
    _, count, reference = CASES[name]
    config = run_config(name, federation__weights=weights)
    simulation.run_local(config, tmp_path, count)
    first = copy_weights(models.build_model(tiny.TASK, config.model, config.seed))
    members = sites[:count]
    world = World(
        members, [WEIGHTS[weights](site.train) for site in members], config.seed, first, config.federation.rounds
    )
    expected = reference(world)
    assert max(float(np.abs(expected[name] - first[name]).max()) for name in first) > 0.005
    result = load_file(tmp_path / "model.safetensors")
    assert {value.dtype for value in result.values()} == {np.dtype(np.float32)}
    close(result, expected)
    tests = done(tmp_path)["test"]
    assert set(tests) == ({"all", "personal"} if world.personal else {"all"})
    assert (tmp_path / "sites").exists() == bool(world.remaining)
    for site in members:
        own = world.remaining.get(site.name, {})
        if own:
            close(state(tmp_path, site.name, world.rounds), own)
        local = {key: value for key, value in own.items() if "norm" in key or key in ("head.out.bias", "stem.weight")}
        here = {**expected, **(local if name in ("fedbn", "fedper") else {})}
        assert np.reshape(tests["all"][site.name]["confusion"], (3, 3)).tolist() == confusion(here, site.test)
        if world.personal:
            mine = np.reshape(tests["personal"][site.name]["confusion"], (3, 3)).tolist()
            assert mine == confusion(world.personal[site.name], site.test)


def test_the_weights_make_a_difference(sites: list[Site]) -> None:
    shares = {
        name: [weigh(site.train) / sum(weigh(s.train) for s in sites[:2]) for site in sites[:2]]
        for name, weigh in WEIGHTS.items()
    }
    assert shares == {"examples": [24 / 39, 15 / 39], "patients": [3 / 8, 5 / 8], "equal": [0.5, 0.5]}


KEEPS = ("fedbn", "fedper", "ditto", "scaffold")


@pytest.mark.parametrize("name", KEEPS)
def test_two_workers_give_the_weights_and_the_state_of_one(sites: list[Site], tmp_path: Path, name: str) -> None:
    result = []
    for count in (1, 2):
        out = tmp_path / str(count)
        more = {"training__optimizer": "adamw"} if name != "scaffold" else {}
        simulation.run_local(run_config(name, federation__workers=count, federation__rounds=3, **more), out, 3)
        remaining = {site.name: digest_weights(state(out, site.name, 3)) for site in sites[:3]}
        result.append(({**done(out), "seconds": 0}, remaining))
    assert result[0] == result[1]


def engine_outcome(tmp_path: Path, name: str, *settings: str) -> tuple[Any, ...]:
    raw = {
        "name": "state", "seed": 5,
        "data": {"options": {"hospitals": 2, "patients": 4, "minutes": 1.0}},
        "sites": {"validation": 0.25},
        "training": {"batch_size": 32, "optimizer": "sgd", "momentum": 0.0},
        "federation": {"rounds": 2, "connect_timeout": 900, "strategy": {"name": name}},
        "evaluation": {"bootstrap": 0},
        "baselines": {"local": False, "pooled": False},
    }  # fmt: skip
    from common import config

    out = launch.run_experiment(config.parse_config(raw, settings), tmp_path, run_progress.QuietPrinter())
    outcome = done(out)
    remaining = {
        (path.parent.parent.name, path.name): digest_weights(dict(load_file(path)))
        for path in (out / "sites").glob("*/*/*.safetensors")
    }
    assert {number for _, number in remaining} >= {"round-00002.safetensors"}
    return outcome["weights"], outcome["test"], remaining


@pytest.mark.ray
def test_ray_keeps_the_state_of_local(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    here = engine_outcome(tmp_path, "ditto")
    assert engine_outcome(tmp_path, "ditto", "federation.engine=ray", "federation.workers=2") == here


@pytest.mark.processes
def test_real_processes_keep_the_state_of_local(tmp_path: Path) -> None:
    here = engine_outcome(tmp_path, "scaffold")
    assert engine_outcome(tmp_path, "scaffold", "federation.engine=federation") == here
