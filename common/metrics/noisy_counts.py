"""Counts of people with Gaussian noise, and what metrics are computed from.

A hospital whose evaluation is differentially private (client/privacy/private_evaluation.py) sends sums over people: of
each person's share of each cell of the confusion matrix, and of each bin of the score histograms. A person's shares
add up to 1, whatever the number of their examples, so one person added or removed changes each block by a vector of
norm at most 1. The blocks of one release are weighted so that all of them together have norm at most 1; each block's
noise follows from its weight.

The sums may be negative and need not fit one another. `NoisyCounts.to_counts` makes counts of them that do, without
any further use of data: block and parts of a block are combined by the inverse of their variances (Hay et al. 2010,
PVLDB 3(1):1021-1032), and negative numbers are removed by the Euclidean projection onto numbers of the same sum (Wang
et al. 2008, ICML: 272-279), which keeps totals free of bias, as setting negative numbers to 0 does not. Sums of several
hospitals are added first and projected once: what the projection distorts is then small.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from common.metrics.counts import Counts, bin_edges
from common.metrics.early_warning import Floats
from common.metrics.histogram_loss import sum_histogram_loss
from common.task import Task

PERSON = 1000
"""Units in which `to_counts` counts, for one person: a person's examples may be in several cells."""
CONFUSION_SHARE = 0.5
"""Share of the squared norm that the confusion matrix has; the score histograms have the rest."""
NORM_MARGIN = 1.001
"""Factor of the noise above what is charged: room for rounding (common/noise.py)."""


@dataclass(frozen=True)
class ReleaseLayout:
    """The blocks of one release: how often a person occurs in them, and so how they are weighted.

    Attributes:
        confusions: blocks of confusion matrices of a table: one, or one a label.
        histograms: blocks of score histograms of a table: one of the event of two classes, else one a class.
        parts: tables in which one person occurs: all patients, and a group by each attribute.
    """

    confusions: int
    histograms: int
    parts: int = 1

    @classmethod
    def from_task(cls, task: Task, parts: int = 1) -> ReleaseLayout:
        """Return the layout of a task's counts."""
        classes = len(task.classes)
        return cls(classes if task.kind == "multilabel" else 1, 1 if task.binary else classes, parts)

    @property
    def confusion_weight(self) -> float:
        """Factor that multiplies a confusion matrix before noise of the charged deviation is added."""
        return math.sqrt(CONFUSION_SHARE / (self.parts * self.confusions))

    @property
    def scores_weight(self) -> float:
        """Factor that multiplies a score histogram before noise of the charged deviation is added."""
        return math.sqrt((1 - CONFUSION_SHARE) / (self.parts * self.histograms))

    def deviations(self, sigma: float) -> tuple[float, float]:
        """Return the standard deviation of the noise on a cell and on a bin, in people, given the noise multiplier."""
        return sigma * NORM_MARGIN / self.confusion_weight, sigma * NORM_MARGIN / self.scores_weight


