"""The benchmark of a large table measures what it says, of each stage in a process of its own."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from experiments.studies import large_table


def test_the_generated_table_has_the_size_that_was_asked_for(tmp_path: Path) -> None:
    table = pd.read_csv(large_table.write_table(tmp_path / "t", 300, 7, 4))
    assert table.shape == (300, 7 + 3)
    assert table["patient"].is_unique
    assert table["hospital"].nunique() == 4
    assert 0 < table["died"].mean() < 1


@pytest.mark.slow
def test_each_stage_is_measured() -> None:
    rows = large_table.measure(2000, 6, 3)
    assert [row[0] for row in rows] == list(large_table.STAGES)
    for _, seconds, mebibytes, times in rows:
        assert float(seconds) > 0
        # both are rounded to what is printed
        assert float(times) * 2000 * 6 * 4 == pytest.approx(float(mebibytes) * 2**20, abs=0.6 * 2**20)
