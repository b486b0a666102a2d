"""What a model looks at: how much each input moves the score of the true class, summed up at the site.

`integrated_gradients` (Sundararajan, Taly and Yan 2017, ICML): the gradient along the straight line from a baseline to
the example, times the way; its parts add up to the score's difference (completeness). `occlusion` (Zeiler and Fergus
2014, ECCV): how much the score falls when an input, or a stretch of a signal, is set to the baseline. The baseline is
zero: the mean of inputs that were scaled, no voltage of an ECG.

The score is the log odds of the true class. Each person counts once, however many examples they have; only means over
at least so many people leave the site, of a class with fewer nothing does.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from client.evaluation import small_groups
from client.evaluation.small_groups import MIN_PATIENTS
from client.site_context import SiteContext
from common.config import RunConfig
from common.seeds import rng_for
from sites.cohort import Cohort, Windows

Floats = npt.NDArray[np.float64]

PATH_STEPS, PATH_POWER = 200, 12
"""Steps of the line, and how they crowd about its beginning."""
OCCLUDED_STRETCHES, MAX_EXAMPLES_PER_PERSON, MAX_EXAMPLES, BATCH_SIZE = 24, 8, 400, 64
"""Stretches of a signal that are hidden in turn; examples of a person, and in all; rows at once."""
MAX_SIGNAL_VALUES = 2000
"""Values of a signal of which the mean course is told; of longer ones only each channel's importance."""


def compute_attributions(
    context: SiteContext, site: str, model: nn.Module, cohort: Cohort, config: RunConfig
) -> dict[str, Any]:
    """Return a site's aggregates, JSON-ready; empty where none are asked for or possible.

    `features`: of each the mean of |attribution|; `channels`: likewise, summed over samples; `classes`: of each with
    enough people the mean signal and the mean |attribution| of each sample; `suppressed`: classes with too few.
    """
    how, task = config.evaluation.explain, cohort.task
    least = max(context.policy.min_cell_patients, 1 if context.simulated else MIN_PATIENTS)
    if how == "none" or task.kind != "multiclass" or not len(cohort.y):
        return {}
    _, owner = small_groups.index_people(cohort)
    have = {c: len(np.unique(owner[cohort.y == c])) for c in range(len(task.classes))}
    hidden = [task.classes[c] for c, n in have.items() if 0 < n < least]
    found: dict[str, Any] = {"method": how, "patients": 0, "features": {}, "channels": {}, "classes": {}}
    found["suppressed"] = hidden
    cohort = sample_examples(cohort.take(np.isin(cohort.y, [c for c, n in have.items() if n >= least])), config, site)
    if not len(cohort.y):
        return found
    _, owner = small_groups.index_people(cohort)
    x = cohort.x.dense() if isinstance(cohort.x, Windows) else cohort.x
    signal, features = np.empty(x.shape), np.empty(cohort.features.shape)
    for start in range(0, len(x), BATCH_SIZE):
        rows = slice(start, start + BATCH_SIZE)
        parts = [torch.from_numpy(np.ascontiguousarray(part[rows])) for part in (x, cohort.features, cohort.y)]
        signal[rows], features[rows] = attribute_batch(model, parts[0], parts[1], parts[2], how)
    found["patients"] = len(np.unique(owner))
    found["features"] = dict(zip(task.features, round_values(mean_over_people(np.abs(features), owner)), strict=True))
    if task.channels:
        by_channel = mean_over_people(np.abs(signal).sum(2), owner)
        found["channels"] = dict(zip(task.channel_names, round_values(by_channel), strict=True))
    for c in np.unique(cohort.y) if 0 < x[0].size <= MAX_SIGNAL_VALUES else ():
        of = cohort.y == c
        if (people := len(np.unique(owner[of]))) >= least:
            found["classes"][task.classes[c]] = {
                "patients": people,
                "signal": [round_values(line) for line in mean_over_people(x[of], owner[of])],
                "importance": [round_values(line) for line in mean_over_people(np.abs(signal[of]), owner[of])],
            }
    return found


