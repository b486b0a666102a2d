"""A run may ask hospitals to be stricter than their own policies (`federation.site_policy`); never looser.

Each key that a run may set has a direction in which it is stricter, and a hospital takes the stricter of both values.
Floors, grains and what shapes the hospital's split are its own alone, also upwards: whoever chooses from which number
of people on an answer is given, or to which multiple a count is rounded, learns exact numbers from a few questions.
"""

from __future__ import annotations

from collections.abc import Mapping

from client.policy import ANY, SitePolicy
from common.errors import ConfigError, SiteError
from common.settings import lists_to_tuples, validate_settings
from common.untrusted import clean_text

SMALLER = (
    "max_bins", "max_weight_distance", "max_runs_per_month", "max_rounds_per_run", "max_rounds_per_month",
    "max_rounds_per_day", "max_validated_models_per_month",
    "max_tested_models_per_run", "max_tested_models_per_month", "max_update_bytes",
    "max_update_norm", "max_epsilon", "default_max_epsilon", "max_evaluation_epsilon", "max_delta", "approval_days",
)  # fmt: skip
"""Keys of which the smaller value is stricter; null is no limit."""
FALSE = (
    "share_training_loss", "share_resamples", "share_examples", "several_splits", "unprotected_validation",
    "server_noise", "seeded_noise", "plain_after_private",
)  # fmt: skip
"""Permissions: none is stricter than one."""
TRUE = ("private_only",)
"""Restrictions: one is stricter than none."""
COMMON = (
    "allowed_settings", "allowed_tasks", "allowed_models", "allowed_strategies", "approved_weights", "privacy_levels",
)  # fmt: skip
"""Lists of what is allowed: what both lists hold is stricter."""
STRICT_VALUES = {"start_weights": "seed", "approval": "required", "evaluation": "private"}
"""Keys with two values: the stricter one."""
OWN = (
    "split", "test_share", "validation_share", "min_training_patients", "min_cell_patients", "min_unit_patients",
    "update_noise", "record_noise", "replaced_values", "round_counts_to", "count_noise", "precise_questions", "counts",
    "counts_epsilon", "hours", "time_zone",
)  # fmt: skip
"""Keys that a run cannot touch."""


def tighten_policy(own: SitePolicy, wanted: Mapping[str, object]) -> SitePolicy:
    """Return a hospital's policy, made stricter where a run asks for it.

    >>> policy = tighten_policy(SitePolicy(), {"max_tested_models_per_run": 1, "max_bins": 4096})
    >>> policy.max_tested_models_per_run, policy.max_bins
    (1, 62)

    Args:
        own: the hospital's policy.
        wanted: keys of a policy with the run's values; a value that is looser than the hospital's changes nothing.

    Raises:
        SiteError: a key is unknown or only the hospital may set it, or a value is not valid for its key.
    """
    if not wanted:
        return own
    try:
        requested = validate_settings(SitePolicy, wanted, "federation.site_policy")
    except ConfigError as error:
        raise SiteError(clean_text(str(error))) from None
    if refused := sorted(set(wanted) - {*SMALLER, *FALSE, *TRUE, *COMMON, *STRICT_VALUES}):
        raise SiteError(f"federation.site_policy: {refused[0]} is each hospital's own: leave it out")
    changes = {key: _choose_stricter(key, own, requested) for key in wanted}
    if "max_epsilon" in wanted and own.max_epsilon is None:  # what holds where a policy names no limit
        changes["max_epsilon"] = _choose_smaller(own.default_max_epsilon, requested.max_epsilon)
        if requested.max_epsilon is None:
            del changes["max_epsilon"]
    try:
        return validate_settings(SitePolicy, lists_to_tuples({**dict(own), **changes}), "federation.site_policy")
    except ConfigError as error:  # such as no privacy level that both allow
        raise SiteError(clean_text(str(error))) from None


def _choose_stricter(key: str, own: SitePolicy, requested: SitePolicy) -> object:
    """Return the stricter of two policies' values of a key."""
    one, other = getattr(own, key), getattr(requested, key)
    if key in SMALLER:
        return _choose_smaller(one, other)
    if key in COMMON:
        return _choose_common(one, other)
    if key in FALSE:
        return bool(one and other)
    if key in TRUE:
        return bool(one or other)
    strict = STRICT_VALUES[key]
    return strict if strict in (one, other) else one


def _choose_smaller(one: float | None, other: float | None) -> float | None:
    limits = [limit for limit in (one, other) if limit is not None]
    return min(limits, default=None)


def _choose_common(one: tuple[str, ...], other: tuple[str, ...]) -> tuple[str, ...]:
    if ANY in other:
        return one
    return other if ANY in one else tuple(name for name in one if name in other)
