"""The intervals hold the truth about as often as they say, on beats that are alike within a patient."""

from __future__ import annotations

import pytest

from experiments.studies import interval_coverage


def test_the_table_names_every_figure_and_size() -> None:
    result = interval_coverage.measure_coverage([5], 3, 20, many=200)
    text = interval_coverage.render_coverage_table(result)
    assert all(f"| {name} |" in text for name in result["truth"])
    assert "5 patients" in text
    assert 0.5 < result["truth"]["AUROC"] < 1


@pytest.mark.slow
def test_intervals_of_ten_patients_hold_the_truth_far_more_often_than_plain_ones() -> None:
    result = interval_coverage.measure_coverage([10], 120, 400, many=5000)["patients"][10]
    for name in ("accuracy", "sensitivity", "AUROC", "Brier", "difference in AUROC"):
        assert result[name]["holds"] >= 0.85, name
        assert result[name]["holds"] >= result[name]["plain"], name
    assert sum(item["holds"] - item["plain"] for item in result.values()) > 0.1
