"""Coefficients and their intervals against scikit-learn's fits of resampled people."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from common.config import RunConfig
from common.run_folder import RunFolder
from experiments.baselines import coefficients
from experiments.baselines.coefficients import CONVERGED, LinearPart, estimate_intervals, write_coefficients
from experiments.report.build import build_report
from experiments.runs.run import run_experiment

PENALTY = 0.05


class Ignored:
    def handle(self, event: object) -> None:
        pass


def _fit(x: np.ndarray, y: np.ndarray) -> LogisticRegression:
    return LogisticRegression(C=1 / (PENALTY * len(y)), tol=1e-10, max_iter=10_000).fit(x, y)


def _draw(people: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return rows of people who have three rows each, alike within a person."""
    own = rng.normal(size=(people, 3)).repeat(3, axis=0)
    x = own + 0.1 * rng.normal(size=own.shape)
    hidden = 2.0 * rng.normal(size=people).repeat(3)
    y = (rng.random(len(x)) < 1 / (1 + np.exp(-(x @ [1.0, -0.5, 0.0] + hidden)))).astype(float)
    return x, y, np.arange(people).repeat(3)


def test_the_errors_are_those_of_resampled_people() -> None:
    rng = np.random.default_rng(1)
    x, y, person = _draw(250, rng)
    model = _fit(x, y)
    part = LinearPart(x, y, person, model.coef_[0], float(model.intercept_[0]))
    errors, left = estimate_intervals([part], PENALTY)
    assert left < 1e-3
    drawn = []
    for _ in range(300):
        rows = np.concatenate([np.flatnonzero(person == who) for who in rng.integers(0, 250, 250)])
        drawn.append(_fit(x[rows], y[rows]).coef_[0])
    assert errors == pytest.approx(np.std(drawn, axis=0), rel=0.15)
    alone, _ = estimate_intervals([LinearPart(x, y, np.arange(len(y)), model.coef_[0], part.bias)], PENALTY)
    assert alone[0] < 0.9 * errors[0], "rows of one person count as one"


def test_hospitals_with_intercepts_of_their_own_and_models_before_their_optimum() -> None:
    rng = np.random.default_rng(2)
    x, y, person = _draw(200, rng)
    y[:300] = (rng.random(300) < 0.9).astype(float)
    place = (np.arange(len(y)) >= 300).astype(float)
    both = np.stack([place, 1 - place], 1) * 1e4  # so large that the penalty has no effect on the intercepts
    model = LogisticRegression(C=1 / (PENALTY * len(y)), tol=1e-12, max_iter=100_000, fit_intercept=False)
    model.fit(np.concatenate([x, both], 1), y)
    weight, biases = model.coef_[0][:3], model.coef_[0][3:] * 1e4
    parts = [
        LinearPart(x[300:], y[300:], person[300:] - 100, weight, float(biases[0]), 0),
        LinearPart(x[:300], y[:300], person[:300], weight, float(biases[1]), 1),
    ]
    errors, left = estimate_intervals(parts, PENALTY)
    assert left < 0.05
    assert np.isfinite(errors).all()
    early = [LinearPart(part.x, part.y, part.person, weight * 0.5, part.bias, part.group) for part in parts]
    assert estimate_intervals(early, PENALTY)[1] > CONVERGED


def test_a_run_writes_its_coefficients_and_no_interval_where_none_may_be_given(tmp_path: Path) -> None:
    config = RunConfig.model_validate(
        {
            "name": "linear",
            "data": {"dataset": "heart_disease", "options": {"simulated": True, "patients": 60}, "scaling": "standard"},
            "sites": {"scheme": "natural", "split": "patient", "validation": 0.0},
            "model": {"name": "logreg"},
            "training": {"loss": "cross_entropy", "optimizer": "sgd", "lr": 0.5, "batch_size": 4096,
                         "momentum": 0.0, "weight_decay": 0.5, "epochs": 1},
            "federation": {"rounds": 40, "choose": "last"},
            "evaluation": {"bootstrap": 0},
            "baselines": {"pooled": False, "local": False},
        }
    )  # fmt: skip
    folder = run_experiment(config, tmp_path, Ignored())
    found = build_report(folder).coefficients
    assert found is not None
    assert len(found.rows) == len(build_report(folder).task["features"])
    assert found.interval == coefficients.INTERVAL
    assert all(row.figure.low < row.figure.value < row.figure.high for row in found.rows if row.figure.low is not None)
    RunFolder(folder).coefficients.unlink()
    assert write_coefficients(config, folder, 0)
    elsewhere = build_report(folder).coefficients
    assert [row.figure.value for row in elsewhere.rows] == [row.figure.value for row in found.rows]
    assert {row.figure.low for row in elsewhere.rows} == {None}
    assert elsewhere.note.startswith("no interval: it would need products of all inputs from each site")
