"""Evaluation: one model on one set of patients, as figures with counts and 95% intervals.

Intervals are percentile bootstraps over patients (Efron and Tibshirani 1993, ch. 13), because beats of one
person are not independent. Resamples are sums of the patients' counts, so they cost one matrix product, not
a pass over the beats. A site's figures come from its own counts; pooled ones from the sum of the sites'
counts and, where every site shares them, of its resampled counts (patients resampled within each site).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from common import metrics
from common.config import EvaluationConfig
from common.errors import ConfigError
from common.metrics import Counts
from common.task import Task

FEW_PATIENTS = 5
"""A figure that rests on fewer patients than this is marked wherever it is shown."""

COARSER = 16
"""Score bins merged into one in resamples, which tell how far an area varies; `summarise` mends its level."""


class Frozen(BaseModel):
    """Base of the report's parts."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Figure(Frozen):
    """A figure and its 95% interval; None where it cannot be computed."""

    value: float | None
    low: float | None = None
    high: float | None = None


class ClassFigures(Frozen):
    """One class against the rest."""

    examples: int
    patients: int
    precision: Figure
    recall: Figure
    f1: Figure
    auroc: Figure
    auprc: Figure


class Evaluation(Frozen):
    """A model's figures on some patients.

    `confusion`: rows truth, columns prediction, in class order; multilabel: a row for each class, of its true
    negatives, false positives, false negatives, true positives. `threshold`: the log odds from which on the
    event was called, none: the likelier class. `utility`: normalised (common/metrics.py), where the task has it.
    """

    patients: int
    examples: int
    resamples: int
    confusion: tuple[tuple[int, ...], ...]
    accuracy: Figure
    macro_f1: Figure
    macro_auroc: Figure
    macro_auprc: Figure
    loss: Figure
    classes: dict[str, ClassFigures]
    notes: tuple[str, ...] = ()
    threshold: float | None = None
    utility: Figure | None = None

    @property
    def binary(self) -> bool:
        """Whether there is one event, the second of two classes."""
        return [len(row) for row in self.confusion] == [2, 2]

    @property
    def auroc(self) -> Figure | None:
        """The event's AUROC, which is the other class's too."""
        return self._of(1).auroc if self.binary else None

    @property
    def auprc(self) -> Figure | None:
        """The event's average precision."""
        return self._of(1).auprc if self.binary else None

    @property
    def sensitivity(self) -> Figure | None:
        """The event's recall."""
        return self._of(1).recall if self.binary else None

    @property
    def specificity(self) -> Figure | None:
        """The other class's recall."""
        return self._of(0).recall if self.binary else None

    @property
    def ppv(self) -> Figure | None:
        """The event's precision, the positive predictive value."""
        return self._of(1).precision if self.binary else None

    def _of(self, place: int) -> ClassFigures:
        return list(self.classes.values())[place]


def require(wanted: EvaluationConfig, task: Task) -> None:
    """Refuse a metric or a threshold that the task cannot have, before anything is trained for it.

    Raises:
        ConfigError: names the key and what it needs.
    """
    for key, value in (("metric", wanted.metric), ("threshold", wanted.threshold)):
        if value == "utility" and not task.utility:
            raise ConfigError(f"evaluation.{key}=utility: {task.name} says of no alarm what it is worth; take another")
        event = (key == "threshold" and value != "likelier") or value in ("auroc", "auprc")
        if event and not task.binary:
            other = "macro_auroc or macro_auprc" if key == "metric" else "likelier"
            raise ConfigError(f"evaluation.{key}={value} needs a task of one event (two classes): take {other}")


