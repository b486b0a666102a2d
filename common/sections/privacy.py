"""The section privacy of a configuration."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from common.settings import Section


class PrivacyConfig(Section):
    """Differential privacy of training, off unless `epsilon` or `sigma` is given, and of evaluation, off unless
    `evaluation_epsilon` is given. See docs/explanation/privacy.md.

    A hospital refuses to train if its policy allows less privacy loss than these settings.
    """

    level: Literal["auto", "none", "record", "patient", "hospital"] = Field(
        "auto",
        description="the unit that is protected: patient: a person with all their examples; record: one example, which "
        "does not protect a person who has several; hospital: a hospital's whole contribution; auto: patient where "
        "`epsilon` or `sigma` is given, else none",
    )
    epsilon: float | None = Field(
        None, gt=0, le=1000, description="privacy loss of the whole run; the noise is computed from it"
    )
    sigma: float | None = Field(
        None, gt=0, le=10_000, description="standard deviation of the noise in clipping norms, instead of epsilon"
    )
    delta: float = Field(1e-5, gt=0, lt=1, description="must be below 1 / (number of units) at every site")
    clip: float = Field(
        1.0, ge=1e-6, le=1e6, description="clipping norm of one unit's gradient; level hospital: of a site's update"
    )
    sampling: float = Field(
        0.05, gt=0, le=1, description="probability that a unit takes part in a step; an epoch has 1 / sampling steps"
    )
    examples: int = Field(
        64, ge=1, le=65_536, description="level patient: at most this many examples of a person in a step"
    )
    accountant: Literal["prv", "rdp"] = Field(
        "prv", description="how privacy loss is composed over steps; prv gives tighter bounds"
    )
    on_budget: Literal["continue", "stop"] = Field(
        "continue", description="when a site's budget is spent: continue without the site, or stop the run"
    )
    noise_at: Literal["site", "server"] = Field(
        "site", description="level hospital: site: each site adds the full noise; server: a trusted server adds it once"
    )
    hospital_sampling: float = Field(
        1.0,
        gt=0,
        le=1,
        description="level hospital, noise at the server: probability that a site takes part in a round",
    )
    weight_cap: float | None = Field(
        None,
        gt=0,
        description="level hospital: upper bound of a site's weight, public; needed unless weights are equal",
    )
    weight_total: float | None = Field(
        None,
        gt=0,
        description="level hospital: divisor of the sum, public: about the total of all sites' capped weights",
    )
    statistics_share: float = Field(
        0.1,
        ge=0,
        le=0.5,
        description="share of epsilon for the noisy sums over patients that scale inputs with units; 0: scale by "
        "public "
        "ranges only",
    )
    bounds: dict[str, tuple[float, float]] = Field(
        default_factory=dict,
        description="public range [low, high] of inputs by name (* for all), where the data set gives none or another "
        "one is wanted; never taken from the data",
    )
    validation: Literal["none", "unprotected"] = Field(
        "none",
        description="unprotected: choose the round and the threshold on validation patients, who are then not "
        "protected",
    )
    noise: Literal["secure", "seeded"] = Field(
        "secure", description="source of the noise; seeded: repeatable, for tests, NOT PRIVATE"
    )
    evaluation_epsilon: float | None = Field(
        None,
        gt=0,
        le=1000,
        description="privacy loss of evaluation over the whole run, per patient: of test patients this much, and of "
        "validation patients, over all rounds together, this much again; hospitals then send counts of people with "
        "noise, each person counted once. Training need not be private. null: counts without noise",
    )
    evaluation_bins: int = Field(
        16,
        ge=16,
        le=62,
        description="most bins of the score histograms of a private evaluation, each with its own noise",
    )

    @property
    def kind(self) -> Literal["none", "record", "patient", "hospital"]:
        """The level in effect; never `auto`."""
        if self.level == "auto":
            return "none" if self.epsilon is None and self.sigma is None else "patient"
        return self.level

    @property
    def on(self) -> bool:
        """Whether training is private."""
        return self.kind != "none"

    @property
    def evaluation_on(self) -> bool:
        """Whether evaluation is private."""
        return self.evaluation_epsilon is not None

    @property
    def participation(self) -> float:
        """Probability that a unit takes part: a patient or record in a step, a hospital in a round."""
        return self.hospital_sampling if self.kind == "hospital" else self.sampling

    @property
    def site_weight_cap(self) -> float:
        """Upper bound of a site's weight in private training at level hospital; 1 if all weights are equal."""
        return 1.0 if self.weight_cap is None else self.weight_cap
