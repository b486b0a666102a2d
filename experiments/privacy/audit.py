"""A membership-inference audit of private training: a lower bound on epsilon beside the upper bound that is claimed.

Canaries are units that do not exist: persons (or examples) whose gradient points along a direction of their own, and
would be a thousand clipping norms long (canaries in gradient space: Nasr et al. 2021, arXiv:2101.04535). A fair coin
says of each whether it is put among a hospital's patients. client.privacy.dp_sgd.train_privately trains on them all,
as in a run; an
attacker who sees each step's noisy gradient, as the accountant supposes, guesses the coins. That is the worst case
that epsilon speaks of, in one training (Steinke, Nasr and Jagielski 2023, arXiv:2305.08846); real patients hide better.

At level `patient` a canary is a person with two recordings of two examples each, so that a hospital that clipped
recordings or examples instead of persons would be found out.

Four figures, each allowed a quarter of the error:
- two lower bounds from the guesses (experiments/privacy/audit_bounds.py), which hold whatever the training does inside;
- the noise and the weight of one unit as they are to be seen, and the epsilon that the accountant gives for a training
  with that noise, that weight, and the planned steps: sharper by far, but it supposes a sampled Gaussian mechanism.
The model is thrown away, so nothing is charged; what is written are figures of canaries, none of patients.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from client.privacy import budget
from client.privacy.accounting import GaussianSteps, compute_epsilon, count_steps
from client.privacy.budget import DpSgdPlan
from client.privacy.dp_sgd import train_privately
from client.privacy.units import UNIT_NAMES, count_units
from client.training.loop import Schedule
from common import models
from common.config import RunConfig
from common.errors import AuditError, ConfigError
from common.sections.training import TrainingConfig
from common.seeds import rng_for, seed_for
from experiments.privacy import audit_bounds as bounds
from sites.cohort import Cohort

Floats = npt.NDArray[np.float64]
CANARY_LENGTH = 1e3
"""Length of a canary's gradient before it is clipped, in clipping norms."""
UNBOUNDED_EPSILON = 1e6
"""An epsilon that stands for any from here on."""


