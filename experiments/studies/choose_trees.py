"""Choose depth and learning rate of boosted trees by cross-validation on training patients only.

    python -m experiments.studies.choose_trees experiments/eicu_boosting.yaml --set sites.fold=0

The training people of a run's hospitals are divided into five folds. For each depth and learning rate, trees are grown
on the others' rows at one place, by the federation's own steps; the log loss and AUROC of the people held out are
computed after each fifth of the rounds, from merged predictions. Test patients are not used.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
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
from experiments.baselines.trees import grow_trees
from sites import datasets
from sites.cohort import Cohort, join_cohorts

DEPTHS, LEARNING_RATES, FOLDS = (2, 3, 4), (0.05, 0.1, 0.2), 5


def compare_settings(
    config: RunConfig, depths: Sequence[int] = DEPTHS, rates: Sequence[float] = LEARNING_RATES
) -> list[dict[str, Any]]:
    """Return the mean log loss and the AUROC of held-out people for each setting and number of rounds, best first.

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
    for depth, rate in product(depths, rates):
        options = {**config.model.options, "depth": depth, "learning_rate": rate}
        wanted = config.model_copy(update={"model": config.model.model_copy(update={"options": options})})
        logits = {rounds: np.zeros((len(train.y), len(train.task.classes))) for rounds in checked}
        for held_out in range(FOLDS):
            _predict_fold(wanted, train, fold == held_out, logits)
        for rounds, predicted in logits.items():
            rows.append({"depth": depth, "learning_rate": rate, "rounds": rounds} | _score(predicted, train))
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


def _score(logits: Any, train: Cohort) -> dict[str, float]:
    from sklearn.metrics import roc_auc_score

    log = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    loss = float(-log[np.arange(len(train.y)), train.y].mean())
    if train.task.binary:
        return {"log_loss": loss, "auroc": float(roc_auc_score(train.y, log[:, 1] - log[:, 0]))}
    scores = [roc_auc_score(train.y == c, log[:, c]) for c in range(logits.shape[1]) if (train.y == c).sum() > 0]
    return {"log_loss": loss, "auroc": float(np.mean(scores))}


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description="Choose depth and learning rate of boosted trees.")
    arguments.add_argument("config", type=Path)
    arguments.add_argument("--set", action="append", default=[], dest="settings")
    given = arguments.parse_args()
    for row in compare_settings(load_config(given.config, given.settings))[:12]:
        print(
            f"depth {row['depth']} learning_rate {row['learning_rate']:<5g} rounds {row['rounds']:<3d} "
            f"log loss {row['log_loss']:.4f}  AUROC {row['auroc']:.4f}"
        )
