"""The attacks of experiments/privacy/gate_audit.py: requests of a hostile coordinator to a hospital."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from client.requests import handle
from client.site import Site, load_site
from client.site_context import SiteContext
from common import models
from common.arrays import Weights
from common.config import RunConfig, parse_config
from common.errors import WardroundError
from common.metrics.table_names import ALL_PATIENTS, GROUP_PREFIX
from common.replies import FinalTestReply, Reply, ScalingReply, TrainReply
from common.requests import FinalTestRequest, HandshakeRequest, Request, ScalingRequest, TrainRequest

Floats = npt.NDArray[np.float64]
TOLERANCE = 0.1
"""A row counts as recovered if the error of every input is below this number of standard deviations of the input."""
MANY_BINS = 4096
STEEP = 1e-3
"""Weight of a trap: small, so that the loss is not saturated for people above its value; below it the unit is 0."""


@dataclass(frozen=True)
class AttackResult:
    """The result of one attack.

    Attributes:
        name: the attack.
        rows: number of people whose row, or a count of that person alone, was recovered.
        people: the largest number of people that it could have recovered.
        requests: requests that it sent.
        refused: the first refusal, or empty where all were answered.
    """

    name: str
    rows: int
    people: int
    requests: int
    refused: str = ""


class Coordinator:
    """A hostile coordinator, which sends requests to one hospital.

    Args:
        config: the run that an honest coordinator would ask for: tabular inputs, a linear or a multilayer model.
        context: the hospital.
    """

    def __init__(self, config: RunConfig, context: SiteContext) -> None:
        self.config, self.context = config, context
        self.requests, self.refused = 0, ""

    def ask(self, request: Request) -> Reply | None:
        """Return the hospital's reply, or None if it refuses."""
        self.requests += 1
        try:
            return handle(self.context, request)
        except WardroundError as error:
            self.refused = self.refused or str(error)
            return None

    def change_config(self, **values: Any) -> RunConfig:
        """Return a copy of the configuration with other values; `sites__limit=1` sets sites.limit."""
        raw = self.config.model_dump(mode="json", exclude_defaults=True)
        for name, value in values.items():
            *inner, last = name.split("__")
            part = raw
            for key in inner:
                part = part.setdefault(key, {})
            part[last] = value
        return parse_config(raw)

    def result(self, name: str, rows: int, people: int) -> AttackResult:
        """Return the result of an attack, and reset the counters."""
        result = AttackResult(name, rows, people, self.requests, self.refused)
        self.requests, self.refused = 0, ""
        return result


def read_true_rows(site: Site) -> Floats:
    """Return every example's inputs, unscaled, `(examples, inputs)`; missing values as 0."""
    parts = [part.features for part in (site.train, site.validation, site.test)]
    return np.nan_to_num(np.concatenate(parts).astype(np.float64))


def count_matches(recovered: list[Floats], rows: Floats) -> int:
    """Return how many different real rows are among recovered vectors."""
    matched: set[int] = set()
    spread = np.maximum(rows.std(0), 1e-9)
    for vector in recovered:
        if vector.shape != rows.shape[1:] or not np.isfinite(vector).all():
            continue
        near = np.abs(rows - vector) <= TOLERANCE * spread
        matched |= set(np.flatnonzero(near.all(1)).tolist())
    return len(matched)


def attack_single_sum(coordinator: Coordinator, whole: Site) -> AttackResult:
    """Ask for sums over one training example, with many seeds."""
    recovered = []
    for seed in range(20):
        reply = coordinator.ask(
            ScalingRequest(coordinator.change_config(seed=seed, sites__limit=1, data__scaling="standard"))
        )
        if isinstance(reply, ScalingReply):
            recovered.append(np.asarray(reply.sums["total"]))
    rows = read_true_rows(whole)
    return coordinator.result("one example's sums (sites.limit=1)", count_matches(recovered, rows), len(rows))


