"""Every strategy against its paper's formulas in plain loops: training, merging and what stays at the sites.

A new file in server/strategies needs an entry in CASES.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from scipy.optimize import minimize
from torch.nn import functional

from client.site import Site
from client.training.local_update import copy_weights
from common import models
from common.config import RunConfig
from common.seeds import seed_for
from experiments.cli import run_progress
from experiments.engines import local as simulation
from experiments.runs import run as launch
from server import strategies
from server.run import digest_weights
from sites.cohort import Cohort
from tests import tiny

Model = dict[str, np.ndarray]
LR, DECAY, BATCH = 0.05, 0.01, 12
ROUNDS = {"scaffold": 3}
"""Two, if not said here: what SCAFFOLD's server learns in the second round shows in the third."""
NORMS = (
    "stem_norm.weight",
    "stem_norm.bias",
    *(f"stages.0.norm{i}.{kind}" for i in (1, 2) for kind in ("weight", "bias")),
)


# The plain loops: no fit(), no Flower.


@dataclass
class World:
    """Sites in the order of their names, what each weighs, and the model that the server starts from."""

    sites: list[Site]
    weights: list[float]
    seed: int
    first: Model
    rounds: int
    kept: dict[str, Model] = field(default_factory=dict)
    personal: dict[str, Model] = field(default_factory=dict)

    def mean(self, found: Sequence[Model]) -> Model:
        shares = [weight / sum(self.weights) for weight in self.weights]
        return {k: np.sum([s * one[k] for s, one in zip(shares, found, strict=True)], axis=0) for k in found[0]}

    def train(self, number: int, start: Sequence[Model], **more: Any) -> list[Model]:
        """One epoch at every site, each from its own start; `more` may hold a value for each site."""
        return [
            plain_training(
                s.train,
                start[i],
                seed_for(self.seed, s.name, number, more.get("purpose", "train")),
                mu=more.get("mu", 0.0),
                anchor=more.get("anchor"),
                correction=more["correction"][i] if "correction" in more else None,
            )
            for i, s in enumerate(self.sites)
        ]

    def run(self, merge: Callable[[int, Model, list[Model]], Model], **more: Any) -> Model:
        """All sites train from the same model, and `merge` makes the next one."""
        model = self.first
        for number in range(1, self.rounds + 1):
            model = merge(number, model, self.train(number, [model] * len(self.sites), anchor=model, **more))
        return model


def network(weights: Mapping[str, np.ndarray]) -> torch.nn.Module:
    config = run_config("fedavg")
    model = models.build_model(tiny.TASK, config.model, 0)
    model.load_state_dict({name: torch.tensor(np.asarray(value, np.float32)) for name, value in weights.items()})
    return model


def plain_training(
    data: Cohort, start: Model, seed: int, mu: float, anchor: Model | None, correction: Model | None
) -> Model:
    """Stochastic gradient descent on the mean cross-entropy + mu/2 ||w - anchor||^2, step by step."""
    model = network(start)
    x, features, y = torch.tensor(data.x), torch.tensor(data.features), torch.tensor(data.y)
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed_for(seed, "shuffle")))
    for begin in range(0, len(y), BATCH):
        rows = order[begin : begin + BATCH]
        loss = functional.cross_entropy(model(x[rows], features[rows]), y[rows])
        for name, w in model.named_parameters():
            if mu and anchor is not None:
                loss = loss + mu / 2 * (w - torch.tensor(np.asarray(anchor[name], np.float32))).norm() ** 2
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        with torch.no_grad():
            for (name, w), g in zip(model.named_parameters(), gradients, strict=True):
                step = g.double() + (DECAY * w.double() if w.ndim > 1 else 0)
                if correction is not None:
                    step = step + torch.tensor(correction[name])
                w.copy_((w.double() - LR * step).float())
    return {name: value.double().numpy() for name, value in model.state_dict().items()}