def bootstrap_weights(patients: int, resamples: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Return `(resamples, patients)`: how often each patient is drawn, with replacement, in each resample."""
    if patients == 0 or resamples == 0:
        return np.zeros((0, patients))
    return rng.multinomial(patients, np.full(patients, 1 / patients), size=resamples).astype(np.float64)


def resample(by_patient: Counts, resamples: int, rng: np.random.Generator) -> Counts:
    """Return resampled counts, `(resamples, ...)`, of counts by patient whose score bins are COARSER already."""
    return by_patient.resample(bootstrap_weights(len(by_patient.confusion), resamples, rng))


def summarise(
    task: Task,
    total: Counts,
    replicates: Counts | None,
    patients: int,
    class_patients: Sequence[int],
    notes: Sequence[str] = (),
    threshold: float | None = None,
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
    """
    many = task.kind == "multilabel"
    support = metrics.tallies(total.confusion, many)[2]
    present = support > 0
    examples = int(_examples(total, many))
    resamples = 0 if replicates is None or patients < 2 else len(replicates.confusion)
    found = list(notes)

    def computed(counts: Counts) -> dict[str, npt.NDArray[np.float64]]:
        per_class = {
            "precision": metrics.precision(counts.confusion, many),
            "recall": metrics.recall(counts.confusion, many),
            "f1": metrics.f1(counts.confusion, many),
            "auroc": metrics.auroc(counts.scores),
            "auprc": metrics.auprc(counts.scores),
        }
        both = present & (support < examples)
        size = _examples(counts, many)
        if counts.utility.size:
            per_class["utility"] = metrics.utility(counts.utility)
        return per_class | {
            "accuracy": metrics.accuracy(counts.confusion, many),
            "macro_f1": metrics.macro(per_class["f1"], present),
            "macro_auroc": metrics.macro(per_class["auroc"], both),
            "macro_auprc": metrics.macro(per_class["auprc"], both),
            "loss": np.asarray(counts.loss / np.where(size > 0, size, np.nan), dtype=np.float64),
        }

    values = computed(total)
    drawn: dict[str, npt.NDArray[np.float64]] = {}
    if replicates is not None and resamples:
        # Coarser bins make ties, which pull an area towards a coin's: the resamples are moved by as much as
        # the figure itself moves between its own bins and theirs.
        same = replicates.scores.shape[-1] == total.scores.shape[-1]
        level = values if same else computed(total.coarser(COARSER))
        drawn = {
            name: np.minimum(sample + (values[name] - level[name]), np.inf if name == "loss" else 1.0)
            for name, sample in computed(replicates).items()
        }

    def figure(name: str, index: int | None = None) -> Figure:
        value = float(values[name] if index is None else values[name][index])
        if not np.isfinite(value):
            return Figure(value=None)
        if name not in drawn:
            return Figure(value=value)
        sample = drawn[name] if index is None else drawn[name][..., index]
        sample = sample[np.isfinite(sample)]
        if len(sample) < max(2, resamples // 2):
            return Figure(value=value)
        low, high = np.quantile(sample, [0.025, 0.975])
        return Figure(value=value, low=float(low), high=float(high))

    classes = {
        name: ClassFigures(
            examples=int(support[i]),
            patients=int(class_patients[i]),
            precision=figure("precision", i),
            recall=figure("recall", i),
            f1=figure("f1", i),
            auroc=figure("auroc", i),
            auprc=figure("auprc", i),
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
        accuracy=figure("accuracy"),
        macro_f1=figure("macro_f1"),
        macro_auroc=figure("macro_auroc"),
        macro_auprc=figure("macro_auprc"),
        loss=figure("loss"),
        classes=classes,
        notes=tuple(found),
        threshold=threshold,
        utility=figure("utility") if "utility" in values else None,
    )


def _examples(counts: Counts, multilabel: bool) -> npt.NDArray[np.int64]:
    """Return the number of examples, `(...)`: each stands once in a confusion, or once in each label's."""
    each = counts.confusion.sum((-2, -1))
    return np.asarray(each[..., 0] if multilabel else each, dtype=np.int64)


def value_of(item: Evaluation, metric: str) -> float | None:
    """Return the value of a metric, None where it has none."""
    found: Figure | None = getattr(item, metric)
    return None if found is None else found.value


def worst(evaluations: Mapping[str, Evaluation], metric: str) -> tuple[str, float] | None:
    """Return the site with the worst value of `metric`, and that value; None if no site has one."""
    values = {site: value for site, item in evaluations.items() if (value := value_of(item, metric)) is not None}
    if not values:
        return None
    pick = max if metric == "loss" else min
    site = pick(sorted(values), key=lambda name: values[name])
    return site, values[site]


def pooled(
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
    return summarise(
        task,
        together,
        drawn,
        sum(item.patients for item in results.values()),
        [sum(item.classes[name].patients for item in results.values()) for name in task.classes],
        notes,
        next(iter(results.values())).threshold if len({item.threshold for item in results.values()}) == 1 else None,
    )
