"""The figures against scikit-learn's, and the counts against counting one example after another."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn import metrics as theirs

from common.metrics import counts
from common.metrics.counts import Counts

BINS = 64
few = settings(max_examples=60, deadline=None)


@st.composite
def predictions(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Logits `(n, classes)`, truth, owner of each example and the number of owners; ties are common."""
    classes = draw(st.integers(2, 5))
    n = draw(st.integers(1, 40))
    values = st.one_of(st.integers(-3, 3).map(float), st.floats(-40, 40, allow_nan=False))
    logits = draw(arrays.arrays(np.float64, (n, classes), elements=values))
    truth = draw(arrays.arrays(np.int64, n, elements=st.integers(0, classes - 1)))
    groups = draw(st.integers(1, 4))
    owner = draw(arrays.arrays(np.int64, n, elements=st.integers(0, groups - 1)))
    return logits, truth, owner, groups


def slowly(logits: np.ndarray, truth: np.ndarray, owner: np.ndarray, groups: int, bins: int) -> Counts:
    """Count one example and one class at a time."""
    classes = logits.shape[1]
    confusion = np.zeros((groups, classes, classes), np.int64)
    scores = np.zeros((groups, classes, 2, bins), np.int64)
    loss = np.zeros(groups)
    edges = np.linspace(-16, 16, bins + 1)[1:-1]
    for z, y, who in zip(logits, truth, owner, strict=True):
        confusion[who, y, list(z).index(max(z))] += 1
        odds = [z[c] - np.logaddexp.reduce([z[k] for k in range(classes) if k != c]) for c in range(classes)]
        for c in range(classes):
            scores[who, c, int(y == c), int(np.searchsorted(edges, odds[c], side="right"))] += 1
        loss[who] += np.logaddexp.reduce(z) - z[y]
    return Counts(confusion, scores, loss)


def assert_equal(one: Counts, other: Counts) -> None:
    np.testing.assert_array_equal(one.confusion, other.confusion)
    np.testing.assert_array_equal(one.scores, other.scores)
    np.testing.assert_allclose(one.loss, other.loss, rtol=1e-9, atol=1e-9)


def near_an_edge(logits: np.ndarray, bins: int) -> bool:
    position = (counts.class_log_odds(logits) + 16) * bins / 32
    return bool((np.abs(position - np.rint(position)) < 1e-9).any())


@few
@given(predictions())
def test_counts_equal_counting_one_by_one(given: Any) -> None:
    logits, truth, owner, groups = given
    logits = logits + 0.0123 * np.arange(1, logits.shape[1] + 1) * 1.37
    if not near_an_edge(logits, BINS):
        assert_equal(
            counts.count_predictions(logits, truth, owner, groups, BINS), slowly(logits, truth, owner, groups, BINS)
        )


@few
@given(predictions())
def test_figures_of_the_confusion_matrix_equal_scikit_learns(given: Any) -> None:
    logits, truth, owner, groups = given
    classes = logits.shape[1]
    every = list(range(classes))
    predicted = logits.argmax(1)
    total = counts.count_predictions(logits, truth, owner, groups, BINS).total()
    np.testing.assert_array_equal(total.confusion, theirs.confusion_matrix(truth, predicted, labels=every))
    precision, recall, f1, support = theirs.precision_recall_fscore_support(
        truth, predicted, labels=every, zero_division=0
    )
    present = support > 0
    np.testing.assert_allclose(counts.precision(total.confusion)[present], precision[present])
    np.testing.assert_allclose(counts.recall(total.confusion)[present], recall[present])
    np.testing.assert_allclose(counts.f1(total.confusion)[present], f1[present])
    assert np.isnan(counts.recall(total.confusion)[~present]).all()
    assert np.isnan(counts.f1(total.confusion)[~present]).all()
    assert counts.accuracy(total.confusion) == pytest.approx(theirs.accuracy_score(truth, predicted))
    macro = theirs.f1_score(truth, predicted, labels=np.unique(truth), average="macro", zero_division=0)
    assert counts.macro_mean(counts.f1(total.confusion), present) == pytest.approx(macro)


