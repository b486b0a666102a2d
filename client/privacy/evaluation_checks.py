"""Checks of how a run evaluates against policy and data, before any work is done."""

from __future__ import annotations

from client.privacy.budget import open_ledger
from client.privacy.ledger import TRAIN, Ledger, get_ledger_path
from client.privacy.units import PEOPLE_KEY, digest_people
from client.site import Site
from client.site_context import SiteContext
from common.config import RunConfig
from common.errors import SiteError
from common.private_evaluation import EVALUATED_SPLITS


def check_private_evaluation(context: SiteContext, site: Site, config: RunConfig) -> None:
    """Refuse a run whose evaluation policy or data do not allow.

    Raises:
        SiteError: the policy or the data forbid it.
        DataError: a ledger cannot be used.
    """
    policy, privacy = context.policy, config.privacy
    if privacy.evaluation_epsilon is None:
        if policy.evaluation == "private":
            raise SiteError(
                "policy: nothing is evaluated here without differential privacy: set privacy.evaluation_epsilon"
            )
        if not policy.plain_after_private and has_evaluated_privately(context, site):
            raise SiteError(
                "policy: people here were evaluated with differential privacy, which a run without it would undo: set "
                "privacy.evaluation_epsilon, or the hospital allows it (plain_after_private)"
            )
        return
    limit = policy.max_evaluation_epsilon
    if limit is not None and not privacy.evaluation_epsilon <= limit:
        raise SiteError(
            f"policy: privacy.evaluation_epsilon={privacy.evaluation_epsilon:g} is above the {limit:g} allowed here"
        )
    if privacy.noise == "seeded" and not policy.seeded_noise:
        raise SiteError("policy: privacy.noise=seeded is NOT PRIVATE and not allowed here")
    if privacy.delta > policy.max_delta:
        raise SiteError(f"policy: privacy.delta={privacy.delta:g} is above the {policy.max_delta:g} allowed here")
    for split in EVALUATED_SPLITS:
        people = getattr(site, split).people()
        if people and privacy.delta >= 1 / people:
            raise SiteError(
                f"privacy.delta={privacy.delta:g} must be below 1 / the {split} patients here: with a larger delta one "
                "of them could be published"
            )
    for charged in (*EVALUATED_SPLITS, TRAIN):
        check_people(context, site, charged)


def has_evaluated_privately(context: SiteContext, site: Site) -> bool:
    """Return whether a private run was charged to the ledger of the site's validation or test patients.

    Raises:
        DataError: a ledger is damaged.
    """
    if context.state is None:
        return False
    paths = [get_ledger_path(context.state, site.name, split) for split in EVALUATED_SPLITS]
    return any(path.is_file() and bool(Ledger.read(path).rows()) for path in paths)


def check_people(context: SiteContext, site: Site, split: str) -> None:
    """Refuse a private run in which other people are in a split than in earlier private runs.

    Nobody's two roles are then charged to two ledgers, whose epsilons would add up.

    Raises:
        SiteError: the people of a split are others, and the policy does not allow several splits.
        DataError: the ledger cannot be used.
    """
    if context.state is None or (split == TRAIN and not get_ledger_path(context.state, site.name).is_file()):
        return
    ledger = open_ledger(context, site, split)
    ledger.check()
    if context.policy.several_splits:
        return
    before = ledger.read_text(PEOPLE_KEY)
    if before is not None and before != digest_people(getattr(site, split)):
        raise SiteError(
            f"policy: other people are in the {split} split than in earlier private runs: use the earlier runs' sites "
            "section, or allow several_splits in the policy"
        )
