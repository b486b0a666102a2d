"""Evaluation from noisy counts of people, with intervals that include the noise.

Intervals are those of a parametric bootstrap (Efron and Tibshirani 1993, An Introduction to the Bootstrap, sec. 6.5):
people are drawn anew from the fitted counts, noise of the known deviation is added, and the result is fitted as the
counts were. Each person is drawn as if they had one example. A person with several examples varies at most as much, so
that the intervals of such data are rather too wide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from common.metrics import counts
from common.metrics.count_statistics import count_examples
from common.metrics.early_warning import Floats, Ints
from common.metrics.evaluation import build_evaluation
from common.metrics.figures import Evaluation, EvaluationNoise
from common.metrics.noisy_counts import PERSON, NoisyCounts, find_edge, round_to_people
from common.task import Task

NOISE_NOTE = (
    "counts of people with noise, each person counted once: numbers of patients are estimates, with few of them the "
    "ranking looks worse than it is, and noise leaves nothing of losses and calibration"
)
"""The note of every evaluation of noisy counts."""


def build_noisy_evaluation(
    task: Task,
    noisy: NoisyCounts,
    drawn: NoisyCounts | None,
    noise: EvaluationNoise,
    threshold: float | None = None,
    operating: Sequence[float] = (),
    notes: Sequence[str] = (),
) -> Evaluation:
    """Return the evaluation that noisy counts give; each person counts as one example.

    Args:
        task: names the classes.
        noisy: without leading axis.
        drawn: as `draw_noisy_counts` returns them; None: no intervals.
        noise: what the release was charged.
        threshold: log odds at or above which the event was predicted; None: the likelier class.
        operating: specificities and sensitivities at which the other is given.
        notes: further sentences to include.
    """
    total = noisy.to_counts(task, threshold)
    labels, displayed = task.kind == "multilabel", round_to_people(total)
    support = counts.class_totals(displayed.confusion, labels)[2]
    return build_evaluation(
        task,
        total,
        None if drawn is None else drawn.to_counts(task, threshold),
        int(count_examples(displayed, labels)),
        [int(number) for number in support],
        [NOISE_NOTE, *notes],
        threshold=threshold,
        operating=operating,
        noise=noise.model_copy(update={"deviation": noisy.confusion_deviation}),
    )


def draw_noisy_counts(
    noisy: NoisyCounts, task: Task, threshold: float | None, resamples: int, rng: np.random.Generator
) -> NoisyCounts:
    """Return noisy counts of resampled people, with a leading axis of resamples.

    Args:
        noisy: the counts to resample, without leading axis.
        task: names the classes.
        threshold: decision threshold, as in `NoisyCounts.to_counts`.
        resamples: number of resamples.
        rng: the random generator.
    """
    fitted = noisy.to_counts(task, threshold)
    labels, bins = task.kind == "multilabel", noisy.scores.shape[-1]
    people = round(float(fitted.confusion.sum()) / PERSON / (len(task.classes) if labels else 1))
    if labels or task.binary:
        own = fitted.scores[-len(noisy.scores) :]  # of two classes the event's histogram
        scores = _draw(own.reshape(-1, 2 * bins), people, resamples, rng).reshape(resamples, *noisy.scores.shape)
        edge = find_edge(0.0 if labels else threshold or 0.0, bins)
        if edge is None:
            confusion = _draw(fitted.confusion.reshape(len(own), 4), people, resamples, rng)
        else:
            confusion = np.stack([scores[..., :edge].sum(-1), scores[..., edge:].sum(-1)], axis=-1)
        confusion = confusion.reshape(resamples, *noisy.confusion.shape)
    else:
        confusion = _draw(fitted.confusion.reshape(1, -1), people, resamples, rng)
        confusion = confusion.reshape(resamples, *noisy.confusion.shape)
        support = confusion.sum(-1)
        sides = np.stack([people - support, support], axis=-1)  # without each class, and with it
        scores = _draw(fitted.scores.reshape(-1, bins), sides.reshape(resamples, -1), resamples, rng)
        scores = scores.reshape(resamples, *noisy.scores.shape)
    return replace(
        noisy,
        confusion=confusion + rng.normal(0.0, noisy.confusion_deviation, confusion.shape),
        scores=scores + rng.normal(0.0, noisy.scores_deviation, scores.shape),
    )


def _draw(rows: Ints, people: int | Floats, resamples: int, rng: np.random.Generator) -> Floats:
    """Return numbers `(resamples, rows, cells)` of people drawn into the cells of each row by the row's shares.

    Args:
        rows: `(rows, cells)`.
        people: how many are drawn: one number, or `(resamples, rows)`.
        resamples: number of draws.
        rng: the generator.
    """
    numbers = np.broadcast_to(np.asarray(people, dtype=np.int64), (resamples, len(rows)))
    drawn = np.zeros((resamples, *rows.shape))
    for position, row in enumerate(rows):
        if whole := int(row.sum()):
            drawn[:, position] = rng.multinomial(numbers[:, position], row / whole)
    return drawn