def steps(site: Site) -> int:
    return -(-len(site.train.y) // BATCH)


def difference(one: Model, other: Model) -> Model:
    return {name: one[name] - other[name] for name in one}


# What each strategy should give. Options first, then the final model from a World.


def fedavg(world: World) -> Model:
    return world.run(lambda number, old, found: world.mean(found))


def fedprox(world: World) -> Model:
    return world.run(lambda number, old, found: world.mean(found), mu=3.0)


def adaptive(second: Callable[[np.ndarray, np.ndarray], np.ndarray], beta1: float, rate: Callable[[int], float]) -> Any:
    """Reddi et al. 2021, algorithm 2, with Flower's start of both moments at 0."""

    def reference(world: World) -> Model:
        m = {name: np.zeros_like(value) for name, value in world.first.items()}
        v = {name: np.zeros_like(value) for name, value in world.first.items()}

        def merge(number: int, old: Model, found: list[Model]) -> Model:
            for name, d in difference(world.mean(found), old).items():
                m[name] = beta1 * m[name] + (1 - beta1) * d
                v[name] = second(v[name], d**2)
            return {name: old[name] + rate(number) * m[name] / (np.sqrt(v[name]) + 0.01) for name in old}

        return world.run(merge)

    return reference


def adams_rate(number: int) -> float:
    t = number + 1  # Flower counts from 1 and adds one
    return 0.02 * float(np.sqrt(1 - 0.9**t)) / (1 - 0.8**t)


def fedavgm(world: World) -> Model:
    velocity = {name: np.zeros_like(value) for name, value in world.first.items()}

    def merge(number: int, old: Model, found: list[Model]) -> Model:
        for name, d in difference(old, world.mean(found)).items():
            velocity[name] = 0.7 * velocity[name] + d
        return {name: old[name] - 0.5 * velocity[name] for name in old}

    return world.run(merge)


def by_value(pick: Callable[[list[float]], float]) -> Callable[[World], Model]:
    """Every single number of the model from the sites' values of it, sorted."""

    def reference(world: World) -> Model:
        def merge(number: int, old: Model, found: list[Model]) -> Model:
            merged = {}
            for name, value in old.items():
                columns = zip(*(one[name].ravel().tolist() for one in found), strict=True)
                merged[name] = np.array([pick(sorted(column)) for column in columns]).reshape(value.shape)
            return merged

        return world.run(merge)

    return reference


def krums(malicious: int, select: int) -> Callable[[World], Model]:
    """Blanchard et al. 2017: the sum of squared distances to the n - f - 2 nearest others, least first."""

    def reference(world: World) -> Model:
        def merge(number: int, old: Model, found: list[Model]) -> Model:
            flat = [np.concatenate([one[name].ravel() for name in sorted(one)]) for one in found]
            scores = []
            for i, one in enumerate(flat):
                others = sorted(float(((one - other) ** 2).sum()) for j, other in enumerate(flat) if j != i)
                scores.append(sum(others[: len(flat) - malicious - 2]))
            order = np.argsort(scores)
            gap = (scores[order[select]] - scores[order[select - 1]]) / scores[order[select]]
            assert gap > 1e-3, "the choice is too close for a test"
            few = World([], [world.weights[i] for i in order[:select]], 0, {}, 0)
            return few.mean([found[i] for i in order[:select]])

        return world.run(merge)

    return reference


def geomedian(world: World) -> Model:
    """The mixture of the sites' models from which the summed distance to them is least, found without derivatives."""

    def merge(number: int, old: Model, found: list[Model]) -> Model:
        flat = np.stack([np.concatenate([one[name].ravel() for name in old]) for one in found])
        scale = np.linalg.norm(flat - flat.mean(0), axis=1).mean()

        def distance(free: np.ndarray) -> float:
            mixture = np.append(free, 1 - free.sum()) @ flat
            return sum(float(np.sqrt(((one - mixture) ** 2).sum())) for one in flat) / scale

        start = np.full(len(found) - 1, 1 / len(found))
        free = minimize(distance, start, method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-15}).x
        assert np.abs(free - start).max() > 0.01, "a plain mean would do"
        return World([], [*free, 1 - free.sum()], 0, {}, 0).mean(found)

    return world.run(merge)


