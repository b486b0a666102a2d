"""Answers to the handshake: the site's task, counts and device."""

from __future__ import annotations

import numpy as np

from client.evaluation import small_groups
from client.evaluation.predictions import count_class_patients
from client.gate.tables import round_counts
from client.input_scaling import resolve_scaling
from client.privacy.checks import check_private_training
from client.privacy.evaluation_checks import check_private_evaluation
from client.privacy.noisy_counts import release_evaluation_counts, release_training_counts
from client.privacy.noisy_sums import get_public_ranges
from client.site import Site, load_site
from client.site_context import SiteContext
from client.training.batches import choose_device
from common.config import RunConfig
from common.errors import SiteError
from common.metrics.table_names import ALL_PATIENTS, GROUP_PREFIX
from common.private_evaluation import EvaluatedSplit
from common.replies import HandshakeReply
from common.reports import HandshakeCounts, HandshakeReport, SplitCounts
from common.request_record import PROTOCOL
from common.requests import HandshakeRequest
from common.sections.evaluation import SubgroupsConfig
from sites.cohort import Cohort


def handle_handshake(context: SiteContext, request: HandshakeRequest) -> HandshakeReply:
    """Return the site's task, counts and device.

    Raises:
        SiteError: the policy does not allow the run here.
    """
    config = request.config
    site = load_site(context, config)
    check_private_training(context, site, config)
    check_private_evaluation(context, site, config)
    if config.privacy.on and resolve_scaling(config.data, site.task) == "standard":
        get_public_ranges(site.task, config)  # refused here if an input has none
    train = release_training_counts(context, site, config)
    if config.detecting and config.detection.relative and site.train.seconds is None:
        raise SiteError("detection.relative: these data have no times: leave it out")
    # excluded are rows and cells of everybody, those who train and those who are evaluated
    noisy = train.noisy or (config.privacy.evaluation_on and context.policy.counts == "noisy")
    excluded = {} if noisy else {reason: int(count) for reason, count in site.train.excluded.items()}
    if site.dropped and not noisy:
        excluded["recordings of a person in the published test set (whole data set)"] = site.dropped
    minimum, grain = context.policy.min_cell_patients, context.policy.round_counts_to
    excluded = {reason: count for reason, each in excluded.items() if (count := round_count(each, grain))}
    classes = train.classes if train.noisy else hide_small_classes(site.train, minimum)
    report = HandshakeReport(
        protocol=PROTOCOL,
        task=site.task,
        fingerprint=site.task.fingerprint(),
        synthetic=site.synthetic,
        split=config.sites.split if context.simulated or context.policy.split == "requested" else "own",
        warning=site.warning,
        excluded=excluded,
        shift=dict(site.shift),
        counts=HandshakeCounts(
            train=SplitCounts(patients=train.patients, examples=train.examples, classes=classes),
            validation=count_evaluated(context, site, config, "validation"),
            test=count_evaluated(context, site, config, "test"),
        ),
        device=str(choose_device(config.training.device)),
        noisy=train.noisy,
        max_bins=context.policy.max_bins,
        count_grain=context.policy.round_counts_to,
        min_cell_patients=minimum,
    )
    return HandshakeReply(site.name, report)


def round_count(count: int, grain: int) -> int:
    """Return a count rounded to a multiple of `grain`."""
    return count if grain <= 1 else int(round_counts(np.asarray(count), grain))


def count_evaluated(context: SiteContext, site: Site, config: RunConfig, split: EvaluatedSplit) -> SplitCounts:
    """Return the counts of validation or test patients that the site states: with noise where evaluation is private.

    Raises:
        BudgetSpent: noisy counts would overspend the budget of these patients.
        DataError: their ledger cannot be used.
    """
    cohort: Cohort = getattr(site, split)
    minimum = context.policy.min_cell_patients
    if not config.privacy.evaluation_on or (context.policy.counts == "public" and cohort.people() < minimum):
        return releasable_counts(cohort, minimum)
    if context.policy.counts == "noisy":
        return release_evaluation_counts(context, site, config, split)
    classes = hide_small_classes(cohort, minimum)
    return SplitCounts(patients=cohort.people(), examples=len(cohort.y), classes=classes)


def releasable_counts(cohort: Cohort, minimum: int) -> SplitCounts:
    """Return a split's counts; those of classes that fewer than `minimum` patients have are left out.

    A split of fewer patients counts as empty. Of the training split all counts are sent: they weigh the classes.
    """
    summary = cohort.summary()
    if minimum > 1:
        releasable = small_groups.select_releasable_tables(
            cohort, SubgroupsConfig(), minimum, ALL_PATIENTS, GROUP_PREFIX
        )
        if releasable.suppressed:
            nothing = (None,) * len(cohort.task.classes)
            return SplitCounts(patients=0, examples=0, classes=nothing, suppressed=minimum)
        summary = cohort.take(releasable.rows[ALL_PATIENTS]).summary()
        hidden = releasable.classes[ALL_PATIENTS]
        summary["classes"] = [None if away else n for n, away in zip(summary["classes"], hidden, strict=True)]
    return SplitCounts(patients=summary["patients"], examples=summary["examples"], classes=tuple(summary["classes"]))


def hide_small_classes(cohort: Cohort, minimum: int) -> tuple[int, ...]:
    """Return the number of examples of each class; a class of fewer than `minimum` people is stated as `minimum`.

    The largest class is reduced by what was added, so that the sum stays the same.
    """
    classes = list(cohort.class_counts())
    if minimum <= 1 or not len(cohort.y):
        return tuple(classes)
    for index, people in enumerate(count_class_patients(cohort)):
        largest = int(np.argmax(classes))
        if 0 < people < minimum and index != largest:
            change = minimum - classes[index]
            if cohort.task.kind != "multilabel":
                change = min(change, classes[largest] - 1)
                classes[largest] -= change
            classes[index] += change
    return tuple(classes)
