"""What a site does where a model reconstructs: whose task it is, what it trains on, how its examples are scored."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from client.training.batches import choose_device, iterate_outputs
from common import models
from common.config import RunConfig
from common.errors import SiteError
from common.latent import Arrays, LatentStatistics, compute_latent_moments
from common.models._reconstruct import build_reconstruction_error
from sites.cohort import Cohort

Floats = npt.NDArray[np.float64]

MAX_LOG_SCORE = 16.0
"""Log scores end here, as the bins of their histograms do: what has no finite error is as abnormal as can be."""


@dataclass(frozen=True)
class AnomalyScores:
    """What evaluation needs: `logits` `(examples, 2)`, whose log odds are the score's logarithm, and `losses`."""

    logits: npt.NDArray[np.float32]
    losses: Floats

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[np.float32]:
        """Return the logits, so that numpy takes the scores for what a classifier gives."""
        return np.array(self.logits, dtype=dtype) if copy else np.asarray(self.logits, dtype=dtype)

    def take(self, chosen: npt.NDArray[np.bool_]) -> AnomalyScores:
        """Return the chosen examples."""
        return AnomalyScores(self.logits[chosen], self.losses[chosen])


@dataclass(frozen=True)
class Detector:
    """A trained model that reconstructs, as evaluation sees it; without `latent` its score is the error."""

    model: nn.Module
    config: RunConfig
    latent: LatentStatistics | None = None

    def __call__(self, cohort: Cohort) -> AnomalyScores:
        """Return anomaly scores: higher is more abnormal, never NaN.

        Raises:
            SiteError: a weight of the model is not a finite number, or the score needs times that the data lack.
        """
        errors, latent = self.measure(cohort)
        score = log_scores(self._score(errors, latent))
        if self.config.detection.relative:
            score = subtract_baseline(score, cohort, self.config.detection.baseline_minutes)
        return AnomalyScores(np.stack([np.zeros_like(score), score], 1).astype(np.float32), errors)

    def measure(self, cohort: Cohort) -> tuple[Floats, Floats]:
        """Return reconstruction errors `(examples,)`, what is not a number as the highest, and latent values.

        Raises:
            SiteError: a weight of the model is not a finite number.
        """
        if not all(bool(weight.isfinite().all()) for weight in self.model.parameters()):
            raise SiteError("the model's output is not usable: a weight is not a finite number")
        of, device = build_reconstruction_error(cohort.task), choose_device(self.config.training.device)
        parts, latent = [], [np.zeros((0, models.count_latent_values(self.model)))]
        with torch.inference_mode():
            for found, *_ in iterate_outputs(self.model, cohort, device):
                parts.append(of(found).double().cpu().numpy())
                latent.append(found.latent.double().cpu().numpy())
        every = np.concatenate(parts) if parts else np.zeros(0)
        most = np.exp(MAX_LOG_SCORE)
        return np.nan_to_num(every, nan=most, posinf=most), np.concatenate(latent)

    def moments(self, cohort: Cohort) -> Arrays:
        """Return what a site sends of its training examples (common/latent.py); of those that have finite values."""
        errors, latent = self.measure(cohort)
        usable = np.isfinite(latent).all(1)
        return compute_latent_moments(latent[usable], errors[usable])

    def _score(self, errors: Floats, latent: Floats) -> Floats:
        wanted, known = self.config.detection.score, self.latent
        if wanted == "reconstruction" or known is None:
            return errors
        with np.errstate(over="ignore", invalid="ignore"):
            away = np.nan_to_num(known.distance(latent), nan=np.inf)
        return away if wanted == "latent" else (errors / max(known.error, 1e-12) + away) / 2


def subtract_baseline(score: Floats, cohort: Cohort, minutes: float) -> Floats:
    """Return scores less their mean over the first minutes of the same recording, from its first example on.

    Raises:
        SiteError: the data tell no times.
    """
    if cohort.seconds is None:
        raise SiteError("detection.relative: these data tell no times: leave it out")
    if not len(score):
        return score
    owner, wide = cohort.patient, len(cohort.patients)
    begin = np.full(wide, np.inf)
    np.minimum.at(begin, owner, cohort.seconds)
    first = cohort.seconds <= begin[owner] + 60 * minutes
    held = np.bincount(owner[first], minlength=wide)
    own = np.bincount(owner[first], weights=score[first], minlength=wide) / np.maximum(held, 1)
    return np.asarray(np.clip(score - own[owner], -MAX_LOG_SCORE, MAX_LOG_SCORE), dtype=np.float64)


def log_scores(score: Floats) -> Floats:
    """Return the logarithm of scores, within the range of the histograms."""
    return np.clip(np.log(np.clip(score, np.exp(-MAX_LOG_SCORE), np.exp(MAX_LOG_SCORE))), -MAX_LOG_SCORE, MAX_LOG_SCORE)
