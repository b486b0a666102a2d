"""Differential privacy, as a configuration asks for it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from common.settings import Section


class PrivacyConfig(Section):
    """Differential privacy of training; off unless `epsilon` or `sigma` is given. See docs/explanation/privacy.md.

    `level`: whom the promise is about. `patient`: a person with all their examples; `record`: one example, which
    is no promise to a person who has several; `hospital`: a whole hospital's contribution
    (client/privacy/hospital_level.py); `auto`:
    patient, once `epsilon` or `sigma` is given. A hospital's policy may allow less than is asked for here, and then
    refuses.
    """

    level: Literal["auto", "none", "record", "patient", "hospital"] = "auto"
    epsilon: float | None = Field(None, gt=0, le=1000, description="of the whole run; the noise is solved for it")
    sigma: float | None = Field(None, gt=0, le=10_000, description="noise in clipping norms, instead of epsilon")
    delta: float = Field(1e-5, gt=0, lt=1, description="must be below 1 / units at every site")
    clip: float = Field(
        1.0, gt=0, le=1e6, description="largest norm of one unit's gradient; level hospital: of a site's update"
    )
    sampling: float = Field(
        0.05, gt=0, le=1, description="chance of a unit to take part in a step; 1 / it steps an epoch"
    )
    examples: int = Field(
        64, ge=1, le=65_536, description="level patient: at most so many of a person's examples a step"
    )
    accountant: Literal["prv", "rdp"] = Field("prv", description="prv is tighter")
    on_budget: Literal["leave", "stop"] = Field(
        "leave", description="when a site's budget is spent: go on without it, or stop the run"
    )
    noise_at: Literal["site", "server"] = Field(
        "site", description="level hospital: each site adds all the noise, or the server once, which is trusted then"
    )
    hospital_sampling: float = Field(
        1.0, gt=0, le=1, description="level hospital, noise at the server: a site's chance to take part in a round"
    )
    weight_cap: float | None = Field(
        None, gt=0, description="level hospital: largest weight of a site, public; needed unless weights are equal"
    )
    weight_total: float | None = Field(
        None, gt=0, description="level hospital: what the sum is divided by: about all sites' capped weights, public"
    )
    statistics_share: float = Field(
        0.1,
        ge=0,
        le=0.5,
        description="share of epsilon for noisy sums over patients, by which inputs with units are scaled; 0: none, "
        "scale by public ranges alone",
    )
    bounds: dict[str, tuple[float, float]] = Field(
        default_factory=dict,
        description="public range of inputs by name (* for anything), where the data set states none or another; never "
        "taken from the data",
    )
    validation: Literal["none", "unprotected"] = Field(
        "none",
        description="unprotected: choose round and threshold on validation patients, whom nothing then protects",
    )
    noise: Literal["secure", "seeded"] = Field("secure", description="seeded: repeatable, for tests, NOT PRIVATE")

    @property
    def kind(self) -> Literal["none", "record", "patient", "hospital"]:
        """The level in force."""
        if self.level == "auto":
            return "none" if self.epsilon is None and self.sigma is None else "patient"
        return self.level

    @property
    def on(self) -> bool:
        """Whether training is private."""
        return self.kind != "none"

    @property
    def chance(self) -> float:
        """The chance of a unit to take part: in a step, or of a hospital in a round."""
        return self.hospital_sampling if self.kind == "hospital" else self.sampling

    @property
    def cap(self) -> float:
        """Level hospital: the largest weight of a site."""
        return 1.0 if self.weight_cap is None else self.weight_cap