def local_layers(names: Sequence[str]) -> Callable[[World], Model]:
    """Some arrays of each site's own go on from round to round; the server's stay as they began."""

    def reference(world: World) -> Model:
        model = world.first
        own = [{name: world.first[name] for name in names} for _ in world.sites]
        for number in range(1, world.rounds + 1):
            found = world.train(number, [{**model, **mine} for mine in own])
            own = [{name: one[name] for name in names} for one in found]
            model = {**world.mean(found), **{name: world.first[name] for name in names}}
        for site, mine in zip(world.sites, own, strict=True):
            world.kept[site.name] = mine
        return model

    return reference


def ditto(world: World) -> Model:
    model, own = world.first, [world.first] * len(world.sites)
    for number in range(1, world.rounds + 1):
        own = world.train(number, own, mu=2.0, anchor=model, purpose="personal")
        model = world.mean(world.train(number, [model] * len(own)))
    for site, mine in zip(world.sites, own, strict=True):
        world.kept[site.name] = world.personal[site.name] = mine
    return model


def scaffold(world: World) -> Model:
    """Karimireddy et al. 2020, algorithm 1, option II, all sites in every round."""
    x = world.first
    nothing = {name: np.zeros_like(value) for name, value in x.items()}
    c, own = nothing, [nothing] * len(world.sites)
    for number in range(1, world.rounds + 1):
        found = world.train(number, [x] * len(own), correction=[difference(c, mine) for mine in own])
        new = [
            {n: mine[n] - c[n] + (x[n] - y[n]) / (steps(site) * LR) for n in x}
            for mine, y, site in zip(own, found, world.sites, strict=True)
        ]
        change = world.mean([difference(after, before) for after, before in zip(new, own, strict=True)])
        c = {name: c[name] + change[name] for name in c}
        update = world.mean([difference(y, x) for y in found])
        x, own = {name: x[name] + 0.5 * update[name] for name in x}, new
    for site, mine in zip(world.sites, own, strict=True):
        world.kept[site.name] = mine
    return x


ADAPTIVE = {"eta": 0.02, "tau": 0.01}
CASES: dict[str, tuple[dict[str, Any], int, Callable[[World], Model]]] = {
    "fedavg": ({}, 2, fedavg),
    "fedprox": ({"mu": 3.0}, 2, fedprox),
    "fedadam": (
        {**ADAPTIVE, "beta1": 0.8, "beta2": 0.9},
        2,
        adaptive(lambda v, d2: 0.9 * v + 0.1 * d2, 0.8, adams_rate),
    ),
    "fedyogi": (
        {**ADAPTIVE, "beta1": 0.8, "beta2": 0.9},
        2,
        adaptive(lambda v, d2: v - 0.1 * d2 * np.sign(v - d2), 0.8, lambda number: 0.02),
    ),
    "fedadagrad": (ADAPTIVE, 2, adaptive(lambda v, d2: v + d2, 0.0, lambda number: 0.02)),
    "fedavgm": ({"lr": 0.5, "momentum": 0.7}, 2, fedavgm),
    "fedmedian": ({}, 3, by_value(lambda values: values[1])),
    "fedtrimmedavg": ({"cut": 0.25}, 5, by_value(lambda values: sum(values[1:4]) / 3)),
    "geomedian": ({}, 4, geomedian),
    "krum": ({"malicious": 1}, 5, krums(1, 1)),
    "multikrum": ({"malicious": 1, "select": 3}, 5, krums(1, 3)),
    "fedbn": ({}, 2, local_layers(NORMS)),
    "fedper": ({"layers": ["out.bias", "stem.*"]}, 2, local_layers(("head.out.bias", "stem.weight"))),
    "ditto": ({"pull": 2.0}, 2, ditto),
    "scaffold": ({"lr": 0.5}, 2, scaffold),
}
WEIGHTS: dict[str, Callable[[Cohort], float]] = {
    "examples": lambda train: float(len(train.y)),
    "patients": lambda train: float(len(np.unique(train.patient))),
    "equal": lambda train: 1.0,
}


# The program's own way, and the comparison.


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def sites(monkeypatch: pytest.MonkeyPatch) -> list[Site]:
    """Sites of different numbers of patients, and of examples a patient."""
    sizes = {"east": (6, 8), "north": (8, 3), "south": (7, 6), "up": (5, 9), "west": (9, 4)}
    found = []
    for i, (name, (people, each)) in enumerate(sizes.items()):
        parts = (2, 2, 1, *[0] * (people - 3))
        found.append(tiny.site(name, i, tiny.cohort(i, people=people, each=each), parts=parts))
    monkeypatch.setattr("client.site.read_site", lambda place, config: found[place.index])
    return found


