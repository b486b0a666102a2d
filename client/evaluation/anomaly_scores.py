"""Anomaly scores of examples by an autoencoder: reconstruction error, distance in latent space, or both."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from client.training.batches import choose_device, iterate_outputs
from common import models
from common.config import RunConfig
from common.errors import NotFiniteError, SiteError
from common.latent import Arrays, LatentStatistics, compute_latent_moments
from common.models._reconstruct import as_reconstruction, build_reconstruction_error
from sites.cohort import Cohort

Floats = npt.NDArray[np.float64]

MAX_LOG_SCORE = 16.0
"""Largest log score, where the bins of the histograms end; an error that is not finite counts as the largest."""


@dataclass(frozen=True)
class AnomalyScores:
    """Anomaly scores in the form of a binary classifier's output.

    Attributes:
        logits: `(examples, 2)`, whose log odds of the abnormal class are the score's logarithm.
        losses: reconstruction errors `(examples,)`.
    """

    logits: npt.NDArray[np.float32]
    losses: Floats

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[np.float32]:
        """Return the logits, so that NumPy treats the scores like a classifier's output."""
        return np.array(self.logits, dtype=dtype) if copy else np.asarray(self.logits, dtype=dtype)

    def take(self, chosen: npt.NDArray[np.bool_]) -> AnomalyScores:
        """Return the scores of the chosen examples."""
        return AnomalyScores(self.logits[chosen], self.losses[chosen])


@dataclass(frozen=True)
class Detector:
    """A predictor of anomaly scores.

    Attributes:
        model: a trained autoencoder.
        config: the run.
        latent: statistics of latent space; without them the score is the reconstruction error.
    """

    model: nn.Module
    config: RunConfig
    latent: LatentStatistics | None = None

    def __call__(self, cohort: Cohort) -> AnomalyScores:
        """Return anomaly scores: higher is more abnormal, and none is NaN.

        Raises:
            SiteError: a weight of the model is not finite, or the score needs times that the data lack.
        """
        errors, latent = self.measure(cohort)
        score = log_scores(self._score(errors, latent))
        if self.config.detection.relative:
            score = subtract_baseline(score, cohort, self.config.detection.baseline_minutes)
        return AnomalyScores(np.stack([np.zeros_like(score), score], 1).astype(np.float32), errors)

    def measure(self, cohort: Cohort) -> tuple[Floats, Floats]:
        """Return reconstruction errors `(examples,)`, with the largest for NaN, and latent values `(examples, latent)`.

        Raises:
            SiteError: a weight of the model is not finite.
        """
        if not all(bool(weight.isfinite().all()) for weight in self.model.parameters()):
            raise NotFiniteError("the model's output is not usable: a weight is not a finite number")
        reconstruction_error = build_reconstruction_error(cohort.task)
        device = choose_device(self.config.training.device)
        parts, latent = [], [np.zeros((0, models.count_latent_values(self.model)))]
        with torch.inference_mode():
            for output, *_ in iterate_outputs(self.model, cohort, device):
                made = as_reconstruction(output)
                parts.append(reconstruction_error(made).double().cpu().numpy())
                latent.append(made.latent.double().cpu().numpy())
        errors = np.concatenate(parts) if parts else np.zeros(0)
        largest = np.exp(MAX_LOG_SCORE)
        return np.nan_to_num(errors, nan=largest, posinf=largest), np.concatenate(latent)

    def moments(self, cohort: Cohort) -> Arrays:
        """Return the sums that a site sends of its training examples (common/latent.py), finite values only."""
        errors, latent = self.measure(cohort)
        usable = np.isfinite(latent).all(1)
        return compute_latent_moments(latent[usable], errors[usable])

    def _score(self, errors: Floats, latent: Floats) -> Floats:
        kind, known = self.config.detection.score, self.latent
        if kind == "reconstruction" or known is None:
            return errors
        with np.errstate(over="ignore", invalid="ignore"):
            distance = np.nan_to_num(known.distance(latent), nan=np.inf)
        return distance if kind == "latent" else (errors / max(known.error, 1e-12) + distance) / 2


def subtract_baseline(score: Floats, cohort: Cohort, minutes: float) -> Floats:
    """Return log scores minus their mean over the first `minutes` of the same recording.

    Raises:
        SiteError: the data have no times.
    """
    if cohort.seconds is None:
        raise SiteError("detection.relative: these data have no times: leave it out")
    if not len(score):
        return score
    owner, wide = cohort.patient, len(cohort.patients)
    start = np.full(wide, np.inf)
    np.minimum.at(start, owner, cohort.seconds)
    first = cohort.seconds <= start[owner] + 60 * minutes
    count = np.bincount(owner[first], minlength=wide)
    mean = np.bincount(owner[first], weights=score[first], minlength=wide) / np.maximum(count, 1)
    return np.asarray(np.clip(score - mean[owner], -MAX_LOG_SCORE, MAX_LOG_SCORE), dtype=np.float64)


def log_scores(score: Floats) -> Floats:
    """Return the logarithm of scores, clipped to the range of the histograms."""
    return np.clip(np.log(np.clip(score, np.exp(-MAX_LOG_SCORE), np.exp(MAX_LOG_SCORE))), -MAX_LOG_SCORE, MAX_LOG_SCORE)
