"""What a site does when asked, free of Flower: handle(request) -> reply.

A simulation calls it in its own process, where opened sites stay resident; a hospital's client may be a new
process for each message, which then opens its site from the cache of prepared data.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import nn

from client.place import Place
from client.training import Schedule, choose_device, fit, predict
from common import config as configuration
from common import evaluation, messages, metrics, models
from common.config import ModelConfig, RunConfig
from common.errors import ConfigError, SiteError
from common.evaluation import Evaluation
from common.messages import PROTOCOL, Reply, Request, Weights
from common.metrics import Counts
from common.seeds import rng_for, seed_for
from common.task import Task
from sites import datasets, splits
from sites.cohort import SPLITS, Cohort, Patient
from sites.datasets import Source

_dealing = threading.Lock()
stop_signal: ContextVar[threading.Event | None] = ContextVar("stop_signal", default=None)
"""Set by an engine that runs sites in threads of its own: Ctrl-C need not wait for an epoch to end."""


@dataclass(frozen=True)
class Site:
    """An opened site: its name, its task, its examples by split, and how many recordings a split left out."""

    name: str
    task: Task
    synthetic: bool
    train: Cohort
    validation: Cohort
    test: Cohort
    dropped: int = 0

    @classmethod
    def of(cls, name: str, cohort: Cohort, synthetic: bool, dropped: int = 0) -> Site:
        """Return a site with its splits taken apart once."""
        train, validation, test = (cohort.part(split) for split in ("train", "validation", "test"))
        return cls(name, cohort.task, synthetic, train, validation, test, dropped)


def open_site(place: Place, config: RunConfig) -> Site:
    """Open a site, or return it if it is open; only what shapes the data counts for which is the same."""
    shape = RunConfig(name=config.name, seed=config.seed, data=config.data, sites=config.sites)
    return _open(place, configuration.to_json(shape))


@lru_cache(maxsize=1024)
def _open(place: Place, shape: str) -> Site:
    config = configuration.from_json(shape)
    if place.simulated:
        with _dealing:
            source, dealt, patients, dropped = _hospitals(shape)
        if place.count != len(dealt):
            raise ConfigError(f"the run has {len(dealt)} hospitals, but {place.count} nodes were started")
        name, ids = sorted(dealt.items())[place.index]
        here = set(ids)
        mine = [item for item in patients if item.id in here]
    else:
        source = datasets.open_source(config, place.data)
        mine, dropped = splits.drop_shared(source.patients(), config.sites)
        name, ids = str(place.site), tuple(sorted(item.id for item in mine))
    cohort = source.read(ids)
    split = splits.assign(cohort, mine, config.sites, config.seed, name)
    return Site.of(name, split, source.card.synthetic or cohort.synthetic, dropped)


@lru_cache(maxsize=4)
def _hospitals(shape: str) -> tuple[Source, dict[str, tuple[str, ...]], list[Patient], int]:
    """Return a simulation's hospitals; once for all of them, because it looks at every file."""
    config = configuration.from_json(shape)
    source = datasets.open_source(config, None)
    return source, *datasets.hospitals(source, config)


@lru_cache(maxsize=64)
def _network(thread: int, task: Task, wanted: str) -> nn.Module:
    """Return a network of this thread's own, kept because making one costs as much as half a training step."""
    return models.build(task, ModelConfig.model_validate_json(wanted), seed=0)


def handle(place: Place, request: Request) -> Reply:
    """Do what the server asks.

    Raises:
        WardroundError: the site cannot or may not; its text is for the site's own log.
    """
    torch.set_num_threads(1)  # the number of threads changes the last digits of a sum, and so the weights
    site = open_site(place, request.config)
    if request.kind == "hello":
        return _hello(site, request.config)
    model = _network(threading.get_ident(), site.task, request.config.model.model_dump_json())
    _load(model, request.weights)
    if request.kind == "train":
        return _train(place, site, model, request)
    if request.kind == "validate":
        counts = counted(model, site.validation, request.config).total()
        held = {"patients": site.validation.people()}
        return Reply(site.name, len(site.validation.y), held, tables={messages.ALL: counts})
    results, tables = assess(model, site, request.config, place.policy.share_resamples)
    report: dict[str, Any] = {
        "evaluations": {name: item.model_dump() for name, item in results.items()},
        "class_patients": class_patients(site.test),
    }
    return Reply(site.name, len(site.test.y), report, tables=tables)