def sample_examples(cohort: Cohort, config: RunConfig, site: str) -> Cohort:
    """Return at most EACH examples of a class of each person, and MOST in all, drawn by the run's seed.

    Everybody's first come before anybody's second, so that as many people as can be are among them.
    """
    order = rng_for(config.seed, site, "explain").permutation(len(cohort.y))
    _, owner = small_groups.index_people(cohort)
    key = owner[order] * len(cohort.task.classes) + cohort.y[order]
    together = np.argsort(key, kind="stable")
    first = np.searchsorted(key[together], key[together])
    turn = np.empty(len(order), np.int64)
    turn[together] = np.arange(len(order)) - first
    ranked = np.argsort(turn, kind="stable")
    return cohort.take(np.sort(order[ranked[turn[ranked] < MAX_EXAMPLES_PER_PERSON][:MAX_EXAMPLES]]))


def attribute_batch(model: nn.Module, x: Tensor, features: Tensor, y: Tensor, how: str) -> tuple[Floats, Floats]:
    """Return attributions of the shapes of `x` and `features`."""
    device = next(model.parameters()).device
    way = integrate_gradients if how == "integrated_gradients" else measure_occlusion
    found = way(model.eval(), x.to(device), features.to(device), y.to(device))
    signal, table = (part.detach().double().cpu().numpy() for part in found)
    return signal, table


def true_class_log_odds(model: nn.Module, x: Tensor, features: Tensor, y: Tensor) -> Tensor:
    """Return the log odds of the true class, `(rows,)`."""
    logits: Tensor = model(x, features)
    own = logits.gather(1, y[:, None])[:, 0]
    others = logits.masked_fill(nn.functional.one_hot(y, logits.shape[1]).bool(), -torch.inf)
    return own - others.logsumexp(1)


def integrate_gradients(
    model: nn.Module, x: Tensor, features: Tensor, y: Tensor, steps: int = PATH_STEPS
) -> tuple[Tensor, Tensor]:
    """Return integrated gradients from zero, by the midpoint rule in the root of the way.

    Layers that normalise a signal give most of their change within a small way from zero, one behind the other each
    within a smaller one: steps are the POWER-th power of even ones, finest there.
    """
    sums = [torch.zeros_like(x), torch.zeros_like(features)]
    with torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):  # its recurrent kernels need training mode
        for step in range(steps):
            root = (step + 0.5) / steps
            at = [(part * root**PATH_POWER).requires_grad_(True) for part in (x, features)]
            grads = torch.autograd.grad(true_class_log_odds(model, at[0], at[1], y).sum(), at, allow_unused=True)
            weight = ((step + 1) / steps) ** PATH_POWER - (step / steps) ** PATH_POWER
            sums = [total if grad is None else total + weight * grad for total, grad in zip(sums, grads, strict=True)]
    return x * sums[0], features * sums[1]


def measure_occlusion(model: nn.Module, x: Tensor, features: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return by how much the score falls without each feature, and without each stretch of each channel.

    A stretch's fall is shared evenly by its samples.
    """
    signal, table = torch.zeros_like(x), torch.zeros_like(features)
    with torch.inference_mode():
        whole = true_class_log_odds(model, x, features, y)
        for column in range(features.shape[1]):
            without = features.clone()
            without[:, column] = 0
            table[:, column] = whole - true_class_log_odds(model, x, without, y)
        for channel in range(x.shape[1]):
            for part in torch.arange(x.shape[2]).tensor_split(min(OCCLUDED_STRETCHES, x.shape[2])):
                gone = x.clone()
                gone[:, channel, part] = 0
                signal[:, channel, part] = ((whole - true_class_log_odds(model, gone, features, y)) / len(part))[
                    :, None
                ]
    return signal, table


def mean_over_people(values: npt.NDArray[Any], owner: npt.NDArray[np.int64]) -> Floats:
    """Return the mean over people of each one's mean over examples."""
    index = np.unique(owner, return_inverse=True)[1]
    sums = np.zeros((int(index.max()) + 1, *values.shape[1:]))
    np.add.at(sums, index, values)
    counts = np.bincount(index).reshape(-1, *[1] * (values.ndim - 1))
    return np.asarray((sums / counts).mean(0), dtype=np.float64)


def round_values(values: Floats) -> list[float]:
    """Return four digits of each: more would tell nothing."""
    return [float(f"{value:.4g}") for value in values]
