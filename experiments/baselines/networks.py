"""Baselines of a simulated federation: pooled training, each hospital alone, and other models trained in both ways.

Each network trains for as many epochs as a site does in the federation. Its epoch is chosen as the federation's round
is, on validation patients: its own hospital's, for the pooled model those of all hospitals. With `federation.patience`
it stops as the federation does, after as many rounds' epochs without a better one.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from client import input_scaling
from client.evaluation.anomaly_scores import Detector
from client.evaluation.predictions import build_predictor, count_class_patients, predict_and_count
from client.policy import SIMULATION_POLICY
from client.site import Site, load_site, scale_site
from client.site_context import SiteContext
from client.training.local_update import copy_weights
from client.training.loop import Schedule, TrainingStopped, train_model
from common.config import RunConfig
from common.errors import SiteError
from common.files import write_arrays, write_bytes, write_json
from common.latent import LatentStatistics
from common.metrics.counts import apply_threshold
from common.metrics.evaluation import build_evaluation, metric_value
from common.metrics.registry import METRICS
from common.metrics.threshold_choice import choose_wanted_threshold
from common.run_folder import RunFolder
from common.scaling import Scaling
from common.seeds import seed_for
from common.trees import grows_trees
from experiments.baselines.evaluation import TRANSFER_KEY, Baseline, evaluate_baseline, join_split, select_threshold
from experiments.baselines.other_models import list_classical, list_detectors
from experiments.baselines.today import list_rivals
from experiments.baselines.transfer import compare_transfers
from experiments.baselines.trees import grow_trees
from server.initial_model import build_initial_model
from sites.cohort import Cohort

EpochCallback = Callable[[str, int, int], None]
"""Called with a baseline's name, the number of epochs done, and their total."""


def train_baselines(
    config: RunConfig, out: Path, sites: int, on_epoch: EpochCallback = lambda name, done, epochs: None
) -> dict[str, str]:
    """Train and evaluate the baselines of a configuration; write them and baselines.json.

    A baseline that cannot be trained, for example because its loss is not finite, does not stop the others.

    Args:
        config: the run.
        out: the run's folder.
        sites: the number of simulated hospitals.
        on_epoch: called after each epoch.

    Returns:
        the reasons why baselines could not be trained, by name, in one line each.
    """
    loaded = [load_site(SiteContext(SIMULATION_POLICY, index=i, count=sites), config) for i in range(sites)]
    networks = list_networks(config, loaded)
    for baseline in networks:
        on_epoch(baseline.name, 0, config.federation.rounds * config.training.epochs)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    all_baselines = list(networks)
    results: dict[str, dict[str, Any]] = {}
    failed: dict[str, str] = {}
    try:
        _train_networks(config, out, networks, loaded, on_epoch, results, failed)
        for baseline, train in chain(
            list_classical(config, out, networks, loaded),
            list_detectors(config, out, networks, loaded),
            list_rivals(config, out, loaded),
        ):
            all_baselines.append(baseline)
            on_epoch(baseline.name, 0, 1)
            try:
                results[baseline.name] = train()
            except SiteError as error:
                failed[baseline.name] = str(error)
            on_epoch(baseline.name, 1, 1)
    finally:
        torch.set_num_threads(threads)
        models = [results[baseline.name] for baseline in all_baselines if baseline.name in results]
        at_sites = [item.pop(TRANSFER_KEY) for item in models]
        local = [
            (item["name"].partition(":")[0], str(item["trained_at"]), at_site)
            for item, at_site in zip(models, at_sites, strict=True)
            if item["trained_at"]
        ]
        transfers = compare_transfers(loaded[0].task, config, local)
        write_json(RunFolder(out).baselines, {"models": models, "failed": failed, "transfers": transfers})
    return failed


def list_networks(config: RunConfig, sites: Sequence[Site]) -> list[Baseline]:
    """Return the networks to train: pooled over all hospitals that are not external, and each of these alone."""
    members = [site for site in sites if site.name not in config.sites.external]
    networks = [Baseline("pooled", "pooled training", None, members)] if config.baselines.pooled else []
    if config.baselines.local:
        networks += [
            Baseline(f"local:{site.name}", f"{site.name} alone", site.name, [site])
            for site in members
            if len(site.train.y)
        ]
    return networks