def _hello(site: Site, config: RunConfig) -> Reply:
    report: dict[str, Any] = {
        "protocol": PROTOCOL,
        "task": site.task.to_dict(),
        "fingerprint": site.task.fingerprint(),
        "synthetic": site.synthetic,
        "split": config.sites.split,
        "excluded": dict(site.train.excluded),
        "counts": {name: getattr(site, name).summary() for name in SPLITS},
        "device": str(choose_device(config.training.device)),
    }
    if site.dropped:
        report["excluded"]["recordings of a person in the published test set (whole data set)"] = site.dropped
    return Reply(site.name, len(site.train.y), report)


def _train(place: Place, site: Site, model: nn.Module, request: Request) -> Reply:
    config = request.config
    have = site.train.people()
    if have < place.policy.min_training_patients:
        raise SiteError(f"policy: fewer than {place.policy.min_training_patients} people to train on")
    began = time.perf_counter()
    epochs = config.training.epochs
    result = fit(
        model,
        site.train,
        config.training,
        seed_for(config.seed, site.name, request.round, "train"),
        counts=request.class_counts or site.train.class_counts(),
        schedule=Schedule((request.round - 1) * epochs, config.federation.rounds * epochs),
        validation=site.validation,
        stop=stop_signal.get(),
    )
    report = {
        "loss": result.loss[-1],
        "steps": result.steps,
        "epochs": len(result.loss),
        "stopped_early": result.stopped_early,
        "seconds": round(time.perf_counter() - began, 3),
    }
    return Reply(site.name, result.examples, report, weights=weights_of(model), loss=result.loss[-1])


def counted(model: nn.Module, cohort: Cohort, config: RunConfig) -> Counts:
    """Return the model's counts on each patient of a cohort."""
    if len(cohort.y) == 0:
        empty = metrics.zero(len(cohort.task.classes), config.evaluation.bins)
        return Counts(empty.confusion[None], empty.scores[None], empty.loss[None])
    logits = predict(model, cohort, choose_device(config.training.device))
    people = sorted({cohort.persons[i] for i in np.unique(cohort.patient)})
    of_person = {name: i for i, name in enumerate(people)}
    group = np.asarray([of_person.get(name, 0) for name in cohort.persons])[cohort.patient]
    try:
        return metrics.count(logits, cohort.y, group, len(people), config.evaluation.bins)
    except ValueError as error:
        raise SiteError(f"the model's output is not usable: {error}") from None


def class_patients(cohort: Cohort) -> list[int]:
    """Return for each class how many people have at least one example of it."""
    person = np.asarray(cohort.persons, dtype=object)[cohort.patient] if len(cohort.y) else np.zeros(0, object)
    return [len(set(person[cohort.y == c])) for c in range(len(cohort.task.classes))]


def assess(
    model: nn.Module, site: Site, config: RunConfig, shares: bool
) -> tuple[dict[str, Evaluation], dict[str, Counts]]:
    """Evaluate on a site's test patients.

    Returns:
        figures and tables of counts by name: of all test patients and, if the site shares resamples, also the
        resampled counts and both again with the patients of `evaluation.without` left out.
    """
    results: dict[str, Evaluation] = {}
    tables: dict[str, Counts] = {}
    subsets: dict[str, Sequence[str]] = {messages.ALL: ()}
    if shares:
        subsets |= {messages.WITHOUT + name: left_out for name, left_out in config.evaluation.without.items()}
    for name, left_out in subsets.items():
        gone = [i for i, patient in enumerate(site.test.patients) if patient in left_out]
        cohort = site.test.take(~np.isin(site.test.patient, gone)) if gone else site.test
        by_patient = counted(model, cohort, config)
        people = cohort.people()
        resamples = config.evaluation.bootstrap
        drawn = evaluation.resample(by_patient, resamples, rng_for(config.seed, site.name, "bootstrap"))
        total = by_patient.total()
        results[name] = evaluation.summarise(site.task, total, drawn, people, class_patients(cohort))
        tables[name] = total
        if shares:
            tables[name + messages.RESAMPLED] = drawn
    return results, tables


def weights_of(model: nn.Module) -> Weights:
    """Return a copy of a model's weights as arrays on the CPU."""
    return {name: value.detach().cpu().contiguous().numpy().copy() for name, value in model.state_dict().items()}


def _load(model: nn.Module, weights: Mapping[str, Any]) -> None:
    try:
        model.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in weights.items()})
    except (RuntimeError, TypeError):
        raise SiteError("the server's weights do not fit the model of the configuration") from None
