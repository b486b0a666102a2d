"""Checks of a private run against policy, data and model, before any work is done."""

from __future__ import annotations

from client.gate.register import TOO_FEW
from client.privacy.accounting import compute_epsilon
from client.privacy.budget import count_run_steps, get_planned_steps, open_ledger
from client.privacy.ledger import Ledger, get_ledger_path
from client.privacy.units import PEOPLE_KEY, UNIT_NAMES, count_units, digest_people
from client.site import Site
from client.site_context import SiteContext
from common import models
from common.config import RunConfig
from common.errors import SiteError
from common.trees import grows_trees

MIN_SIGMA = 0.3
"""Smallest noise multiplier for which a hospital computes an epsilon; below it that takes minutes, in vain."""


MAX_STEPS = 1_000_000
"""Most private steps that a hospital computes an epsilon for: the accountants of more take minutes."""


def check_planned_epsilon(context: SiteContext, config: RunConfig) -> None:
    """Refuse a run that plans to spend more than the policy allows, whether it names its epsilon or its noise.

    Raises:
        SiteError: says what is planned and what is allowed.
    """
    limit, privacy = context.policy.epsilon_limit, config.privacy
    if privacy.epsilon is not None and limit is not None and not privacy.epsilon <= limit:
        raise SiteError(f"policy: privacy.epsilon={privacy.epsilon:g} is above the {limit:g} allowed here")
    steps = get_planned_steps(config)
    if steps is None or context.simulated:
        return
    if not privacy.sigma or not privacy.sigma >= MIN_SIGMA:
        low = f"policy: privacy.sigma={privacy.sigma:g} is below {MIN_SIGMA:g}"
        raise SiteError(f"{low}: so little noise protects nobody")
    if limit is not None:
        planned = compute_epsilon([steps], privacy.delta, "rdp")
        if not planned <= limit and privacy.accountant != "rdp":
            planned = compute_epsilon([steps], privacy.delta, privacy.accountant)
        if not planned <= limit:
            raise SiteError(f"policy: the run plans epsilon={planned:.4g}, above the {limit:g} allowed here")


def has_trained_privately(context: SiteContext, site: Site) -> bool:
    """Return whether a private run was charged to the site's ledger.

    Raises:
        DataError: the ledger is damaged.
    """
    if context.state is None:
        return False
    path = get_ledger_path(context.state, site.name)
    return path.exists() and bool(Ledger.read(path).rows())


def check_private_training(context: SiteContext, site: Site, config: RunConfig) -> None:
    """Refuse a run that policy, data or model do not allow, before anything is trained or sent.

    Raises:
        SiteError: the policy or the data forbid the run.
        ConfigError: gradients of single patients or records cannot be computed for the model.
        DataError: the ledger cannot be used.
    """
    policy, privacy = context.policy, config.privacy
    if not privacy.on:
        if policy.needs_privacy:
            raise SiteError("policy: nothing trains here without differential privacy: set privacy.epsilon")
        if not policy.plain_after_private and has_trained_privately(context, site):
            raise SiteError(
                "policy: people here have trained with differential privacy, which a run without it would undo: set "
                "privacy.epsilon, or the hospital allows it (plain_after_private)"
            )
        return
    if privacy.kind not in policy.privacy_levels:
        raise SiteError(f"policy: privacy.level={privacy.kind} is not allowed here")
    if privacy.noise == "seeded" and not policy.seeded_noise:
        raise SiteError("policy: privacy.noise=seeded is NOT PRIVATE and not allowed here")
    if privacy.delta > policy.max_delta:
        raise SiteError(f"policy: privacy.delta={privacy.delta:g} is above the {policy.max_delta:g} allowed here")
    if not context.simulated and count_run_steps(config) > MAX_STEPS:
        raise SiteError(
            f"policy: the run plans {count_run_steps(config):,} private steps, above the {MAX_STEPS:,} accounted for: "
            "raise privacy.sampling, or train fewer rounds or epochs"
        )
    check_planned_epsilon(context, config)
    if privacy.kind == "hospital" and privacy.noise_at == "server" and not policy.server_noise:
        raise SiteError("policy: privacy.noise_at=server is not allowed here: this hospital adds its noise itself")
    if privacy.validation == "unprotected" and not policy.unprotected_validation:
        raise SiteError("policy: privacy.validation=unprotected is not allowed here")
    if 0 < site.train.people() < policy.min_training_patients:
        raise SiteError(TOO_FEW)
    if len(site.train.y) and privacy.kind != "hospital":
        units = count_units(site.train, privacy.kind)
        if privacy.delta >= 1 / units:
            how_many = (
                f"{units} {UNIT_NAMES[privacy.kind]}s" if policy.counts == "public" else f"the {privacy.kind}s here"
            )
            raise SiteError(
                f"privacy.delta={privacy.delta:g} must be below 1 / {how_many}: with a larger delta one of them could "
                "be published"
            )
    if privacy.kind != "hospital" and not grows_trees(config.model.name):
        models.check_per_unit_gradients(models.build_model(site.task, config.model, seed=0), privacy.kind)
    ledger = open_ledger(context, site)
    ledger.check()
    if privacy.kind != "hospital" and not policy.several_splits:
        before = ledger.read_text(PEOPLE_KEY)
        if before is not None and before != digest_people(site.train):
            raise SiteError(
                "policy: other patients would train here than in earlier private runs, and those tested then are not "
                "protected: use the earlier runs' sites section, or allow several_splits in the policy"
            )
