"""A model's predictions for a cohort, and the counts of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from torch import nn

from client.evaluation import small_groups
from client.evaluation.anomaly_scores import AnomalyScores, Detector
from client.training.batches import choose_device, predict_logits
from common.config import RunConfig
from common.errors import SiteError
from common.latent import LatentStatistics
from common.metrics import counts as metrics
from common.metrics.counts import Counts
from common.metrics.resampling import COARSE_FACTOR
from sites.cohort import Cohort

if TYPE_CHECKING:
    pass


Predictions = npt.NDArray[np.float32] | AnomalyScores


Predictor = Callable[[Cohort], Predictions]
"""A model as evaluation sees it: from a cohort to logits `(examples, classes)`, or to anomaly scores."""


def build_predictor(model: nn.Module, config: RunConfig, latent: bytes = b"") -> Predictor:
    """Return the predictions of a network, for cohorts that are scaled as its training was.

    Args:
        model: the network.
        config: the run.
        latent: of a model that reconstructs, what its score needs to know of latent space (common/latent.py).
    """
    if config.detecting:
        return Detector(model, config, LatentStatistics.from_bytes(latent) if latent else None)
    device = choose_device(config.training.device)
    return lambda cohort: predict_logits(model, cohort, device)


@dataclass(frozen=True)
class PredictionCounts:
    """Counts of a cohort: of all, and of each person (`names`) with evaluation.COARSER score bins."""

    total: Counts
    people: Counts
    names: tuple[str, ...] = ()


def predict_and_count(
    model: Predictor, cohort: Cohort, config: RunConfig, threshold: float | None = None
) -> PredictionCounts:
    """Return the counts of a model's predictions.

    Raises:
        SiteError: a prediction is not a finite number.
    """
    return count_predictions(compute_predictions(model, cohort), cohort, config, threshold)


def compute_predictions(model: Predictor, cohort: Cohort) -> Predictions:
    """Return a model's logits or scores, of no examples too."""
    return model(cohort) if len(cohort.y) else np.zeros((0, len(cohort.task.classes)), np.float32)


def count_predictions(
    scores: Predictions,
    cohort: Cohort,
    config: RunConfig,
    threshold: float | None = None,
    rows: npt.NDArray[np.bool_] | None = None,
    hidden: npt.NDArray[np.bool_] | None = None,
) -> PredictionCounts:
    """Return the counts of predictions, of some examples (`rows`) only.

    `hidden`: classes that must not be told; multilabel: theirs are zero (else `rows` holds none of their examples).

    Raises:
        SiteError: a prediction is not a finite number.
    """
    bins, task = config.evaluation.bins, cohort.task
    chosen = slice(None) if rows is None or rows.all() else rows
    truth = cohort.y[chosen]
    if len(truth) == 0:
        empty = metrics.empty_counts(task.confusion_shape, bins, task.utility)
        coarse = empty.coarser(COARSE_FACTOR)
        utility = coarse.utility[None] if task.utility else coarse.utility
        return PredictionCounts(empty, Counts(coarse.confusion[None], coarse.scores[None], coarse.loss[None], utility))
    people, owner = small_groups.index_people(cohort)
    if not isinstance(chosen, slice):
        people_, owner = np.unique(owner[chosen], return_inverse=True)
        people = [people[i] for i in people_]
    z = (scores.logits if isinstance(scores, AnomalyScores) else scores)[chosen]
    kept = slice(None) if hidden is None or truth.ndim == 1 or not hidden.any() else np.flatnonzero(~hidden)
    if not isinstance(kept, slice):
        z, truth = z[:, kept], truth[:, kept]
    given: dict[str, Any] = {"threshold": threshold, "worth": _part(cohort.utility, chosen) if task.utility else None}
    if task.anomaly:  # the loss is that of what is normal; a score that is no reconstruction error has none
        losses = scores.losses[chosen] if isinstance(scores, AnomalyScores) else np.full(len(truth), np.nan)
        given["losses"] = np.where(truth == 0, losses, 0.0)
    spent: dict[str, Any] = {"hours": _part(cohort.hours, chosen), "until": _part(cohort.until, chosen)}
    try:
        each = metrics.count_predictions(z, truth, owner, len(people), bins, coarse=COARSE_FACTOR, **given, **spent)
        together = np.zeros(len(truth), np.int64)
        total = metrics.count_predictions(z, truth, together, 1, bins, **given).total()
    except ValueError as error:
        raise SiteError(f"the model's output is not usable: {error}") from None
    summed = each.total()
    total = replace(total, time=summed.time, lead=summed.lead)
    if not isinstance(kept, slice):
        total, each = (_widened(part, kept, len(task.classes)) for part in (total, each))
    return PredictionCounts(total, each, tuple(people))


def _part(values: npt.NDArray[Any] | None, chosen: slice | npt.NDArray[np.bool_]) -> npt.NDArray[Any] | None:
    return None if values is None else values[chosen]


def _widened(counts: Counts, kept: npt.NDArray[np.int64], classes: int) -> Counts:
    """Return multilabel counts of some labels with zeros for the others."""
    confusion = np.zeros((*counts.confusion.shape[:-3], classes, 2, 2), np.int64)
    scores = np.zeros((*counts.scores.shape[:-3], classes, *counts.scores.shape[-2:]), np.int64)
    confusion[..., kept, :, :], scores[..., kept, :, :] = counts.confusion, counts.scores
    return replace(counts, confusion=confusion, scores=scores)


def count_class_patients(cohort: Cohort, rows: npt.NDArray[np.bool_] | None = None) -> list[int]:
    """Return for each class how many people have at least one example of it (among `rows`)."""
    _, owner = small_groups.index_people(cohort)
    has = cohort.y.astype(bool) if cohort.y.ndim == 2 else cohort.y[:, None] == np.arange(len(cohort.task.classes))
    if rows is not None:
        has = has & rows[:, None]
    return [len(np.unique(owner[has[:, c]])) for c in range(len(cohort.task.classes))]
