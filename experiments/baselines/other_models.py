"""Baselines other than networks, trained on the same patients: scikit-learn's models and anomaly detectors."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from client.evaluation.predictions import Predictor
from client.site import Site
from common.config import RunConfig
from common.seeds import seed_for
from common.task import Task
from experiments.baselines import anomaly_detectors, classical
from experiments.baselines.evaluation import Baseline, evaluate_baseline, join_split, select_threshold


def list_classical(
    config: RunConfig, out: Path, networks: Sequence[Baseline], sites: Sequence[Site]
) -> Iterator[tuple[Baseline, Callable[[], dict[str, Any]]]]:
    """Yield scikit-learn's models and LightGBM, with the function that trains each.

    They are trained on the same patients as the networks; without networks, on those of all hospitals together.
    """
    if not config.baselines.classical:
        return
    members = [site for site in sites if site.name not in config.sites.external]
    groups = networks or [Baseline("pooled", "pooled training", None, members)]
    task, table = sites[0].task, classical.cached_inputs()
    options = classical.ClassicalOptions.from_config(config, config.federation.workers or os.cpu_count() or 1)

    def train(kind: str, baseline: Baseline) -> dict[str, Any]:
        patients, seed = join_split(baseline.members, "train"), seed_for(config.seed, baseline.name)
        predict = classical.fit_classical(kind, patients, seed, options, table)
        return _describe_other(baseline) | _select_and_evaluate(config, out, baseline, task, predict, sites)

    for kind in config.baselines.classical:
        title = classical.TITLES[kind]
        for group in groups:
            trained = f"{group.site} alone" if group.site else "pooled"
            name = f"{kind}:{group.site or 'pooled'}"
            baseline = Baseline(name, f"{title[0].upper()}{title[1:]}, {trained}", group.site, group.members)
            yield baseline, partial(train, kind, baseline)


def list_detectors(
    config: RunConfig, out: Path, networks: Sequence[Baseline], sites: Sequence[Site]
) -> Iterator[tuple[Baseline, Callable[[], dict[str, Any]]]]:
    """Yield anomaly detectors as `list_classical` does; those without a model once, because training has no effect."""
    options = config.baselines.anomaly
    if not options.models or not networks:
        return
    task, tables = sites[0].task, anomaly_detectors.InputTables(config, out)
    workers = config.federation.workers or os.cpu_count() or 1

    def train(kind: str, inputs: str, baseline: Baseline) -> dict[str, Any]:
        normal = anomaly_detectors.select_normal_rows(join_split(baseline.members, "train"), config)
        seed = seed_for(config.seed, baseline.name)
        predict = anomaly_detectors.fit_anomaly(kind, normal, seed, options, tables.table_for(inputs), workers)
        return _describe_other(baseline) | _select_and_evaluate(config, out, baseline, task, predict, sites)

    for variant, kind, inputs in anomaly_detectors.list_variants(options):
        model_free = kind in anomaly_detectors.MODEL_FREE
        for network in networks[:1] if model_free else networks:
            trained = "" if model_free else f", {f'{network.site} alone' if network.site else 'pooled'}"
            title = anomaly_detectors.build_detector_title(kind, inputs) + trained
            baseline = Baseline(f"{variant}:{network.site or 'pooled'}", title, network.site, network.members)
            yield baseline, partial(train, kind, inputs, baseline)


def _describe_other(baseline: Baseline) -> dict[str, Any]:
    kind = "classical-local" if baseline.site else "classical"
    return {"name": baseline.name, "title": baseline.title, "trained_at": baseline.site, "kind": kind}


def _select_and_evaluate(
    config: RunConfig, out: Path, baseline: Baseline, task: Task, predict: Predictor, sites: Sequence[Site]
) -> dict[str, Any]:
    threshold = select_threshold(config, predict, join_split(baseline.members, "validation"))
    return evaluate_baseline(config, out, baseline.name, task, predict, threshold, sites)
