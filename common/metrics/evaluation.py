"""Evaluations: the metrics of a model on a set of patients, with counts and 95% intervals.

Intervals (common/metrics/intervals.py) are over patients. Resamples are sums of the patients' counts, so they cost one
matrix product, not a pass over the examples. A site's figures come from its own counts, pooled figures from the sums of
the sites' counts and, where every site shares them, of their resampled counts (patients resampled within each site).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from common.errors import ConfigError
from common.metrics import calibration, counts
from common.metrics.count_statistics import count_examples
from common.metrics.counts import Counts
from common.metrics.curve_points import add_curve_points
from common.metrics.early_warning import Ints
from common.metrics.figure_parts import build_curve, build_groups, build_lead_times
from common.metrics.figures import (
    FEW_PATIENTS,
    Alarms,
    Calibration,
    ClassFigures,
    Evaluation,
    EvaluationNoise,
    Figure,
    OperatingPoint,
    is_derived,
)
from common.metrics.intervals import drop_empty_interval
from common.metrics.merged_scores import (
    describe_merged,
    describe_ties,
    find_classes_merged_at_most,
    has_ties_note,
    rests_on_few,
)
from common.metrics.noisy_counts import round_to_people
from common.metrics.registry import CALIBRATION_METRICS, CLASS_METRICS, METRICS, Requirement
from common.metrics.resampling import compute_figures, find_unordered_classes, with_event_figures
from common.sections.evaluation import EvaluationConfig
from common.task import Task

NO_ORDER = "no intervals of AUROC, AUPRC, calibration slope and operating points: the scores"
WHY_NO_ORDER = "lie too close together, or beyond log odds of 16, for the score bins of the resamples"
"""Start and end of the note that names the classes found by common.metrics.resampling.find_unordered_classes."""


def check_evaluation_fits_task(wanted: EvaluationConfig, task: Task) -> None:
    """Refuse a metric or a threshold rule that the task does not support, before any training.

    Raises:
        ConfigError: names the key and what it requires.
    """
    threshold: Requirement = "nothing" if wanted.threshold in ("auto", "likelier") else "event"
    for key, value, requires in (
        ("metric", wanted.metric, METRICS[wanted.metric].requires),
        ("threshold", wanted.threshold, "utility" if wanted.threshold == "utility" else threshold),
    ):
        if requires == "utility" and not task.utility:
            raise ConfigError(
                f"evaluation.{key}=utility: {task.name} defines no utility of an alarm; choose another {key}"
            )
        if requires == "probabilities" and not task.probabilistic:
            raise ConfigError(f"evaluation.{key}={value} needs scores that are probabilities: {task.name} has none")
        if requires == "event" and not task.binary:
            others = "likelier"
            if key == "metric":
                same = METRICS[value].judges
                others = " or ".join(
                    item.name
                    for item in METRICS.values()
                    if item.selectable and item.judges == same and item.requires == "nothing"
                )
            raise ConfigError(f"evaluation.{key}={value} needs a task of one event (two classes): use {others}")


def draw_bootstrap_weights(patients: int, resamples: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Return how often each patient is drawn in each resample, with replacement, `(resamples, patients)`."""
    if patients == 0 or resamples == 0:
        return np.zeros((0, patients))
    return rng.multinomial(patients, np.full(patients, 1 / patients), size=resamples).astype(np.float64)


def resample_patients(by_patient: Counts, resamples: int, rng: np.random.Generator) -> Counts:
    """Return counts of resampled patients, `(resamples, ...)`.

    Args:
        by_patient: counts by patient, with score bins already merged by COARSE_FACTOR.
        resamples: number of resamples.
        rng: the generator.
    """
    return by_patient.resample(draw_bootstrap_weights(len(by_patient.confusion), resamples, rng))