def attack_sum_difference(coordinator: Coordinator, whole: Site) -> AttackResult:
    """Ask for sums over k and over k + 1 training examples, for many k."""
    totals = {}
    for limit in range(50, 80):
        reply = coordinator.ask(ScalingRequest(coordinator.change_config(sites__limit=limit, data__scaling="standard")))
        if isinstance(reply, ScalingReply):
            totals[limit] = np.asarray(reply.sums["total"])
    recovered = [totals[k + 1] - totals[k] for k in totals if k + 1 in totals]
    rows = read_true_rows(whole)
    moved = [vector for vector in recovered if np.abs(vector).max() > 1e-6]
    return coordinator.result("difference of two sums (sites.limit)", count_matches(moved, rows), len(rows))


def build_weights(config: RunConfig, site: Site) -> Weights:
    """Return the first weights of a run."""
    built = models.build_model(site.task, config.model, config.seed)
    return {name: value.detach().numpy().copy() for name, value in built.state_dict().items()}


def attack_single_update(coordinator: Coordinator, whole: Site) -> AttackResult:
    """Train a linear model on one example: its gradient is the example."""
    recovered = []
    for seed in range(10):
        training = {
            "training__lr": 1.0,
            "training__clip_norm": 1e9,
            "training__optimizer": "sgd",
            "data__scaling": "none",
        }
        config = coordinator.change_config(seed=seed, sites__limit=1, model={"name": "logreg"}, **training)
        weights = build_weights(config, whole)
        reply = coordinator.ask(TrainRequest(config, round=1, weights=weights, run_id=secrets.token_hex(16)))
        if isinstance(reply, TrainReply):
            recovered += divide_by_bias(weights, reply.weights)
    rows = read_true_rows(whole)
    return coordinator.result("one example's update (sites.limit=1)", count_matches(recovered, rows), len(rows))


def divide_by_bias(sent: Weights, update: Weights) -> list[Floats]:
    """Return change of weights divided by change of bias: of each unit of a linear layer, and of each pair of units."""
    recovered = []
    for name, value in update.items():
        bias = name.removesuffix("weight") + "bias"
        if value.ndim != 2 or bias not in update or not name.endswith("weight"):
            continue
        change, shift = (np.asarray(after, np.float64) - before for after, before in (
            (value, sent[name]), (update[bias], sent[bias])
        ))  # fmt: skip
        pairs = [*zip(change, shift, strict=True), *zip(np.diff(change, axis=0), np.diff(shift), strict=True)]
        recovered += [row / step for row, step in pairs if abs(step) > 1e-12]
    return recovered


def attack_trap_weights(coordinator: Coordinator, whole: Site) -> AttackResult:
    """Train a network whose hidden units fire for one person each, in the first round and after an honest one."""
    training = {
        "training__lr": 0.1,
        "training__optimizer": "sgd",
        "training__momentum": 0.0,
        "training__weight_decay": 0.0,
    }
    config = coordinator.change_config(
        model={"name": "mlp", "options": {"widths": [32], "dropout": 0.0, "norm": False}},
        data__scaling="none",
        training__clip_norm=1e9,
        training__batch_size=4096,
        federation__rounds=3,
        **training,
    )
    weights, rows = build_weights(config, whole), read_true_rows(whole)
    recovered: list[Floats] = []
    for honest_rounds in (0, 1):
        run = secrets.token_hex(16)
        sent = weights
        for number in range(1, honest_rounds + 1):
            reply = coordinator.ask(TrainRequest(config, round=number, weights=sent, run_id=run))
            sent = {**sent, **reply.weights} if isinstance(reply, TrainReply) else sent
        crafted = set_traps(sent, rows)
        number = honest_rounds + 1
        reply = coordinator.ask(TrainRequest(config, round=number, weights=crafted, run_id=run))
        if isinstance(reply, TrainReply):
            recovered += divide_by_bias(crafted, reply.weights)
    return coordinator.result("trap weights in an update", count_matches(recovered, rows), len(rows))