def _train_networks(
    config: RunConfig, out: Path, networks: Sequence[Baseline], sites: Sequence[Site], on_epoch: EpochCallback,
    results: dict[str, dict[str, Any]], failed: dict[str, str],
) -> None:  # fmt: skip
    """Train networks in parallel; fill `results` and `failed` by name as each ends."""
    stop = threading.Event()
    workers = min(config.federation.workers or os.cpu_count() or 1, max(1, len(networks)))
    with ThreadPoolExecutor(workers, thread_name_prefix="baseline") as pool:
        try:
            names: dict[Future[dict[str, Any]], str] = {
                pool.submit(_train_network, config, out, baseline, sites, stop, on_epoch): baseline.name
                for baseline in networks
            }
            waiting = set(names)
            while waiting:
                finished, waiting = wait(waiting, timeout=0.5, return_when=FIRST_COMPLETED)
                for future in finished:
                    try:
                        results[names[future]] = future.result()
                    except SiteError as error:
                        failed[names[future]] = str(error)
        except BaseException:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _train_network(
    config: RunConfig, out: Path, baseline: Baseline, sites: Sequence[Site], stop: threading.Event,
    on_epoch: EpochCallback,
) -> dict[str, Any]:  # fmt: skip
    """Train and test one network; write its weights, scaling and latent statistics; return its results."""
    if stop.is_set():
        raise TrainingStopped("stopped before the end")
    files, name, members, task = RunFolder(out), baseline.name, baseline.members, baseline.members[0].task
    method = input_scaling.resolve_scaling(config.data, task)
    pooled_scaling = None if method == "site" else input_scaling.fit_scaling([site.train for site in members], method)

    def select_scaling(site: Site) -> Scaling | None:
        return input_scaling.fit_scaling([site.train], method) if method == "site" else pooled_scaling

    def scale_held_out(site: Site) -> Site:
        scaling = select_scaling(site)
        test, validation = (input_scaling.apply_scaling(part, scaling) for part in (site.test, site.validation))
        return replace(site, test=test, validation=validation)

    scaled = [scale_site(site, select_scaling(site)) for site in members]
    train, validation = join_split(scaled, "train"), join_split(scaled, "validation")
    model = build_initial_model(config, task).model
    epochs = config.federation.rounds * config.training.epochs
    selector = _EpochSelector(config, validation, on_epoch, name, epochs)
    try:
        if grows_trees(config.model.name):
            each = config.training.epochs
            grow_trees(model, train, config, name, lambda number, grown: selector((number + 1) * each - 1, grown), stop)
        else:
            train_model(
                model,
                train,
                config.training.model_copy(update={"epochs": epochs, "patience": 0}),
                seed_for(config.seed, name, "baseline"),
                counts=train.class_counts(),
                total=len(train.y),
                schedule=Schedule(0, epochs),
                stop=stop,
                after_epoch=selector,
            )
    except _Converged:
        on_epoch(name, epochs, epochs)
    if selector.weights is not None:
        model.load_state_dict(selector.weights)
    write_arrays(files.weights(name), copy_weights(model), {"epoch": str(selector.epoch)})
    if pooled_scaling:
        write_bytes(files.scaling(name), pooled_scaling.to_bytes())
    latent = b""
    if task.anomaly:
        latent = LatentStatistics.from_moments(Detector(model, config).moments(train)).to_bytes()
        write_bytes(files.latent(name), latent)
    predict = build_predictor(model, config, latent)
    threshold = select_threshold(config, predict, validation)
    kind = name.partition(":")[0]
    about = {"name": name, "title": baseline.title, "kind": kind, "trained_at": baseline.site, "epoch": selector.epoch}
    return about | evaluate_baseline(config, out, name, task, predict, threshold, sites, scale_held_out)


class _Converged(Exception):
    """A network has not improved on validation patients for as long as the federation would wait."""


class _EpochSelector:
    """Keeps the weights of the epoch that is best on validation patients, if the federation selects its round so.

    It ends the training with `_Converged` after `federation.patience` rounds' epochs without a better one.

    Attributes:
        weights: the best epoch's weights; None: those of the last epoch.
        epoch: the best epoch, from 1.
    """

    def __init__(self, config: RunConfig, validation: Cohort, on_epoch: EpochCallback, name: str, epochs: int) -> None:
        self._config, self._validation, self._on_epoch = config, validation, on_epoch
        self._name, self._epochs = name, epochs
        self._value = -np.inf
        self.weights: dict[str, Any] | None = None
        self.epoch = epochs

    def __call__(self, epoch: int, model: nn.Module) -> None:
        """Compare the model after an epoch (from 0) with the best so far."""
        config, validation = self._config, self._validation
        self._on_epoch(self._name, epoch + 1, self._epochs)
        selects = config.federation.choose == "best" and len(validation.y)
        if not selects or (epoch + 1) % config.training.epochs:
            return
        counts = predict_and_count(build_predictor(model, config), validation, config).total
        wanted, task = config.evaluation, validation.task
        threshold = None
        if wanted.threshold != "auto" and task.binary:  # "auto" chooses the threshold, but no round
            threshold = choose_wanted_threshold(counts, wanted)
        if threshold is not None:
            counts = apply_threshold(counts, threshold)
        evaluation = build_evaluation(task, counts, None, validation.people(), count_class_patients(validation))
        value = metric_value(evaluation, config.selection_metric)
        if value is None:
            return
        goodness = -METRICS[config.selection_metric].badness(value)
        patience = config.federation.patience * config.training.epochs
        if goodness > self._value:
            self._value, self.epoch = goodness, epoch + 1
            self.weights = {key: item.detach().clone() for key, item in model.state_dict().items()}
        elif patience and epoch + 1 - self.epoch >= patience:
            raise _Converged
