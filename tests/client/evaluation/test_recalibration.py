"""Recalibration against scikit-learn and slow searches; it is fitted on validation patients only."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.special import expit, softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import brier_score_loss, roc_auc_score

from client.evaluation import recalibration
from client.evaluation.evaluate import evaluate_site as assess_plain
from client.site import Site
from common import messages
from common.metrics import counts
from common.metrics.table_names import RESAMPLED_SUFFIX
from common.replies import FinalTestReply
from common.task import Task
from sites.cohort import Cohort
from tests import tiny
from tests.server.phases.test_scaling import VITALS, vitals
from tests.wire import build_request, site_script

PAIR = Task("pair", "multiclass", ("no", "yes"), ("n", "y"), 0, 0, 0.0, ("z",), ())


class Given(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A classifier whose decision is its only input."""

    def fit(self, x: Any, y: Any) -> Given:
        self.classes_ = np.array([0, 1])
        return self

    def decision_function(self, x: Any) -> Any:
        return x[:, 0]

    def predict(self, x: Any) -> Any:
        return (x[:, 0] > 0).astype(int)


def odds(seed: int, n: int = 400, slope: float = 0.4, shift: float = 1.5) -> tuple[np.ndarray, np.ndarray]:
    """Return log odds that are too bold and too high, and the labels."""
    rng = np.random.default_rng(seed)
    true = rng.normal(-1, 1.5, n)
    y = (rng.random(n) < expit(true)).astype(np.int64)
    return true / slope + shift, y


def pair(z: np.ndarray) -> np.ndarray:
    return np.stack([np.zeros_like(z), z], 1)


@pytest.mark.parametrize(("name", "method"), [("platt", "sigmoid"), ("isotonic", "isotonic")])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_recalibration_agrees_with_scikit_learn(name: str, method: str, seed: int) -> None:
    z, y = odds(seed)
    other, _ = odds(seed + 10)
    wanted = CalibratedClassifierCV(FrozenEstimator(Given().fit(None, None)), method=method).fit(z[:, None], y)
    probability = expit(
        counts.class_log_odds(recalibration.fit_recalibration(name, pair(z), y, PAIR)(pair(other)))[:, 1]
    )
    expected = wanted.predict_proba(other[:, None])[:, 1]
    edge = 0.5 / (len(y) + 1)
    np.testing.assert_allclose(
        probability, np.clip(expected, edge, 1 - edge) if name == "isotonic" else expected, atol=2e-4
    )


def test_a_score_that_separates_stays_finite() -> None:
    z, y = np.array([-2.0, -1.0, 1.0, 2.0]), np.array([0, 0, 1, 1])
    for name in ("platt", "isotonic", "temperature"):
        assert np.isfinite(recalibration.fit_recalibration(name, pair(z), y, PAIR)(pair(z))).all()


@pytest.mark.parametrize("kind", ["multiclass", "multilabel"])
def test_the_temperature_agrees_with_a_slow_search(kind: Any) -> None:
    rng = np.random.default_rng(4)
    true = rng.normal(size=(3000, 3))
    if kind == "multilabel":
        y = (rng.random(true.shape) < expit(true)).astype(np.int64)
    else:
        y = np.array([rng.choice(3, p=row) for row in softmax(true, 1)])
    task = Task("t", kind, ("a", "b", "c"), ("a", "b", "c"), 0, 0, 0.0, ("z",), ())
    scale = recalibration.fit_recalibration("temperature", 2.5 * true, y, task)(np.ones((1, 3)))[0, 0]

    def loss(by: float) -> float:
        z = 2.5 * true * by
        if kind == "multilabel":
            return -float((y * np.log(expit(z)) + (1 - y) * np.log(expit(-z))).mean())
        return -float(np.log(softmax(z, 1)[np.arange(len(y)), y]).mean())

    grid = np.arange(0.2, 0.8, 0.002)
    assert scale == pytest.approx(grid[np.argmin([loss(by) for by in grid])], abs=0.003)
    assert scale == pytest.approx(0.4, abs=0.03)


def make_site(seed: int = 1, parts: tuple[int, ...] = (0,) * 2 + (1,) * 20 + (2,) * 20) -> Site:
    return vitals("north", seed, parts)


def model(cohort: Cohort) -> np.ndarray:
    """Too bold, too high, and somewhat right: events have a higher blood pressure."""
    z = np.nan_to_num(cohort.features[:, 0], nan=120.0) / 8 - 11
    return pair(z).astype(np.float32)


def config(**more: Any) -> Any:
    given = {"evaluation__threshold": "utility", "evaluation__bins": 4096, "evaluation__bootstrap": 50, **more}
    return tiny.run_config(model={"name": "logreg"}, **given)