@few
@given(predictions())
def test_areas_equal_scikit_learns_on_the_binned_scores(given: Any) -> None:
    logits, truth, owner, groups = given
    total = counts.count_predictions(logits, truth, owner, groups, BINS).total()
    binned = np.floor((np.clip(counts.class_log_odds(logits), -16, 15.999999) + 16) * BINS / 32)
    for c in range(logits.shape[1]):
        own = truth == c
        if own.any() and not own.all():
            assert counts.auroc(total.scores)[c] == pytest.approx(theirs.roc_auc_score(own, binned[:, c]))
            assert counts.auprc(total.scores)[c] == pytest.approx(theirs.average_precision_score(own, binned[:, c]))
        else:
            assert np.isnan(counts.auroc(total.scores)[c])
            assert np.isnan(counts.auprc(total.scores)[c])


@pytest.mark.parametrize(("bins", "area", "precision"), [(256, 1e-3, 4e-3), (1024, 1e-3, 1e-3)])
def test_areas_are_near_those_of_the_raw_scores(bins: int, area: float, precision: float) -> None:
    """Average precision loses more to bins than the AUROC: it takes each bin's examples for one step."""
    rng = np.random.default_rng(3)
    truth = rng.choice(4, size=20_000, p=[0.8, 0.1, 0.07, 0.03])
    logits = rng.normal(size=(20_000, 4)) * 2
    logits[np.arange(20_000), truth] += rng.normal(1.5, 1.5, 20_000)
    scores = counts.count_predictions(logits, truth, np.zeros(20_000, int), 1, bins).total().scores
    odds = counts.class_log_odds(logits)
    for c in range(4):
        own = truth == c
        assert counts.auroc(scores)[c] == pytest.approx(theirs.roc_auc_score(own, odds[:, c]), abs=area)
        expected = theirs.average_precision_score(own, odds[:, c])
        assert counts.auprc(scores)[c] == pytest.approx(expected, abs=precision)


@few
@given(predictions())
def test_the_loss_is_the_log_loss(given: Any) -> None:
    logits, truth, owner, groups = given
    logits = np.clip(logits, -10, 10)
    probability = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    loss = counts.count_predictions(logits, truth, owner, groups, BINS).loss.sum()
    expected = theirs.log_loss(truth, probability, labels=list(range(logits.shape[1])), normalize=False)
    assert loss == pytest.approx(expected, rel=1e-6, abs=1e-9)


@few
@given(predictions())
def test_log_odds_equal_the_plain_formula(given: Any) -> None:
    logits = np.clip(given[0], -8, 8)
    probability = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(
        counts.class_log_odds(logits), np.log(probability / (1 - probability)), rtol=1e-6, atol=1e-6
    )


def test_log_odds_are_accurate_where_the_plain_formula_is_not() -> None:
    odds = counts.class_log_odds(np.array([[800.0, 0.0], [0.0, 40.0], [1e4, -1e4]]))
    np.testing.assert_allclose(odds, [[800, -800], [-40, 40], [2e4, -2e4]])


@few
@given(predictions(), st.integers(0, 40))
def test_adding_counts_is_counting_together(given: Any, cut: int) -> None:
    logits, truth, owner, groups = given
    here, there = (
        counts.count_predictions(logits[part], truth[part], owner[part], groups, BINS)
        for part in (slice(None, cut), slice(cut, None))
    )
    assert_equal(here + there, counts.count_predictions(logits, truth, owner, groups, BINS))
    nothing = counts.empty_counts((logits.shape[1],) * 2, BINS)
    assert_equal((here + there).total() + nothing, (here.total() + there.total()))


@few
@given(predictions(), st.integers(0, 2**31))
def test_resampling_counts_is_counting_the_drawn_patients_again(given: Any, seed: int) -> None:
    logits, truth, owner, groups = given
    weights = np.random.default_rng(seed).multinomial(groups, np.full(groups, 1 / groups), size=3)
    drawn = counts.count_predictions(logits, truth, owner, groups, BINS).resample(weights.astype(float))
    for i, times in enumerate(weights):
        rows = np.repeat(np.arange(len(truth)), times[owner])
        again = counts.count_predictions(logits[rows], truth[rows], owner[rows] * 0, 1, BINS).total()
        assert_equal(Counts(drawn.confusion[i], drawn.scores[i], drawn.loss[i]), again)


