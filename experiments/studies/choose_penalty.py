"""Choose the penalty of a logistic regression by cross-validation on training patients only.

    python -m experiments.studies.choose_penalty experiments/heart_disease.yaml --set data.options.draw=0

The training patients of a run's hospitals are divided into five folds, five times, stratified by hospital and class.
For each penalty C (as in scikit-learn, the inverse of the weight) the log loss of the held-out patients is computed.
Inputs are standardised by all hospitals' training rows of the fold, and each hospital has an unpenalised intercept.
`weight_decay` is the equivalent penalty of a network with two logits under SGD: 2 / (C n), with n the number of
training patients. Test patients are not used.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from client import input_scaling
from client.policy import SIMULATION_POLICY
from client.site import load_site
from client.site_context import SiteContext
from common.config import RunConfig, load_config
from common.errors import ConfigError
from common.seeds import seed_for
from sites import datasets
from sites.cohort import Cohort, join_cohorts

PENALTIES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
INTERCEPT_SIZE = 10.0
"""Value of the columns that represent the hospitals' intercepts, so large that the penalty hardly affects them."""


def penalty_losses(config: RunConfig, penalties: Sequence[float] = PENALTIES) -> list[dict[str, Any]]:
    """Return for each penalty the mean log loss of held-out patients, best first.

    Raises:
        ConfigError: the task has a signal, or not two classes.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import RepeatedStratifiedKFold

    count = len(datasets.assign_hospitals(datasets.open_source(config, None), config)[0])
    sites = [load_site(SiteContext(SIMULATION_POLICY, index=i, count=count), config) for i in range(count)]
    if not sites[0].task.binary or sites[0].task.channels:
        raise ConfigError("choose_penalty needs a task with two classes and without a signal")
    train = join_cohorts([site.train for site in sites])
    hospital = np.repeat(np.arange(count), [len(site.train.y) for site in sites])
    folds = RepeatedStratifiedKFold(n_splits=5, n_repeats=5, random_state=seed_for(config.seed, "penalty") % 2**32)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class")  # a hospital may have one healthy patient
        parts = list(folds.split(train.features, hospital * 2 + train.y))
    rows = []
    for penalty in penalties:
        losses = []
        for fitted, held_out in parts:
            fit, rest = (_make_inputs(train, fitted, part, hospital, count) for part in (fitted, held_out))
            model = LogisticRegression(C=penalty, fit_intercept=False, max_iter=5000, tol=1e-6)
            odds = model.fit(fit, train.y[fitted]).decision_function(rest)
            losses.append(np.logaddexp(0, -odds * (2 * train.y[held_out] - 1)).mean())
        decay = 2 / (penalty * len(train.y))
        rows.append({"C": penalty, "weight_decay": decay, "log_loss": float(np.mean(losses)), "n": len(train.y)})
    return sorted(rows, key=lambda row: row["log_loss"])


def _make_inputs(
    cohort: Cohort,
    fitted: npt.NDArray[np.int64],
    rows: npt.NDArray[np.int64],
    hospital: npt.NDArray[np.int64],
    count: int,
) -> npt.NDArray[np.float64]:
    """Return the inputs of `rows`, scaled by the rows `fitted`, with a column for each of `count` hospitals."""
    scaling = input_scaling.fit_scaling([cohort.take(fitted)], "standard")
    features = input_scaling.apply_scaling(cohort.take(rows), scaling).features.astype(np.float64)
    return np.hstack([features, INTERCEPT_SIZE * np.eye(count)[hospital[rows]]])


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description="Choose the penalty of a logistic regression.")
    arguments.add_argument("config", type=Path)
    arguments.add_argument("--set", action="append", default=[], dest="settings")
    given = arguments.parse_args()
    for row in penalty_losses(load_config(given.config, given.settings)):
        print(f"C {row['C']:<6g} weight_decay {row['weight_decay']:.4f}  log loss {row['log_loss']:.4f}  n {row['n']}")
