"""What a site does when asked, free of Flower: handle(request) -> reply.

A simulation calls it in its own process, where opened sites stay resident; a hospital's client may be a new
process for each message, which then opens its site from the cache of prepared data.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from client import (
    columns,
    counting,
    detection,
    explain,
    groups,
    hospital,
    inputs,
    latent_view,
    methods,
    privacy,
    recalibration,
    statistics,
)
from client.assess import Predict as Predict
from client.assess import assess as assess
from client.assess import class_patients as class_patients
from client.assess import counted as counted
from client.assess import predicted, tallied, told
from client.assess import predictor as predictor
from client.leaving import leave
from client.methods import Kept
from client.methods import weights_of as weights_of
from client.place import Place
from client.training import FitResult, Schedule, choose_device, fit
from common import config as configuration
from common import messages, models
from common.config import ModelConfig, RunConfig, SubgroupsConfig
from common.detection import DetectionConfig
from common.errors import ConfigError, SiteError
from common.evaluation import Evaluation
from common.messages import PROTOCOL, Reply, Request
from common.scaling import Scaling
from common.seeds import seed_for
from common.task import Task
from sites import datasets, shift, splits
from sites.cohort import SPLITS, Cohort, Patient
from sites.datasets import Source

_dealing = threading.Lock()
stop_signal: ContextVar[threading.Event | None] = ContextVar("stop_signal", default=None)
"""Set by an engine that runs sites in threads of its own: Ctrl-C need not wait for an epoch to end."""


@dataclass(frozen=True)
class Site:
    """An opened site: its name, its task, its examples by split, how many recordings a split left out.

    `warning`: what must stand beside every figure from its data, or nothing; `shift`: what a simulated difference
    did to them, by option.
    """

    name: str
    task: Task
    synthetic: bool
    train: Cohort
    validation: Cohort
    test: Cohort
    dropped: int = 0
    warning: str = ""
    shift: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, name: str, cohort: Cohort, synthetic: bool, dropped: int = 0, warning: str = "") -> Site:
        """Return a site with its splits taken apart once."""
        train, validation, test = (cohort.part(split) for split in ("train", "validation", "test"))
        return cls(name, cohort.task, synthetic, train, validation, test, dropped, warning)


def open_site(place: Place, config: RunConfig) -> Site:
    """Open a site, or return it if it is open; only what shapes the data counts for which is the same."""
    sites = config.sites.model_copy(update={"external": ()})  # what a site holds does not depend on who trains
    shape = RunConfig(name=config.name, seed=config.seed, data=config.data, sites=sites, shift=config.shift)
    if config.detecting:
        shape = shape.model_copy(
            update={"model": ModelConfig(name=config.model.name), "detection": _labelling(config.detection)}
        )
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
        shift.refuse(config)
        source = datasets.open_source(config, place.data)
        mine, dropped = splits.drop_shared(source.patients(), config.sites)
        name, ids = str(place.site), tuple(sorted(item.id for item in mine))
    cohort = source.read(ids)
    split = splits.assign(cohort, mine, config.sites, config.seed, name)
    split, shifted = shift.apply(split, shift.options(config, name), config.seed, name)
    if config.detecting:
        split = detection.prepared(split, config)
    return replace(
        Site.of(name, split, source.card.synthetic or cohort.synthetic, dropped, source.card.warning), shift=shifted
    )


_scaled_sites: dict[Place, tuple[Site, str, Site]] = {}
"""The last scaled form of each place's site: the site, how it was scaled, the form."""


def _labelling(config: DetectionConfig) -> DetectionConfig:
    """Return what of it shapes the data."""
    return DetectionConfig(normal=config.normal, train_on=config.train_on)


def ready_site(place: Place, config: RunConfig, scaling: bytes) -> Site:
    """Return a site with its inputs as the model takes them: scaled as the server says, or by its own sums."""
    site = open_site(place, config)
    own = inputs.how(config.data, site.task) == "site"
    if not scaling and not own and not site.task.missing:
        return site
    key = hashlib.sha256(scaling).hexdigest() if scaling else "own" if own else "none"
    last = _scaled_sites.get(place)
    if last is not None and last[0] is site and last[1] == key:
        return last[2]
    found = Scaling.from_bytes(scaling) if scaling else inputs.fit([site.train], "site") if own else None
    _scaled_sites[place] = site, key, scaled(site, found)
    return _scaled_sites[place][2]


