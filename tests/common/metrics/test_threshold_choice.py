"""The choice of a decision threshold, against a search over all scores."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_curve

from common.config import parse_config
from common.metrics.counts import Counts, apply_threshold, bin_edges, count_predictions
from common.metrics.evaluation import check_evaluation_fits_task
from common.metrics.threshold_choice import choose_wanted_threshold
from common.sections.evaluation import EvaluationConfig
from common.task import Task

BINS = 1024


def draw_scores(events: int, others: int) -> tuple[np.ndarray, np.ndarray, Counts]:
    rng = np.random.default_rng(5)
    truth = np.repeat([1, 0], [events, others])
    odds = rng.normal(size=events + others) + 1.5 * truth - 3  # rare: hardly any reaches a probability of one half
    counts = count_predictions(np.stack([np.zeros_like(odds), odds], 1), truth, np.zeros(len(odds), int), 1, BINS)
    return truth, odds, counts.total()


def test_auto_finds_the_best_youden_index_that_any_threshold_gives() -> None:
    truth, odds, counts = draw_scores(40, 400)
    threshold = choose_wanted_threshold(counts, EvaluationConfig())
    assert threshold is not None
    low, high, _ = roc_curve(truth, bin_edges(BINS)[np.searchsorted(bin_edges(BINS), odds, side="right") - 1])
    confusion = apply_threshold(counts, threshold).confusion
    chosen = confusion[1, 1] / 40 - confusion[0, 1] / 400
    assert chosen == pytest.approx((high - low).max())
    assert threshold < 0


@pytest.mark.parametrize(("events", "others"), [(4, 400), (400, 4), (0, 400)])
def test_auto_chooses_nothing_on_too_few_patients(events: int, others: int) -> None:
    assert choose_wanted_threshold(draw_scores(events, others)[2], EvaluationConfig()) is None


@pytest.mark.parametrize("wanted", [0.5, 0.9, 1.0])
def test_a_sensitivity_is_reached_by_the_highest_threshold_that_reaches_it(wanted: float) -> None:
    truth, odds, counts = draw_scores(40, 400)
    threshold = choose_wanted_threshold(counts, EvaluationConfig(threshold="sensitivity", sensitivity=wanted))
    assert threshold is not None
    scores = odds[truth == 1]
    assert (scores >= threshold).mean() >= wanted
    assert (scores >= threshold + 2 * 32 / BINS).mean() < wanted or wanted == 0
    assert choose_wanted_threshold(draw_scores(0, 9)[2], EvaluationConfig(threshold="sensitivity")) is None


def test_likelier_chooses_nothing() -> None:
    assert choose_wanted_threshold(draw_scores(40, 400)[2], EvaluationConfig(threshold="likelier")) is None


def test_the_default_fits_every_task_and_gives_way_to_privacy() -> None:
    beats = Task("beats", "multiclass", ("N", "S", "V"), ("a", "b", "c"), 1, 8, 125.0, (), ("I",))
    check_evaluation_fits_task(EvaluationConfig(), beats)
    assert parse_config({}).evaluation.threshold == "auto"
    private = {"privacy": {"sigma": 1.0, "delta": 1e-5}, "federation": {"choose": "last"}}
    private["training"] = {"loss": "cross_entropy"}
    for evaluation in ({}, {"threshold": "auto"}):
        assert parse_config({**private, "evaluation": evaluation}).evaluation.threshold == "likelier"