@dataclass(frozen=True)
class Audit:
    """What an audit found.

    `claimed`: epsilon of the planned steps, by the accountant; `attack`: the better of the two bounds that the guesses
    prove; `seen`: epsilon at the noise and weight measured, both to the claim's favour; `noise`: measured, in clipping
    norms, at most; `weight`: of one unit in a step's sum, in clipping norms, at least.
    """

    level: str
    unit: str
    site: str
    synthetic: bool
    units: int
    canaries: int
    included: int
    rounds: int
    steps: int
    q: float
    sigma: float
    clip: float
    delta: float
    accountant: str
    private: bool
    confidence: float
    claimed: float
    attack: float
    seen: float
    noise: float
    weight: float
    one_run: bounds.OneRun
    pairs: bounds.SingleCanaries

    @property
    def bound(self) -> float:
        """The highest of the lower bounds."""
        return max(self.attack, self.seen)

    @property
    def passed(self) -> bool:
        """Whether the claim is not below any bound."""
        return self.claimed >= self.bound

    def verdict(self) -> str:
        """Return one line."""
        bound = "any that can be told" if self.bound >= UNBOUNDED_EPSILON else f"{self.bound:.3f}"
        words = "claims" if self.passed else "FAILED: training claims"
        return (
            f"privacy audit {'passed: training ' if self.passed else ''}{words} epsilon {self.claimed:.3f} per "
            f"{self.unit} at delta {self.delta:g}; the audit's lower bound is {bound} "
            f"({self.confidence:.0%} confidence)"
        )

    def table(self) -> str:
        """Return the figures, a line each."""
        one, two = self.one_run, self.pairs
        guessed = f"{one.correct} of {one.guesses} guesses right, {one.canaries} canaries"
        told = f"{two.false_alarms} of {two.absent} false alarms, {two.misses} of {two.present} missed"
        lines = [
            (
                "claimed, at most",
                self.claimed,
                f"{self.accountant}, {self.steps} steps, q {self.q:g}, noise {self.sigma:g}",
            ),
            ("guesses, at least", one.epsilon, guessed),
            ("single canaries, at least", two.epsilon, told),
            ("noise and weight seen", self.seen, f"noise at most {self.noise:.4f}, weight at least {self.weight:.4f}"),
        ]
        notes = ["SYNTHETIC patients"] * self.synthetic + ["NOT PRIVATE: seeded noise"] * (not self.private)
        head = f"epsilon per {self.unit} at {self.site or 'the hospital'}, beside {self.units} real ones"
        return "\n".join(
            ["; ".join([head, *notes]), *(f"  {name:26} {value:9.3f}   {why}" for name, value, why in lines)]
        )

    def raise_if_failed(self) -> None:
        """Raise where the claim is below the bound.

        Raises:
            AuditError: it is.
        """
        if not self.passed:
            raise AuditError(f"{self.verdict()}: do not rely on it")

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready form."""
        return {**asdict(self), "bound": self.bound, "passed": self.passed, "verdict": self.verdict()}


class ProbedModel(nn.Module):
    """A model beside a layer that canaries alone move; it gives patients the outputs and gradients it gave before.

    The last feature is 0 for patients and else a canary's number. A canary's outputs are 0, whatever the layer's
    weights, so that its gradient stays as long as it was.
    """

    def __init__(self, inner: nn.Module, canaries: int, classes: int, length: float) -> None:
        super().__init__()
        self.inner, self.length = inner, length
        self.probe = nn.Linear(canaries, classes, bias=False)
        nn.init.zeros_(self.probe.weight)
        self.numbers: Tensor
        self.register_buffer("numbers", torch.arange(1.0, canaries + 1), persistent=False)

    def forward(self, x: Tensor, features: Tensor) -> Tensor:
        """Return logits of `(batch, channels, samples)` and `(batch, features + 1)`."""
        number = features[:, -1:]
        mark: Tensor = self.probe((number == self.numbers).to(x.dtype) * self.length)
        patients: Tensor = self.inner(x, features[:, :-1]) * (number == 0)
        return patients + mark - mark.detach()


def add_canaries(train: Cohort, included: npt.NDArray[np.bool_], level: str) -> Cohort:
    """Return the patients, a 0 as last feature, and the canaries whose coins fell so, each with its number there."""
    recordings, each = (2, 2) if level == "patient" else (1, 1)
    numbers = np.flatnonzero(included) + 1
    rows = np.repeat(numbers, recordings * each)
    base = train.take(np.concatenate([np.arange(len(train.y)), np.zeros(len(rows), np.int64)]))
    owner = len(train.patients) + np.arange(len(rows)) // each
    names = [f"canary {number}" for number in numbers for _ in range(recordings)]
    ids = np.concatenate([np.zeros(len(train.y)), rows]).astype(np.float32)
    y = base.y.copy()
    y[len(train.y) :] = 0
    none = np.full(len(names), np.nan, np.float32)
    return replace(
        base,
        task=replace(train.task, features=(*train.task.features, "canary")),
        features=np.column_stack([base.features, ids]),
        y=y,
        patient=np.concatenate([train.patient, owner]),
        patients=(*train.patients, *(f"{name}, {i % recordings}" for i, name in enumerate(names))),
        persons=(*train.persons, *names),
        age=None if train.age is None else np.concatenate([train.age, none]),
        sex=None if train.sex is None else np.concatenate([train.sex, np.full(len(names), -1, train.sex.dtype)]),
    )


class Attacker:
    """Sees each step's noisy gradient; keeps what it tells of each canary.

    `llr`: how much likelier what was seen is with the canary than without, in logarithms, if training is as planned;
    `total`: the sum of the steps' gradients along the canary's direction, in clipping norms; `squares`: of the same.
    """

    def __init__(self, probe: nn.Linear, plan: DpSgdPlan, units: int, multilabel: bool) -> None:
        canaries, classes = probe.in_features, probe.out_features
        slope = np.full(classes, 0.5 if multilabel else 1 / classes)  # of the loss at outputs of 0 and label 0
        if not multilabel:
            slope[0] -= 1
        self._direction = slope / np.linalg.norm(slope)
        self._probe, self._plan, self._units = probe, plan, units
        self.llr, self.total, self.squares = np.zeros(canaries), np.zeros(canaries), np.zeros(canaries)
        self.steps = 0

    def look(self) -> None:
        """Take in the gradient that is about to be applied."""
        assert self._probe.weight.grad is not None
        gradient = self._probe.weight.grad.detach().double().cpu().numpy()
        seen = self._direction @ gradient * (self._plan.q * self._units / self._plan.clip)
        self.total += seen
        self.squares += seen**2
        self.llr += np.logaddexp(
            math.log1p(-self._plan.q) if self._plan.q < 1 else -math.inf,
            math.log(self._plan.q) + (2 * seen - 1) / (2 * self._plan.sigma**2),
        )
        self.steps += 1


@contextmanager
def call_before_each_step(look: Callable[[], None], layer: nn.Module) -> Iterator[None]:
    """Call a function before each step that any optimiser takes with a layer's parameters."""
    from torch.optim.optimizer import register_optimizer_step_pre_hook

    def hook(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        if any(
            item is one for group in optimizer.param_groups for item in group["params"] for one in layer.parameters()
        ):
            look()

    handle = register_optimizer_step_pre_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def audit_training(
    config: RunConfig,
    train: Cohort,
    *,
    canaries: int,
    confidence: float = 0.99,
    site: str = "",
    on_round: Callable[[int, int], None] | None = None,
) -> Audit:
    """Audit the training that a configuration plans, on one hospital's patients and canaries.

    Args:
        config: private; all its rounds train, one after another, as if the hospital were alone.
        train: the patients, scaled as the model takes them.
        canaries: how many coins; half of them, about, are trained on.
        confidence: that no bound is too high.
        site: the hospital's name.
        on_round: called with the number of rounds done and of all rounds.

    Raises:
        ConfigError: privacy is off, or of a level without units at the site, or the task or model has no canaries.
    """
    wanted = config.privacy
    if not wanted.on or wanted.kind not in ("patient", "record"):
        raise ConfigError("privacy audit: set privacy.epsilon (or sigma) and privacy.level=patient or record")
    if train.task.kind not in ("multiclass", "multilabel"):
        raise ConfigError(f"privacy audit: no canaries for a task of kind {train.task.kind}")
    if canaries < 50 or not 0.5 < confidence < 1:
        raise ConfigError("privacy audit: at least 50 canaries, and a confidence between 0.5 and 1")
    claim = budget.solve_training_noise(config, statistics=budget.needs_noisy_sums(config, train.task))
    per_round = count_steps(1, config.training.epochs, wanted.sampling)
    plan = DpSgdPlan(
        wanted.kind, wanted.sampling, claim, wanted.clip, per_round, wanted.examples, wanted.noise == "secure"
    )
    included = rng_for(config.seed, "audit").random(canaries) < 0.5
    cohort = add_canaries(train, included, plan.level)
    inner = models.build_model(train.task, config.model, config.seed)
    models.check_per_unit_gradients(inner, plan.level)
    classes = len(train.task.classes)
    model = ProbedModel(inner, canaries, classes, CANARY_LENGTH * plan.clip)
    training = config.training.model_copy(update={"freeze": tuple(f"inner.{name}" for name in config.training.freeze)})
    units = count_units(cohort, plan.level)
    attacker = Attacker(model.probe, plan, units, train.task.kind == "multilabel")
    rounds = config.federation.rounds
    with call_before_each_step(attacker.look, model.probe):
        for number in range(1, rounds + 1):
            _round(model, cohort, training, plan, seed_for(config.seed, site, number, "audit"), number, rounds)
            if on_round:
                on_round(number, rounds)
    steps = plan.steps * rounds
    if attacker.steps != steps:
        raise AuditError(f"privacy audit: {attacker.steps} steps were seen, but {steps} are charged for")
    spent = GaussianSteps(plan.q, plan.sigma, steps)
    error = (1 - confidence) / 4
    one = bounds.bound_from_guesses(attacker.llr, included, wanted.delta, error)
    two = bounds.bound_from_single_canaries(attacker.llr, included, wanted.delta, error)
    absent = ~included
    noise = bounds.max_deviation(float(attacker.squares[absent].sum()), steps * int(absent.sum()), error)
    weight = bounds.min_mean(attacker.total[included] / (steps * plan.q), error)
    return Audit(
        plan.level, UNIT_NAMES[plan.level], site, train.synthetic, count_units(train, plan.level), canaries,
        int(included.sum()), rounds, steps, plan.q, plan.sigma, plan.clip, wanted.delta, wanted.accountant,
        plan.private, confidence, compute_epsilon([spent], wanted.delta, wanted.accountant),
        max(one.epsilon, two.epsilon),
        _as_seen(spent, noise, weight, wanted.delta, wanted.accountant), noise, weight, one, two,
    )  # fmt: skip


def _round(
    model: nn.Module, cohort: Cohort, training: TrainingConfig, plan: DpSgdPlan, seed: int, number: int, rounds: int
) -> None:
    """Train as a site does in a round."""
    epochs = training.epochs
    train_privately(model, cohort, training, plan, seed, schedule=Schedule((number - 1) * epochs, rounds * epochs))


def _as_seen(spent: GaussianSteps, noise: float, weight: float, delta: float, accountant: Any) -> float:
    """Return the epsilon of the planned steps with the noise and the weight that were measured."""
    if weight <= 0:
        return 0.0
    sigma = noise / weight
    return (
        UNBOUNDED_EPSILON
        if sigma < 0.02
        else min(compute_epsilon([spent._replace(sigma=sigma)], delta, accountant), UNBOUNDED_EPSILON)
    )
