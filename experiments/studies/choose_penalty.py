"""Choose the penalty of a logistic regression by cross-validation on training patients alone.

    python -m experiments.studies.choose_penalty experiments/heart_disease.yaml --set data.options.draw=0

Over the training patients of a run's hospitals, five times five folds, stratified by hospital and class: the log loss
of those left out, for penalties C as scikit-learn counts them (the inverse of the weight), with inputs standardised
by all hospitals' training rows of the fold and a free intercept for each hospital. `weight_decay` is what gives the
same penalty to a network with two logits under SGD: 2 / (C n), with n the training patients. Test patients are
never looked at.
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
from common import config as configuration
from common.config import RunConfig
from common.errors import ConfigError
from common.seeds import seed_for
from sites import datasets
from sites.cohort import Cohort, join_cohorts

PENALTIES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
INTERCEPT_SIZE = 10.0
"""Size of the columns that stand for the hospitals' intercepts: so large that the penalty hardly counts for them."""


def penalty_losses(config: RunConfig, penalties: Sequence[float] = PENALTIES) -> list[dict[str, Any]]:
    """Return for each penalty the mean log loss of the patients left out, best first.

    Raises:
        ConfigError: the task is not one of two classes without a signal.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import RepeatedStratifiedKFold

    count = len(datasets.assign_hospitals(datasets.open_source(config, None), config)[0])
    sites = [load_site(SiteContext(SIMULATION_POLICY, index=i, count=count), config) for i in range(count)]
    if not sites[0].task.binary or sites[0].task.channels:
        raise ConfigError("the penalty is chosen for tasks of two classes without a signal")
    train = join_cohorts([site.train for site in sites])
    at = np.repeat(np.arange(count), [len(site.train.y) for site in sites])
    folds = RepeatedStratifiedKFold(n_splits=5, n_repeats=5, random_state=seed_for(config.seed, "penalty") % 2**32)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class")  # a hospital may have one healthy patient
        parts = list(folds.split(train.features, at * 2 + train.y))
    found = []
    for penalty in penalties:
        losses = []
        for learned, left in parts:
            x = {name: _inputs(train, learned, rows, at, count) for name, rows in (("fit", learned), ("left", left))}
            model = LogisticRegression(C=penalty, fit_intercept=False, max_iter=5000, tol=1e-6)
            odds = model.fit(x["fit"], train.y[learned]).decision_function(x["left"])
            losses.append(np.logaddexp(0, -odds * (2 * train.y[left] - 1)).mean())
        decay = 2 / (penalty * len(train.y))
        found.append({"C": penalty, "weight_decay": decay, "log_loss": float(np.mean(losses)), "n": len(train.y)})
    return sorted(found, key=lambda row: row["log_loss"])


def _inputs(
    cohort: Cohort, learned: npt.NDArray[np.int64], rows: npt.NDArray[np.int64], at: npt.NDArray[np.int64], count: int
) -> npt.NDArray[np.float64]:
    scaling = input_scaling.fit_scaling([cohort.take(learned)], "standard")
    features = input_scaling.apply_scaling(cohort.take(rows), scaling).features.astype(np.float64)
    return np.hstack([features, INTERCEPT_SIZE * np.eye(count)[at[rows]]])


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description="Choose the penalty of a logistic regression.")
    arguments.add_argument("config", type=Path)
    arguments.add_argument("--set", action="append", default=[], dest="settings")
    given = arguments.parse_args()
    for row in penalty_losses(configuration.load_config(given.config, given.settings)):
        print(f"C {row['C']:<6g} weight_decay {row['weight_decay']:.4f}  log loss {row['log_loss']:.4f}  n {row['n']}")
