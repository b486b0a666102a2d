"""Noisy counts of people: how they are fitted, what figures they give, and whether intervals cover."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import optimize

from common.metrics.counts import Counts, accuracy, auroc, bin_edges, count_predictions, recall
from common.metrics.evaluation import build_evaluation
from common.metrics.figures import EvaluationNoise
from common.metrics.intervals import tail_probability
from common.metrics.noisy_counts import PERSON, NoisyCounts, ReleaseLayout, find_edge, project_to_total
from common.metrics.noisy_evaluation import build_noisy_evaluation, draw_noisy_counts
from common.task import Task

BINS = 16
NOISE = EvaluationNoise(epsilon=1.0, delta=1e-5)


def task(classes: int, kind: str = "multiclass") -> Task:
    names = tuple("abcdef"[:classes])
    return Task("t", kind, names, names, 0, 0, 0.0, ("x",), ())  # type: ignore[arg-type]


BINARY, SEVERAL, LABELS = task(2), task(4), task(3, "multilabel")


def exact_counts(which: Task, people: int, seed: int, threshold: float | None = None) -> Counts:
    rng = np.random.default_rng(seed)
    classes = len(which.classes)
    if which.kind == "multilabel":
        truth = rng.integers(0, 2, (people, classes))
        logits = 2.0 * truth - 1 + rng.normal(size=truth.shape)
    else:
        truth = rng.integers(0, classes, people)
        logits = 2.0 * np.eye(classes)[truth] + rng.normal(size=(people, classes))
    return count_predictions(logits, truth, np.zeros(people, int), 1, BINS, threshold=threshold).total()


def noisy(counts: Counts, which: Task, cell: float, bin_: float, seed: int = 0) -> NoisyCounts:
    rng = np.random.default_rng(seed)
    scores = counts.scores[1:] if which.binary else counts.scores
    return NoisyCounts(
        counts.confusion + rng.normal(0, cell, counts.confusion.shape),
        scores + rng.normal(0, bin_, scores.shape),
        max(cell, 1e-6),
        max(bin_, 1e-6),
    )


def test_the_projection_is_the_nearest_point() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        values, total = rng.normal(1, 3, 5), float(rng.uniform(0, 12))
        result = project_to_total(values, np.asarray(total))
        nearest = optimize.minimize(
            lambda x, v=values: ((x - v) ** 2).sum(), np.full(5, total / 5), bounds=[(0, None)] * 5,
            constraints={"type": "eq", "fun": lambda x, t=total: x.sum() - t}, options={"ftol": 1e-12},
        ).x  # fmt: skip
        np.testing.assert_allclose(result, nearest, atol=1e-4)
    assert project_to_total(np.array([[3.0, -9.0], [1.0, 1.0]]), np.array([0.0, 4.0])).tolist() == [[0, 0], [2, 2]]


@pytest.mark.parametrize("which", [BINARY, SEVERAL, LABELS], ids=["two", "several", "labels"])
def test_without_noise_counts_are_the_exact_ones(which: Task) -> None:
    exact = exact_counts(which, 200, 3)
    fitted = noisy(exact, which, 0.0, 0.0).to_counts(which, None)
    np.testing.assert_array_equal(fitted.confusion, exact.confusion * PERSON)
    np.testing.assert_array_equal(fitted.scores, exact.scores * PERSON)
    result = build_noisy_evaluation(which, noisy(exact, which, 0.0, 0.0), None, NOISE)
    truth = build_evaluation(which, exact, None, 200, [0] * len(which.classes))
    assert result.confusion == truth.confusion
    assert result.accuracy.value == pytest.approx(truth.accuracy.value, abs=1e-6)
    assert result.macro_auroc.value == pytest.approx(truth.macro_auroc.value, abs=1e-6)
    assert (result.patients, result.examples) == (200, 200)
    assert result.noise is not None
    assert result.noise.epsilon == 1.0


@pytest.mark.parametrize("which", [BINARY, SEVERAL, LABELS], ids=["two", "several", "labels"])
@pytest.mark.parametrize("people", [0, 5, 300])
def test_fitted_counts_are_of_one_number_of_people_and_never_negative(which: Task, people: int) -> None:
    for seed in range(10):
        released = noisy(exact_counts(which, people, seed), which, 4.0, 3.0, seed)
        assert min(released.confusion.min(), released.scores.min()) < 0
        fitted = released.to_counts(which, None)
        assert min(fitted.confusion.min(), fitted.scores.min()) >= 0
        slack = fitted.scores.size  # each number is rounded
        rows = fitted.confusion.sum(-1) if which.kind == "multilabel" else None
        for position in range(len(which.classes)):
            support = rows[position, 1] if rows is not None else fitted.confusion[position].sum()
            everyone = rows[position].sum() if rows is not None else fitted.confusion.sum()
            assert abs(fitted.scores[position, 1].sum() - support) <= slack
            assert abs(fitted.scores[position].sum() - everyone) <= slack


def test_a_threshold_on_a_bin_makes_both_parts_of_a_release_one() -> None:
    threshold = float(bin_edges(BINS)[9])
    assert find_edge(threshold, BINS) == 9
    fitted = noisy(exact_counts(BINARY, 400, 2, threshold), BINARY, 3.0, 3.0).to_counts(BINARY, threshold)
    called = fitted.scores[1, :, 9:].sum(-1)
    np.testing.assert_allclose(called, fitted.confusion[:, 1], atol=BINS)
    other = noisy(exact_counts(BINARY, 400, 2, 0.3), BINARY, 3.0, 3.0).to_counts(BINARY, 0.3)
    np.testing.assert_allclose(other.scores[1].sum(-1), other.confusion.sum(-1), atol=BINS)


def test_combining_matrix_and_histogram_lowers_the_error() -> None:
    exact = exact_counts(BINARY, 300, 5)
    plain, combined = [], []
    for seed in range(300):
        released = noisy(exact, BINARY, 6.0, 2.0, seed)
        plain.append(accuracy(released.confusion.astype(np.int64)))
        combined.append(accuracy(released.to_counts(BINARY, None).confusion))
    truth = accuracy(exact.confusion)
    assert np.mean(np.square(combined - truth)) < 0.8 * np.mean(np.square(plain - truth))


def test_totals_stay_free_of_bias_as_clipping_does_not_leave_them() -> None:
    exact = exact_counts(BINARY, 30, 5)
    totals, clipped = [], []
    for seed in range(400):
        released = noisy(exact, BINARY, 4.0, 3.0, seed)
        totals.append(released.to_counts(BINARY, None).confusion.sum() / PERSON)
        clipped.append(np.maximum(released.scores[0], 0).sum())
    assert np.mean(totals) == pytest.approx(30, abs=1.5)
    assert np.mean(clipped) > 45


def test_pooled_counts_are_fitted_after_they_are_added() -> None:
    parts = [noisy(exact_counts(BINARY, 60, seed), BINARY, 4.0, 3.0, seed) for seed in range(12)]
    together = parts[0]
    for part in parts[1:]:
        together = together + part
    assert together.confusion_deviation == pytest.approx(4.0 * math.sqrt(12))
    exact = sum((exact_counts(BINARY, 60, seed).scores for seed in range(12)), np.zeros((2, 2, BINS), int))
    each = np.mean([auroc(part.to_counts(BINARY, None).scores)[1] for part in parts])
    truth = auroc(exact)[1]
    assert abs(auroc(together.to_counts(BINARY, None).scores)[1] - truth) < abs(each - truth)


@pytest.mark.parametrize("which", [BINARY, SEVERAL, LABELS], ids=["two", "several", "labels"])
def test_a_person_moves_a_release_by_norm_one(which: Task) -> None:
    layout = ReleaseLayout.from_task(which, parts=3)
    worst = layout.parts * (
        layout.confusions * layout.confusion_weight**2 + layout.histograms * layout.scores_weight**2
    )
    assert worst == pytest.approx(1.0)


def test_drawn_counts_vary_as_the_release_does() -> None:
    exact = exact_counts(BINARY, 300, 1)
    released = noisy(exact, BINARY, 3.0, 3.0)
    drawn = draw_noisy_counts(released, BINARY, None, 4000, np.random.default_rng(0))
    fitted = released.to_counts(BINARY, None)
    share = fitted.confusion / fitted.confusion.sum()
    expected = np.sqrt(300 * share * (1 - share) + 9.0)
    np.testing.assert_allclose(drawn.confusion.std(0), expected, rtol=0.06)


def test_probabilities_are_not_judged_from_noisy_counts() -> None:
    item = build_noisy_evaluation(BINARY, noisy(exact_counts(BINARY, 300, 1), BINARY, 3.0, 3.0), None, NOISE)
    assert item.loss.value is None
    assert (item.brier, item.ece, item.slope) == (None, None, None)
    assert item.accuracy.value is not None


@pytest.mark.slow
@pytest.mark.parametrize(("people", "deviation"), [((55, 45), 5.7), ((16, 29), 1.6), ((600, 80), 5.7)])
def test_intervals_cover_what_a_large_sample_gives(people: tuple[int, int], deviation: float) -> None:
    """Without the noise in them they would miss: of 95% intervals at least 88% cover, in all of these settings."""
    rng = np.random.default_rng(0)
    truths = {"auroc": 0.8711, "sensitivity": 0.7881}  # of the two normal distributions below
    hits: dict[str, list[bool]] = {name: [] for name in truths}
    for _ in range(150):
        truth = np.repeat([0, 1], people)
        odds = rng.normal(np.where(truth == 1, 1.2, -1.2), 1.5)
        counts = count_predictions(np.stack([0 * odds, odds], 1), truth, 0 * truth, 1, BINS).total()
        released = NoisyCounts(
            counts.confusion + rng.normal(0, deviation, (2, 2)),
            counts.scores[1:] + rng.normal(0, deviation, (1, 2, BINS)),
            deviation,
            deviation,
        )
        drawn = draw_noisy_counts(released, BINARY, None, 200, rng).to_counts(BINARY, None)
        tail = tail_probability(sum(people))
        for name, sample in (("auroc", auroc(drawn.scores)[:, 1]), ("sensitivity", recall(drawn.confusion)[:, 1])):
            low, high = np.nanquantile(sample, [tail, 1 - tail])
            hits[name].append(low <= truths[name] <= high)
    assert min(np.mean(each) for each in hits.values()) >= 0.88