def build_evaluation(
    task: Task,
    total: Counts,
    replicates: Counts | None,
    patients: int,
    class_patients: Sequence[int],
    notes: Sequence[str] = (),
    threshold: float | None = None,
    operating: Sequence[float] = (),
    curves: bool = False,
    group_patients: Ints | None = None,
    noise: EvaluationNoise | None = None,
    merged: npt.NDArray[np.bool_] | None = None,
    few: bool = False,
) -> Evaluation:
    """Return the evaluation computed from counts.

    Args:
        task: names the classes.
        total: counts without leading axis.
        replicates: resampled counts; None: no intervals.
        patients: number of patients.
        class_patients: for each class, the number of patients with at least one example of it.
        notes: sentences to include.
        threshold: decision threshold, in log odds, with which the counts were made; None: the likelier class.
        operating: values of specificity at which to report the sensitivity, and the reverse.
        curves: whether to include reliability diagrams and decision curves.
        group_patients: `(classes, groups)`, patients in each group of a reliability diagram; None: unknown.
        noise: the noise in the counts, which are then those of `NoisyCounts.to_counts` (unit: 1 / PERSON people); None:
            exact counts of examples.
        merged: `(classes,)`, classes whose scores the bins merge: they have no AUROC and the like; None: none.
        few: whether they are merged because too few people are in the bins.
    """
    many = task.kind == "multilabel"
    support = counts.class_totals(total.confusion, many)[2]
    present = support > 0
    displayed = total if noise is None else round_to_people(total)
    examples, stated = int(count_examples(displayed, many)), counts.class_totals(displayed.confusion, many)[2]
    resamples = 0 if replicates is None or patients < 2 else len(replicates.confusion)
    sentences = list(notes)
    exact = noise is None  # noise in the outer bins is all that losses and calibration would show
    computed = compute_figures(
        task, total, replicates, patients, operating, curves and exact, slow=exact, merged=merged
    )
    figures = with_event_figures(task, computed)
    close = np.zeros(len(task.classes), np.bool_) if merged is None else merged
    scored = (1,) if task.binary else range(len(task.classes))

    def build_calibration(index: int) -> Calibration | None:
        if not task.probabilistic or index not in scored or not exact:
            return None
        at = 0 if task.binary else index
        named = {name: figures.figure(f"class_{name}", at) for name in CALIBRATION_METRICS}
        if not curves:
            return Calibration(**named)
        people = None if group_patients is None else group_patients[index]
        return Calibration(
            **named,
            groups=build_groups(figures, total.scores[index], at, people),
            curve=build_curve(figures, total.scores[index], at),
        )

    classes = {
        name: ClassFigures(
            examples=int(stated[i]),
            patients=int(class_patients[i]),
            **{
                key: drop_empty_interval(figures.figure(f"class_{key}", i), int(class_patients[i]))
                for key in CLASS_METRICS
            },
            calibration=build_calibration(i),
            operating=tuple(
                OperatingPoint(
                    at=at,
                    sensitivity=figures.figure(f"class_sensitivity_at_{at:g}", 0 if task.binary else i),
                    specificity=figures.figure(f"class_specificity_at_{at:g}", 0 if task.binary else i),
                )
                for at in (operating if i in scored else ())
            ),
            alarms=Alarms(
                hours=float(total.time.sum()),
                per_day=figures.figure("class_alarms_per_day", 0 if task.binary else i),
                false_per_hour=figures.figure("class_false_per_hour", 0 if task.binary else i),
            )
            if total.time.size and i in scored
            else None,
        )
        for i, name in enumerate(task.classes)
    }
    absent = [name for name, here in zip(task.classes, present, strict=True) if not here]
    if absent and present.any():
        sentences.append(f"no examples of {', '.join(absent)}: macro figures are over the other classes")
    rare = [
        f"{name} ({classes[name].patients})"
        for name, here in zip(task.classes, present, strict=True)
        if here and classes[name].patients < FEW_PATIENTS
    ]
    if rare:
        sentences.append(f"classes that rest on fewer than {FEW_PATIENTS} patients: {', '.join(rare)}")
    if replicates is not None and resamples:
        unordered = find_unordered_classes(total, replicates.scores.shape[-1]) & ~close
        if names := [name for name, here in zip(task.classes, unordered, strict=True) if here]:
            sentences.append(f"{NO_ORDER} of {', '.join(names)} {WHY_NO_ORDER}")
    sentences += [describe_merged(name, few) for name, here in zip(task.classes, close, strict=True) if here]
    if patients < 2:
        sentences.append("no intervals: they need at least two patients")
    overall = {
        name: drop_empty_interval(
            figures.figure(name), int(class_patients[metric.class_index]) if metric.class_metric else patients
        )
        for name, metric in METRICS.items()
        if name in figures.values and not is_derived(name)
    }
    if not exact:
        overall = {name: item for name, item in overall.items() if METRICS[name].judges != "probabilities"}
        overall["loss"] = Figure(value=None)
    return Evaluation(
        patients=patients,
        examples=examples,
        resamples=resamples,
        confusion=tuple(tuple(int(n) for n in row) for row in displayed.confusion.reshape(len(support), -1)),
        classes=classes,
        notes=tuple(sentences),
        threshold=threshold,
        lead=build_lead_times(figures, total),
        noise=noise,
        **overall,
    )


