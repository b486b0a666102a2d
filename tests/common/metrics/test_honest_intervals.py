"""Intervals and marks that say no more than the patients support."""

from __future__ import annotations

import numpy as np
import pytest

from common.metrics import counts, evaluation
from common.metrics.figures import Evaluation
from common.metrics.patient_counts import count_patients
from common.metrics.registry import METRICS
from common.metrics.resampling import COARSE_FACTOR
from common.metrics.subgroups import GroupComparison
from common.task import Task

EVENT = Task("sepsis", "multiclass", ("no", "yes"), ("quiet", "sepsis"), 0, 0, 0.0, ("age",), ())
BEATS = Task("beats", "multiclass", ("N", "V", "F"), ("normal", "ventricular", "fusion"), 1, 8, 125.0, (), ("I",))


def evaluate(
    task: Task, logits: np.ndarray, truth: np.ndarray, patient: np.ndarray, resamples: int = 400
) -> Evaluation:
    """Evaluate predictions as a hospital does: resamples of the patients' counts in coarse score bins."""
    patients = int(patient.max()) + 1
    coarse = counts.count_predictions(logits, truth, patient, patients, 1024, coarse=COARSE_FACTOR)
    total = counts.count_predictions(logits, truth, patient, patients, 1024).total()
    drawn = evaluation.resample_patients(coarse, resamples, np.random.default_rng(1))
    held = [len(set(patient[truth == c].tolist())) for c in range(len(task.classes))]
    return evaluation.build_evaluation(task, total, drawn, patients, held)


def event_logits(log_odds: np.ndarray) -> np.ndarray:
    return np.stack([np.zeros(len(log_odds)), log_odds], 1)


def test_groups_that_do_not_differ_have_a_gap_whose_interval_can_hold_zero() -> None:
    rng = np.random.default_rng(0)
    drawn = {name: 0.8 + rng.normal(scale=0.05, size=1000) for name in "abcd"}
    gap = GroupComparison({"a": 0.82, "b": 0.8, "c": 0.79, "d": 0.77}, 0.8, drawn, dict.fromkeys("abcd", 100))
    difference, ratio = gap.difference(), gap.ratio()
    assert difference.value == pytest.approx(0.05)
    assert difference.low is not None
    assert difference.low < 0 < difference.high
    assert ratio.low < 1 < ratio.high
    assert gap.pairs == 6


def test_a_gap_is_resampled_between_the_groups_that_the_data_name() -> None:
    drawn = {"a": np.array([0.9, 0.5] * 50), "b": np.array([0.6, 0.8] * 50), "c": np.array([0.1, 0.99] * 50)}
    gap = GroupComparison({"a": 0.9, "b": 0.6, "c": 0.7}, 0.8, drawn, {"a": 2000, "b": 2000, "c": 2000})
    difference = gap.difference()
    assert (difference.low, difference.high) == (pytest.approx(-0.3), pytest.approx(0.3))


def test_the_calibration_error_lies_within_its_interval() -> None:
    rng = np.random.default_rng(2)
    below = 0
    for _ in range(20):
        log_odds = rng.normal(scale=1.5, size=100)
        truth = (rng.random(100) < 1 / (1 + np.exp(-log_odds))).astype(int)
        item = evaluate(EVENT, event_logits(log_odds), truth, np.arange(100), 200)
        error = item.ece
        assert error.low <= error.value <= error.high
        below += error.low <= 0.02
        calibration = item.classes["yes"].calibration
        for figure in (calibration.ece, calibration.ece_mass):
            assert figure.low <= figure.value <= figure.high
    assert below > 10  # the model is calibrated: most intervals reach down to almost no error


@pytest.mark.parametrize(("spread", "known"), [(0.05, False), (2.0, True)])
def test_scores_too_close_for_the_bins_have_no_interval_of_their_ranking(spread: float, known: bool) -> None:
    rng = np.random.default_rng(3)
    truth = (rng.random(120) < 0.4).astype(int)
    item = evaluate(EVENT, event_logits(spread * (truth + rng.normal(size=120)) + 0.1), truth, np.arange(120))
    assert 0.6 < item.auroc.value < 0.9
    for figure in (item.auroc, item.auprc, item.macro_auroc, item.slope, item.classes["no"].auroc):
        assert (figure.low is not None) is known
    assert any("too close together" in note for note in item.notes) is not known
    for figure in (item.accuracy, item.sensitivity, item.brier, item.ece):
        assert figure.low is not None


def test_scores_beyond_the_bins_have_no_interval_of_their_ranking() -> None:
    rng = np.random.default_rng(4)
    truth = (rng.random(120) < 0.4).astype(int)
    item = evaluate(EVENT, event_logits(40 + 5 * truth + 5 * rng.normal(size=120)), truth, np.arange(120))
    assert item.auroc.low is None
    assert any("log odds" in note for note in item.notes)


def test_scores_that_are_truly_equal_have_an_interval() -> None:
    truth = np.array([0, 1] * 30)
    item = evaluate(EVENT, event_logits(np.repeat([-0.2, -0.2, 0.6], 20)), truth, np.arange(60))
    assert item.auroc.low is not None


def test_a_class_with_close_scores_takes_the_interval_of_the_mean_with_it() -> None:
    rng = np.random.default_rng(5)
    truth = rng.integers(0, 3, 150)
    logits = 3 * np.eye(3)[truth] + 2 * rng.normal(size=(150, 3))
    assert evaluate(BEATS, logits, truth, np.arange(150)).macro_auroc.low is not None
    close = 0.05 * np.eye(3)[truth] + 0.05 * rng.normal(size=(150, 3))
    item = evaluate(BEATS, close, truth, np.arange(150))
    assert item.macro_auroc.low is None
    assert item.macro_f1.low is not None


def test_every_metric_knows_how_many_patients_it_rests_on() -> None:
    rng = np.random.default_rng(6)
    truth = np.array([0] + [1] * 15)
    item = evaluate(EVENT, event_logits(rng.normal(size=16) + 3), truth, np.arange(16))
    held = {name: count_patients(item, name) for name in METRICS}
    assert held["accuracy"] == held["loss"] == held["brier"] == held["ece"] == 16
    assert held["sensitivity"] == 15
    assert held["specificity"] == held["auroc"] == held["auprc"] == held["slope"] == held["macro_auroc"] == 1
    assert held["macro_f1"] == 1
    assert count_patients(item, "recall", "yes") == count_patients(item, "f1", "yes") == 15
    assert count_patients(item, "recall", "no") == count_patients(item, "auroc", "yes") == 1


def test_precision_rests_on_no_more_patients_than_predictions() -> None:
    truth = np.array([0, 1] * 10)
    item = evaluate(EVENT, event_logits(np.where(np.arange(20) < 2, 1.0, -1.0)), truth, np.arange(20))
    assert count_patients(item, "ppv") == 2
    assert count_patients(item, "precision", "no") == 18


def test_a_ranking_of_several_classes_rests_on_the_fewer_with_and_without_one() -> None:
    truth = np.array([0] * 12 + [1] * 6 + [2] * 2)
    item = evaluate(BEATS, np.random.default_rng(7).normal(size=(20, 3)), truth, np.arange(20))
    assert [count_patients(item, "auroc", name) for name in BEATS.classes] == [8, 6, 2]
    assert count_patients(item, "macro_auroc") == 2
