"""The report's privacy: what was spent at each hospital, and what an audit found."""

from __future__ import annotations

from typing import Literal

from common.metrics.figures import FrozenModel


class PrivacySpent(FrozenModel):
    """What one hospital's training spent of its patients' privacy, by its own ledger.

    `epsilon_run`, `epsilon`: of this run, and of all runs on the hospital's data, at `delta`; `units`: people (level
    patient) or examples (level record) that trained; `q`: chance of a unit to take part in a step; `sigma`: noise in
    norms of `clip`; `steps`: of this run; `private`: false where the noise can be repeated and taken away;
    `statistics`: noise of sums over patients that were charged before the first round, in norms of a unit's vector;
    `noise_at`: who adds the noise (level hospital).
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


class AuditResult(FrozenModel):
    """What an attack on the run's private training, repeated with canaries, proved (experiments/privacy/audit.py).

    `claimed`: epsilon of the training's steps, at most; `attack`, `seen`: lower bounds, by guesses and by the noise and
    weight measured, with `confidence`; `passed`: whether the claim is above both.
    """

    site: str
    unit: str
    canaries: int
    confidence: float
    delta: float
    claimed: float
    attack: float
    seen: float
    passed: bool