def test_results_are_those_of_the_recalibrated_scores() -> None:
    site = make_site()
    results, tables, report = recalibration.evaluate_recalibrations(model, site, config(), True, 0.5)
    names = ["threshold", "platt", "temperature", "isotonic"]
    assert list(results) == [f"recalibrated {name}" for name in names]
    assert set(tables) == {f"recalibrated {name}{end}" for name in names for end in ("", "/resampled")}
    held, tested = model(site.validation).astype(float), model(site.test).astype(float)
    plain = assess_plain(model, site, config(), True, 0.5)
    before, before_tables = plain.results, plain.tables
    for name in names:
        change = recalibration.fit_recalibration(name, held, site.validation.y, VITALS)
        event = counts.class_log_odds(change(tested))[:, 1]
        item = results[f"recalibrated {name}"]
        assert item.auroc is not None
        assert item.brier is not None
        if name == "temperature":  # so high that all scores lie in a few bins
            assert item.auroc.value is None
            assert any("too close together" in note for note in item.notes)
        else:
            assert item.auroc.value == pytest.approx(roc_auc_score(site.test.y, event), abs=0.02)
        assert item.brier.value == pytest.approx(brier_score_loss(site.test.y, expit(event)), abs=0.01)
        at = report.methods[name].threshold
        alarm = event.astype(np.float32) >= at
        np.testing.assert_array_equal(
            item.confusion, [[(alarm[site.test.y == c] == p).sum() for p in (False, True)] for c in (0, 1)]
        )
        difference = report.methods[name].difference
        assert difference["brier"].value == pytest.approx(item.brier.value - before["all"].brier.value)  # type: ignore[union-attr, operator]
        drawn = [
            counts.normalised_utility(t.utility)
            for t in (tables[f"recalibrated {name}/resampled"], before_tables["all/resampled"])
        ]
        assert difference["utility"].low <= np.median(drawn[0] - drawn[1]) <= difference["utility"].high
    loss = {name: results[f"recalibrated {name}"].loss.value for name in names}
    assert max(loss["platt"], loss["isotonic"]) < loss["threshold"] == before["all"].loss.value  # type: ignore[type-var, operator]


def test_the_threshold_is_the_best_on_validation_patients() -> None:
    site = make_site()
    _, _, report = recalibration.evaluate_recalibrations(model, site, config(), True, 0.5)
    held = model(site.validation)
    event = (held[:, 1] - held[:, 0]).astype(float)
    worth = site.validation.utility
    assert worth is not None
    gain = {at: (worth[:, 1] - worth[:, 0])[event >= at].sum() for at in counts.bin_edges(4096)}
    assert gain[report.methods["threshold"].threshold] == pytest.approx(max(gain.values()), abs=1e-4)


def test_test_patients_do_not_affect_recalibration() -> None:
    site = make_site()
    turned = replace(site, test=replace(site.test, y=1 - site.test.y), train=replace(site.train, y=1 - site.train.y))
    reports = [
        recalibration.evaluate_recalibrations(model, one, config(), True, 0.5)[2]
        for one in (site, turned, make_site(2))
    ]
    at = [{name: item.threshold for name, item in one.methods.items()} for one in reports]
    assert at[0] == at[1]
    assert at[0] != at[2]


def test_without_shared_resamples_paired_intervals_are_still_reported() -> None:
    site = make_site()
    _, open_, report = recalibration.evaluate_recalibrations(model, site, config(), True, 0.5)
    _, strict, same = recalibration.evaluate_recalibrations(model, site, config(), False, 0.5)
    assert not any(name.endswith(RESAMPLED_SUFFIX) for name in strict)
    assert {name for name in open_ if not name.endswith(RESAMPLED_SUFFIX)} == set(strict)
    assert report == same
    assert report.methods["platt"].difference["loss"].high < 0


def test_the_report_says_why_nothing_was_recalibrated() -> None:
    few = make_site(parts=(0,) * 6 + (1,) * 4 + (2,) * 6)
    results, tables, report = recalibration.evaluate_recalibrations(model, few, config(), True, 0.5)
    assert (results, tables) == ({}, {})
    assert report.reason == "fewer than 5 validation patients of each class"
    private = tiny.run_config(
        model={"name": "logreg"}, training__loss="cross_entropy", federation__choose="last", privacy={"epsilon": 5.0}
    )
    assert "private" in recalibration.evaluate_recalibrations(model, make_site(), private, True, None)[2].reason
    assert recalibration.evaluate_recalibrations(model, make_site(), config(evaluation__recalibrate=[]), True, 0.5) == (
        {},
        {},
        None,
    )


def test_methods_that_do_not_apply_are_skipped() -> None:
    likelier = tiny.run_config(model={"name": "logreg"}, evaluation__threshold="likelier")
    assert [*recalibration.evaluate_recalibrations(model, make_site(), likelier, True, None)[0]] == [
        "recalibrated platt", "recalibrated temperature", "recalibrated isotonic"
    ]  # fmt: skip
    three = tiny.site("north", 1, parts=(0, 0, 1, 1, 1, 1, 1, 1, 2, 2))
    rng = np.random.default_rng(0)
    results, _, report = recalibration.evaluate_recalibrations(
        lambda cohort: rng.normal(size=(len(cohort.y), 3)).astype(np.float32), three, tiny.run_config(), True, None
    )
    assert list(results) == ["recalibrated temperature"]
    assert report.patients == 6


def test_recalibration_is_sent_with_the_test_results(monkeypatch: pytest.MonkeyPatch) -> None:
    site = make_site()
    monkeypatch.setattr("client.site.read_site", lambda context, config: site)
    run = config(data__scaling="site")
    weights = {"out.weight": np.array([[0, 0], [1, 0]], np.float32), "out.bias": np.array([0, 1], np.float32)}
    reply = site_script(site)(build_request("test", run, 1, weights, threshold=0.25))
    back = messages.unpack_reply(FinalTestReply, messages.pack_reply(reply))
    assert {"recalibrated platt", "recalibrated platt/resampled"} <= set(back.tables)
    assert set(back.report.to_dict()["recalibration"]["methods"]) == {"threshold", "platt", "temperature", "isotonic"}