def metric_value(item: Evaluation, metric: str) -> float | None:
    """Return the value of a metric, None where the task has no such metric or it cannot be computed."""
    figure = item.figure(metric)
    return None if figure is None else figure.value


def find_worst_site(evaluations: Mapping[str, Evaluation], metric: str) -> tuple[str, float] | None:
    """Return the site with the worst value of a metric, and that value; None if no site has one."""
    values = {site: value for site, item in evaluations.items() if (value := metric_value(item, metric)) is not None}
    if not values:
        return None
    site = max(sorted(values), key=lambda name: METRICS[metric].badness(values[name]))
    return site, values[site]


def pool_evaluations(
    task: Task,
    results: Mapping[str, Evaluation],
    totals: Mapping[str, Counts],
    replicates: Mapping[str, Counts],
) -> Evaluation:
    """Return the evaluation of several sites' patients together, from the sums of their counts.

    Args:
        task: names the classes.
        results: each site's own evaluation, for the numbers of patients.
        totals: each site's counts.
        replicates: the sites' resampled counts; without those of every site there are no intervals.
    """
    first, *rest = [totals[site] for site in sorted(totals)]
    together = sum(rest, first)
    drawn: Counts | None = None
    notes = []
    if len(replicates) == len(totals) and len({len(item.confusion) for item in replicates.values()}) == 1:
        start, *others = [replicates[site] for site in sorted(replicates)]
        drawn = sum(others, start)
        single = sorted(site for site, item in results.items() if item.patients == 1)
        if 2 * len(single) >= sum(item.patients for item in results.values()):
            drawn = None
            notes.append("no pooled intervals: half of the test patients or more are the only ones of their hospital")
        elif single:
            notes.append(f"the intervals are too narrow: {', '.join(single)} with one test patient adds no spread")
    else:
        notes.append("no pooled intervals: not every site shares its resamples")
    each = list(results.values())
    suppressed: dict[str, dict[str, int]] = {}
    for site, item in sorted(results.items()):
        for name, minimum in item.suppressed.items():
            suppressed.setdefault(name, {})[site] = minimum
    for name, sites in suppressed.items():
        notes.append(f"class {name} is suppressed at {', '.join(sites)}: the figures are without its examples there")
    everywhere = {name: max(sites.values()) for name, sites in suppressed.items() if len(sites) == len(each)}
    if len({item.threshold for item in each}) > 1:
        notes.append("each site has its own threshold")
    merged = find_classes_merged_at_most(results)
    if any(has_ties_note(item) for item in each):
        notes += describe_ties(task.classes, together.scores, merged)
    evaluation = build_evaluation(
        task,
        together,
        drawn,
        sum(item.patients for item in each),
        [sum(item.classes[name].patients for item in each) for name in task.classes],
        notes,
        each[0].threshold if len({item.threshold for item in each}) == 1 else None,
        sorted({point.at for item in each for part in item.classes.values() for point in part.operating}),
        any(part.calibration.groups for item in each for part in item.classes.values() if part.calibration),
        _group_patients(task, each),
        merged=merged,
        few=rests_on_few(results),
    )
    evaluation = add_curve_points(task, evaluation, together, drawn)
    return evaluation.model_copy(update={"suppressed": everywhere}) if everywhere else evaluation


def _group_patients(task: Task, results: Sequence[Evaluation]) -> Ints | None:
    """Return the patients in each group of reliability diagrams, `(classes, groups)`; None: a site withholds them."""
    lows = [None, *calibration.RELIABILITY_CUTS]
    patients = np.zeros((len(task.classes), len(lows)), dtype=np.int64)
    for item in results:
        for position, name in enumerate(task.classes):
            part = item.classes[name].calibration
            for group in part.groups if part else ():
                if group.patients is None:
                    return None
                patients[position, lows.index(group.low)] += group.patients
    return patients
