"""A hospital's validation patients, with outcomes replaced as its policy says.

A coordinator may have many models validated and chooses their weights. If it knows the patients' inputs, the answers
together give it the outcomes that were counted, whatever the errors of each answer. So the outcomes that are counted
are not the patients' own, but others in the manner of client/gate/changed_records.py: each replaced with a fixed
probability, drawn once by the hospital's secret, the same for every question. The counts are corrected for it
(client/gate/corrected_counts.py) before they leave.

Test patients are counted with their own outcomes: few models are tested, and their figures are what is published.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from client.gate import corrected_counts
from client.gate.changed_records import change_records
from client.gate.register import open_register
from client.site import Site, load_site, without_detection
from client.site_context import SiteContext
from common import detection
from common.config import RunConfig
from common.metrics.early_warning import Floats
from common.percent import format_percent
from sites.anomaly_task import to_anomaly_task
from sites.cohort import Cohort


@dataclass(frozen=True)
class ChangedValidation:
    """Validation examples whose outcomes were replaced.

    Attributes:
        cohort: the examples.
        mixing: probability of each outcome given a patient's own, `(classes, classes)`, or of each label `(2, 2)`; None
            where outcomes are the patients' own.
    """

    cohort: Cohort
    mixing: Floats | None


def find_replaced_validation(context: SiteContext, config: RunConfig) -> float:
    """Return the probability with which outcomes of validation patients are replaced here.

    Private evaluation counts their own outcomes: its noise is charged to their ledger, which lasts.
    """
    return 0.0 if context.simulated or config.privacy.evaluation_on else context.policy.replaced_values


def change_validation(context: SiteContext, config: RunConfig, site: Site) -> ChangedValidation:
    """Return a site's validation examples as they are counted in answers.

    Args:
        context: which site.
        config: the run.
        site: with its inputs as the model takes them.
    """
    share = find_replaced_validation(context, config)
    if not share or not len(site.validation.y):
        return ChangedValidation(site.validation, None)
    secret = open_register(context).read_secret()
    labelled = load_site(context, without_detection(config)).validation
    task = labelled.task
    if config.detecting and task.kind == "multilabel":  # no one matrix describes how any of several labels changes
        anomalies = load_site(context, config).validation
        plain = replace(anomalies.task, kind="multiclass", anomaly=False)
        y = change_records(replace(anomalies, task=plain), secret, 0.0, share, inputs=False).y
        return ChangedValidation(replace(site.validation, y=y), corrected_counts.mix_classes(2, share))
    changed = change_records(labelled, secret, 0.0, share, inputs=False)
    classes = 2 if task.kind == "multilabel" else len(task.classes)
    mixing = corrected_counts.mix_classes(classes, share)
    if config.detecting:
        changed = to_anomaly_task(changed, config)
        normal = len(detection.resolve_normal_classes(task, config.detection))
        mixing = corrected_counts.mix_anomalies(classes, normal, share)
    return ChangedValidation(replace(site.validation, y=changed.y, kinds=changed.kinds), mixing)


def describe_replaced(share: float) -> str:
    """Return what a reader of the results has to know of replaced outcomes.

    >>> describe_replaced(0.15)
    'what was chosen on validation patients rests on estimates: this hospital replaced 15% of their outcomes'
    """
    chosen = "what was chosen on validation patients rests on estimates"
    return f"{chosen}: this hospital replaced {format_percent(share)} of their outcomes"
