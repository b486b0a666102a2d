"""The site policy: what a hospital allows. Read from the hospital's own file; no request can widen it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import yaml
from pydantic import Field

from common.errors import ConfigError
from common.settings import Section, validate_settings


class SitePolicy(Section):
    """What may leave this hospital, and which training it refuses.

    - `share_resamples`: whoever knows how the resamples were drawn can compute single patients' counts from them. The
      same key allows results with named patients left out, whose difference from the whole is those patients' results.
    - `min_cell_patients`: "results of fewer patients" are those of all, of a group or of a class, and any from which
      they could be computed by subtraction (client/evaluation/small_groups.py). The report says that they were
      suppressed. The default is FEW_PATIENTS of common/metrics/figures.py: fewer could identify a person.
    - `max_epsilon`: at the run's delta (docs/explanation/privacy.md). With it, as with `private_only`, nothing trains
      here without differential privacy. A run may ask for less, never for more.
    """

    share_resamples: bool = Field(False, description="send bootstrap resamples of counts, for confidence intervals")
    min_training_patients: int = Field(1, ge=1, description="refuse to train on fewer patients")
    min_cell_patients: int = Field(5, ge=1, le=1000, description="suppress results and counts of fewer patients")
    share_examples: bool = Field(False, description="send single examples with their reconstructions")
    private_only: bool = Field(False, description="refuse to train without differential privacy")
    max_epsilon: float | None = Field(None, gt=0, description="epsilon of all runs together; default: no limit")
    max_delta: float = Field(1e-5, gt=0, lt=1, description="largest delta that a run may use")
    privacy_levels: tuple[Literal["record", "patient", "hospital"], ...] = Field(
        ("patient",), min_length=1, description="privacy levels that a run may use"
    )
    counts: Literal["noisy", "public"] = Field(
        "noisy", description="how training counts are reported under privacy: with noise (charged once) or exact"
    )
    counts_epsilon: float = Field(0.2, gt=0, description="epsilon of the noisy training counts, charged once")
    several_splits: bool = Field(
        False, description="allow private runs that train on other patients than earlier private runs did"
    )
    unprotected_validation: bool = Field(
        False, description="allow private runs to choose round and threshold on validation patients, without privacy"
    )
    server_noise: bool = Field(
        False, description="trust the server to add the noise of level hospital (privacy.noise_at=server)"
    )
    seeded_noise: bool = Field(False, description="allow noise that can be repeated: NOT PRIVATE, for tests only")

    @property
    def needs_privacy(self) -> bool:
        """Whether this site refuses to train without differential privacy."""
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
"""The policy of simulated sites: the researcher holds all data anyway."""


def load_policy(path: Path | None) -> SitePolicy:
    """Read a policy file; None gives the strict defaults.

    Raises:
        ConfigError: the file cannot be read, or a key is unknown or has a wrong value.
    """
    if path is None:
        return SitePolicy()
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        raise ConfigError(f"cannot read the policy {path}: give a YAML file of keys and values") from None
    if raw is not None and not isinstance(raw, dict):
        raise ConfigError(f"the policy {path} must hold keys and values, such as min_cell_patients: 5")
    return validate_settings(SitePolicy, raw or {}, str(path))
