"""What to compare a federation with, in simulation: pooled training and each hospital alone, by one fit().

Each network trains for as many epochs as a site does in the federation, and its epoch is chosen as the
federation's round is: on validation patients, its own (the pooled model: all hospitals').
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from client import input_scaling
from client.evaluation import recalibration
from client.evaluation.anomaly_scores import Detector
from client.evaluation.evaluate import evaluate_site
from client.evaluation.predictions import Predictor, build_predictor, count_class_patients, predict_and_count
from client.policy import SIMULATION_POLICY
from client.site import Site, load_site, scale_site
from client.site_context import SiteContext
from client.training.local_update import copy_weights
from client.training.loop import Schedule, TrainingStopped, train_model
from common.config import RunConfig
from common.errors import SiteError
from common.files import write_arrays, write_bytes, write_json
from common.latent import LatentStatistics
from common.metrics import evaluation, paired_resamples
from common.metrics.counts import apply_threshold, choose_threshold
from common.metrics.counts_file import save_tables
from common.metrics.registry import METRICS
from common.metrics.table_names import ALL_PATIENTS
from common.replies import FinalTestReply
from common.reports import FinalTestReport
from common.run_folder import RunFolder
from common.scaling import Scaling
from common.sections.evaluation import SubgroupsConfig
from common.seeds import seed_for
from common.task import Task
from experiments.baselines import transfer
from server import initial_model
from server.phases.test import collect_draws, combine_evaluations
from sites.cohort import Cohort, join_cohorts

EpochCallback = Callable[[str, int, int], None]
TRANSFER_KEY = "seen"
"""What travel.py compares of a model, by hospital; it is not written."""
BaselineSpec = tuple[str, str, str | None, list[Site]]
"""A model's name, its title, the hospital that trains it alone or none, and whose patients train it."""


def train_baselines(config: RunConfig, out: Path, sites: int, tell: EpochCallback | None = None) -> dict[str, str]:
    """Train and evaluate the baselines that the configuration asks for; write them and baselines.json.

    A baseline that cannot be trained (its loss is not finite, say) does not end the others.

    Args:
        config: the run.
        out: the run's folder.
        sites: the number of simulated hospitals.
        tell: called with a model's name, its epochs done and its epochs in all.

    Returns:
        the baselines that could not be trained, with the reason in one line.
    """
    opened = [load_site(SiteContext(SIMULATION_POLICY, index=i, count=sites), config) for i in range(sites)]
    within = [site for site in opened if site.name not in config.sites.external]
    wanted: list[BaselineSpec] = []
    if config.baselines.pooled:
        wanted.append(("pooled", "pooled training", None, within))
    if config.baselines.local:
        wanted += [(f"local:{s.name}", f"{s.name} alone", s.name, [s]) for s in within if len(s.train.y)]
    if tell:
        for name, *_ in wanted:
            tell(name, 0, config.federation.rounds * config.training.epochs)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    stop = threading.Event()
    workers = min(config.federation.workers or os.cpu_count() or 1, max(1, len(wanted)))
    done: dict[str, dict[str, Any]] = {}
    failed: dict[str, str] = {}
    try:
        with ThreadPoolExecutor(workers, thread_name_prefix="baseline") as pool:
            try:
                names: dict[Future[dict[str, Any]], str] = {
                    pool.submit(_one, config, out, name, title, at, members, opened, stop, tell): name
                    for name, title, at, members in wanted
                }
                waiting = set(names)
                while waiting:
                    finished, waiting = wait(waiting, timeout=0.5, return_when=FIRST_COMPLETED)
                    for future in finished:
                        try:
                            done[names[future]] = future.result()
                        except SiteError as error:
                            failed[names[future]] = str(error)
            except BaseException:
                stop.set()
                pool.shutdown(wait=True, cancel_futures=True)
                raise
        networks = list(wanted)
        for item, make in chain(_classical(config, out, networks, opened), _anomaly(config, out, networks, opened)):
            wanted.append(item)
            if tell:
                tell(item[0], 0, 1)
            try:
                done[item[0]] = make()
            except SiteError as error:
                failed[item[0]] = str(error)
            if tell:
                tell(item[0], 1, 1)
    finally:
        torch.set_num_threads(before)
        models = [done[name] for name, *_ in wanted if name in done]
        looks = [item.pop(TRANSFER_KEY) for item in models]
        alone = [
            (item["name"].partition(":")[0], str(item["trained_at"]), look)
            for item, look in zip(models, looks, strict=True)
            if item["trained_at"]
        ]
        trips = transfer.compare_transfers(opened[0].task, config, alone)
        write_json(RunFolder(out).baselines, {"models": models, "failed": failed, "travel": trips})
    return failed


