"""Frames of groups against fairlearn's MetricFrame."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from fairlearn.metrics import MetricFrame
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as theirs

from common.metrics import counts
from common.metrics.subgroups import GroupComparison, band_indices, name_bands
from common.sections.evaluation import SubgroupsConfig


def recall(truth: Any, predicted: Any) -> float:
    return float(theirs.recall_score(truth, predicted, zero_division=np.nan))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1), st.sampled_from("abc")), min_size=2, max_size=40))
@pytest.mark.parametrize("name", ["accuracy", "recall"])
def test_group_comparisons_equal_fairlearns(name: str, rows: list[tuple[int, int, str]]) -> None:
    truth, predicted = (np.array([row[i] for row in rows]) for i in (0, 1))
    group = np.array([row[2] for row in rows])
    function = {"accuracy": theirs.accuracy_score, "recall": recall}[name]
    with np.errstate(all="ignore"):
        frame = MetricFrame(metrics=function, y_true=truth, y_pred=predicted, sensitive_features=group)

    def ours(chosen: np.ndarray) -> float:
        logits = np.eye(2)[predicted[chosen]]
        confusion = (
            counts.count_predictions(logits, truth[chosen], np.zeros(chosen.sum(), int), 1, 16).total().confusion
        )
        return float(counts.accuracy(confusion) if name == "accuracy" else counts.recall(confusion)[1])

    result = GroupComparison({key: ours(group == key) for key in sorted(set(group))}, ours(group == group))
    np.testing.assert_allclose(list(result.by_group.values()), frame.by_group.to_numpy(float))
    np.testing.assert_allclose(result.overall, frame.overall)
    known = [value for value in result.by_group.values() if np.isfinite(value)]
    if len(known) < 2:
        assert result.difference().value is None
        return
    assert result.group_min() is not None
    assert result.group_min()[1] == pytest.approx(frame.group_min())  # type: ignore[index]
    assert result.group_max()[1] == pytest.approx(frame.group_max())  # type: ignore[index]
    assert result.difference().value == pytest.approx(frame.difference())
    if max(known) > 0:
        assert result.ratio().value == pytest.approx(frame.ratio())
    else:
        assert result.ratio().value is None


def test_the_interval_of_a_gap_is_that_of_the_signed_difference_in_each_resample() -> None:
    drawn = {"a": np.array([0.1, 0.5, 0.3, 0.9]), "b": np.array([0.4, 0.4, np.nan, 0.1])}
    result = GroupComparison({"a": 0.3, "b": 0.4}, 0.35, drawn, {"a": 500, "b": 500}).difference()
    assert result.value == pytest.approx(0.1)
    assert (result.low, result.high) == pytest.approx(tuple(np.quantile([0.3, -0.1, -0.8], [0.025, 0.975])), abs=0.002)


def test_bands_include_their_lower_edge() -> None:
    names = name_bands((40, 65))
    assert [names[i] for i in band_indices([39.9, 40, 64.9, 65, np.nan], (40, 65))] == [
        "under 40",
        "40 to under 65",
        "40 to under 65",
        "65 and over",
        "unknown",
    ]


@pytest.mark.parametrize("wrong", [{"age": (65.0, 40.0)}, {"age": (40.0, 40.0)}, {"columns": {"bmi": ()}}])
def test_bands_that_do_not_increase_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="increasing lower bounds"):
        SubgroupsConfig(**wrong)
