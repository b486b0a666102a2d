"""Answers to a canary: what the site would refuse of a run, and how long opening its data and a step take.

Nothing of a patient's is computed with, and no noise, update or count leaves: a step is measured on random inputs.
"""

from __future__ import annotations

import math
import time

import numpy as np

from client.gate.preview import list_refusals
from client.site import Site, load_site
from client.site_context import SiteContext
from client.training.batches import choose_device
from client.training.local_update import load_weights
from client.training.loop import Schedule, train_model
from common import models
from common.release import identify_release
from common.replies import CanaryReply
from common.reports import CanaryReport
from common.request_record import PROTOCOL
from common.requests import CanaryRequest
from common.task import Task
from common.trees import grows_trees
from sites.cohort import Cohort

RANDOM_STEPS = 3
"""Steps that are measured, after one that is not: the first of a process loads libraries."""


def handle_canary(context: SiteContext, request: CanaryRequest) -> CanaryReply:
    """Return what the site would refuse of a run; with weights also how long a step takes.

    Raises:
        SiteError: the weights do not fit the model.
        DataError: the site's data cannot be read.
    """
    start = time.perf_counter()
    site = load_site(context, request.config)
    seconds = time.perf_counter() - start
    trains = bool(request.weights) and not grows_trees(request.config.model.name)
    report = CanaryReport(
        protocol=PROTOCOL,
        release=identify_release(),
        task=site.task,
        device=str(choose_device(request.config.training.device)),
        load_seconds=round_seconds(seconds),
        step_seconds=measure_step_seconds(site, request) if trains else None,
        refusals=tuple(list_refusals(context, site, request)),
    )
    return CanaryReply(site.name, report)


def measure_step_seconds(site: Site, request: CanaryRequest) -> float:
    """Return the seconds of a plain training step on random inputs, to two digits.

    Raises:
        SiteError: the weights do not fit the model.
    """
    config = request.config
    model = models.build_model(site.task, config.model, config.seed)
    load_weights(model, request.weights)
    training = config.training.model_copy(update={"epochs": 1, "patience": 0})
    seconds = 0.0
    for steps in (1, RANDOM_STEPS):
        cohort = make_random_cohort(site.task, steps * training.batch_size)
        start = time.perf_counter()
        train_model(model, cohort, training, config.seed, counts=cohort.class_counts(), schedule=Schedule(0, 1))
        seconds = (time.perf_counter() - start) / steps
    return round_seconds(seconds)


def make_random_cohort(task: Task, examples: int) -> Cohort:
    """Return examples of random inputs and labels in the shapes of a task, of one invented person."""
    rng = np.random.default_rng(0)
    classes = len(task.classes)
    labels = rng.integers(0, classes, examples)
    y = np.eye(classes, dtype=np.int64)[labels] if task.kind == "multilabel" else labels.astype(np.int64)
    return Cohort(
        task,
        rng.normal(size=(examples, task.channels, task.samples)).astype(np.float32),
        rng.normal(size=(examples, len(task.features))).astype(np.float32),
        y,
        np.zeros(examples, np.int64),
        ("random",),
        ("random",),
        np.zeros(examples, np.int8),
        synthetic=True,
    )


def round_seconds(seconds: float) -> float:
    """Return seconds to two digits.

    >>> round_seconds(0.012345), round_seconds(98.7), round_seconds(0.0)
    (0.012, 99.0, 0.0)
    """
    return round(seconds, 1 - math.floor(math.log10(seconds))) if seconds > 0 else 0.0
