"""Multilabel counts, thresholds and utility, against scikit-learn and against counting one by one."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as theirs

from common.metrics import evaluation
from common.metrics.counts import (
    accuracy,
    apply_threshold,
    auroc,
    bin_edges,
    choose_threshold,
    count_predictions,
    f1,
    normalised_utility,
    precision,
    recall,
)
from common.metrics.resampling import COARSE_FACTOR
from common.task import Task

BINS = 512


@pytest.fixture(name="labels")
def _labels() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(4)
    truth = (rng.random((300, 3)) < (0.5, 0.2, 0.05)).astype(np.int64)
    return rng.normal(size=(300, 3)) * 2 + 2 * truth - 1, truth, rng.integers(0, 7, 300)


def test_multilabel_counts_are_scikit_learns(labels: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    logits, truth, owner = labels
    counts = count_predictions(logits, truth, owner, 7, BINS)
    assert counts.confusion.shape == (7, 3, 2, 2)
    total = counts.total()
    np.testing.assert_array_equal(total.confusion, theirs.multilabel_confusion_matrix(truth, logits > 0))
    one = count_predictions(logits[owner == 2], truth[owner == 2], np.zeros((owner == 2).sum(), int), 1, BINS)
    np.testing.assert_array_equal(counts.confusion[2], one.confusion[0])
    p = 1 / (1 + np.exp(-logits))
    assert float(total.loss) == pytest.approx(sum(theirs.log_loss(truth[:, c], p[:, c]) for c in range(3)) * 300)
    assert accuracy(total.confusion, True) == pytest.approx(1 - theirs.hamming_loss(truth, logits > 0))
    for ours, name in ((precision, "precision"), (recall, "recall"), (f1, "f1")):
        wanted = getattr(theirs, f"{name}_score")(truth, logits > 0, average=None)
        np.testing.assert_allclose(ours(total.confusion, True), wanted)
    np.testing.assert_allclose(auroc(total.scores), theirs.roc_auc_score(truth, logits, average=None), atol=3e-3)


def test_multilabel_figures_know_their_examples(labels: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    logits, truth, owner = labels
    task = Task("t", "multilabel", ("A", "B", "C"), ("a", "b", "c"), 1, 8, 100.0, (), ("lead",))
    each = count_predictions(logits, truth, owner, 7, BINS, coarse=COARSE_FACTOR)
    total = count_predictions(logits, truth, owner, 7, BINS).total()
    drawn = evaluation.resample_patients(each, 50, np.random.default_rng(1))
    result = evaluation.build_evaluation(task, total, drawn, 7, [7, 7, 7])
    assert result.examples == 300
    assert [item.examples for item in result.classes.values()] == truth.sum(0).tolist()
    assert result.loss.value == pytest.approx(float(total.loss) / 300)
    assert result.confusion[1] == tuple(theirs.multilabel_confusion_matrix(truth, logits > 0)[1].ravel())
    for name in ("accuracy", "macro_f1", "macro_auroc"):
        figure = getattr(result, name)
        assert figure.low <= figure.value <= figure.high
        assert figure.low < figure.high
    assert result.macro_f1.value == pytest.approx(theirs.f1_score(truth, logits > 0, average="macro"))


def test_coarse_counting_is_counting_and_merging(labels: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    logits, truth, owner = labels
    for labels_ in (truth, truth.argmax(1)):
        fine = count_predictions(logits, labels_, owner, 7, 100)
        coarse = count_predictions(logits, labels_, owner, 7, 100, coarse=16)
        np.testing.assert_array_equal(fine.coarser(16).scores, coarse.scores)
        np.testing.assert_array_equal(fine.confusion, coarse.confusion)


@pytest.fixture(name="binary")
def _binary() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits, truth and worth of 400 examples."""
    rng = np.random.default_rng(9)
    truth = (rng.random(400) < 0.2).astype(np.int64)
    odds = rng.normal(size=400) * 1.5 + 2 * truth - 2
    worth = np.stack([np.where(truth, -rng.random(400), 0.0), np.where(truth, rng.random(400), -0.05)], axis=1)
    return np.stack([np.zeros(400), odds], axis=1), truth, worth