@dataclass(frozen=True)
class NoisyCounts:
    """Sums over people with noise; they add up over hospitals. Leading axes: resamples.

    Attributes:
        confusion: `(..., classes, classes)`, rows truth, columns prediction; multilabel: `(..., classes, 2, 2)`.
        scores: `(..., scored, 2, bins)`, histograms of people without and with the class; of two classes the event's.
        confusion_deviation: standard deviation of the noise on each cell, in people.
        scores_deviation: standard deviation of the noise on each bin, in people.
    """

    confusion: Floats
    scores: Floats
    confusion_deviation: float
    scores_deviation: float

    def __add__(self, other: NoisyCounts) -> NoisyCounts:
        """Return the sums over the people of both."""
        return NoisyCounts(
            self.confusion + other.confusion,
            self.scores + other.scores,
            math.hypot(self.confusion_deviation, other.confusion_deviation),
            math.hypot(self.scores_deviation, other.scores_deviation),
        )

    def to_counts(self, task: Task, threshold: float | None) -> Counts:
        """Return counts without negative numbers and consistent with one another; PERSON units stand for one person.

        Args:
            task: the task, which names the classes.
            threshold: log odds at or above which the event was predicted; None: the likelier class was predicted.
        """
        labels = task.kind == "multilabel"
        if labels:
            cells, scores = self._fit_labels(self.confusion, 0.0)
        elif task.binary:
            cells, scores = self._fit_labels(self.confusion[..., None, :, :], threshold or 0.0)
            # the log odds of the other class are the event's with the other sign
            cells, scores = cells[..., 0, :, :], np.concatenate([scores[..., ::-1, ::-1], scores], axis=-3)
        else:
            cells, scores = self._fit_classes()
        confusion, histograms = (np.rint(part * PERSON).astype(np.int64) for part in (cells, scores))
        return Counts(confusion, histograms, sum_histogram_loss(histograms, labels))

    def _fit_classes(self) -> tuple[Floats, Floats]:
        """Return cells and bins of a task of one class of several: the matrix gives the totals of the histograms."""
        total = np.maximum(self.confusion.sum((-2, -1)), 0.0)
        flat = self.confusion.reshape(*self.confusion.shape[:-2], -1)
        cells = project_to_total(flat, total).reshape(self.confusion.shape)
        support = cells.sum(-1)
        return cells, project_to_total(self.scores, np.stack([total[..., None] - support, support], axis=-1))

    def _fit_labels(self, confusion: Floats, threshold: float) -> tuple[Floats, Floats]:
        """Return cells `(..., labels, 2, 2)` and bins `(..., labels, 2, bins)` of labels that are there or not.

        Where a bin begins at the threshold, the bins below and above it are parts of the cells; else only the rows of
        the matrix and the sides of the histogram are the same people.
        """
        bins = self.scores.shape[-1]
        edge = find_edge(threshold, bins)
        cells = confusion if edge is None else self._combine(confusion, edge)
        total = np.maximum(cells.sum((-2, -1)).mean(-1, keepdims=True), 0.0)  # every label is of all people
        flat = cells.reshape(*cells.shape[:-2], 4)
        cells = project_to_total(flat, np.broadcast_to(total, flat.shape[:-1])).reshape(cells.shape)
        if edge is None:
            return cells, project_to_total(self.scores, cells.sum(-1))
        parts = (self.scores[..., :edge], self.scores[..., edge:])
        fitted = [project_to_total(part, cells[..., side]) for side, part in enumerate(parts)]
        return cells, np.concatenate(fitted, axis=-1)

    def _combine(self, cells: Floats, edge: int) -> Floats:
        """Return cells `(..., labels, 2, 2)` as the mean of their own sums and those of the bins, by their precision.

        Args:
            cells: noisy sums of people by truth and prediction.
            edge: the first bin that is predicted.
        """
        summed = np.stack([self.scores[..., :edge].sum(-1), self.scores[..., edge:].sum(-1)], axis=-1)
        bins = np.asarray([edge, self.scores.shape[-1] - edge], dtype=np.float64)
        own, other = 1 / self.confusion_deviation**2, 1 / (bins * self.scores_deviation**2)
        return np.asarray((cells * own + summed * other) / (own + other))


def round_to_people(counts: Counts) -> Counts:
    """Return counts of `NoisyCounts.to_counts` with the confusion matrix rounded to whole people, for display."""
    return replace(counts, confusion=np.rint(counts.confusion / PERSON).astype(np.int64))


def find_edge(threshold: float, bins: int) -> int | None:
    """Return the bin above the first one that begins at a threshold, or None where none does.

    >>> find_edge(0.0, 16), find_edge(0.3, 16)
    (8, None)
    """
    edges = bin_edges(bins)
    position = int(np.abs(edges - threshold).argmin())
    return position if position and abs(edges[position] - threshold) < 1e-9 else None


def project_to_total(values: Floats, total: Floats) -> Floats:
    """Return the nearest numbers that are not negative and have a given sum.

    Wang and Carreira-Perpinan 2013 (arXiv:1309.1541): every number is lowered by one amount, and what would be
    negative is 0.

    Args:
        values: `(..., n)`.
        total: `(...)`, not negative.

    >>> project_to_total(np.array([5.0, 2.0, -1.0]), np.array(6.0)).tolist()
    [4.5, 1.5, 0.0]
    """
    size = values.shape[-1]
    if not size:
        return values
    ordered = -np.sort(-values, axis=-1)
    excess = (np.cumsum(ordered, axis=-1) - total[..., None]) / np.arange(1, size + 1)
    last = np.maximum((ordered - excess > 0).sum(-1, keepdims=True) - 1, 0)
    return np.asarray(np.maximum(values - np.take_along_axis(excess, last, axis=-1), 0.0))
