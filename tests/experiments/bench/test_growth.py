"""The benchmark of growth: what it measures of two small runs, and the errors of a run."""

from __future__ import annotations

import pytest

from common.errors import EngineError
from experiments.bench.growth import measure_growth, render_growth_table


@pytest.mark.slow
def test_two_sizes_are_measured() -> None:
    measured = measure_growth([2, 3], 2)
    assert [item["hospitals"] for item in measured] == [2, 3]
    assert all(item[key] > 0 for item in measured for key in ("start", "message_ms", "report", "megabytes"))
    assert measured[0]["weights"] != measured[1]["weights"]
    stacked = measure_growth([2], 2, stacked=True)[0]
    assert stacked["weights"] != measured[0]["weights"]  # the last digits
    assert render_growth_table(measured).count("\n| ") >= 2


def test_a_run_that_fails_is_named() -> None:
    with pytest.raises(EngineError, match=r"the run of 20000 hospitals failed: .*less than or equal to 10000"):
        measure_growth([20_000], 2)