@pytest.mark.parametrize(("bins", "factor"), [(64, 4), (17, 4), (16, 16), (5, 7)])
def test_coarser_bins_are_sums_of_neighbours(bins: int, factor: int) -> None:
    scores = np.random.default_rng(1).integers(0, 9, size=(3, 2, 2, bins))
    counts = Counts(np.zeros((3, 2, 2), np.int64), scores, np.zeros(3))
    coarse = counts.coarser(factor).scores
    expected = [scores[..., i : i + factor].sum(-1) for i in range(0, bins, factor)]
    np.testing.assert_array_equal(coarse, np.stack(expected, -1))


def test_metrics_of_a_single_class() -> None:
    total = counts.count_predictions([[2.0, 0.0], [0.0, 1.0]], [0, 0], [0, 0], 1, BINS).total()
    np.testing.assert_array_equal(counts.precision(total.confusion), [1.0, 0.0])
    np.testing.assert_array_equal(counts.recall(total.confusion), [0.5, np.nan])
    assert np.isnan(counts.auroc(total.scores)).all()
    assert np.isnan(counts.auprc(total.scores)).all()


def test_precision_is_0_for_a_class_never_predicted_and_undefined_for_an_absent_one() -> None:
    confusion = np.array([[3, 0, 0], [1, 0, 0], [0, 0, 0]])
    np.testing.assert_array_equal(counts.precision(confusion), [0.75, 0.0, np.nan])
    np.testing.assert_allclose(counts.f1(confusion), [6 / 7, 0.0, np.nan])


def test_metrics_without_examples_are_nan() -> None:
    nothing = counts.count_predictions(np.zeros((0, 3)), np.zeros(0), np.zeros(0), 2, BINS).total()
    assert_equal(nothing, counts.empty_counts((3, 3), BINS))
    for value in (
        counts.accuracy(nothing.confusion),
        counts.precision(nothing.confusion),
        counts.auroc(nothing.scores),
        counts.auprc(nothing.scores),
        counts.macro_mean(counts.f1(nothing.confusion), np.zeros(3, bool)),
    ):
        assert np.isnan(value).all()


def test_tied_scores_have_an_auroc_of_one_half() -> None:
    total = counts.count_predictions(np.zeros((10, 2)), [0] * 7 + [1] * 3, [0] * 10, 1, BINS).total()
    np.testing.assert_allclose(counts.auroc(total.scores), [0.5, 0.5])
    np.testing.assert_allclose(counts.auprc(total.scores), [0.7, 0.3])


def test_scores_beyond_the_range_fall_into_the_end_bins() -> None:
    total = counts.count_predictions([[50.0, -50.0], [-50.0, 50.0]], [0, 1], [0, 0], 1, BINS).total()
    assert total.scores[0, 1, -1] == total.scores[0, 0, 0] == 1
    assert total.scores.sum() == 4


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_prediction_that_is_not_finite_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="not a finite number"):
        counts.count_predictions([[bad, 0.0]], [0], [0], 1, BINS)


def test_leading_axes_give_the_same_as_a_loop() -> None:
    rng = np.random.default_rng(5)
    scores = rng.integers(0, 5, size=(4, 3, 2, 16))
    confusion = rng.integers(0, 5, size=(4, 3, 3))
    for i in range(4):
        np.testing.assert_array_equal(counts.auroc(scores)[i], counts.auroc(scores[i]))
        np.testing.assert_array_equal(counts.auprc(scores)[i], counts.auprc(scores[i]))
        np.testing.assert_array_equal(counts.f1(confusion)[i], counts.f1(confusion[i]))
        assert counts.accuracy(confusion)[i] == counts.accuracy(confusion[i])
