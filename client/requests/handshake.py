"""Answers to the handshake: the site's task, counts and device."""

from __future__ import annotations

from typing import Any

from client import input_scaling
from client.evaluation import small_groups
from client.privacy import noisy_counts, noisy_sums
from client.privacy.checks import check_private_training
from client.site import Site
from client.site_context import SiteContext
from client.training.batches import choose_device
from common.config import RunConfig
from common.errors import SiteError
from common.messages import PROTOCOL, Reply
from common.metrics.table_names import ALL_PATIENTS, GROUP_PREFIX
from common.sections.evaluation import SubgroupsConfig
from sites.cohort import SPLITS, Cohort


def handle_handshake(place: SiteContext, site: Site, config: RunConfig) -> Reply:
    """Return the site's task, counts and device."""
    check_private_training(place, site, config)
    if config.privacy.on and input_scaling.resolve_scaling(config.data, site.task) == "standard":
        noisy_sums.get_public_ranges(site.task, config)  # refused here if an input has none
    train = noisy_counts.release_training_counts(place, site, config)
    if config.detecting and config.detection.relative and site.train.seconds is None:
        raise SiteError("detection.relative: these data tell no times: leave it out")
    report: dict[str, Any] = {
        "protocol": PROTOCOL,
        "task": site.task.to_dict(),
        "fingerprint": site.task.fingerprint(),
        "synthetic": site.synthetic,
        "split": config.sites.split,
        "warning": site.warning,
        "excluded": {} if train.noisy else dict(site.train.excluded),  # rows and cells of those who train, among others
        "shift": dict(site.shift),
        "counts": {name: releasable_counts(getattr(site, name), place.policy.min_cell_patients) for name in SPLITS}
        | {"train": train.summary()},
        "device": str(choose_device(config.training.device)),
    }
    if train.noisy:
        report["noisy"] = True
    elif site.dropped:
        report["excluded"]["recordings of a person in the published test set (whole data set)"] = site.dropped
    return Reply(site.name, train.examples, report)


def releasable_counts(cohort: Cohort, minimum: int) -> dict[str, Any]:
    """Return a split's counts, without classes that too few patients have to be told.

    A split of too few patients counts as empty. Of training all is told: its counts weigh the classes.
    """
    if minimum <= 1:
        return cohort.summary()
    may = small_groups.select_releasable_tables(cohort, SubgroupsConfig(), minimum, ALL_PATIENTS, GROUP_PREFIX)
    none = [None] * len(cohort.task.classes)
    if may.suppressed:
        return {"patients": 0, "examples": 0, "classes": none, "suppressed": minimum}
    rows, hidden = may.rows[ALL_PATIENTS], may.classes[ALL_PATIENTS]
    found = cohort.take(rows).summary()
    found["classes"] = [None if away else n for n, away in zip(found["classes"], hidden, strict=True)]
    return found
