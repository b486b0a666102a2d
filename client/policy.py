"""SitePolicy: what the hospital allows. Read from the hospital's own file; no request can widen it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import yaml
from pydantic import Field

from common.errors import ConfigError
from common.settings import Section, validate_settings


class SitePolicy(Section):
    """What may leave, and when to refuse.

    `share_resamples`: send bootstrap resamples of counts, from which pooled intervals are computed. Whoever
    knows how they were drawn can work back to single patients' counts, so a hospital sends none unless it
    says so. The same switch allows figures with named patients left out, whose difference is those patients'
    figures.

    `min_cell_patients`: figures and counts of fewer patients (of all, of a group, of a class) do not leave, nor others
    from which they could be had by subtraction (client/evaluation/small_groups.py); the report says that they were
    suppressed. Unless a
    hospital says otherwise it is 5, FEW_PATIENTS of common/metrics/figures.py: what rests on fewer could point at a
    person, and
    is too uncertain to be shown unmarked anyway.

    `max_epsilon`: what all runs together may spend on this hospital's data, at a run's delta
    (docs/explanation/privacy.md); with it, or with `private_only`, nothing trains here without differential privacy.
    A run may ask for less, never for more.
    """

    share_resamples: bool = False
    min_training_patients: int = Field(1, ge=1, description="refuse to train on fewer people")
    min_cell_patients: int = Field(5, ge=1, le=1000, description="suppress figures that rest on fewer patients")
    share_examples: bool = Field(
        False, description="send single examples beside what a model made of them, chosen by their score"
    )
    private_only: bool = Field(False, description="refuse to train without differential privacy")
    max_epsilon: float | None = Field(None, gt=0, description="over all runs; none: no limit but the run's own")
    max_delta: float = Field(1e-5, gt=0, lt=1, description="largest delta of a run")
    privacy_levels: tuple[Literal["record", "patient", "hospital"], ...] = Field(("patient",), min_length=1)
    counts: Literal["noisy", "public"] = Field(
        "noisy", description="of those who train privately: told with noise, charged once, or declared public"
    )
    counts_epsilon: float = Field(0.2, gt=0, description="what noisy counts cost, once, apart from any run")
    several_splits: bool = Field(
        False, description="let other people train privately than in earlier runs, though they were tested then"
    )
    unprotected_validation: bool = Field(
        False, description="let a private run choose its round and threshold on validation patients, unprotected"
    )
    server_noise: bool = Field(
        False, description="level hospital: trust the server to add the noise (privacy.noise_at=server)"
    )
    seeded_noise: bool = Field(False, description="allow noise that can be repeated: NOT PRIVATE, for tests")

    @property
    def needs_privacy(self) -> bool:
        """Whether nothing may train without differential privacy."""
        return self.private_only or self.max_epsilon is not None


SIMULATION_POLICY = SitePolicy(
    share_resamples=True,
    min_cell_patients=1,
    max_delta=0.5,
    privacy_levels=("record", "patient", "hospital"),
    server_noise=True,
    counts="public",
    several_splits=True,
    seeded_noise=True,
    unprotected_validation=True,
)
"""In a simulation the researcher holds all data anyway."""


def load_policy(path: Path | None) -> SitePolicy:
    """Read a policy file; none means the strict defaults.

    Raises:
        ConfigError: it cannot be read, or a key is wrong.
    """
    if path is None:
        return SitePolicy()
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        raise ConfigError(f"cannot read the policy {path}: it must be a YAML file of keys and values") from None
    if raw is not None and not isinstance(raw, dict):
        raise ConfigError(f"{path} must hold keys and values")
    return validate_settings(SitePolicy, raw or {}, str(path))
