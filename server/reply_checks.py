"""What is wrong with a reply of the right type, judged by the run's settings and the handshake; "": nothing.

A site whose reply has a fault is lost for the round, by name and with the fault as the reason; the run continues.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from common.arrays import Weights
from common.messages import ARRAY_OVERHEAD
from common.metrics.counts import Counts
from common.metrics.early_warning import LEAD_TABLE_WIDTH
from common.metrics.evaluation import build_evaluation, metric_value
from common.metrics.figures import Evaluation
from common.metrics.merged_scores import read_merged_classes
from common.metrics.registry import METRICS
from common.metrics.resampling import coarse_factor
from common.metrics.subgroups import SEXES, name_bands
from common.metrics.table_names import (
    AGAINST_PREFIX,
    ALL_PATIENTS,
    GROUP_PREFIX,
    RECALIBRATED_PREFIX,
    RESAMPLED_SUFFIX,
    WITHOUT_PREFIX,
    personal_table,
)
from common.replies import FinalTestReply, Sums, TrainReply
from common.reports import MAX_COUNT, HandshakeReport, SplitCounts
from common.task import Task
from common.untrusted import find_range_fault

if TYPE_CHECKING:
    from server.run import Run

MAX_SUM = 1e30
"""Largest absolute value of a sum over examples."""


def find_update_fault(reply: TrainReply, shared: Weights, control: Weights, examples: int) -> str:
    """Return why an update cannot be merged with the others', or "".

    Args:
        reply: what the site sent.
        shared: the arrays of the model that sites send; an update must have them in this order.
        control: the control variates that sites send, in the same way.
        examples: number of training examples that the site stated in the handshake.
    """
    for what, sent, like in (("weights", reply.weights, shared), ("control variates", reply.control, control)):
        if [(name, value.shape) for name, value in sent.items()] != [(k, v.shape) for k, v in like.items()]:
            return f"its {what} do not fit the model"
        for name, value in sent.items():
            if value.dtype != like[name].dtype:
                return f"its {what} of {name} are {value.dtype}, not {like[name].dtype}"
            if fault := find_range_fault(value):
                return f"its {what} of {name} {fault}"
    if reply.report.examples != examples:
        return f"it trained on {reply.report.examples} examples, in the handshake it stated {examples}"
    return ""


def find_sums_fault(sums: Sums, shapes: Mapping[str, tuple[int, ...]], signed: Iterable[str]) -> str:
    """Return why sums cannot be added to the others'.

    Args:
        sums: what the site sent.
        shapes: the shape of each by name.
        signed: names of those that may be below 0.
    """
    if {name: value.shape for name, value in sums.items()} != dict(shapes):
        return "its sums do not fit the task"
    for name, value in sums.items():
        if fault := find_range_fault(value, MAX_SUM):
            return f"its sums {name} {fault}"
        if name not in signed and value.size and value.min() < 0:
            return f"its sums {name} are below 0"
    return ""


def find_moments_fault(sums: Sums, task: Task, examples: int) -> str:
    """Return why sums of the training inputs (common/scaling.py) cannot be right.

    Args:
        sums: what the site sent.
        task: names the inputs: features, then channels.
        examples: the site's training examples by the handshake.
    """
    width, features = len(task.features) + task.channels, len(task.features)
    names = ("count", "missing", "total", "square")
    if fault := find_sums_fault(sums, dict.fromkeys(names, (width,)), ("total",)):
        return fault
    values = sums["count"] + sums["missing"]
    # a channel has a value for each sample, or for each example where windows of one recording overlap
    if (values[:features] != examples).any() or not np.isin(
        values[features:], (examples, examples * task.samples)
    ).all():
        return f"its sums are not over the {examples} examples that it stated in the handshake"
    if (sums["total"] ** 2 > sums["count"] * sums["square"] * (1 + 1e-6)).any():
        return "its sums and sums of squares do not fit each other"
    return ""


def expected_tables(run: Run) -> set[str]:
    """Return the names of the tables that the final evaluation may hold (common/metrics/table_names.py)."""
    wanted = run.config.evaluation
    groups = {"age": name_bands(wanted.subgroups.age)} if wanted.subgroups.age else {}
    groups |= {name: name_bands(edges) for name, edges in wanted.subgroups.columns.items()}
    if wanted.subgroups.sex:
        groups["sex"] = SEXES
    names = {
        ALL_PATIENTS,
        *(WITHOUT_PREFIX + name for name in wanted.without),
        *(AGAINST_PREFIX + name for name in run.task.against),
    }
    names |= {f"{GROUP_PREFIX}{attribute}={name}" for attribute, each in groups.items() for name in each}
    if run.method.pull is not None:
        names |= {personal_table(name) for name in names}
    return names | {RECALIBRATED_PREFIX + name for name in wanted.recalibrate}


def max_table_bytes(run: Run, tables: int, resampled: bool) -> int:
    """Return the maximum size in bytes of a number of count tables."""
    wanted, classes = run.config.evaluation, len(run.task.classes)
    row = int(np.prod(run.task.confusion_shape)) * 8 + (classes + LEAD_TABLE_WIDTH + 4) * 8
    each = row + classes * 2 * wanted.bins * 4 + wanted.bins * 8 + 7 * ARRAY_OVERHEAD
    if resampled:
        each += wanted.bootstrap * (row + classes * 2 * wanted.bins * 4) + 7 * ARRAY_OVERHEAD
    return tables * each


def find_counts_fault(tables: Mapping[str, Counts], run: Run, held: SplitCounts, grain: int = 1) -> str:
    """Return why counts cannot be added to the others'.

    Args:
        tables: what the site sent.
        run: the run, whose task and settings define the shapes of counts.
        held: what the site stated of the split in the handshake.
        grain: the site's counts are multiples of this: their sum may be above what it stated.
    """
    if ALL_PATIENTS not in tables:
        return "it sent no counts"
    for name, counts in tables.items():
        resampled = name.endswith(RESAMPLED_SUFFIX)
        if not _fits(counts, run, resampled):
            return f"its counts {name} do not fit the task"
        floats = (counts.loss, counts.utility, counts.gain, counts.time, counts.lead)
        if any(find_range_fault(part, MAX_SUM) for part in floats):
            return f"its counts {name} are not numbers that can be"
        cells = int(np.prod(run.task.confusion_shape)) + counts.scores.shape[-1]
        slack = grain * cells if grain > 1 else 0
        most = MAX_COUNT if resampled else held.examples + slack
        examples = counts.confusion.sum((-2, -1))
        if min(counts.confusion.min(initial=0), counts.scores.min(initial=0)) < 0:
            return f"its counts {name} are below 0"
        if max(examples.max(initial=0), counts.scores.sum((-2, -1)).max(initial=0)) > most:
            return f"its counts {name} are of more than the {most} examples that it stated in the handshake"
    return ""


def _fits(counts: Counts, run: Run, resampled: bool) -> bool:
    """Return whether the shapes of counts are those of the task."""
    task, wanted = run.task, run.config.evaluation
    classes = len(task.classes)
    lead: tuple[int, ...] = counts.confusion.shape[:1] if resampled else ()
    bins = {wanted.bins, -(-wanted.bins // coarse_factor(wanted.bins))} if resampled else {wanted.bins}
    if resampled and lead not in ((0,), (wanted.bootstrap,)):
        return False
    utilities = {(*lead, 3), (0,)} if lead == (0,) else {(*lead, 3)}  # an array of no resamples is not sent
    gain = (wanted.bins,) if task.utility and not resampled else (0,)
    return (
        counts.confusion.shape == (*lead, *task.confusion_shape)
        and counts.scores.shape[:-1] == (*lead, classes, 2)
        and counts.scores.shape[-1] in bins
        and counts.loss.shape == lead
        and counts.utility.shape in (utilities if task.utility else {(0,)})
        and counts.gain.shape == gain
        and counts.time.shape in ((0,), (*lead, classes))
        and counts.lead.shape in ((0,), (*lead, LEAD_TABLE_WIDTH))
    )


def find_figures_fault(reply: FinalTestReply, run: Run, stated: HandshakeReport) -> str:
    """Return why a site's figures of the final evaluation cannot be used.

    Args:
        reply: what the site sent.
        run: the run, which defines the tables and classes.
        stated: what the site stated in the handshake.
    """
    report, task, held = reply.report, run.task, stated.counts.test
    expected = expected_tables(run)
    plain = {name.removesuffix(RESAMPLED_SUFFIX) for name in reply.tables}
    names, plain = set(report.evaluations), {name.removesuffix(RESAMPLED_SUFFIX) for name in reply.tables}
    if unknown := sorted(((names | set(report.suppressed)) - expected) | (plain - names)):
        return f"its table {unknown[0]!r} is none that this run asks for"
    if ALL_PATIENTS not in report.evaluations or not set(report.evaluations) <= set(reply.tables):
        return "it sent figures without counts"
    if fault := find_counts_fault(reply.tables, run, held, stated.count_grain):
        return fault
    for name, item in report.evaluations.items():
        if tuple(item.classes) != task.classes or not set(item.suppressed) <= set(task.classes):
            return f"its figures {name} do not fit the task"
        people = [item.patients, *(part.patients for part in item.classes.values())]
        if min(people) < 0 or max(people) > held.patients:
            return f"its figures {name} are of {max(people)} patients, in the handshake it stated {held.patients}"
        if fault := _find_value_fault(item, reply.tables[name], task):
            return f"its figures {name} {fault}"
    if report.recalibration and not set(report.recalibration.methods) <= set(run.config.evaluation.recalibrate):
        return "it recalibrated in a way that this run does not ask for"
    return _find_explanation_fault(reply, run, held) or _find_view_fault(reply, run, held)


def _find_value_fault(item: Evaluation, counts: Counts, task: Task) -> str:
    """Return how figures differ from those of the counts that came with them."""
    rows = counts.confusion.reshape(len(task.classes), -1).tolist()
    if [list(row) for row in item.confusion] != rows:
        return "do not fit their counts"
    none = [0] * len(task.classes)
    merged = read_merged_classes(item)
    own = build_evaluation(task, counts, None, item.patients, none, threshold=item.threshold, merged=merged)
    for name in METRICS:
        one, other = (metric_value(each, name) for each in (item, own))
        missing = one is None or other is None
        agree = one is other if missing else math.isclose(one or 0.0, other or 0.0, rel_tol=1e-6, abs_tol=1e-6)
        if not agree:
            return f"state {name} {one}, their counts say {other}"
    return ""


def _find_explanation_fault(reply: FinalTestReply, run: Run, held: SplitCounts) -> str:
    """Return why a site's attributions cannot be used: they must name the task's inputs and classes."""
    explanation, task = reply.report.explanation, run.task
    if explanation is None:
        return ""
    shape = (task.channels, task.samples)
    fits = (
        explanation.method == run.config.evaluation.explain
        and 0 <= explanation.patients <= held.patients
        and set(explanation.features) <= set(task.features)
        and set(explanation.channels) <= set(task.channel_names)
        and {*explanation.classes, *explanation.suppressed} <= set(task.classes)
        and all(
            np.shape(part) == shape for each in explanation.classes.values() for part in (each.signal, each.importance)
        )
    )
    return "" if fits else "its explanation does not fit the task"


def _find_view_fault(reply: FinalTestReply, run: Run, held: SplitCounts) -> str:
    """Return why a view of latent space cannot be used: it must name the task's classes and stay within its grid."""
    view, task = reply.report.view, run.task
    if view is None:
        return ""
    names = {task.classes[0], *task.against}
    fits = (
        {*view.counts, *view.hidden} <= names
        and all(cell < view.cells**2 for counts in view.counts.values() for cell in counts)
        and all(sum(counts.values()) <= held.examples for counts in view.counts.values())
        and all(
            item.kind in names and np.shape(item.wanted) == np.shape(item.made) == (task.channels, task.samples)
            for item in view.examples or ()
        )
    )
    return "" if fits else "its view of latent space does not fit the task"


def training_examples(run: Run, site: str) -> int:
    """Return how many examples a site trains on, as its handshake and the level of privacy say."""
    counts = run.federation.reports[site].counts.train
    by_person = run.config.privacy.kind == "patient" and not run.federation.reports[site].noisy
    return counts.patients if by_person else counts.examples
