"""Points of ROC and precision-recall curves, against counting the scores one by one."""

from __future__ import annotations

import numpy as np
import pytest

from common.metrics import evaluation
from common.metrics.counts import count_predictions
from common.metrics.curve_points import CURVE_CUTS, compute_points
from common.metrics.resampling import COARSE_FACTOR


def test_points_count_scores_at_or_above_each_threshold() -> None:
    rng = np.random.default_rng(3)
    truth = (rng.random(500) < 0.2).astype(int)
    odds = rng.normal(size=500) + 2 * truth - 1
    who = np.arange(500)
    counts = count_predictions(np.stack([np.zeros(500), odds], 1), truth, who, 500, 1024)
    drawn = evaluation.resample_patients(counts.coarser(COARSE_FACTOR), 300, np.random.default_rng(0))
    points = compute_points(counts.total().scores[1], drawn.scores[:, 1], 500)
    assert [point.log_odds for point in points] == list(CURVE_CUTS)
    for point in points:
        called = odds >= point.log_odds
        assert point.sensitivity.value == pytest.approx(called[truth == 1].mean())
        assert point.specificity.value == pytest.approx(1 - called[truth == 0].mean())
        if called.any():
            assert point.precision.value == pytest.approx(truth[called].mean())
        else:
            assert point.precision.value is None
    middle = next(point for point in points if point.log_odds == 0)
    share = middle.sensitivity.value
    error = np.sqrt(share * (1 - share) / truth.sum())  # examples are independent here
    assert middle.sensitivity.high - middle.sensitivity.low == pytest.approx(2 * 1.96 * error, rel=0.2)


def test_bins_without_a_boundary_at_a_threshold_give_no_point_there() -> None:
    scores = np.ones((2, 16), np.int64)
    assert {point.log_odds for point in compute_points(scores, None, 9)} < set(CURVE_CUTS)