def set_traps(weights: Weights, rows: Floats) -> Weights:
    """Return weights with which each unit of the first layer fires only for people beyond a value of one input."""
    crafted = {name: value.copy() for name, value in weights.items()}
    first = next(name for name, value in crafted.items() if value.ndim == 2 and value.shape[1] == rows.shape[1])
    column = int(np.argmax([len(np.unique(values)) for values in rows.T]))
    order = np.sort(np.unique(rows[:, column]))[::-1]
    layer, bias = crafted[first], crafted[first.removesuffix("weight") + "bias"]
    last = next(name for name, value in crafted.items() if value.ndim == 2 and value.shape[1] == len(layer))
    crafted[last][:] = np.linspace(-1, 1, len(crafted[last]))[:, None]
    for unit in range(len(layer)):
        layer[unit] = 0
        layer[unit, column] = STEEP
        cut = (order[min(unit, len(order) - 2)] + order[min(unit + 1, len(order) - 1)]) / 2
        bias[unit] = -STEEP * cut
    return crafted


def build_code_model(whole: Site, config: RunConfig, bins: int) -> Weights:
    """Return a linear model whose event score falls into another bin for almost every person."""
    rows = read_true_rows(whole)
    rng = np.random.default_rng(5)
    direction = rng.normal(size=rows.shape[1]) / np.maximum(rows.std(0), 1e-6)
    score = rows @ direction
    low, high = float(score.min()), float(score.max())
    scale = 31.0 / (high - low)
    weights = {name: np.zeros_like(value) for name, value in build_weights(config, whole).items()}
    layer = next(name for name, value in weights.items() if value.ndim == 2)
    weights[layer][1] = direction * scale
    weights[layer.removesuffix("weight") + "bias"][1] = -15.5 - low * scale
    return weights


def attack_histogram(coordinator: Coordinator, whole: Site) -> AttackResult:
    """Give every person a different score, and read the test's histograms: a cell of one person reveals a row."""
    recovered, people = 0, whole.test.people()
    for bins in (MANY_BINS, coordinator.context.policy.max_bins):
        settings = {"evaluation__bins": bins, "evaluation__bootstrap": 0, "data__scaling": "none", "sites__test": 0.9}
        config = coordinator.change_config(model={"name": "logreg"}, **settings)
        weights = build_code_model(whole, config, bins)
        for start in (0, 1):
            run = secrets.token_hex(16)
            if start:
                first = build_weights(config, whole)
                coordinator.ask(TrainRequest(config, round=1, weights=first, run_id=run))
            reply = coordinator.ask(FinalTestRequest(config, round=1, weights=weights, run_id=run))
            if isinstance(reply, FinalTestReply) and ALL_PATIENTS in reply.tables:
                recovered = max(recovered, int((reply.tables[ALL_PATIENTS].scores[1] == 1).sum()))
    return coordinator.result("codes in a score histogram", recovered, max(people, recovered))


def train_here(coordinator: Coordinator, whole: Site, config: RunConfig) -> str:
    """Train a run's first round honestly at the hospital; return the run."""
    run = secrets.token_hex(16)
    coordinator.ask(HandshakeRequest(config))
    coordinator.ask(TrainRequest(config, round=1, weights=build_weights(config, whole), run_id=run))
    return run


