"""Evaluation: one model on one set of patients, as figures with counts and 95% intervals.

Intervals (common/metrics/intervals.py) are over patients. Resamples are sums of the patients' counts, so they cost one
matrix product, not a pass over the beats. A site's figures come from its own counts; pooled ones from the sum of
the sites' counts and, where every site shares them, of its resampled counts (patients resampled within each site).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from common.errors import ConfigError
from common.metrics import calibration, counts
from common.metrics.count_statistics import count_examples
from common.metrics.counts import Counts
from common.metrics.early_warning import Ints
from common.metrics.figures import (
    FEW_PATIENTS,
    Alarms,
    Calibration,
    ClassFigures,
    Evaluation,
    LeadTimes,
    NetBenefit,
    OperatingPoint,
    ReliabilityGroup,
    is_derived,
)
from common.metrics.intervals import ResampledFigures
from common.metrics.registry import CALIBRATION_METRICS, CLASS_METRICS, METRICS, Requirement
from common.metrics.resampling import compute_figures, with_event_figures
from common.sections.evaluation import EvaluationConfig
from common.task import Task


def check_evaluation_fits_task(wanted: EvaluationConfig, task: Task) -> None:
    """Refuse a metric or a threshold rule that the task does not support, before any training.

    Raises:
        ConfigError: names the key and what it requires.
    """
    threshold: Requirement = "nothing" if wanted.threshold == "likelier" else "event"
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
    """Return `(resamples, patients)`: how often each patient is drawn, with replacement, in each resample."""
    if patients == 0 or resamples == 0:
        return np.zeros((0, patients))
    return rng.multinomial(patients, np.full(patients, 1 / patients), size=resamples).astype(np.float64)


def resample_patients(by_patient: Counts, resamples: int, rng: np.random.Generator) -> Counts:
    """Return resampled counts, `(resamples, ...)`, of counts by patient whose score bins are COARSER already."""
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
) -> Evaluation:
    """Turn counts into figures.

    Args:
        task: names the classes.
        total: counts without leading axis.
        replicates: resampled counts, or None for no intervals.
        patients: how many patients the counts come from.
        class_patients: for each class, how many patients have at least one example of it.
        notes: sentences to carry along.
        threshold: the log odds from which on the counts hold the event as predicted.
        operating: sensitivities and specificities at which the other is sought.
        curves: whether to give reliability diagrams and decision curves.
        group_patients: `(classes, groups)`, patients in each group of a reliability diagram, where known.
    """
    many = task.kind == "multilabel"
    support = counts.class_totals(total.confusion, many)[2]
    present = support > 0
    examples = int(count_examples(total, many))
    resamples = 0 if replicates is None or patients < 2 else len(replicates.confusion)
    found = list(notes)
    figures = with_event_figures(task, compute_figures(task, total, replicates, patients, operating, curves))
    sought = (1,) if task.binary else range(len(task.classes))

    def calibrated(place: int) -> Calibration | None:
        if not task.probabilistic or place not in sought:
            return None
        at = 0 if task.binary else place
        named = {name: figures.figure(f"class_{name}", at) for name in CALIBRATION_METRICS}
        if not curves:
            return Calibration(**named)
        people = None if group_patients is None else group_patients[place]
        return Calibration(
            **named,
            groups=_groups(figures, total.scores[place], at, people),
            curve=_curve(figures, total.scores[place], at),
        )

    classes = {
        name: ClassFigures(
            examples=int(support[i]),
            patients=int(class_patients[i]),
            **{key: figures.figure(f"class_{key}", i) for key in CLASS_METRICS},
            calibration=calibrated(i),
            operating=tuple(
                OperatingPoint(
                    at=at,
                    sensitivity=figures.figure(f"class_sensitivity_at_{at:g}", 0 if task.binary else i),
                    specificity=figures.figure(f"class_specificity_at_{at:g}", 0 if task.binary else i),
                )
                for at in (operating if i in sought else ())
            ),
            alarms=Alarms(
                hours=float(total.time.sum()),
                per_day=figures.figure("class_alarms_per_day", 0 if task.binary else i),
                false_per_hour=figures.figure("class_false_per_hour", 0 if task.binary else i),
            )
            if total.time.size and i in sought
            else None,
        )
        for i, name in enumerate(task.classes)
    }
    absent = [name for name, here in zip(task.classes, present, strict=True) if not here]
    if absent and present.any():
        found.append(f"no examples of {', '.join(absent)}: macro figures are over the other classes")
    rare = [
        f"{name} ({classes[name].patients})"
        for name, here in zip(task.classes, present, strict=True)
        if here and classes[name].patients < FEW_PATIENTS
    ]
    if rare:
        found.append(f"classes that rest on fewer than {FEW_PATIENTS} patients: {', '.join(rare)}")
    if patients < 2:
        found.append("no intervals: they need at least two patients")
    return Evaluation(
        patients=patients,
        examples=examples,
        resamples=resamples,
        confusion=tuple(tuple(int(n) for n in row) for row in total.confusion.reshape(len(support), -1)),
        classes=classes,
        notes=tuple(found),
        threshold=threshold,
        lead=_lead(figures, total),
        **{name: figures.figure(name) for name in METRICS if name in figures.values and not is_derived(name)},
    )


def _lead(figures: ResampledFigures, total: Counts) -> LeadTimes | None:
    if not total.lead.size:
        return None
    ill, *histogram = (int(n) for n in total.lead)
    return LeadTimes(
        patients=ill, warned=figures.figure("warned"), hours=figures.figure("lead_hours"), histogram=tuple(histogram)
    )


def _groups(figures: ResampledFigures, scores: Ints, place: int, people: Ints | None) -> tuple[ReliabilityGroup, ...]:
    every, events, chance = calibration.count_reliability_groups(scores)
    bounds = [None, *calibration.RELIABILITY_CUTS, None]
    return tuple(
        ReliabilityGroup(
            low=bounds[g],
            high=bounds[g + 1],
            examples=int(every[g]),
            events=int(events[g]),
            patients=None if people is None else int(people[g]),
            predicted=float(chance[g] / every[g]),
            observed=figures.figure("group_observed", (place, int(g))),
        )
        for g in np.flatnonzero(every)
    )


def _curve(figures: ResampledFigures, scores: Ints, place: int) -> tuple[NetBenefit, ...]:
    _, every = calibration.net_benefit(scores)
    return tuple(
        NetBenefit(
            chance=float(1 / (1 + np.exp(-odds))),
            value=figures.figure("group_benefit", (place, i)),
            treat_all=float(every[i]) if np.isfinite(every[i]) else None,
        )
        for i, odds in enumerate(calibration.DECISION_THRESHOLDS)
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
    """Return the figures of several sites' patients together, from their counts, as if counted at one place.

    Args:
        task: names the classes.
        results: each site's own figures, for the numbers of patients.
        totals: each site's counts.
        replicates: each site's resampled counts; intervals need all sites'.
    """
    first, *rest = [totals[site] for site in sorted(totals)]
    together = sum(rest, first)
    drawn: Counts | None = None
    notes = []
    if len(replicates) == len(totals) and len({len(item.confusion) for item in replicates.values()}) == 1:
        start, *others = [replicates[site] for site in sorted(replicates)]
        drawn = sum(others, start)
        lone = sorted(site for site, item in results.items() if item.patients == 1)
        if lone:
            notes.append(f"the intervals are too narrow: {', '.join(lone)} with one test patient adds no spread")
    else:
        notes.append("no pooled intervals: not every site shares its resamples")
    each = list(results.values())
    less: dict[str, dict[str, int]] = {}
    for site, item in sorted(results.items()):
        for name, least in item.suppressed.items():
            less.setdefault(name, {})[site] = least
    for name, sites in less.items():
        notes.append(f"class {name} is suppressed at, and so without its examples at, {', '.join(sites)}")
    gone = {name: max(sites.values()) for name, sites in less.items() if len(sites) == len(each)}
    if len({item.threshold for item in each}) > 1:
        notes.append("each site has a threshold of its own")
    found = build_evaluation(
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
    )
    return found.model_copy(update={"suppressed": gone}) if gone else found


def _group_patients(task: Task, results: Sequence[Evaluation]) -> Ints | None:
    """Return the patients in each group of the classes' reliability diagrams, none if a site does not tell them."""
    lows = [None, *calibration.RELIABILITY_CUTS]
    found = np.zeros((len(task.classes), len(lows)), dtype=np.int64)
    for item in results:
        for place, name in enumerate(task.classes):
            part = item.classes[name].calibration
            for group in part.groups if part else ():
                if group.patients is None:
                    return None
                found[place, lows.index(group.low)] += group.patients
    return found
