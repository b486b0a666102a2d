"""Everyone from whom an audit of membership draws hospitals, and what an attacker knows of them."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from client import input_scaling
from client.evaluation.predictions import build_predictor, compute_predictions, count_predictions
from client.policy import SIMULATION_POLICY, SitePolicy
from client.requests import handle
from client.requests.loaded_model import load_model
from client.site import Site, load_site
from client.site_context import SiteContext
from common import models
from common.arrays import Weights
from common.config import RunConfig
from common.metrics.counts import Counts
from common.replies import TrainReply
from common.requests import FinalTestRequest, TrainRequest
from common.task import Task
from experiments.privacy.membership_scores import Floats
from sites import datasets
from sites.cohort import SPLITS, Cohort

MODEL_ROUNDS = 20
"""Most rounds for which the model that the hospital tests is trained."""
SUMS, UPDATE, VALIDATION, TEST = "sums of inputs", "update of a round", "validation figures", "test figures"
HISTOGRAM = " with histograms"


@dataclass(frozen=True)
class Pool:
    """Everyone from whom hospitals are drawn, and what an attacker knows of them.

    Attributes:
        config: the run.
        data: the folder.
        people: their names.
        site: their data, unscaled.
        scaling: how inputs are scaled, as agreed; empty: not.
        weights: of the model that is tested.
        published: whether a published split says who is tested.
        steps: what each person adds to each kind of answer, `(people, numbers)`.
    """

    config: RunConfig
    data: Path
    people: tuple[str, ...]
    site: Site
    scaling: bytes
    weights: Weights
    published: bool
    steps: Mapping[str, Floats]


def build_pool(config: RunConfig, data: Path, policy: SitePolicy, folder: Path) -> Pool:
    """Load everyone, train the model that is tested, and compute what each person adds to each kind of answer."""
    bins = min(config.evaluation.bins, policy.max_bins)
    config = config.model_copy(
        update={"evaluation": config.evaluation.model_copy(update={"bins": bins, "bootstrap": 2})}
    )
    open_policy = SIMULATION_POLICY.model_copy(update={"split": "own"})
    context = SiteContext(open_policy, site="pool", data=data, state=folder / "pool")
    site = load_site(context, config)
    parts = [part for part in (site.train, site.validation, site.test) if len(part.y)]
    people = tuple(sorted({name for part in parts for name in part.people_names}))
    fitted = input_scaling.fit_scaling(parts, input_scaling.resolve_scaling(config.data, site.task))
    scaling = b"" if fitted is None else fitted.to_bytes()
    first = build_first_weights(site.task, config)
    weights, run = first, secrets.token_hex(16)
    for number in range(1, min(config.federation.rounds, MODEL_ROUNDS) + 1):
        request = TrainRequest(config, round=number, weights=weights, scaling=scaling, run_id=run)
        reply = handle(context, request)
        assert isinstance(reply, TrainReply)
        weights = {**weights, **reply.weights}
    steps = add_up_people(context, config, people, scaling, weights, first)
    published = any(item.published for item in datasets.open_source(config, data).patients())
    return Pool(config, data, people, site, scaling, weights, published, steps)


def build_first_weights(task: Task, config: RunConfig) -> Weights:
    """Return the first weights of a run."""
    built = models.build_model(task, config.model, config.seed).state_dict()
    return {name: value.detach().numpy().copy() for name, value in built.items()}


def add_up_people(
    context: SiteContext, config: RunConfig, people: Sequence[str], scaling: bytes, weights: Weights, first: Weights
) -> dict[str, Floats]:
    """Return what each person adds to each kind of answer: exact counts, sums of inputs, a gradient."""
    run = secrets.token_hex(16)
    loaded = load_model(context, FinalTestRequest(config, round=1, weights=weights, scaling=scaling, run_id=run))
    raw = load_site(context, config)
    counts: dict[str, Floats] = {}
    sums: dict[str, Floats] = {}
    predict = build_predictor(loaded.model, config)
    for name in SPLITS:
        scaled, plain = getattr(loaded.site, name), getattr(raw, name)
        if not len(scaled.y):
            continue
        counted = count_predictions(compute_predictions(predict, scaled), scaled, config)
        for index, person in enumerate(counted.names):
            part = counted.people
            alone = Counts(part.confusion[index], part.scores[index], part.loss[index])
            counts[person] = np.concatenate([count_classes(alone.confusion), read_counts(alone)])
            rows = np.isin(plain.patient, [i for i, owner in enumerate(plain.persons) if owner == person])
            sums[person] = np.concatenate([*input_scaling.compute_input_moments(plain.take(rows)).values()])
    started = load_model(context, FinalTestRequest(config, round=1, weights=first, scaling=scaling, run_id=run))
    gradients: dict[str, Floats] = {}
    for name in SPLITS:
        gradients |= compute_gradients(started.model, getattr(started.site, name), first)
    mean = np.mean(list(gradients.values()), axis=0)
    figures = np.stack([counts[person] for person in people])
    histograms = len(loaded.site.task.classes) * 2 * config.evaluation.bins
    short = figures.shape[1] - histograms
    return {
        SUMS: np.stack([sums[person] for person in people]),
        UPDATE: np.stack([mean - gradients[person] for person in people]),
        **dict.fromkeys((VALIDATION, TEST), figures[:, :short]),
        **{kind + HISTOGRAM: figures for kind in (VALIDATION, TEST)},
    }


def compute_gradients(model: nn.Module, cohort: Cohort, weights: Weights) -> dict[str, Floats]:
    """Return each person's gradient of the summed cross-entropy, flattened in the order of `weights`."""
    gradients: dict[str, Floats] = {}
    model.eval()
    for person in cohort.people_names if len(cohort.y) else ():
        rows = np.isin(cohort.patient, [i for i, owner in enumerate(cohort.persons) if owner == person])
        part = cohort.take(rows)
        dense = part.x if isinstance(part.x, np.ndarray) else part.x.dense()
        logits = model(torch.from_numpy(dense), torch.from_numpy(part.features))
        truth = torch.from_numpy(part.y)
        loss = (
            functional.cross_entropy(logits, truth, reduction="sum")
            if part.y.ndim == 1
            else functional.binary_cross_entropy_with_logits(logits, truth.float(), reduction="sum")
        )
        named = dict(model.named_parameters())
        slopes = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
        by_name = {name: slope for name, slope in zip(named, slopes, strict=True) if slope is not None}
        arrays = [
            by_name[name].numpy() if name in by_name else np.zeros(array.shape) for name, array in weights.items()
        ]
        gradients[person] = np.concatenate([np.asarray(array, np.float64).ravel() for array in arrays])
    return gradients


def count_classes(confusion: npt.NDArray[np.int64]) -> Floats:
    """Return a person's part of a handshake's counts of a split: one patient, and examples by class."""
    by_class = confusion.sum(-1) if confusion.ndim == 2 else confusion[:, 1].sum(-1)
    return np.concatenate([[1.0], by_class.astype(np.float64)])


def read_counts(counts: Counts) -> Floats:
    """Return the numbers of a table that the attack reads: the confusion matrix, and cumulative histograms."""
    scores = np.cumsum(counts.scores, axis=-1).reshape(-1)
    return np.concatenate([counts.confusion.reshape(-1), scores]).astype(np.float64)
