"""`data init` names a hospital in another unit by the factor between units, and numbers with a unit behind them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sites.datasets.table.suspicions import compute_percentiles_without
from tests.sites.datasets.table.looking import N, columns, has, look, text

FACTORS = [("height", 172.0, 9.0, 0.3937), ("hemoglobin", 13.0, 1.0, 0.6206), ("potassium", 4.2, 0.4, 3.91)]


def three_hospitals(name: str, values: np.ndarray) -> dict[str, list[Any]]:
    return columns(hospital=[("north", "south", "west")[i % 3] for i in range(N)], **{name: values.round(2).tolist()})


@pytest.mark.parametrize(("name", "usual", "spread", "factor"), FACTORS)
@pytest.mark.parametrize("seed", range(3))
def test_one_hospital_in_another_unit_is_named(
    tmp_path: Path, name: str, usual: float, spread: float, factor: float, seed: int
) -> None:
    values = np.random.default_rng(seed).normal(usual, spread, N)
    words = f"{name}: the values at west differ from those of the other hospitals by the factor"
    _, findings, _ = look(tmp_path, {"t.csv": text(three_hospitals(name, values))})
    assert not has(findings, "by the factor between two units")
    values[2::3] *= factor
    _, findings, _ = look(tmp_path, {"t.csv": text(three_hospitals(name, values))})
    assert has(findings, words) or has(findings, f"wrong {name}: its unit seems to differ")


@pytest.mark.parametrize("ratio", [0.8, 1.3])
def test_hospitals_of_other_patients_are_not_named(tmp_path: Path, ratio: float) -> None:
    values = np.random.default_rng(0).normal(13, 1, N)
    values[2::3] *= ratio
    _, findings, _ = look(tmp_path, {"t.csv": text(three_hospitals("hemoglobin", values))})
    assert not has(findings, "by the factor between two units")


@pytest.mark.parametrize(
    ("cells", "named"),
    [
        ([f"{85 + i % 15}%" for i in range(N)], True),
        ([f"{85 + i % 15}%" if i % 2 else str(i % 9 / 10) for i in range(N)], True),
        ([f"{i % 24:02d}:30" for i in range(N)], True),
        ([f"{100 + i % 20} mg" for i in range(N)], True),
        ([f"{1 + i % 3}{'abc'[i % 2]}" for i in range(N)], False),  # stages
        ([f"ward {i % 9}" for i in range(N)], False),
        ([f"{30 + i % 6 * 10}-{39 + i % 6 * 10}" for i in range(N)], False),
    ],
)
def test_numbers_with_a_unit_behind_them_are_named(tmp_path: Path, cells: list[str], named: bool) -> None:
    _, findings, _ = look(tmp_path, {"t.csv": text(columns(value=cells))})
    assert has(findings, "are numbers with a sign or unit, and become categories") == named


def test_shares_among_percentages_are_named(tmp_path: Path) -> None:
    share = [10 + i * 7 % 50 for i in range(N)]
    mixed = [value / 100 if i % 10 == 3 else value for i, value in enumerate(share)]
    _, findings, _ = look(tmp_path, {"t.csv": text(columns(ejection=mixed))})
    assert has(findings, "check ejection: 6 numbers are a hundredth of the size of the others")
    for values in (
        share,
        [value / 100 for value in share],
        [0.2 * 1.1**i for i in range(N)],
        [i % 2 * 20 + i for i in range(N)],
    ):
        _, findings, _ = look(tmp_path, {"t.csv": text(columns(ejection=values))})
        assert not has(findings, "a hundredth of the size")


@pytest.mark.parametrize("decimals", [0, 3])
def test_percentiles_of_the_other_hospitals_are_numpys(decimals: int) -> None:
    rng = np.random.default_rng(decimals)
    for own, others in ((20, 20), (20, 1), (300, 41), (41, 300)):
        one, rest = (np.sort(rng.normal(5, 2, size).round(decimals)) for size in (own, others))
        whole = np.sort(np.concatenate([one, rest]))
        expected = np.percentile(rest, (0, 10, 50, 90, 100))
        np.testing.assert_allclose(compute_percentiles_without(whole, one, (0, 10, 50, 90, 100)), expected, rtol=1e-12)
