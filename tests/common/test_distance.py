"""Distances from aggregates against scipy, scikit-learn, a hand-computed case, and slow kernels over all rows."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chi2_contingency, entropy, ks_2samp
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import roc_auc_score
from sklearn.metrics.pairwise import rbf_kernel

from common import distance
from common.distance import HISTOGRAM_BINS, MISSING_BIN, SUPPRESSED, ColumnSummary


def rows(seed: int, n: int, shift: float = 0.0, width: int = 4) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, width)) + shift


def summary(z: np.ndarray, minimum: int = 1, each: int = 1) -> ColumnSummary:
    return distance.summarise_columns(z, np.arange(len(z)) // each, minimum, seed=3)


@pytest.mark.parametrize("shift", [0.0, 0.3, 1.5])
def test_ks_is_scipys_up_to_differences_within_a_bin(shift: float) -> None:
    one, other = rows(1, 900), rows(2, 700, shift)
    result = distance.ks(summary(one).cells, summary(other).cells)
    for column in range(4):
        exact = ks_2samp(one[:, column], other[:, column]).statistic
        cells = ks_2samp(*(distance.histogram_bins(z)[:, column] for z in (one, other))).statistic
        assert result[column] == pytest.approx(cells)
        assert exact - 0.06 <= result[column] <= exact


def test_psi_is_the_hand_computed_one() -> None:
    one, other = np.zeros((1, HISTOGRAM_BINS + 1)), np.zeros((1, HISTOGRAM_BINS + 1))
    one[0, [3, 7, MISSING_BIN]] = 50, 30, 20
    other[0, [3, 7]] = 20, 60
    # shares .5, .3, .2 against .25, .75, 0 which counts as 0.0001
    expected = 0.25 * np.log(0.5 / 0.25) + -0.45 * np.log(0.3 / 0.75) + (0.2 - 1e-4) * np.log(0.2 / 1e-4)
    assert distance.psi(one, other)[0] == pytest.approx(expected)
    assert distance.psi(other, one)[0] == pytest.approx(expected)
    assert distance.psi(one, one * 7)[0] == 0
    assert distance.ks(one, other)[0] == pytest.approx(0.625 - 0.25)
    assert np.isnan(distance.psi(one, 0 * one)[0])


def test_psi_of_equal_distributions_stays_below_its_null_quantile_in_95_of_100() -> None:
    result = [distance.psi(*(summary(rows(2 * i + k, 300, width=1)).cells for k in (0, 1)))[0] for i in range(80)]
    assert 0.88 <= np.mean(np.array(result) < distance.psi_null_quantile(300, 300)) <= 0.995
    far = distance.psi(summary(rows(1, 300, width=1)).cells, summary(rows(2, 300, 0.5, width=1)).cells)[0]
    assert far > 2 * distance.psi_null_quantile(300, 300)


def test_groups_are_about_tenths() -> None:
    one, other = (np.abs(summary(rows(i, 5000)).cells) for i in (1, 2))
    group = distance.assign_psi_groups(one, other)
    assert (np.diff(group[:, :HISTOGRAM_BINS], axis=1) >= 0).all()
    assert (group[:, MISSING_BIN] == distance.PSI_GROUPS).all()
    sizes = np.bincount(group[0, :HISTOGRAM_BINS], weights=(one + other)[0, :HISTOGRAM_BINS], minlength=10)
    assert sizes.min() > 400
    assert sizes.max() < 1800


def test_suppressed_bins_are_left_out_of_both() -> None:
    one, other = np.zeros((1, HISTOGRAM_BINS + 1)), np.zeros((1, HISTOGRAM_BINS + 1))
    one[0, [3, 7, 9]] = 50, 30, SUPPRESSED
    other[0, [3, 7, 9]] = 20, 60, 500
    bare = one.copy(), other.copy()
    bare[0][0, 9] = bare[1][0, 9] = 0
    assert distance.psi(one, other)[0] == pytest.approx(distance.psi(*bare)[0])
    assert distance.ks(one, other)[0] == pytest.approx(distance.ks(*bare)[0])


def test_bins_of_few_people_are_suppressed_and_never_a_single_one() -> None:
    z = np.concatenate([np.zeros(60), np.full(40, 2.0), np.full(12, -2.0)])[:, None]
    people = np.concatenate([np.arange(60), np.arange(40), np.repeat([0, 1, 2], 4)])
    cells = distance.summarise_columns(z, people, 5, 1).cells[0]
    low, high = (int(distance.histogram_bins(np.array([[v]]))[0, 0]) for v in (-2.0, 2.0))
    assert set(np.flatnonzero(cells == SUPPRESSED)) == {low, high}  # three people, and the fewest of the others
    assert cells.max() == 60
    assert (distance.summarise_columns(z, people, 3, 1).cells >= 0).all()
    assert (summary(rows(1, 9, width=1)) + distance.summarise_columns(z, people, 5, 1)).cells[0, low] == SUPPRESSED


def test_sites_add_up_to_all_their_rows() -> None:
    one, other = rows(1, 120), rows(2, 80, 1)
    one[3, 2] = np.nan
    added, whole = summary(one) + summary(other), summary(np.concatenate([one, other]))
    for name, value in whole.arrays().items():
        np.testing.assert_allclose(added.arrays()[name], value, err_msg=name)
    assert added.cells[2, MISSING_BIN] == 1
    np.testing.assert_allclose(added.second, sum(np.nan_to_num(z).T @ np.nan_to_num(z) for z in (one, other)))


@pytest.mark.parametrize("shift", [0.0, 0.5, 1.0])
def test_mmd_is_that_of_the_slow_kernel(shift: float) -> None:
    one, other = rows(1, 500), rows(2, 400, shift)
    gamma = 1 / (2 * 4)
    within = [(k.sum() - len(k)) / (len(k) * (len(k) - 1)) for k in (rbf_kernel(z, z, gamma) for z in (one, other))]
    slow = sum(within) - 2 * rbf_kernel(one, other, gamma).mean()
    assert distance.mmd(summary(one), summary(other)) == pytest.approx(slow, abs=0.02)
    if shift == 0:
        assert abs(slow) < 0.005
    else:
        assert slow > 0.04 * shift


def test_mmd_of_one_distribution_is_0_on_average() -> None:
    values = [distance.mmd(summary(rows(2 * i, 30)), summary(rows(2 * i + 1, 20))) for i in range(60)]
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(60)
    assert np.std(values) > 0


@pytest.mark.parametrize("shift", [0.0, 0.4, 1.0])
def test_the_discriminant_is_scikit_learns_on_unseen_rows(shift: float) -> None:
    one, other = rows(1, 400), rows(2, 300, shift)
    y = np.repeat([0, 1], [400, 300])
    model = LinearDiscriminantAnalysis().fit(np.concatenate([one, other]), y)
    unseen = np.concatenate([rows(3, 20000), rows(4, 20000, shift)])
    expected = roc_auc_score(np.repeat([0, 1], 20000), model.decision_function(unseen))
    assert distance.lda_auroc(summary(one), summary(other)) == pytest.approx(expected, abs=0.02 if shift else 0.045)


def test_the_discriminant_handles_few_rows_and_linearly_dependent_columns() -> None:
    some = [summary(rows(i, 20, width=8)) for i in range(80)]
    drawn = [distance.lda_auroc(one, other) for one, other in zip(some[::2], some[1::2], strict=True)]
    assert np.median(drawn) < 0.6  # the apparent AUROC of such samples is about .8
    one, other = rows(1, 200), rows(2, 200, 0.5)
    twice = [np.concatenate([z, z[:, :2] + z[:, 2:]], axis=1) for z in (one, other)]
    plain = distance.lda_auroc(summary(one), summary(other))
    assert distance.lda_auroc(*map(summary, twice)) == pytest.approx(plain, abs=2e-3)
    assert np.isnan(distance.lda_auroc(summary(rows(1, 1)), summary(other)))


def test_label_shift_is_scipys() -> None:
    one, other = [80, 20, 0], [30, 50, 40]
    shift, association = distance.label_shift(one, other)
    p, q = np.array(one) / 100, np.array(other) / 120
    divergence = (entropy(p, (p + q) / 2, 2) + entropy(q, (p + q) / 2, 2)) / 2
    assert shift == pytest.approx(np.sqrt(divergence))
    chi2 = chi2_contingency([one, other], correction=False).statistic
    assert association == pytest.approx(np.sqrt(chi2 / 220))
    assert distance.label_shift([5, 0], [0, 9]) == (pytest.approx(1), pytest.approx(1))
    assert distance.label_shift([5, 0], [9, 0]) == (0, 0)
    assert all(np.isnan(value) for value in distance.label_shift([0, 0], [9, 0]))


def test_aggregates_that_do_not_fit_are_refused() -> None:
    arrays = summary(rows(1, 50)).arrays()
    assert ColumnSummary.from_arrays(arrays, 4).rows == 50
    wrong = [
        {**arrays, "first": np.zeros(5)},
        {**arrays, "cells": arrays["cells"] - 2},
        {**arrays, "second": arrays["second"] * np.nan},
        {name: value for name, value in arrays.items() if name != "rows"},
    ]
    for item in wrong:
        with pytest.raises(ValueError, match="aggregates"):
            ColumnSummary.from_arrays(item, 4)
