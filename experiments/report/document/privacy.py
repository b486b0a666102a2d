"""Privacy in the report: what each hospital spent, and the result of an audit."""

from __future__ import annotations

from typing import Literal

from common.metrics.figures import FrozenModel


class PrivacySpent(FrozenModel):
    """The privacy that one hospital's training spent, as recorded in its own ledger.

    Attributes:
        site: the hospital.
        level: what is protected.
        unit: noun of the protected unit: person, example or hospital.
        units: number of units that trained.
        epsilon_run: epsilon of this run at `delta`.
        epsilon: epsilon of all runs on the hospital's data at `delta`.
        delta: delta of both epsilons.
        q: probability that a unit takes part in a step (level hospital: in a round).
        sigma: noise multiplier: standard deviation of the noise in units of `clip`.
        clip: clipping norm.
        steps: steps of this run.
        accountant: how epsilon was computed.
        private: false if the noise can be repeated and therefore removed.
        statistics: noise multiplier of sums over units that were charged before the first round; None: no such sums.
        noise_at: who adds the noise.
        lost_steps: those of `steps` that were charged for rounds whose result was lost, and which were run again.
    """

    site: str
    level: Literal["record", "patient", "hospital"]
    unit: str
    units: int
    epsilon_run: float
    epsilon: float
    delta: float
    q: float
    sigma: float
    clip: float
    steps: int
    accountant: Literal["rdp", "prv"]
    private: bool
    statistics: float | None = None
    noise_at: Literal["site", "server"] = "site"
    lost_steps: int = 0


class EvaluationPrivacy(FrozenModel):
    """What the patients of one split were charged for private evaluation, as recorded in their own ledger.

    Attributes:
        site: the hospital.
        split: whose patients: validation or test.
        epsilon_run: epsilon of this run at `delta`.
        epsilon: epsilon of all runs that evaluated on these patients, at `delta`.
        delta: delta of both epsilons.
        sigma: noise multiplier of one release: standard deviation of the noise, divided by the largest change that one
            person can cause.
        accountant: how epsilon was computed.
        private: false if the noise can be repeated and therefore removed.
    """

    site: str
    split: Literal["validation", "test"]
    epsilon_run: float
    epsilon: float
    delta: float
    sigma: float
    accountant: Literal["rdp", "prv"]
    private: bool


class AuditResult(FrozenModel):
    """The result of attacking the run's private training, repeated with canaries (experiments/privacy/audit.py).

    Attributes:
        site: the hospital whose training was attacked.
        unit: noun of the protected unit.
        canaries: number of artificial units, half of which were trained on.
        confidence: confidence of the lower bounds.
        delta: delta of all epsilons here.
        claimed: upper bound of epsilon that the training claims.
        attack: lower bound of epsilon by the attacker's guesses.
        measured: lower bound of epsilon by the measured noise and the measured contribution of one unit.
        passed: whether the claim is above both lower bounds.
    """

    site: str
    unit: str
    canaries: int
    confidence: float
    delta: float
    claimed: float
    attack: float
    measured: float
    passed: bool
