"""Choose options of trees, such as depth and learning rate, by cross-validation on training patients only.

    python -m experiments.studies.choose_trees experiments/eicu_boosting.yaml --set sites.fold=0
    python -m experiments.studies.choose_trees experiments/eicu_boosting.yaml --grid depth=3,4 --grid min_people=5,10

The training people of a run's hospitals are divided into five folds. For each combination of options, trees are grown
on the others' rows at one place, by the federation's own steps; the log loss, AUROC and F1 of the people held out are
computed after each fifth of the rounds, from merged predictions. Test patients are not used.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch

from client import input_scaling
from client.evaluation.predictions import build_predictor
from client.policy import SIMULATION_POLICY
from client.site import load_site
from client.site_context import SiteContext
from common import models
from common.config import RunConfig, load_config
from common.errors import ConfigError
from common.seeds import rng_for
from common.settings import parse_yaml
from experiments.baselines.trees import grow_trees
from sites import datasets
from sites.cohort import Cohort, join_cohorts

FOLDS = 5
GRID: Mapping[str, Sequence[Any]] = {"depth": (2, 3, 4), "learning_rate": (0.05, 0.1, 0.2)}
"""Options of the model to compare by default, and their values."""


def compare_settings(config: RunConfig, grid: Mapping[str, Sequence[Any]] = GRID) -> list[dict[str, Any]]:
    """Return figures of held-out people for each setting and number of rounds, the lowest log loss first.

    Each has the setting, `rounds`, `log_loss`, `auroc` (of several classes their mean) and `f1`, one of each class.

    Args:
        config: the run.
        grid: values to try of options of the model.

    Raises:
        ConfigError: the task has several labels.
    """
    count = len(datasets.assign_hospitals(datasets.open_source(config, None), config)[0])
    sites = [load_site(SiteContext(SIMULATION_POLICY, index=i, count=count), config) for i in range(count)]
    train = join_cohorts([site.train for site in sites if site.name not in config.sites.external])
    if train.task.kind != "multiclass":
        raise ConfigError("choose_trees needs a task with one class for each example")
    names = np.asarray(train.persons, dtype=object)[train.patient]
    person = np.unique(names, return_inverse=True)[1]
    fold = rng_for(config.seed, "trees").permutation(int(person.max()) + 1)[person] % FOLDS
    checked = sorted({round(config.federation.rounds * (k + 1) / 5) for k in range(5)} - {0})
    rows = []
    for values in product(*grid.values()):
        setting = dict(zip(grid, values, strict=True))
        options = {**config.model.options, **setting}
        wanted = config.model_copy(update={"model": config.model.model_copy(update={"options": options})})
        logits = {rounds: np.zeros((len(train.y), len(train.task.classes))) for rounds in checked}
        for held_out in range(FOLDS):
            _predict_fold(wanted, train, fold == held_out, logits)
        for rounds, predicted in logits.items():
            rows.append({**setting, "rounds": rounds} | _score(predicted, train))
    return sorted(rows, key=lambda row: row["log_loss"])


def _predict_fold(config: RunConfig, train: Cohort, held_out: Any, logits: dict[int, Any]) -> None:
    """Fill in the logits of held-out rows after each number of rounds that is a key of `logits`."""
    fit = train.take(~held_out)
    scaling = input_scaling.fit_scaling([fit], "bins")
    fit, rest = (input_scaling.apply_scaling(part, scaling) for part in (fit, train.take(held_out)))
    model = models.build_model(train.task, config.model, config.seed)

    def check(number: int, grown: torch.nn.Module) -> None:
        if number + 1 in logits:
            logits[number + 1][held_out] = build_predictor(grown, config)(rest)

    grow_trees(model, fit, config, "choose", check)


def _score(logits: Any, train: Cohort) -> dict[str, Any]:
    from sklearn.metrics import f1_score, roc_auc_score

    classes = range(logits.shape[1])
    log = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    loss = float(-log[np.arange(len(train.y)), train.y].mean())
    f1 = f1_score(train.y, log.argmax(1), labels=list(classes), average=None, zero_division=0.0).tolist()
    if train.task.binary:
        auroc = float(roc_auc_score(train.y, log[:, 1] - log[:, 0]))
    else:
        auroc = float(np.mean([roc_auc_score(train.y == c, log[:, c]) for c in classes if (train.y == c).any()]))
    return {"log_loss": loss, "auroc": auroc, "f1": f1}


def _read_grid(texts: Sequence[str]) -> dict[str, list[Any]]:
    """Return options and their values from texts such as depth=3,4.

    Raises:
        ConfigError: a text names no value.
    """
    grid: dict[str, list[Any]] = {}
    for text in texts:
        name, _, values = text.partition("=")
        if not name or not values:
            raise ConfigError(f"--grid {text!r}: write it as option=value,value, such as depth=3,4")
        grid[name] = [parse_yaml(value) for value in values.split(",")]
    return grid


def _describe(row: Mapping[str, Any], classes: Sequence[str]) -> str:
    setting = " ".join(f"{key} {value:<5g}" for key, value in row.items() if key not in ("log_loss", "auroc", "f1"))
    f1 = " ".join(f"{name} {value:.3f}" for name, value in zip(classes, row["f1"], strict=True))
    return f"{setting} log loss {row['log_loss']:.4f}  AUROC {row['auroc']:.4f}  F1 {f1}"


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description="Choose options of trees by cross-validation.")
    arguments.add_argument("config", type=Path)
    arguments.add_argument("--set", action="append", default=[], dest="settings")
    arguments.add_argument("--grid", action="append", default=[], help="option=value,value of the model")
    given = arguments.parse_args()
    wanted_config = load_config(given.config, given.settings)
    names = datasets.open_source(wanted_config, None).task().classes
    for row in compare_settings(wanted_config, _read_grid(given.grid) or GRID):
        print(_describe(row, names))
