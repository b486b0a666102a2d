"""Loss of ranking and loss of threshold are told apart where they were made on purpose."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.metrics import f1_score, roc_auc_score

from common.metrics import evaluation
from common.metrics.counts import count_predictions
from common.metrics.figures import Figure
from common.metrics.resampling import COARSE_FACTOR
from common.task import Task
from experiments.baselines import transfer
from tests import tiny

TASK = Task("pair", "multiclass", ("no", "yes"), ("n", "y"), 0, 0, 0.0, ("z",), ())
CONFIG = tiny.run_config(evaluation__threshold="f1")
PEOPLE, EACH = 80, 12
TRUTH = (np.random.default_rng(0).random(PEOPLE * EACH) < 0.3).astype(np.int64)
GOOD = np.random.default_rng(1).normal(size=PEOPLE * EACH) + 2.5 * TRUTH - 1.2


def observed(event: np.ndarray, shipped: float, own: float | None, reason: str = "") -> transfer.ModelAtSite:
    """Return what is seen of scores at the shipped threshold, and at the hospital's own."""
    tables = {}
    for name, at in (("all", shipped), ("recalibrated threshold", own)):
        if at is None:
            continue
        logits, who = np.stack([np.zeros_like(event), event], 1), np.repeat(np.arange(PEOPLE), EACH)
        counts = count_predictions(logits, TRUTH, who, PEOPLE, 1024, threshold=at)
        tables[name] = counts.total()
        coarse = counts.coarser(COARSE_FACTOR)
        tables[name + "/resampled"] = evaluation.resample_patients(coarse, 200, np.random.default_rng(5))
    return transfer.summarise_model_at_site(TASK, tables, PEOPLE, reason)


def reported(event: np.ndarray, shipped: float, own: float | None = 0.0, reason: str = "") -> dict[str, Any]:
    return transfer.compare_with_own_model(
        TASK, CONFIG, observed(event, shipped, own, reason), observed(GOOD, 0.0, 0.0), None, "B", "B's model"
    )


NOISY = GOOD + np.random.default_rng(2).normal(size=len(GOOD)) * 2.5


@pytest.mark.parametrize(
    ("event", "shipped", "cause"),
    [(GOOD, 0.0, "neither"), (GOOD, 3.0, "threshold"), (NOISY, 0.0, "ranking"), (NOISY, 5.0, "both")],
    ids=["neither", "threshold", "ranking", "both"],
)
def test_the_cause_is_the_one_that_was_made(event: np.ndarray, shipped: float, cause: str) -> None:
    result = reported(event, shipped)
    assert result["cause"] == cause
    assert result["ranking_difference"]["value"] == pytest.approx(
        roc_auc_score(TRUTH, event) - roc_auc_score(TRUTH, GOOD), abs=5e-3
    )
    f1 = [
        f1_score(TRUTH, scores >= at, average="macro") for scores, at in ((event, shipped), (event, 0.0), (GOOD, 0.0))
    ]
    assert result["decision_difference"]["value"] == pytest.approx(f1[0] - f1[2])
    assert result["recovered"]["value"] == pytest.approx(f1[1] - f1[0])
    assert result["recovered"]["low"] <= result["recovered"]["value"] <= result["recovered"]["high"]
    words = {
        "neither": "show no loss",
        "threshold": "the ranking is kept",
        "ranking": "no threshold can recover",
        "both": "Both",
    }
    assert words[cause] in result["verdict"]
    assert f"{roc_auc_score(TRUTH, GOOD):.3f} of B's model" in result["verdict"]


def test_the_share_of_the_threshold_is_reported_of_both() -> None:
    result = reported(NOISY, 5.0)
    share = result["recovered"]["value"] / -result["decision_difference"]["value"]
    assert f"the threshold accounts for {share:.0%} of the difference" in result["verdict"]


def test_what_cannot_be_reported() -> None:
    result = reported(NOISY, 5.0, None, "fewer than 5 validation patients of each class")
    assert result["cause"] == "ranking"
    assert result["recovered"] is None
    assert "No threshold of B's own: fewer than 5" in result["verdict"]
    assert reported(GOOD, 5.0, None)["cause"] == "unknown"
    assert transfer.classify_loss(Figure(value=-0.1), None) == "unknown"


def test_pairs_are_of_one_family_and_of_two_hospitals() -> None:
    good, bad = observed(GOOD, 0.0, 0.0), observed(NOISY, 0.0, 0.0)
    models = [
        ("local", "A", {"A": good, "B": bad}),
        ("local", "B", {"A": bad, "B": good}),
        ("boosting", "A", {"A": good, "B": good}),
    ]
    result = transfer.compare_transfers(TASK, CONFIG, models)
    assert [(one["family"], one["trained"], one["tested"], one["cause"]) for one in result] == [
        ("local", "A", "B", "ranking"), ("local", "B", "A", "ranking")
    ]  # fmt: skip
    assert result[0]["home"]["auroc"]["value"] == pytest.approx(roc_auc_score(TRUTH, GOOD), abs=5e-3)