def scaled(site: Site, scaling: Scaling | None) -> Site:
    """Return a site with its inputs scaled and without NaN."""
    train, validation, test = (inputs.apply(part, scaling) for part in (site.train, site.validation, site.test))
    return replace(site, train=train, validation=validation, test=test)


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
    if request.kind == "hello":
        return _hello(place, open_site(place, request.config), request.config)
    if request.kind == "shift":
        site = open_site(place, request.config)
        sums = columns.answer(place, site.train, request.config, request.scaling)
        return Reply(site.name, len(site.train.y), {"columns": list(columns.names(site.task))}, statistics=dict(sums))
    if request.kind not in ("hello", "test") and open_site(place, request.config).name in request.config.sites.external:
        raise SiteError("sites.external: this site is only tested")
    if request.kind == "statistics":
        return _statistics(place, open_site(place, request.config), request)
    site = ready_site(place, request.config, request.scaling)
    model = _network(threading.get_ident(), site.task, request.config.model.model_dump_json())
    kept = Kept.of(place, site.name, request)
    methods.start(model, request, kept)
    if request.kind == "train":
        return _train(place, site, model, request, kept)
    if request.kind == "latent":
        return _latent(place, site, model, request)
    policy = place.policy
    if request.kind == "validate":
        may = told(site.validation, policy.min_cell_patients)
        rows, hidden = may.rows[messages.ALL], may.classes[messages.ALL]
        logits = predicted(predictor(model, request.config, request.latent), site.validation)
        counts = tallied(logits, site.validation, request.config, rows=rows, hidden=hidden).total
        held = {"patients": site.validation.people()}
        return Reply(site.name, len(site.validation.y), held, tables={messages.ALL: counts})
    predict_ = predictor(model, request.config, request.latent)
    minimum, shares = policy.min_cell_patients, policy.share_resamples
    raw = open_site(place, request.config)
    found = assess(predict_, site, request.config, shares, request.threshold, minimum=minimum, raw=raw)
    results, tables, suppressed = found.results, found.tables, found.suppressed
    mended: dict[str, Any] = {}
    explained: dict[str, Any] = {}
    if messages.ALL in results:
        explained = explain.told(place, site.name, model, site.test, request.config)
        again, more, mended = recalibration.assess(predict_, site, request.config, shares, request.threshold, minimum)
        results, tables = results | again, tables | more
    if request.method.local and not kept.arrays:
        results = _noted(results, "local layers: this site has none of its own, so the server's first ones")
    if request.method.pull is not None:
        methods.personal(model, request, kept)
        own = assess(predict_, site, request.config, shares, request.threshold, minimum=minimum, raw=raw)
        figures = own.results
        if not kept.arrays:
            figures = _noted(figures, "personal model: this site has none of its own, so the federated one")
        results |= {_of_personal(name): item for name, item in figures.items()}
        tables |= {_of_personal(name): item for name, item in own.tables.items()}
        suppressed |= {_of_personal(name): least for name, least in own.suppressed.items()}
    report: dict[str, Any] = {
        "evaluations": {name: item.model_dump() for name, item in results.items()},
        "recalibration": mended,
        "explanation": explained,
        "suppressed": suppressed,
    }
    if request.latent and messages.ALL in results and len(site.test.y):
        methods.start(model, request, kept)
        report["view"] = latent_view.of(detection.Detector(model, request.config), site, policy, request.latent)
    return Reply(site.name, len(site.test.y), report, tables=tables)


def _latent(place: Place, site: Site, model: nn.Module, request: Request) -> Reply:
    """Return sums over what the model makes of the training examples in its latent space."""
    if request.config.privacy.on:
        raise SiteError("privacy: sums over patients do not leave here while training is private")
    if not request.config.detecting:
        raise SiteError(f"model.name={request.config.model.name} has no latent space to tell of")
    have = site.train.people()
    if have < place.policy.min_training_patients:
        raise SiteError(f"policy: fewer than {place.policy.min_training_patients} people to train on")
    found = detection.Detector(model, request.config).moments(site.train)
    return Reply(site.name, len(site.train.y), {}, statistics=dict(found))


def _of_personal(table: str) -> str:
    """Return the name of the personal model's table beside one of the federated model's."""
    head, tail = (messages.ALL, "") if table.startswith(messages.ALL) else ("", " ")
    return messages.PERSONAL + tail + table.removeprefix(head)


def _noted(results: Mapping[str, Evaluation], note: str) -> dict[str, Evaluation]:
    return {name: item.model_copy(update={"notes": (*item.notes, note)}) for name, item in results.items()}


