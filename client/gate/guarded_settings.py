"""Settings of a run that select people or how fine an answer is; a hospital's policy must allow each of them.

Where one researcher holds all data they are harmless, and a simulation allows them. At a hospital a coordinator could
choose one person with them (`sites.limit=1`), take the difference of two answers (`limit=51` and `limit=50`, an edge of
a group moved by one), or read single people out of a fine histogram.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from client.policy import SitePolicy
from common.config import RunConfig
from common.errors import SiteError

AGE_BOUNDS = (18.0, 40.0, 65.0, 80.0)
"""Bounds of age bands, in years. Bounds of a run's own choice would cut bands of few people out of several answers."""
LATENT_SUMS, LATENT_VIEW, FORGETTING = "detection.latent", "detection.view", "training.weight_decay"
"""Further keys of `SitePolicy.allowed_settings`: sums in latent space, counts in latent space, strong weight decay."""
UNMEASURED = "model.unmeasured"
"""Likewise: training without privacy of layers in which single people's parts cannot be measured."""
ALL = "*"
"""In `SitePolicy.allowed_settings`: every guarded setting."""


@dataclass(frozen=True)
class GuardedSetting:
    """A setting that is refused unless the policy names it.

    Attributes:
        key: its key in a configuration.
        is_default: returns whether a run has the value that needs no permission.
        why: how it could be misused, for `wardround site explain`.
        refuses: whether the whole run is refused; if not, only the answer that uses it is left out.
    """

    key: str
    is_default: Callable[[RunConfig], bool]
    why: str
    refuses: bool = True


GUARDED_SETTINGS = (
    GuardedSetting("sites.limit", lambda run: run.sites.limit is None, "choose how many examples train, down to one"),
    GuardedSetting("sites.label_share", lambda run: run.sites.label_share == 1, "choose how many examples train"),
    GuardedSetting(
        "sites.split",
        lambda run: run.sites.split in ("patient", "published"),
        "cut one person into training and test, or test other people in each run",
    ),
    GuardedSetting("sites.shared_person", lambda run: run.sites.shared_person == "drop", "test people who train"),
    GuardedSetting("sites.draw", lambda run: run.sites.draw == 0, "draw other people in each run"),
    GuardedSetting("sites.external", lambda run: not run.sites.external, "test models that were never trained here"),
    GuardedSetting(
        "training.patience",
        lambda run: run.training.patience == 0,
        "stop training where one validation patient's loss rises, and see when that is",
    ),
    GuardedSetting(
        "evaluation.without", lambda run: not run.evaluation.without, "take named people out of a figure", refuses=False
    ),
    GuardedSetting(
        "evaluation.subgroups.columns",
        lambda run: not run.evaluation.subgroups.columns,
        "cut groups between any two patients",
    ),
    GuardedSetting(
        "evaluation.subgroups.age",
        lambda run: all(edge in AGE_BOUNDS for edge in run.evaluation.subgroups.age),
        f"cut age bands between any two patients, not at {', '.join(f'{edge:g}' for edge in AGE_BOUNDS)} years",
    ),
    GuardedSetting(
        "evaluation.explain",
        lambda run: run.evaluation.explain == "none",
        "ask for means of inputs' attributions",
        refuses=False,
    ),
)


def allows(policy: SitePolicy, key: str) -> bool:
    """Return whether a policy lets a run choose a guarded setting."""
    return ALL in policy.allowed_settings or key in policy.allowed_settings


def check_settings(policy: SitePolicy, config: RunConfig) -> None:
    """Refuse a run that sets what only the hospital may allow.

    Raises:
        SiteError: names the first such key.
    """
    for setting in GUARDED_SETTINGS:
        if setting.refuses and not allows(policy, setting.key) and not setting.is_default(config):
            raise SiteError(
                f"policy: {setting.key} is this hospital's to allow (allowed_settings): leave it as it is by default"
            )


def check_grain(policy: SitePolicy, config: RunConfig) -> None:
    """Refuse an evaluation with finer histograms than the policy allows.

    Raises:
        SiteError: says how many bins there may be.
    """
    if config.evaluation.bins > policy.max_bins:
        raise SiteError(f"policy: evaluation.bins={config.evaluation.bins} is above the {policy.max_bins} allowed here")
