"""Counts corrected for replaced outcomes, against the counts of the patients' own."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from client.gate.corrected_counts import correct_counts, correct_table, mix_anomalies, mix_classes
from common.metrics.counts import Counts, auroc, count_predictions

SHARE = 0.15


def replace_outcomes(y: np.ndarray, classes: int, rng: np.random.Generator) -> np.ndarray:
    """Return outcomes of which each is another one with probability SHARE."""
    other = (y + rng.integers(1, classes, y.shape)) % classes
    return np.where(rng.uniform(size=y.shape) < SHARE, other, y)


def count(logits: np.ndarray, y: np.ndarray) -> Counts:
    return count_predictions(logits, y, np.zeros(len(y), np.int64), 1, 16).total()


def make_logits(y: np.ndarray, classes: int, rng: np.random.Generator) -> np.ndarray:
    logits = rng.normal(0, 2, (len(y), classes))
    logits[np.arange(len(y)), y] += 2.5
    return logits


@pytest.mark.parametrize(("classes", "shares"), [(2, (0.7, 0.3)), (2, (0.9, 0.1)), (4, (0.6, 0.2, 0.12, 0.08))])
def test_corrected_counts_are_those_of_the_patients_own_outcomes_on_average(
    classes: int, shares: tuple[float, ...]
) -> None:
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(classes), (1200 * np.array(shares)).astype(int))
    logits = make_logits(y, classes, rng)
    true, mixing = count(logits, y), mix_classes(classes, SHARE)
    corrected, changed = [], []
    for _ in range(60):
        seen = count(logits, replace_outcomes(y, classes, rng))
        fitted = correct_counts(seen, mixing)
        assert (fitted.confusion.sum(0) == seen.confusion.sum(0)).all()
        assert (fitted.scores.sum(1) == seen.scores.sum(1)).all()
        assert min(fitted.confusion.min(), fitted.scores.min()) >= 0
        corrected.append(fitted)
        changed.append(seen)
    people = np.mean([item.confusion for item in corrected], 0)
    assert people == pytest.approx(true.confusion, abs=12)  # of 1,200
    uncorrected = np.mean([item.confusion for item in changed], 0)
    assert np.abs(people - true.confusion).sum() < np.abs(uncorrected - true.confusion).sum() / 4
    areas = np.mean([auroc(item.scores) for item in corrected], 0)
    assert areas == pytest.approx(auroc(true.scores), abs=0.025)
    for label in range(classes):  # the same by another program
        exact = roc_auc_score(y == label, count_odds(logits, label))
        assert areas[label] == pytest.approx(exact, abs=0.03)


def count_odds(logits: np.ndarray, label: int) -> np.ndarray:
    rest = np.delete(logits, label, 1)
    return np.asarray(logits[:, label] - np.log(np.exp(rest).sum(1)))


def test_labels_are_corrected_one_by_one() -> None:
    rng = np.random.default_rng(1)
    y = (rng.uniform(size=(4000, 3)) < (0.5, 0.2, 0.1)).astype(np.int64)
    logits = 3 * y - 1.5 + rng.normal(0, 1.5, y.shape)
    true = count(logits, y)
    seen = count(logits, replace_outcomes(y, 2, rng))
    fitted = correct_counts(seen, mix_classes(2, SHARE))
    assert fitted.confusion == pytest.approx(true.confusion, abs=100)  # five deviations of 4000 draws
    assert np.abs(seen.confusion - true.confusion).max() > 250
    assert auroc(fitted.scores) == pytest.approx(auroc(true.scores), abs=0.06)  # of one draw


def test_the_mixing_of_normal_and_abnormal_is_that_of_their_classes() -> None:
    rng = np.random.default_rng(2)
    y = rng.integers(0, 5, 200_000)
    seen = replace_outcomes(y, 5, rng)
    for normal in (1, 2):
        mixing = mix_anomalies(5, normal, SHARE)
        for own in (0, 1):
            abnormal = (seen >= normal)[(y >= normal) == bool(own)]
            assert mixing[own, 1] == pytest.approx(abnormal.mean(), abs=0.005)
            assert mixing[own].sum() == pytest.approx(1)


def test_suppressed_outcomes_stay_empty_and_nobody_is_lost() -> None:
    observed = np.array([[40, 6], [3, 1], [5, 30]])
    hidden = np.array([False, True, False])
    fitted = correct_table(observed, mix_classes(3, SHARE), hidden)
    assert (fitted[1] == 0).all()
    assert (fitted.sum(0) == observed.sum(0)).all()
    alone = correct_table(np.array([[0, 0], [9, 4]]), mix_classes(2, SHARE), np.array([False, True]))
    assert alone.tolist() == [[9, 4], [0, 0]]
    nobody = np.zeros((2, 5), np.int64)
    assert (correct_table(nobody, mix_classes(2, SHARE)) == 0).all()


def test_without_replacing_nothing_changes() -> None:
    rng = np.random.default_rng(3)
    y = rng.integers(0, 3, 300)
    plain = count(make_logits(y, 3, rng), y)
    fitted = correct_counts(plain, mix_classes(3, 0.0))
    assert (fitted.confusion == plain.confusion).all()
    assert (fitted.scores == plain.scores).all()
