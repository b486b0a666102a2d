"""Attributions: how much each input changes a model's score for the true class, averaged over a site's patients.

`integrated_gradients` (Sundararajan, Taly and Yan 2017, ICML): the gradient, integrated along the straight line from a
baseline to the example, times the difference; attributions add up to the difference of the scores (completeness).
`occlusion` (Zeiler and Fergus 2014, ECCV): the decrease of the score when an input, or a stretch of a signal, is set to
the baseline. The baseline is zero: the mean of scaled inputs, 0 mV of an ECG. `shap`: exact Shapley values of trees
(client/evaluation/tree_attribution.py).

The score is the log odds of the true class. Each person counts once, whatever their number of examples. Only means over
enough people leave the site; nothing does of a class that fewer people have.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from client.evaluation import small_groups
from client.evaluation.small_groups import MIN_PATIENTS
from client.evaluation.tree_attribution import TreeExplainer, attribute_true_class
from client.site_context import SiteContext
from common.config import RunConfig
from common.metrics.explanations import Explanation, MeanSignal
from common.scaling import Scaling
from common.seeds import rng_for
from sites.cohort import Cohort, Windows

Floats = npt.NDArray[np.float64]

PATH_STEPS, PATH_POWER = 200, 12
"""Steps of the integration, and the exponent that concentrates them near the baseline."""
OCCLUDED_STRETCHES, MAX_EXAMPLES_PER_PERSON, MAX_EXAMPLES, BATCH_SIZE = 24, 8, 400, 64
"""Stretches of a signal that are occluded one by one; examples of a person and class, and in all; rows at once."""
MAX_SIGNAL_VALUES = 2000
"""Largest signal, in values, whose mean is reported; of larger ones only each channel's importance is."""


def compute_attributions(
    context: SiteContext, site: str, model: nn.Module, cohort: Cohort, config: RunConfig, scaling: bytes = b""
) -> Explanation | None:
    """Return a site's mean absolute attributions, or None if none are wanted or the task is not multiclass.

    Args:
        context: the site, whose policy states the minimum number of people behind a mean.
        site: the site's name, which seeds the choice of examples.
        model: the network.
        cohort: test examples, scaled as the model takes them.
        config: the run; `evaluation.explain` says which attributions.
        scaling: how the cohort was scaled, as the server sent it; Shapley values need it.

    Raises:
        SiteError: Shapley values are wanted, and LightGBM is not installed.
    """
    method, task = config.evaluation.explain, cohort.task
    minimum = max(context.policy.min_cell_patients, 1 if context.simulated else MIN_PATIENTS)
    if method == "none" or task.kind != "multiclass" or not len(cohort.y):
        return None
    _, owner = small_groups.index_people(cohort)
    people = {c: len(np.unique(owner[cohort.y == c])) for c in range(len(task.classes))}
    suppressed = tuple(task.classes[c] for c, n in people.items() if 0 < n < minimum)
    enough = np.isin(cohort.y, [c for c, n in people.items() if n >= minimum])
    cohort = sample_examples(cohort.take(enough), config, site)
    if not len(cohort.y):
        return Explanation(method=method, patients=0, suppressed=suppressed)
    _, owner = small_groups.index_people(cohort)
    x = cohort.x.dense() if isinstance(cohort.x, Windows) else cohort.x
    signal, features = np.empty(x.shape), np.empty(cohort.features.shape)
    if method == "shap":
        explainer = TreeExplainer(model, task, Scaling.from_bytes(scaling))
        features[:] = attribute_true_class(explainer, cohort.features, cohort.y)
    else:
        for start in range(0, len(x), BATCH_SIZE):
            rows = slice(start, start + BATCH_SIZE)
            parts = [torch.from_numpy(np.ascontiguousarray(part[rows])) for part in (x, cohort.features, cohort.y)]
            signal[rows], features[rows] = attribute_batch(model, parts[0], parts[1], parts[2], method)
    by_channel: dict[str, float] = {}
    if task.channels:
        importance = mean_over_people(np.abs(signal).sum(2), owner)
        by_channel = dict(zip(task.channel_names, round_values(importance), strict=True))
    classes = {}
    for c in np.unique(cohort.y) if 0 < x[0].size <= MAX_SIGNAL_VALUES else ():
        rows = cohort.y == c
        if (patients := len(np.unique(owner[rows]))) >= minimum:
            classes[task.classes[c]] = MeanSignal(
                patients=patients,
                signal=tuple(map(round_values, mean_over_people(x[rows], owner[rows]))),
                importance=tuple(map(round_values, mean_over_people(np.abs(signal[rows]), owner[rows]))),
            )
    return Explanation(
        method=method,
        patients=len(np.unique(owner)),
        features=dict(zip(task.features, round_values(mean_over_people(np.abs(features), owner)), strict=True)),
        channels=by_channel,
        classes=classes,
        suppressed=suppressed,
    )


def sample_examples(cohort: Cohort, config: RunConfig, site: str) -> Cohort:
    """Return at most MAX_EXAMPLES_PER_PERSON examples of each person and class, and MAX_EXAMPLES in all, at random.

    Each person's first example is taken before any second one, so that as many people as possible are included.
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


def attribute_batch(model: nn.Module, x: Tensor, features: Tensor, y: Tensor, method: str) -> tuple[Floats, Floats]:
    """Return the attributions of a batch, in the shapes of `x` and `features`.

    Args:
        model: the network.
        x: signals `(rows, channels, samples)`.
        features: `(rows, features)`.
        y: true classes `(rows,)`.
        method: `integrated_gradients` or `occlusion`.
    """
    device = next(model.parameters()).device
    compute = integrate_gradients if method == "integrated_gradients" else measure_occlusion
    attributions = compute(model.eval(), x.to(device), features.to(device), y.to(device))
    signal, table = (part.detach().double().cpu().numpy() for part in attributions)
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
    """Return integrated gradients from zero, by the midpoint rule at PATH_POWER-th powers of equal steps.

    The output of layers that normalise a signal changes most near zero, so the steps are finest there.
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
    """Return the decrease of the score without each feature, and without each stretch of each channel.

    A stretch's decrease is divided evenly among its samples.
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


def mean_over_people(values: npt.NDArray[np.floating], owner: npt.NDArray[np.int64]) -> Floats:
    """Return the mean over persons of each person's mean over examples; `owner` is each example's person."""
    index = np.unique(owner, return_inverse=True)[1]
    sums = np.zeros((int(index.max()) + 1, *values.shape[1:]))
    np.add.at(sums, index, values)
    counts = np.bincount(index).reshape(-1, *[1] * (values.ndim - 1))
    return np.asarray((sums / counts).mean(0), dtype=np.float64)


def round_values(values: Floats) -> tuple[float, ...]:
    """Return values rounded to four significant digits."""
    return tuple(float(f"{value:.4g}") for value in values)