def _hello(place: Place, site: Site, config: RunConfig) -> Reply:
    privacy.refuse(place, site, config)
    if config.privacy.on and inputs.how(config.data, site.task) == "standard":
        statistics.ranges(site.task, config)  # refused here if an input has none
    train = counting.told(place, site, config)
    if config.detecting and config.detection.relative and site.train.seconds is None:
        raise SiteError("detection.relative: these data tell no times: leave it out")
    report: dict[str, Any] = {
        "protocol": PROTOCOL,
        "task": site.task.to_dict(),
        "fingerprint": site.task.fingerprint(),
        "synthetic": site.synthetic,
        "split": config.sites.split,
        "warning": site.warning,
        "excluded": {} if train.noisy else dict(site.train.excluded),  # rows and cells of those who train, among others
        "shift": dict(site.shift),
        "counts": {name: _counts(getattr(site, name), place.policy.min_cell_patients) for name in SPLITS}
        | {"train": train.summary()},
        "device": str(choose_device(config.training.device)),
    }
    if train.noisy:
        report["noisy"] = True
    elif site.dropped:
        report["excluded"]["recordings of a person in the published test set (whole data set)"] = site.dropped
    return Reply(site.name, train.examples, report)


def _counts(cohort: Cohort, minimum: int) -> dict[str, Any]:
    """Return a split's counts, without classes that too few patients have to be told.

    A split of too few patients counts as empty. Of training all is told: its counts weigh the classes.
    """
    if minimum <= 1:
        return cohort.summary()
    may = groups.cells(cohort, SubgroupsConfig(), minimum, messages.ALL, messages.GROUP)
    none = [None] * len(cohort.task.classes)
    if may.suppressed:
        return {"patients": 0, "examples": 0, "classes": none, "suppressed": minimum}
    rows, hidden = may.rows[messages.ALL], may.classes[messages.ALL]
    found = cohort.take(rows).summary()
    found["classes"] = [None if away else n for n, away in zip(found["classes"], hidden, strict=True)]
    return found


def _train(place: Place, site: Site, model: nn.Module, request: Request, kept: Kept) -> Reply:
    config = request.config
    have = site.train.people()
    if have < place.policy.min_training_patients:
        raise SiteError(f"policy: fewer than {place.policy.min_training_patients} people to train on")
    privacy.refuse(place, open_site(place, config), config)
    began = time.perf_counter()
    epochs = config.training.epochs
    schedule = Schedule((request.round - 1) * epochs, config.federation.rounds * epochs)
    # the unscaled site, whose content is what a simulated ledger is bound to
    whole = open_site(place, config)
    held = counting.told(place, whole, config)
    weight = {"examples": float(held.examples), "patients": float(held.patients), "equal": 1.0}[
        config.federation.weights
    ]
    plan, share = None, None
    spent: dict[str, Any] = {}
    if config.privacy.kind == "hospital":
        share, spent = hospital.begin(place, whole, request, weight)
    elif config.privacy.on:
        units = held.examples if held.noisy else privacy.count_units(whole.train, config.privacy.kind)
        plan, spent = privacy.begin(place, whole, request, units)

    def fit_here(purpose: str, **more: Any) -> FitResult:
        seed = seed_for(config.seed, site.name, request.round, purpose)
        if plan is not None:
            more.pop("correction", None)  # begin() refuses strategies that have one
            return privacy.fit(
                model, site.train, config.training, plan, seed, schedule=schedule, stop=stop_signal.get(), **more
            )
        return fit(
            model,
            site.train,
            config.training,
            seed,
            counts=request.class_counts or site.train.class_counts(),
            total=request.total or len(site.train.y),
            schedule=schedule,
            validation=site.validation,
            stop=stop_signal.get(),
            **more,
        )

    update = methods.train(model, request, kept, fit_here)
    result = update.result
    report: dict[str, Any] = {
        **({"loss": result.loss[-1]} if result.loss else {}),  # a private run tells no loss of its patients
        "steps": result.steps,
        "epochs": len(result.loss) or epochs,
        "stopped_early": result.stopped_early,
        "seconds": round(time.perf_counter() - began, 3),
    }
    if share is not None:
        report = {}  # loss and time would tell of this hospital, and whether it was drawn
    if spent:
        report["privacy"] = spent
    if kept.lost:
        report["state"] = "lost"
    return leave(site.name, request.weights, update, report, weight, share)


def _statistics(place: Place, site: Site, request: Request) -> Reply:
    """Return sums over the training inputs, noisy if training is private; or, where a scaling came, histograms."""
    privacy.refuse(place, site, request.config)
    have = site.train.people()
    if have < place.policy.min_training_patients:
        raise SiteError(f"policy: fewer than {place.policy.min_training_patients} people to train on")
    if request.config.privacy.on:
        held = counting.told(place, site, request.config)
        units = held.examples if held.noisy else privacy.count_units(site.train, request.config.privacy.kind)
        noisy, told = statistics.release(place, site, request, units)
        return Reply(site.name, held.examples, told, statistics=dict(noisy.arrays()))
    base = Scaling.from_bytes(request.scaling) if request.scaling else None
    found = inputs.histogram(site.train, base) if base else inputs.moments(site.train)
    return Reply(site.name, len(site.train.y), {}, statistics=dict(found))