@pytest.mark.parametrize("rule", ["f1", "youden", "utility"])
def test_the_threshold_is_the_best_of_all_bin_edges(
    rule: str, binary: tuple[np.ndarray, np.ndarray, np.ndarray]
) -> None:
    logits, truth, worth = binary
    counts = count_predictions(logits, truth, np.zeros(400, int), 1, BINS, worth=worth).total()

    def value(threshold: float) -> float:
        called = logits[:, 1] >= threshold
        if rule == "f1":
            return float(theirs.f1_score(truth, called, zero_division=0))
        if rule == "youden":
            return float(called[truth == 1].mean() - called[truth == 0].mean())
        return float(np.where(called, worth[:, 1], worth[:, 0]).sum())

    tried = [(value(edge), edge) for edge in np.linspace(-16, 16, BINS + 1)[:-1]]
    chosen = choose_threshold(counts, rule)
    assert chosen is not None
    assert value(chosen) == pytest.approx(max(tried)[0])


def test_counts_at_a_threshold_are_those_of_its_histograms(binary: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    logits, truth, worth = binary
    owner = np.arange(400) % 3
    plain = count_predictions(logits, truth, owner, 3, BINS, worth=worth)
    for threshold in bin_edges(BINS)[[0, 200, 255, 256, 300, 511]]:
        there = count_predictions(logits, truth, owner, 3, BINS, threshold=threshold, worth=worth)
        np.testing.assert_array_equal(
            there.total().confusion, theirs.confusion_matrix(truth, logits[:, 1] >= threshold, labels=[0, 1])
        )
        moved = apply_threshold(plain, threshold)
        np.testing.assert_array_equal(moved.confusion, there.confusion)
        np.testing.assert_allclose(moved.utility, there.utility)


def test_utility_is_1_at_best_and_0_without_alarms(binary: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    logits, truth, worth = binary
    group = np.zeros(400, int)
    best = np.where(worth[:, 1] > worth[:, 0], 5.0, -5.0)
    always = {"best": np.stack([-best, best], 1), "silent": np.tile([9.0, -9.0], (400, 1)), "model": logits}
    result = {
        name: float(normalised_utility(count_predictions(z, truth, group, 1, BINS, worth=worth).total().utility))
        for name, z in always.items()
    }
    assert result["best"] == pytest.approx(1)
    assert result["silent"] == pytest.approx(0)
    called = logits[:, 1] > 0
    got, none = np.where(called, worth[:, 1], worth[:, 0]).sum(), worth[:, 0].sum()
    assert result["model"] == pytest.approx((got - none) / (worth.max(1).sum() - none))


def test_choosing_a_threshold_needs_both_classes() -> None:
    counts = count_predictions(np.zeros((5, 2)), np.zeros(5, int), np.zeros(5, int), 1, BINS).total()
    assert choose_threshold(counts, "f1") is None


def test_utility_gets_an_interval_by_patients(binary: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    logits, truth, worth = binary
    owner = np.arange(400) // 8
    task = Task("t", "multiclass", ("quiet", "event"), ("q", "e"), 0, 0, 0.0, ("a",), (), utility=True)
    given = {"worth": worth, "threshold": -1.0}
    each = count_predictions(logits, truth, owner, 50, BINS, coarse=COARSE_FACTOR, **given)
    total = count_predictions(logits, truth, owner, 50, BINS, **given).total()
    drawn = evaluation.resample_patients(each, 200, np.random.default_rng(1))
    result = evaluation.build_evaluation(task, total, drawn, 50, [50, 40], threshold=-1.0)
    assert result.threshold == -1.0
    assert result.utility is not None
    assert result.utility.value == pytest.approx(float(normalised_utility(total.utility)))
    assert result.utility.low < result.utility.value < result.utility.high
    weights = evaluation.draw_bootstrap_weights(50, 200, np.random.default_rng(1))
    slow = []
    for row in weights:
        which = np.concatenate([np.flatnonzero(owner == p).repeat(int(n)) for p, n in enumerate(row)])
        got = np.where(logits[which, 1] >= -1, worth[which, 1], worth[which, 0]).sum() - worth[which, 0].sum()
        slow.append(got / (worth[which].max(1).sum() - worth[which, 0].sum()))
    share = stats.norm.sf(stats.t.ppf(0.975, 49) * np.sqrt(50 / 49))
    np.testing.assert_allclose([result.utility.low, result.utility.high], np.quantile(slow, [share, 1 - share]))
