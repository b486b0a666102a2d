"""What to compare a federation with, in simulation: pooled training and each hospital alone, by one fit().

Each baseline trains for as many epochs as a site does in the federation, and its epoch is chosen as the
federation's round is: on validation patients, its own (the pooled model: all hospitals').
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from client.place import Place
from client.policy import SIMULATION
from client.training import Schedule, Stopped, fit
from client.work import Site, assess, class_patients, counted, open_site, weights_of
from common import evaluation, models
from common.config import RunConfig
from common.errors import SiteError
from common.messages import Reply
from common.seeds import seed_for
from server.app import save_weights, write_json
from server.rounds import combine
from sites.cohort import Cohort, join

Tell = Callable[[str, int, int], None]


def run(config: RunConfig, out: Path, sites: int, tell: Tell | None = None) -> dict[str, str]:
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
    opened = [open_site(Place(SIMULATION, index=i, count=sites), config) for i in range(sites)]
    wanted: list[tuple[str, str, str | None, list[Site]]] = []
    if config.baselines.pooled:
        wanted.append(("pooled", "pooled training", None, opened))
    if config.baselines.local:
        wanted += [(f"local:{s.name}", f"{s.name} alone", s.name, [s]) for s in opened if len(s.train.y)]
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
    finally:
        torch.set_num_threads(before)
        order = [name for name, *_ in wanted if name in done]
        write_json(out / "baselines.json", {"models": [done[name] for name in order], "failed": failed})
    return failed


def _one(
    config: RunConfig, out: Path, name: str, title: str, at: str | None, members: list[Site],
    all_sites: list[Site], stop: threading.Event, tell: Tell | None,
) -> dict[str, Any]:  # fmt: skip
    if stop.is_set():
        raise Stopped("stopped before the end")
    train = join([site.train for site in members]) if len(members) > 1 else members[0].train
    validation = join([site.validation for site in members]) if len(members) > 1 else members[0].validation
    model = models.build(members[0].task, config.model, config.seed)
    total = config.federation.rounds * config.training.epochs
    chooser = _Chooser(config, validation, tell, name, total)
    fit(
        model,
        train,
        config.training.model_copy(update={"epochs": total, "patience": 0}),
        seed_for(config.seed, name, "baseline"),
        counts=train.class_counts(),
        schedule=Schedule(0, total),
        stop=stop,
        after_epoch=chooser,
    )
    if chooser.best is not None:
        model.load_state_dict(chooser.best)
    save_weights(out / f"model.{name.replace(':', '.')}.safetensors", weights_of(model), {"epoch": str(chooser.epoch)})
    replies: dict[str, Reply] = {}
    for site in all_sites:
        if len(site.test.y) == 0:
            continue
        results, tables = assess(model, site, config, shares=True)
        report = {"evaluations": {key: item.model_dump() for key, item in results.items()}}
        replies[site.name] = Reply(site.name, len(site.test.y), report, tables=tables)
    by_table, pooled = combine(members[0].task, replies)
    return {
        "name": name,
        "title": title,
        "kind": name.partition(":")[0],
        "trained_at": at,
        "epoch": chooser.epoch,
        "test": {key: {s: item.model_dump() for s, item in found.items()} for key, found in by_table.items()},
        "pooled": {key: item.model_dump() for key, item in pooled.items()},
    }


class _Chooser:
    """Keeps the weights of the best epoch on validation patients, if the federation chooses so too."""

    def __init__(self, config: RunConfig, validation: Cohort, tell: Tell | None, name: str, total: int) -> None:
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
        counts = counted(model, self.validation, self.config).total()
        found = evaluation.summarise(
            self.validation.task, counts, None, self.validation.people(), class_patients(self.validation)
        )
        metric = self.config.evaluation.metric
        value = getattr(found, metric).value
        if value is None:
            return
        value = -value if metric == "loss" else value
        if value > self.value:
            self.value, self.epoch = value, epoch + 1
            self.best = {key: item.detach().clone() for key, item in model.state_dict().items()}
