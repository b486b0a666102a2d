"""A model's predictions for a cohort, and their counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt
from torch import nn

from client.evaluation import small_groups
from client.evaluation.anomaly_scores import AnomalyScores, Detector
from client.training.batches import choose_device, predict_logits
from common.config import RunConfig
from common.errors import NotFiniteError
from common.latent import LatentStatistics
from common.metrics import counts
from common.metrics.counts import Counts
from common.metrics.resampling import coarse_factor
from sites.cohort import Cohort

Predictions = npt.NDArray[np.float32] | AnomalyScores
"""Logits `(examples, classes)`, or anomaly scores."""
MAX_LOGIT = 1e4
"""Largest logit at a hospital, far beyond the bins of the histograms."""
Predictor = Callable[[Cohort], Predictions]
"""A model as evaluation uses it: from a cohort to predictions."""


def build_predictor(model: nn.Module, config: RunConfig, latent: bytes = b"", *, bounded: bool = False) -> Predictor:
    """Return a function that computes a network's predictions for a cohort, scaled as its training data were.

    Args:
        model: the network.
        config: the run.
        latent: autoencoders only: statistics of latent space for the anomaly score (common/latent.py), or empty.
        bounded: whether logits are cut off at MAX_LOGIT, and 0 stands for NaN: at a hospital a prediction that is not
            finite may be one person's, and a refusal would reveal that there is such a person.
    """
    if config.detecting:
        return Detector(model, config, LatentStatistics.from_bytes(latent) if latent else None)
    device = choose_device(config.training.device)
    if not bounded:
        return lambda cohort: predict_logits(model, cohort, device)
    return lambda cohort: np.clip(np.nan_to_num(predict_logits(model, cohort, device)), -MAX_LOGIT, MAX_LOGIT)


@dataclass(frozen=True)
class PredictionCounts:
    """Counts of a cohort's predictions.

    Attributes:
        total: of all examples.
        people: of each person, with COARSE_FACTOR times fewer score bins.
        names: the persons, in the order of `people`.
    """

    total: Counts
    people: Counts
    names: tuple[str, ...] = ()


def predict_and_count(
    model: Predictor, cohort: Cohort, config: RunConfig, threshold: float | None = None
) -> PredictionCounts:
    """Return the counts of a model's predictions for a cohort.

    Raises:
        NotFiniteError: a prediction is not a finite number.
    """
    return count_predictions(compute_predictions(model, cohort), cohort, config, threshold)


def compute_predictions(model: Predictor, cohort: Cohort) -> Predictions:
    """Return a model's predictions; for an empty cohort an empty array."""
    return model(cohort) if len(cohort.y) else np.zeros((0, len(cohort.task.classes)), np.float32)


def count_predictions(
    scores: Predictions,
    cohort: Cohort,
    config: RunConfig,
    threshold: float | None = None,
    rows: npt.NDArray[np.bool_] | None = None,
    hidden: npt.NDArray[np.bool_] | None = None,
) -> PredictionCounts:
    """Return the counts of predictions.

    Args:
        scores: predictions for the cohort.
        cohort: the examples.
        config: the run.
        threshold: log odds at or above which the event is predicted; default: the likelier class.
        rows: the examples to count, bool `(examples,)`; default: all.
        hidden: suppressed classes, bool `(classes,)`. Multilabel counts of them are zero; else `rows` must hold none
            of their examples.

    Raises:
        NotFiniteError: a prediction is not a finite number.
    """
    bins, task = config.evaluation.bins, cohort.task
    chosen = slice(None) if rows is None or rows.all() else rows
    truth = cohort.y[chosen]
    if len(truth) == 0:
        empty = counts.empty_counts(task.confusion_shape, bins, task.utility)
        coarse = empty.coarser(coarse_factor(bins))
        utility = coarse.utility[None] if task.utility else coarse.utility
        return PredictionCounts(empty, Counts(coarse.confusion[None], coarse.scores[None], coarse.loss[None], utility))
    people, owner = small_groups.index_people(cohort)
    if not isinstance(chosen, slice):
        index, owner = np.unique(owner[chosen], return_inverse=True)
        people = [people[i] for i in index]
    z = (scores.logits if isinstance(scores, AnomalyScores) else scores)[chosen]
    labels = slice(None) if hidden is None or truth.ndim == 1 or not hidden.any() else np.flatnonzero(~hidden)
    if not isinstance(labels, slice):
        z, truth = z[:, labels], truth[:, labels]
    losses = None
    if task.anomaly:  # the loss is the reconstruction error of normal examples; other scores have none
        losses = scores.losses[chosen] if isinstance(scores, AnomalyScores) else np.full(len(truth), np.nan)
        losses = np.where(truth == 0, losses, 0.0)
    worth = _select_rows(cohort.utility, chosen) if task.utility else None
    count = partial(counts.count_predictions, z, truth, bins=bins, threshold=threshold, worth=worth, losses=losses)
    hours, until = _select_rows(cohort.hours, chosen), _select_rows(cohort.until, chosen)
    try:
        each = count(group=owner, groups=len(people), coarse=coarse_factor(bins), hours=hours, until=until)
        total = count(group=np.zeros(len(truth), np.int64), groups=1).total()
    except ValueError as error:
        if np.isfinite(z).all():
            raise
        raise NotFiniteError(f"the model's output is not usable: {error}") from None
    summed = each.total()
    total = replace(total, time=summed.time, lead=summed.lead)
    if not isinstance(labels, slice):
        total, each = (_restore_labels(part, labels, len(task.classes)) for part in (total, each))
    return PredictionCounts(total, each, tuple(people))


def _select_rows(
    values: npt.NDArray[np.float32] | None, chosen: slice | npt.NDArray[np.bool_]
) -> npt.NDArray[np.float32] | None:
    return None if values is None else values[chosen]


def _restore_labels(labelled: Counts, labels: npt.NDArray[np.int64], classes: int) -> Counts:
    """Return multilabel counts of some labels as counts of all, zero for the others."""
    confusion = np.zeros((*labelled.confusion.shape[:-3], classes, 2, 2), np.int64)
    scores = np.zeros((*labelled.scores.shape[:-3], classes, *labelled.scores.shape[-2:]), np.int64)
    confusion[..., labels, :, :], scores[..., labels, :, :] = labelled.confusion, labelled.scores
    return replace(labelled, confusion=confusion, scores=scores)


def count_class_patients(cohort: Cohort, rows: npt.NDArray[np.bool_] | None = None) -> list[int]:
    """Return the number of persons with at least one example of each class (among `rows`; default: all)."""
    _, owner = small_groups.index_people(cohort)
    has = cohort.y.astype(bool) if cohort.y.ndim == 2 else cohort.y[:, None] == np.arange(len(cohort.task.classes))
    if rows is not None:
        has = has & rows[:, None]
    return [len(np.unique(owner[has[:, c]])) for c in range(len(cohort.task.classes))]