def _one(
    config: RunConfig, out: Path, name: str, title: str, at: str | None, members: list[Site],
    all_sites: list[Site], stop: threading.Event, tell: EpochCallback | None,
) -> dict[str, Any]:  # fmt: skip
    if stop.is_set():
        raise TrainingStopped("stopped before the end")
    task = members[0].task
    how = input_scaling.resolve_scaling(config.data, task)
    scaling = None if how == "site" else input_scaling.fit_scaling([site.train for site in members], how)

    def scaling_at(site: Site) -> Scaling | None:
        return input_scaling.fit_scaling([site.train], how) if how == "site" else scaling

    def ready(site: Site) -> Site:
        test, validation = (
            input_scaling.apply_scaling(part, scaling_at(site)) for part in (site.test, site.validation)
        )
        return replace(site, test=test, validation=validation)

    here = [scale_site(site, scaling_at(site)) for site in members]
    train = join_cohorts([site.train for site in here]) if len(here) > 1 else here[0].train
    validation = join_cohorts([site.validation for site in here]) if len(here) > 1 else here[0].validation
    model = initial_model.build_initial_model(config, task).model
    total = config.federation.rounds * config.training.epochs
    chooser = _Chooser(config, validation, tell, name, total)
    train_model(
        model,
        train,
        config.training.model_copy(update={"epochs": total, "patience": 0}),
        seed_for(config.seed, name, "baseline"),
        counts=train.class_counts(),
        total=len(train.y),
        schedule=Schedule(0, total),
        stop=stop,
        after_epoch=chooser,
    )
    if chooser.best is not None:
        model.load_state_dict(chooser.best)
    write_arrays(RunFolder(out).weights(name), copy_weights(model), {"epoch": str(chooser.epoch)})
    if scaling:
        write_bytes(RunFolder(out).scaling(name), scaling.to_bytes())
    latent = b""
    if task.anomaly:
        latent = LatentStatistics.from_moments(Detector(model, config).moments(train)).to_bytes()
        write_bytes(RunFolder(out).latent(name), latent)
    predict = build_predictor(model, config, latent)
    threshold = select_threshold(config, predict, validation)
    about = {"name": name, "title": title, "kind": name.partition(":")[0], "trained_at": at, "epoch": chooser.epoch}
    return about | _tested(config, out, name, task, predict, threshold, all_sites, ready)


def _tested(
    config: RunConfig, out: Path, name: str, task: Task, predict: Predictor, threshold: float | None,
    sites: list[Site], ready: Callable[[Site], Site],
) -> dict[str, Any]:  # fmt: skip
    """Return a model's figures on every hospital's test patients, scaled by `ready` as the model takes them."""
    replies: dict[str, FinalTestReply] = {}
    if len(sites) > 1 and name != "pooled":  # groups of patients beside the federated model's: the pooled model's do
        wanted = config.evaluation.model_copy(update={"subgroups": SubgroupsConfig()})
        config = config.model_copy(update={"evaluation": wanted})
    for site in sites:
        if len(site.test.y) == 0:
            continue
        here = ready(site)
        found = evaluate_site(predict, here, config, True, threshold, curves=False, raw=site)
        again, more, effects = recalibration.evaluate_recalibrations(predict, here, config, True, threshold)
        results, tables = found.results | again, found.tables | more
        report = FinalTestReport(evaluations=results, recalibration=effects)
        replies[site.name] = FinalTestReply(site.name, report, tables=tables)
    by_table, pooled = combine_evaluations(task, replies)
    recalibrations = {site: item for site, reply in replies.items() if (item := reply.report.recalibration)}
    reasons = {site: item.reason for site, item in recalibrations.items()}
    if config.evaluation.keep_counts:
        save_tables(RunFolder(out).counts(name), {where: reply.tables for where, reply in replies.items()})
    if config.evaluation.keep_resamples:
        write_bytes(
            RunFolder(out).resamples(name),
            paired_resamples.pack_resamples(collect_draws(task, replies, by_table)),
        )
    return {
        "threshold": threshold,
        "test": {key: {s: item.model_dump() for s, item in found.items()} for key, found in by_table.items()},
        "pooled": {key: item.model_dump() for key, item in pooled.items()},
        "recalibration": {site: item.model_dump() for site, item in sorted(recalibrations.items())},
        TRANSFER_KEY: {
            site: transfer.summarise_model_at_site(
                task,
                reply.tables,
                by_table[ALL_PATIENTS][site].patients,
                reasons.get(site, ""),
            )
            for site, reply in replies.items()
        },
    }


