"""SitePolicy: what the hospital allows. Read from the hospital's own file; no request can widen it."""

from __future__ import annotations

from pathlib import Path

import yaml
from pydantic import Field

from common import config
from common.config import Section
from common.errors import ConfigError


class SitePolicy(Section):
    """What may leave, and when to refuse.

    `share_resamples`: send bootstrap resamples of counts, from which pooled intervals are computed. Whoever
    knows how they were drawn can work back to single patients' counts, so a hospital sends none unless it
    says so. The same switch allows figures with named patients left out, whose difference is those patients'
    figures.
    """

    share_resamples: bool = False
    min_training_patients: int = Field(1, ge=1, description="refuse to train on fewer people")


SIMULATION = SitePolicy(share_resamples=True)
"""In a simulation the researcher holds all data anyway."""


def load(path: Path | None) -> SitePolicy:
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
    return config.check(SitePolicy, raw or {}, str(path))
