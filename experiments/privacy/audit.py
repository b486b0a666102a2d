"""A membership-inference audit of private training: a lower bound on epsilon, compared with the claimed upper bound.

Canaries are artificial units: persons (or examples) whose gradient has its own direction and is a thousand
clipping norms long before clipping (canaries in gradient space: Nasr et al. 2021, arXiv:2101.04535). A fair coin
decides for each whether it is added to a hospital's patients. `client.privacy.dp_sgd.train_privately` trains on all
of them, as in a run. An attacker who sees each step's noisy gradient, as the accountant assumes, guesses the coins.
This is the worst case that epsilon covers, in one training (Steinke, Nasr and Jagielski 2023, arXiv:2305.08846); real
patients are harder to detect.

At level `patient` a canary is a person with two recordings of two examples each, so that the audit detects training
that clips recordings or examples instead of persons.

Four bounds are computed, each with a quarter of the error probability:
- two lower bounds from the guesses (experiments/privacy/audit_bounds.py), valid whatever the training does
  internally;
- bounds on the noise and on the weight of one unit, from which the accountant computes the epsilon of the planned
  steps. This is much sharper, but assumes a sampled Gaussian mechanism.
The model is discarded, so nothing is charged to a ledger; the results are about canaries, not about patients.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

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
from experiments.privacy import audit_bounds
from experiments.privacy.canaries import Attacker, ProbedModel, add_canaries, call_before_each_step
from sites.cohort import Cohort

CANARY_LENGTH = 1e3
"""Length of a canary's gradient before clipping, in clipping norms."""
UNBOUNDED_EPSILON = 1e6
"""Epsilons of at least this are all reported as this."""


@dataclass(frozen=True)
class Audit:
    """The result of an audit.

    Attributes:
        level: what is protected: patient or record.
        unit: the unit's name.
        site: the hospital.
        synthetic: whether its data are generated.
        units: its real units.
        canaries: canaries, included or not.
        included: canaries that were trained on.
        rounds: rounds of training.
        steps: steps of training.
        q: sampling rate of a unit in a step.
        sigma: noise multiplier.
        clip: clipping norm.
        delta: delta of all epsilons.
        accountant: how epsilon is computed.
        private: whether the noise is secret.
        confidence: confidence of the lower bounds.
        claimed: epsilon of the planned steps, by the accountant.
        attack: the larger of the two lower bounds from the guesses.
        measured: epsilon at the measured noise and weight, both bounded in favour of the claim.
        noise: upper bound of the measured noise, in clipping norms.
        weight: lower bound of the measured weight of one unit in a step's sum, in clipping norms.
        one_run: the bound from guesses about all canaries.
        pairs: the bound from a test of single canaries.
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
    measured: float
    noise: float
    weight: float
    one_run: audit_bounds.OneRun
    pairs: audit_bounds.SingleCanaries

    @property
    def bound(self) -> float:
        """The larger of the two lower bounds."""
        return max(self.attack, self.measured)

    @property
    def passed(self) -> bool:
        """Whether the claim is not below the lower bound."""
        return self.claimed >= self.bound

    def verdict(self) -> str:
        """Return the result in one sentence."""
        bound = "above any that can be measured" if self.bound >= UNBOUNDED_EPSILON else f"{self.bound:.3f}"
        words = "claims" if self.passed else "FAILED: training claims"
        return (
            f"privacy audit {'passed: training ' if self.passed else ''}{words} epsilon {self.claimed:.3f} per "
            f"{self.unit} at delta {self.delta:g}; the audit's lower bound is {bound} "
            f"({self.confidence:.0%} confidence)"
        )

    def table(self) -> str:
        """Return the bounds as text, one on each line."""
        one, two = self.one_run, self.pairs
        guessed = f"{one.correct} of {one.guesses} guesses right, {one.canaries} canaries"
        tested = f"{two.false_alarms} of {two.absent} false alarms, {two.misses} of {two.present} missed"
        lines = [
            (
                "claimed, at most",
                self.claimed,
                f"{self.accountant}, {self.steps} steps, q {self.q:g}, noise {self.sigma:g}",
            ),
            ("guesses, at least", one.epsilon, guessed),
            ("single canaries, at least", two.epsilon, tested),
            (
                "measured noise and weight",
                self.measured,
                f"noise at most {self.noise:.4f}, weight at least {self.weight:.4f}",
            ),
        ]
        notes = ["SYNTHETIC patients"] * self.synthetic + ["NOT PRIVATE: seeded noise"] * (not self.private)
        head = f"epsilon per {self.unit} at {self.site or 'the hospital'}, with {self.units} real ones"
        return "\n".join(
            ["; ".join([head, *notes]), *(f"  {name:26} {value:9.3f}   {why}" for name, value, why in lines)]
        )

    def raise_if_failed(self) -> None:
        """Raise an error if the claim is below the lower bound.

        Raises:
            AuditError: the claim is below the lower bound.
        """
        if not self.passed:
            raise AuditError(f"{self.verdict()}: do not rely on it")

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready form."""
        return {**asdict(self), "bound": self.bound, "passed": self.passed, "verdict": self.verdict()}


