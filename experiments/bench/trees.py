"""Time to grow a configuration's trees in a federation on this machine, over LightGBM on the rows of all hospitals.

Both are measured in turn in one process, with as many threads as `federation.workers` says. The time of the federation
is that of its rounds without validation, from the first message to the last tree; the first round loads and bins the
rows. The time of LightGBM is that of its fit, which bins the rows too (settings: experiments/baselines/classical.py).
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from client.policy import SIMULATION_POLICY
from client.site import load_site
from client.site_context import SiteContext
from common.config import RunConfig, config_from_json, config_to_json
from common.errors import ConfigError
from common.run_folder import RunFolder
from common.tree_plan import plan_run
from experiments.baselines.classical import ClassicalOptions, fit_classical
from experiments.baselines.evaluation import join_split
from experiments.markdown_table import render_markdown_table
from sites import datasets
from sites.cohort import Cohort


def measure_trees(config: RunConfig, turns: int) -> dict[str, Any]:
    """Return what growing trees costs, in seconds, and the messages of a site.

    Args:
        config: a run whose model is made of trees; its baselines, intervals and validation are left out.
        turns: measurements of each, in turn; the medians count.

    Returns:
        `rows`, `patients` and `trees`; `federated` and `lightgbm`, each with `wall` and `processor`; their ratios
        `wall` and `processor`; `messages` of each phase to one site.

    Raises:
        ConfigError: the model is not made of trees.
        SiteError: LightGBM is not installed.
    """
    if config.model.name not in ("boosting", "forest"):
        raise ConfigError(f"bench trees: model.name is {config.model.name}: name a configuration of boosting or forest")
    values = json.loads(config_to_json(config))
    values["baselines"] |= {"local": False, "pooled": False, "classical": []}
    values["evaluation"] |= {"bootstrap": 0, "domain_shift": False}
    values["federation"] |= {"choose": "last"}
    config = config_from_json(json.dumps(values))
    train = _join_training_rows(config)
    options = ClassicalOptions.from_config(config, config.federation.workers or os.cpu_count() or 1)
    times: dict[str, list[tuple[float, float]]] = {"federated": [], "lightgbm": []}
    messages: dict[str, int] = {}
    for _ in range(turns):
        spent, messages = _grow_federated(config)
        times["federated"].append(spent)
        start = time.perf_counter(), time.process_time()
        fit_classical("lightgbm", train, config.seed, options)
        times["lightgbm"].append((time.perf_counter() - start[0], time.process_time() - start[1]))
    medians = {
        name: {"wall": statistics.median(wall), "processor": statistics.median(processor)}
        for name, (wall, processor) in ((name, zip(*spent, strict=True)) for name, spent in times.items())
    }
    return {
        "rows": len(train.y),
        "patients": len({train.persons[owner] for owner in train.patient}),
        "trees": plan_run(config, train.task).trees,
        **{name: {key: round(value, 2) for key, value in spent.items()} for name, spent in medians.items()},
        **{key: round(medians["federated"][key] / medians["lightgbm"][key], 2) for key in ("wall", "processor")},
        "messages": messages,
    }


def render_trees_table(measured: Mapping[str, Any]) -> str:
    """Return the measurements as a Markdown table."""
    rows = [
        [label, f"{measured[name]['wall']:.1f}", f"{measured[name]['processor']:.1f}"]
        for label, name in (("federated", "federated"), ("LightGBM, pooled", "lightgbm"))
    ]
    rows.append(["federated / LightGBM", f"{measured['wall']:.2f}", f"{measured['processor']:.2f}"])
    phases = ", ".join(f"{phase} {count}" for phase, count in measured["messages"].items())
    return (
        f"{measured['patients']:,} patients, {measured['rows']:,} examples, {measured['trees']} trees\n\n"
        f"{render_markdown_table(['', 'wall, s', 'processor, s'], rows)}\n\n"
        f"messages to a site: {sum(measured['messages'].values())} ({phases})"
    )


def _join_training_rows(config: RunConfig) -> Cohort:
    count = len(datasets.assign_hospitals(datasets.open_source(config, None), config)[0])
    sites = [load_site(SiteContext(SIMULATION_POLICY, index=i, count=count), config) for i in range(count)]
    return join_split([site for site in sites if site.name not in config.sites.external], "train")


class _Stopwatch:
    """Watches a run: the processor time when growing begins and after each round, and the answers of each site."""

    def __init__(self) -> None:
        self.growing_from = 0.0
        self.last_round = 0.0
        self.answers: dict[str, Counter[str]] = {}

    def handle(self, event: Mapping[str, Any]) -> None:
        """Keep the processor time of an event, and whose answer it is."""
        if event["event"] == "round":
            self.last_round = time.process_time()
        elif event["event"] == "reply":
            self.answers.setdefault(event["phase"], Counter())[event["site"]] += 1
            if event["phase"] in ("handshake", "scaling"):
                self.growing_from = time.process_time()


def _grow_federated(config: RunConfig) -> tuple[tuple[float, float], dict[str, int]]:
    """Return wall and processor seconds of a run's rounds, and the messages that one site answered."""
    from experiments.runs.run import run_experiment

    watch = _Stopwatch()
    with tempfile.TemporaryDirectory() as scratch:
        folder = RunFolder(run_experiment(config, Path(scratch), watch))
        rounds = [json.loads(line) for line in folder.rounds.read_text(encoding="utf-8").splitlines()]
    spent = sum(item["seconds"] for item in rounds), watch.last_round - watch.growing_from
    return spent, {phase: max(sites.values()) for phase, sites in watch.answers.items()}
