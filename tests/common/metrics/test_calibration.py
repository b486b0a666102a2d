"""Calibration, decision curves and operating points against scikit-learn's and the plain formulas, on binned scores."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.special import expit
from sklearn import metrics as theirs
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression

from common.metrics import calibration, evaluation
from common.metrics.counts import count_predictions
from common.task import Task

BINS = 128
few = settings(max_examples=80, deadline=None)
TASK = Task("t", "multiclass", ("no", "yes"), ("n", "y"), 0, 0, 0.0, ("a",), ())


@st.composite
def scored(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Log odds, with many ties, and what was; one class alone is common."""
    n = draw(st.integers(1, 50))
    values = st.one_of(st.integers(-3, 3).map(float), st.floats(-20, 20, allow_nan=False))
    return draw(arrays.arrays(np.float64, n, elements=values)), draw(
        arrays.arrays(np.int64, n, elements=st.integers(0, draw(st.integers(0, 1))))
    )


def histogram(odds: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The event's histogram, `(1, 2, bins)`, and each example's score as its bin has it."""
    bin_number = np.clip(np.floor((odds + 16) * BINS / 32), 0, BINS - 1).astype(int)
    result = np.zeros((1, 2, BINS), np.int64)
    np.add.at(result, (0, truth, bin_number), 1)
    return result, calibration.bin_centres(BINS)[bin_number]


@few
@given(scored())
def test_the_brier_score_is_scikit_learns(given: Any) -> None:
    odds, truth = given
    scores, binned = histogram(odds, truth)
    expected = theirs.brier_score_loss(truth, expit(binned), pos_label=1) if len(set(truth.tolist())) > 1 else None
    if expected is None:
        expected = np.mean((expit(binned) - truth) ** 2)
    assert calibration.brier(scores)[0] == pytest.approx(expected)


@few
@given(scored(), st.sampled_from(["uniform", "quantile"]))
def test_the_expected_error_has_scikit_learns_groups(given: Any, strategy: str) -> None:
    odds, truth = given
    scores, binned = histogram(odds, truth)
    probabilities = expit(binned)
    result = calibration.expected_calibration_error(scores, mass=strategy == "quantile")[0]
    inner = (
        np.linspace(0, 1, 11)[1:-1]
        if strategy == "uniform"
        else np.percentile(probabilities, np.linspace(0, 1, 11) * 100)[1:-1]
    )
    sizes = np.bincount(np.searchsorted(inner, probabilities), minlength=10)
    if len(set(truth.tolist())) > 1:
        share, mean = calibration_curve(truth, probabilities, n_bins=10, strategy=strategy)
        if len(share) == (sizes > 0).sum():
            assert result == pytest.approx(np.sum(sizes[sizes > 0] * np.abs(share - mean)) / len(truth), abs=1e-9)
    slow = sum(
        abs(
            np.sum(
                probabilities[np.searchsorted(inner, probabilities) == g]
                - truth[np.searchsorted(inner, probabilities) == g]
            )
        )
        for g in range(10)
    )
    assert result == pytest.approx(slow / len(truth), abs=1e-9)


@few
@given(scored())
def test_slope_and_intercept_are_those_of_an_unpenalised_logistic_regression(given: Any) -> None:
    odds, truth = given
    scores, binned = histogram(odds, truth)
    slope, intercept = calibration.calibration_line(scores)
    yes, no = binned[truth == 1], binned[truth == 0]
    if not len(yes) or not len(no) or yes.max() <= no.min() or no.max() <= yes.min():
        assert np.isnan(slope[0])
        assert np.isnan(intercept[0])
        return
    a, b = float(intercept[0]), float(slope[0])
    rest = truth - expit(a + b * binned)
    assert abs(rest.sum()) < 1e-6 * len(truth)
    assert abs((rest * binned).sum()) < 1e-5 * len(truth)


def test_slope_and_intercept_equal_scikit_learns() -> None:
    rng = np.random.default_rng(2)
    for shift, steep in ((0.0, 1.0), (-2.0, 0.4), (1.0, 2.5)):
        odds = rng.normal(shift, 2, 3000)
        truth = (rng.random(3000) < expit(0.5 + steep * odds)).astype(int)
        scores, binned = histogram(odds, truth)
        fitted = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(binned[:, None], truth)
        slope, intercept = calibration.calibration_line(scores)
        assert slope[0] == pytest.approx(fitted.coef_[0, 0], abs=1e-4)
        assert intercept[0] == pytest.approx(fitted.intercept_[0], abs=1e-4)
        large = float(calibration.calibration_in_the_large(scores)[0])
        assert expit(large + binned).sum() == pytest.approx(truth.sum())


def test_fits_of_many_rows_equal_fits_one_at_a_time_from_any_start() -> None:
    rng = np.random.default_rng(5)
    scores = rng.poisson(rng.random((7, 3, 2, BINS)) * 2)
    scores[2, 1, 1] = 0
    far = (np.full(3, 40.0), np.full(3, -300.0))
    together, started = calibration.calibration_line(scores), calibration.calibration_line(scores, far)
    for i in range(7):
        for c in range(3):
            alone = calibration.calibration_line(scores[i, c][None])
            for side in (0, 1):
                np.testing.assert_allclose(together[side][i, c], alone[side][0], rtol=1e-6)
                np.testing.assert_allclose(started[side][i, c], alone[side][0], rtol=1e-6)
    assert np.isnan(together[0][2, 1])


@few
@given(scored(), st.sampled_from([0.5, 0.8, 0.9, 0.95]))
def test_operating_points_lie_on_scikit_learns_roc_curve(given: Any, at: float) -> None:
    odds, truth = given
    scores, binned = histogram(odds, truth)
    sensitivity, specificity = calibration.sensitivity_at(scores, at)[0], calibration.specificity_at(scores, at)[0]
    if len(set(truth.tolist())) < 2:
        assert np.isnan(sensitivity)
        assert np.isnan(specificity)
        return
    false, true, _ = theirs.roc_curve(truth, binned, drop_intermediate=False)
    best = max(t for f, t in zip(false, true, strict=True) if f <= 1 - at + 1e-12)
    beyond = min((f, t) for f, t in zip(false, true, strict=True) if f > 1 - at + 1e-12)
    start = max(f for f in false if f <= 1 - at + 1e-12)
    assert sensitivity == pytest.approx(best + (beyond[1] - best) * (1 - at - start) / (beyond[0] - start))
    minimum = max(1 - f for f, t in zip(false, true, strict=True) if t >= at - 1e-12)
    assert specificity >= minimum - 1e-9


def test_operating_points_by_hand() -> None:
    truth = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    odds = np.array([-4.0, -3, -2, 1, -2.5, 0, 2, 3])
    scores, _ = histogram(odds, truth)
    assert calibration.sensitivity_at(scores, 0.75)[0] == pytest.approx(0.75)
    assert calibration.sensitivity_at(scores, 1.0)[0] == pytest.approx(0.5)
    assert calibration.sensitivity_at(scores, 0.875)[0] == pytest.approx(0.5)
    assert calibration.specificity_at(scores, 0.5)[0] == pytest.approx(1.0)
    assert calibration.specificity_at(scores, 1.0)[0] == pytest.approx(0.5)


def test_net_benefit_is_true_positives_minus_weighted_false_positives() -> None:
    rng = np.random.default_rng(4)
    truth = rng.integers(0, 2, 500)
    odds = rng.normal(size=500) * 2 + truth
    scores, _ = histogram(odds, truth)
    benefit, every = calibration.net_benefit(scores)
    for i, cut in enumerate(calibration.DECISION_THRESHOLDS):
        p = expit(cut)
        called = odds >= cut
        expected = np.mean(called & (truth == 1)) - np.mean(called & (truth == 0)) * p / (1 - p)
        assert benefit[0, i] == pytest.approx(expected)
        assert every[0, i] == pytest.approx(np.mean(truth) - (1 - np.mean(truth)) * p / (1 - p))


def test_groups_hold_every_example_once() -> None:
    rng = np.random.default_rng(7)
    odds, truth, owner = rng.normal(size=400) * 4, rng.integers(0, 2, 400), rng.integers(0, 9, 400)
    counts = count_predictions(np.stack([0 * odds, odds], 1), truth, owner, 9, 1024, coarse=16)
    fine = count_predictions(np.stack([0 * odds, odds], 1), truth, owner, 9, 1024).total()
    every, events, probabilities = calibration.count_reliability_groups(fine.scores)
    people = calibration.count_patients_in_groups(counts.scores)
    assert people is not None
    for g, members in enumerate(
        np.searchsorted(calibration.RELIABILITY_CUTS, odds, side="right") == np.arange(14)[:, None]
    ):
        assert (every[1, g], events[1, g]) == (members.sum(), truth[members].sum())
        assert probabilities[1, g] == pytest.approx(expit(odds[members]).sum(), abs=0.02 * max(1, members.sum()))
        assert people[1, g] == len(set(owner[members].tolist()))


def test_bins_are_fine_enough_for_a_brier_score_and_a_slope() -> None:
    rng = np.random.default_rng(1)
    odds = rng.normal(-3, 2, 20_000)
    truth = (rng.random(20_000) < expit(0.7 * odds)).astype(int)
    scores = count_predictions(np.stack([0 * odds, odds], 1), truth, truth * 0, 1, 1024).total().scores[1:]
    assert calibration.brier(scores)[0] == pytest.approx(np.mean((expit(odds) - truth) ** 2), abs=1e-4)
    exact = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(odds[:, None], truth)
    assert calibration.calibration_line(scores)[0][0] == pytest.approx(exact.coef_[0, 0], abs=2e-3)


def test_an_evaluation_holds_calibration_with_intervals_for_the_event() -> None:
    rng = np.random.default_rng(8)
    owner = np.arange(2000) // 20
    odds = rng.normal(-1, 1.5, 2000)
    truth = (rng.random(2000) < expit(odds)).astype(int)
    logits = np.stack([0 * odds, odds], 1)
    each = count_predictions(logits, truth, owner, 100, 1024, coarse=16)
    total = count_predictions(logits, truth, owner, 100, 1024).total()
    drawn = evaluation.resample_patients(each, 300, np.random.default_rng(1))
    people = calibration.count_patients_in_groups(each.scores)
    result = evaluation.build_evaluation(
        TASK, total, drawn, 100, [100, 100], operating=(0.9,), curves=True, group_patients=people
    )
    event = result.classes["yes"]
    assert result.classes["no"].calibration is None
    assert event.calibration is not None
    for figure in (event.calibration.slope, event.calibration.intercept, event.calibration.large, result.slope):
        assert figure is not None
        assert figure.low is not None
        assert figure.low < figure.value < figure.high  # type: ignore[operator]
    assert event.calibration.slope.low < 1 < event.calibration.slope.high  # type: ignore[operator]
    assert result.brier == event.calibration.brier
    assert result.brier is not None
    assert result.brier.low < result.brier.value < result.brier.high  # type: ignore[operator]
    assert sum(group.examples for group in event.calibration.groups) == 2000
    assert all(group.patients for group in event.calibration.groups)
    assert event.operating[0].sensitivity.low < event.operating[0].sensitivity.value  # type: ignore[operator]
    middle = next(point for point in event.calibration.curve if point.probability == pytest.approx(0.5))
    assert middle.value.low < middle.value.value < middle.value.high  # type: ignore[operator]
    both = evaluation.pool_evaluations(
        TASK, {"a": result, "b": result}, {"a": total, "b": total}, {"a": drawn, "b": drawn}
    )
    part = both.classes["yes"].calibration
    assert part is not None
    assert [group.patients for group in part.groups] == [
        2 * (group.patients or 0) for group in event.calibration.groups
    ]
    assert part.slope.value == pytest.approx(event.calibration.slope.value)
    assert both.classes["yes"].operating[0].at == 0.9