def audit_training(
    config: RunConfig,
    train: Cohort,
    *,
    canaries: int,
    confidence: float = 0.99,
    site: str = "",
    on_round: Callable[[int, int], None] | None = None,
) -> Audit:
    """Audit the training of a configuration on one hospital's patients and canaries.

    Args:
        config: a private run; all its rounds train in sequence, as if there were no other hospital.
        train: the patients, with scaled inputs.
        canaries: number of canaries, about half of which are trained on.
        confidence: confidence of the lower bounds.
        site: the hospital's name.
        on_round: called with the number of rounds done and of all rounds.

    Raises:
        ConfigError: privacy is off, has no units at the site, or the task or model cannot have canaries.
    """
    wanted = config.privacy
    if not wanted.on or wanted.kind not in ("patient", "record"):
        raise ConfigError("privacy audit: set privacy.epsilon (or sigma) and privacy.level=patient or record")
    if train.task.kind not in ("multiclass", "multilabel"):
        raise ConfigError(f"privacy audit: there are no canaries for tasks of kind {train.task.kind}")
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
    with call_before_each_step(attacker.observe, model.probe):
        for number in range(1, rounds + 1):
            _train_round(model, cohort, training, plan, seed_for(config.seed, site, number, "audit"), number, rounds)
            if on_round:
                on_round(number, rounds)
    steps = plan.steps * rounds
    if attacker.steps != steps:
        raise AuditError(f"privacy audit: {attacker.steps} steps were observed, but {steps} are charged")
    spent = GaussianSteps(plan.q, plan.sigma, steps)
    error = (1 - confidence) / 4
    one = audit_bounds.bound_from_guesses(attacker.llr, included, wanted.delta, error)
    two = audit_bounds.bound_from_single_canaries(attacker.llr, included, wanted.delta, error)
    absent = ~included
    noise = audit_bounds.max_deviation(float(attacker.squares[absent].sum()), steps * int(absent.sum()), error)
    weight = audit_bounds.min_mean(attacker.total[included] / (steps * plan.q), error)
    return Audit(
        plan.level, UNIT_NAMES[plan.level], site, train.synthetic, count_units(train, plan.level), canaries,
        int(included.sum()), rounds, steps, plan.q, plan.sigma, plan.clip, wanted.delta, wanted.accountant,
        plan.private, confidence, compute_epsilon([spent], wanted.delta, wanted.accountant),
        max(one.epsilon, two.epsilon),
        _measured_epsilon(spent, noise, weight, wanted.delta, wanted.accountant), noise, weight, one, two,
    )  # fmt: skip


def _train_round(
    model: nn.Module, cohort: Cohort, training: TrainingConfig, plan: DpSgdPlan, seed: int, number: int, rounds: int
) -> None:
    """Train as a site does in one round."""
    epochs = training.epochs
    train_privately(model, cohort, training, plan, seed, schedule=Schedule((number - 1) * epochs, rounds * epochs))


def _measured_epsilon(spent: GaussianSteps, noise: float, weight: float, delta: float, accountant: Any) -> float:
    """Return the epsilon of the planned steps at the measured noise and weight."""
    if weight <= 0:
        return 0.0
    sigma = noise / weight
    return (
        UNBOUNDED_EPSILON
        if sigma < 0.02
        else min(compute_epsilon([spent._replace(sigma=sigma)], delta, accountant), UNBOUNDED_EPSILON)
    )