def _classical(
    config: RunConfig, out: Path, wanted: list[BaselineSpec], sites: list[Site]
) -> Iterator[tuple[BaselineSpec, Callable[[], dict[str, Any]]]]:
    """Yield scikit-learn's models, pooled and at each hospital as the networks are, with what makes each."""
    if not config.baselines.classical:
        return
    from experiments.baselines import classical

    task, table = sites[0].task, classical.cached_inputs()
    options = classical.ClassicalOptions.of(config, config.federation.workers or os.cpu_count() or 1)

    def make(kind: str, about: dict[str, Any], members: list[Site]) -> dict[str, Any]:
        train, validation = (
            join_cohorts([getattr(site, part) for site in members]) if len(members) > 1 else getattr(members[0], part)
            for part in ("train", "validation")
        )
        predict = classical.fit_classical(kind, train, seed_for(config.seed, about["name"]), options, table)
        threshold = select_threshold(config, predict, validation)
        return about | _tested(config, out, about["name"], task, predict, threshold, sites, lambda site: site)

    for kind in config.baselines.classical:
        for _, _, at, members in wanted:
            name = f"{kind}:{at or 'pooled'}"
            title = classical.TITLES[kind]
            title = f"{title[0].upper()}{title[1:]}, {f'{at} alone' if at else 'pooled'}"
            about = {"name": name, "title": title, "trained_at": at, "kind": "classical-local" if at else "classical"}
            yield (name, title, at, members), partial(make, kind, about, members)


def _anomaly(
    config: RunConfig, out: Path, wanted: list[BaselineSpec], sites: list[Site]
) -> Iterator[tuple[BaselineSpec, Callable[[], dict[str, Any]]]]:
    """Yield detectors of the abnormal, as `_classical` does; those without a model are the same wherever."""
    options = config.baselines.anomaly
    if not options.models or not wanted:
        return
    from experiments.baselines import anomaly_detectors

    task, tables = sites[0].task, anomaly_detectors.InputTables(config, out)
    workers = config.federation.workers or os.cpu_count() or 1

    def make(kind: str, on: str, about: dict[str, Any], members: list[Site]) -> dict[str, Any]:
        train, validation = (
            join_cohorts([getattr(site, part) for site in members]) if len(members) > 1 else getattr(members[0], part)
            for part in ("train", "validation")
        )
        known = anomaly_detectors.select_normal_rows(train, config)
        seed = seed_for(config.seed, about["name"])
        predict = anomaly_detectors.fit_anomaly(kind, known, seed, options, tables.of(on), workers)
        threshold = select_threshold(config, predict, validation)
        return about | _tested(config, out, about["name"], task, predict, threshold, sites, lambda site: site)

    for variant, kind, on in anomaly_detectors.list_variants(options):
        for _, _, at, members in wanted:
            if kind in anomaly_detectors.MODEL_FREE and members is not wanted[0][3]:
                continue
            name = f"{variant}:{at or 'pooled'}"
            where = "" if kind in anomaly_detectors.MODEL_FREE else f", {f'{at} alone' if at else 'pooled'}"
            title = anomaly_detectors.detector_title(kind, on) + where
            about = {"name": name, "title": title, "trained_at": at, "kind": "classical-local" if at else "classical"}
            yield (name, title, at, members), partial(make, kind, on, about, members)


def select_threshold(config: RunConfig, predict: Predictor, validation: Cohort) -> float | None:
    """Return the threshold that is best on validation patients, where the configuration seeks one."""
    wanted = config.evaluation
    if wanted.threshold == "likelier" or not validation.task.binary or not len(validation.y):
        return None
    return choose_threshold(predict_and_count(predict, validation, config).total, wanted.threshold, wanted.false_alarms)


class _Chooser:
    """Keeps the weights of the best epoch on validation patients, if the federation chooses so too."""

    def __init__(
        self, config: RunConfig, validation: Cohort, tell: EpochCallback | None, name: str, total: int
    ) -> None:
        self.config, self.validation, self.tell, self.name, self.total = config, validation, tell, name, total
        self.best: dict[str, Any] | None = None
        self.value = -np.inf
        self.epoch = total

    def __call__(self, epoch: int, model: nn.Module) -> None:
        if self.tell:
            self.tell(self.name, epoch + 1, self.total)
        chooses = self.config.federation.choose == "best" and len(self.validation.y)
        if not chooses or (epoch + 1) % self.config.training.epochs:
            return
        counts = predict_and_count(build_predictor(model, self.config), self.validation, self.config).total
        wanted, task = self.config.evaluation, self.validation.task
        best = None
        if wanted.threshold != "likelier" and task.binary:
            best = choose_threshold(counts, wanted.threshold, wanted.false_alarms)
        if best is not None:
            counts = apply_threshold(counts, best)
        found = evaluation.build_evaluation(
            task, counts, None, self.validation.people(), count_class_patients(self.validation)
        )
        metric = self.config.selection_metric
        value = evaluation.metric_value(found, metric)
        if value is None:
            return
        value = -METRICS[metric].badness(value)
        if value > self.value:
            self.value, self.epoch = value, epoch + 1
            self.best = {key: item.detach().clone() for key, item in model.state_dict().items()}