def run_config(name: str, **sections: Any) -> RunConfig:
    given: dict[str, Any] = {
        "federation__strategy": {"name": name, "options": CASES[name][0]},
        "federation__rounds": ROUNDS.get(name, 2),
        "federation__choose": "last",
        "federation__workers": 1,
        "model__options": {"widths": [4], "kernel": 3, "hidden": 4, "dropout": 0.0},
        "training__optimizer": "sgd",
        "training__momentum": 0.0,
        "training__lr": LR,
        "training__batch_size": BATCH,
        "training__weight_decay": DECAY,
        "training__schedule": "constant",
        "training__loss": "cross_entropy",
        "training__clip_norm": 1e9,
        "evaluation__bootstrap": 0,
    }
    return tiny.run_config(**(given | sections))


def done(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "federated.json").read_text())
    assert (found["status"], found["lost"]) == ("complete", {})
    return found


def state(out: Path, site: str, number: int) -> Model:
    (file,) = (out / "sites" / site).glob(f"*/round-{number:05d}.safetensors")
    return dict(load_file(file))


def close(found: Mapping[str, np.ndarray], expected: Model) -> None:
    assert set(found) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=2e-4, atol=2e-6, err_msg=name)


def confusion(weights: Model, cohort: Cohort) -> list[list[int]]:
    with torch.no_grad():
        logits = network(weights).eval()(torch.tensor(cohort.x), torch.tensor(cohort.features))
    counts = np.zeros((3, 3), int)
    for truth, found in zip(cohort.y.tolist(), logits.argmax(1).tolist(), strict=True):
        counts[truth, found] += 1
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
    found = load_file(tmp_path / "model.safetensors")
    assert {value.dtype for value in found.values()} == {np.dtype(np.float32)}
    close(found, expected)
    tests = done(tmp_path)["test"]
    assert set(tests) == ({"all", "personal"} if world.personal else {"all"})
    assert (tmp_path / "sites").exists() == bool(world.kept)
    for site in members:
        own = world.kept.get(site.name, {})
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
    found = []
    for count in (1, 2):
        out = tmp_path / str(count)
        more = {"training__optimizer": "adamw"} if name != "scaffold" else {}
        simulation.run_local(run_config(name, federation__workers=count, federation__rounds=3, **more), out, 3)
        kept = {site.name: digest_weights(state(out, site.name, 3)) for site in sites[:3]}
        found.append(({**done(out), "seconds": 0}, kept))
    assert found[0] == found[1]


def engine_outcome(tmp_path: Path, name: str, *settings: str) -> tuple[Any, ...]:
    raw = {
        "name": "state", "seed": 5,
        "data": {"options": {"hospitals": 2, "patients": 4, "minutes": 1.0}},
        "sites": {"validation": 0.25},
        "training": {"batch_size": 32, "optimizer": "sgd", "momentum": 0.0},
        "federation": {"rounds": 2, "connect_timeout": 90, "strategy": {"name": name}},
        "evaluation": {"bootstrap": 0},
        "baselines": {"local": False, "pooled": False},
    }  # fmt: skip
    from common import config

    out = launch.run_experiment(config.parse_config(raw, settings), tmp_path, run_progress.QuietPrinter())
    outcome = done(out)
    kept = {
        (path.parent.parent.name, path.name): digest_weights(dict(load_file(path)))
        for path in (out / "sites").glob("*/*/*.safetensors")
    }
    assert {number for _, number in kept} >= {"round-00002.safetensors"}
    return outcome["weights"], outcome["test"], kept


@pytest.mark.ray
def test_ray_keeps_the_state_of_local(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    here = engine_outcome(tmp_path, "ditto")
    assert engine_outcome(tmp_path, "ditto", "federation.engine=ray", "federation.workers=2") == here


@pytest.mark.processes
def test_real_processes_keep_the_state_of_local(tmp_path: Path) -> None:
    here = engine_outcome(tmp_path, "scaffold")
    assert engine_outcome(tmp_path, "scaffold", "federation.engine=federation") == here