def attack_thresholds(coordinator: Coordinator, whole: Site) -> AttackResult:
    """Test two models whose decision boundaries have one person between them."""
    rows = read_true_rows(whole)
    column = int(np.argmax([len(np.unique(values)) for values in rows.T]))
    values = np.sort(np.unique(whole.test.features[:, column]))
    isolated, pairs = 0, 0
    settings = {"evaluation__bins": coordinator.context.policy.max_bins, "evaluation__bootstrap": 0}
    config = coordinator.change_config(model={"name": "logreg"}, data__scaling="none", **settings)
    run = train_here(coordinator, whole, config)
    before: npt.NDArray[np.int64] | None = None
    for cut in [(a + b) / 2 for a, b in itertools.pairwise(values)][:40]:
        weights = {name: np.zeros_like(value) for name, value in build_weights(config, whole).items()}
        layer = next(name for name, value in weights.items() if value.ndim == 2)
        weights[layer][1, column], weights[layer.removesuffix("weight") + "bias"][1] = 1.0, -float(cut)
        reply = coordinator.ask(FinalTestRequest(config, round=1, weights=weights, run_id=run))
        if isinstance(reply, FinalTestReply) and ALL_PATIENTS in reply.tables:
            confusion = reply.tables[ALL_PATIENTS].confusion
            if before is not None:
                isolated, pairs = isolated + int(np.abs(confusion - before).sum() == 2), pairs + 1
            before = confusion
    # answers that are some people off differ by one in one of ten pairs by chance
    count = isolated if isolated > pairs / 4 else 0
    return coordinator.result("difference of two crafted thresholds", count, whole.test.people())


def attack_groups(coordinator: Coordinator, whole: Site) -> AttackResult:
    """Ask for figures of groups cut on either side of one person."""
    column = int(np.argmax([len(np.unique(values)) for values in whole.test.features.T]))
    name = whole.task.features[column]
    values, counts = np.unique(whole.test.features[:, column], return_counts=True)
    single = [float(v) for v, n in zip(values, counts, strict=True) if n == 1][2:-2:3][:10]
    isolated = 0
    settings = {"evaluation__bins": coordinator.context.policy.max_bins, "evaluation__bootstrap": 0}
    for value in single:
        tables: list[Mapping[str, Any]] = []
        for edge in (value - 1e-3, value + 1e-3):
            config = coordinator.change_config(
                model={"name": "logreg"},
                data__scaling="none",
                evaluation__subgroups={"columns": {name: [edge]}},
                **settings,
            )
            run, weights = train_here(coordinator, whole, config), build_weights(config, whole)
            reply = coordinator.ask(FinalTestRequest(config, round=1, weights=weights, run_id=run))
            tables.append(reply.tables if isinstance(reply, FinalTestReply) else {})
        low = [sorted(key for key in table if key.startswith(GROUP_PREFIX)) for table in tables]
        if all(low) and low[0] and low[1]:
            difference = tables[0][low[0][0]].confusion - tables[1][low[1][0]].confusion
            isolated += int(np.abs(difference).sum() == 1)
    return coordinator.result("difference of two groups' edges", isolated, len(single))


def attack_trained_people(coordinator: Coordinator, whole: Site) -> AttackResult:
    """Train in one run; then request, in a run with another seed, a test on people who trained."""
    settings = {"evaluation__bins": coordinator.context.policy.max_bins, "evaluation__bootstrap": 0}
    first = coordinator.change_config(seed=1, model={"name": "logreg"}, **settings)
    train_here(coordinator, whole, first)
    trained = set(load_site(coordinator.context, first).train.people_names)
    crossed = 0
    for seed in range(2, 8):
        second = coordinator.change_config(seed=seed, sites__test=0.99, model={"name": "logreg"}, **settings)
        run, weights = train_here(coordinator, whole, second), build_weights(second, whole)
        reply = coordinator.ask(FinalTestRequest(second, round=1, weights=weights, run_id=run))
        if isinstance(reply, FinalTestReply):
            crossed = max(crossed, len(trained & set(load_site(coordinator.context, second).test.people_names)))
    return coordinator.result("people who trained, tested with another seed", crossed, len(trained))


ATTACKS: tuple[Callable[[Coordinator, Site], AttackResult], ...] = (
    attack_single_sum,
    attack_sum_difference,
    attack_single_update,
    attack_trap_weights,
    attack_histogram,
    attack_thresholds,
    attack_groups,
    attack_trained_people,
)
"""Every attack of the audit."""
