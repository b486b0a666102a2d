"""Every strategy as its paper states it, in plain loops over the sites: no training loop of ours, no Flower."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize
from torch.nn import functional

from client.site import Site
from common import models
from common.config import RunConfig
from common.seeds import seed_for
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


@dataclass
class World:
    """Sites in the order of their names, what each weighs, and the model that the server starts from."""

    sites: list[Site]
    weights: list[float]
    seed: int
    first: Model
    rounds: int
    remaining: dict[str, Model] = field(default_factory=dict)
    personal: dict[str, Model] = field(default_factory=dict)

    def mean(self, result: Sequence[Model]) -> Model:
        shares = [weight / sum(self.weights) for weight in self.weights]
        return {k: np.sum([s * one[k] for s, one in zip(shares, result, strict=True)], axis=0) for k in result[0]}

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
    for offset in range(0, len(y), BATCH):
        rows = order[offset : offset + BATCH]
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


def fedavg(world: World) -> Model:
    return world.run(lambda number, old, result: world.mean(result))


def fedprox(world: World) -> Model:
    return world.run(lambda number, old, result: world.mean(result), mu=3.0)


def adaptive(second: Callable[[np.ndarray, np.ndarray], np.ndarray], beta1: float, rate: Callable[[int], float]) -> Any:
    """Reddi et al. 2021, algorithm 2, with Flower's start of both moments at 0."""

    def reference(world: World) -> Model:
        m = {name: np.zeros_like(value) for name, value in world.first.items()}
        v = {name: np.zeros_like(value) for name, value in world.first.items()}

        def merge(number: int, old: Model, result: list[Model]) -> Model:
            for name, d in difference(world.mean(result), old).items():
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

    def merge(number: int, old: Model, result: list[Model]) -> Model:
        for name, d in difference(old, world.mean(result)).items():
            velocity[name] = 0.7 * velocity[name] + d
        return {name: old[name] - 0.5 * velocity[name] for name in old}

    return world.run(merge)


def by_value(pick: Callable[[list[float]], float]) -> Callable[[World], Model]:
    """Every single number of the model from the sites' values of it, sorted."""

    def reference(world: World) -> Model:
        def merge(number: int, old: Model, result: list[Model]) -> Model:
            merged = {}
            for name, value in old.items():
                columns = zip(*(one[name].ravel().tolist() for one in result), strict=True)
                merged[name] = np.array([pick(sorted(column)) for column in columns]).reshape(value.shape)
            return merged

        return world.run(merge)

    return reference


def krums(malicious: int, select: int) -> Callable[[World], Model]:
    """Blanchard et al. 2017: the sum of squared distances to the n - f - 2 nearest others, least first."""

    def reference(world: World) -> Model:
        def merge(number: int, old: Model, result: list[Model]) -> Model:
            flat = [np.concatenate([one[name].ravel() for name in sorted(one)]) for one in result]
            scores = []
            for i, one in enumerate(flat):
                others = sorted(float(((one - other) ** 2).sum()) for j, other in enumerate(flat) if j != i)
                scores.append(sum(others[: len(flat) - malicious - 2]))
            order = np.argsort(scores)
            gap = (scores[order[select]] - scores[order[select - 1]]) / scores[order[select]]
            assert gap > 1e-3, "the choice is too close for a test"
            few = World([], [world.weights[i] for i in order[:select]], 0, {}, 0)
            return few.mean([result[i] for i in order[:select]])

        return world.run(merge)

    return reference


def geomedian(world: World) -> Model:
    """The mixture of the sites' models from which the summed distance to them is least, found without derivatives."""

    def merge(number: int, old: Model, result: list[Model]) -> Model:
        flat = np.stack([np.concatenate([one[name].ravel() for name in old]) for one in result])
        scale = np.linalg.norm(flat - flat.mean(0), axis=1).mean()

        def distance(free: np.ndarray) -> float:
            mixture = np.append(free, 1 - free.sum()) @ flat
            return sum(float(np.sqrt(((one - mixture) ** 2).sum())) for one in flat) / scale

        start = np.full(len(result) - 1, 1 / len(result))
        free = minimize(distance, start, method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-15}).x
        assert np.abs(free - start).max() > 0.01, "a plain mean would do"
        return World([], [*free, 1 - free.sum()], 0, {}, 0).mean(result)

    return world.run(merge)


def local_layers(names: Sequence[str]) -> Callable[[World], Model]:
    """Some arrays of each site's own go on from round to round; the server's stay as they began."""

    def reference(world: World) -> Model:
        model = world.first
        own = [{name: world.first[name] for name in names} for _ in world.sites]
        for number in range(1, world.rounds + 1):
            result = world.train(number, [{**model, **mine} for mine in own])
            own = [{name: one[name] for name in names} for one in result]
            model = {**world.mean(result), **{name: world.first[name] for name in names}}
        for site, mine in zip(world.sites, own, strict=True):
            world.remaining[site.name] = mine
        return model

    return reference


def ditto(world: World) -> Model:
    model, own = world.first, [world.first] * len(world.sites)
    for number in range(1, world.rounds + 1):
        own = world.train(number, own, mu=2.0, anchor=model, purpose="personal")
        model = world.mean(world.train(number, [model] * len(own)))
    for site, mine in zip(world.sites, own, strict=True):
        world.remaining[site.name] = world.personal[site.name] = mine
    return model


def scaffold(world: World) -> Model:
    """Karimireddy et al. 2020, algorithm 1, option II, all sites in every round."""
    x = world.first
    nothing = {name: np.zeros_like(value) for name, value in x.items()}
    c, own = nothing, [nothing] * len(world.sites)
    for number in range(1, world.rounds + 1):
        result = world.train(number, [x] * len(own), correction=[difference(c, mine) for mine in own])
        new = [
            {n: mine[n] - c[n] + (x[n] - y[n]) / (steps(site) * LR) for n in x}
            for mine, y, site in zip(own, result, world.sites, strict=True)
        ]
        change = world.mean([difference(after, before) for after, before in zip(new, own, strict=True)])
        c = {name: c[name] + change[name] for name in c}
        update = world.mean([difference(y, x) for y in result])
        x, own = {name: x[name] + 0.5 * update[name] for name in x}, new
    for site, mine in zip(world.sites, own, strict=True):
        world.remaining[site.name] = mine
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
