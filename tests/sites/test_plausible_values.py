"""Columns of a wrong sign, and pairs that are turned round, are found; honest columns are not."""

from __future__ import annotations

import numpy as np
import pytest

from sites.plausible_values import find_reversed_pair, find_wrong_sign


@pytest.mark.parametrize(("excess", "other"), [("BaseExcess", "HCO3"), ("be", "bicar"), ("be", "ph")])
@pytest.mark.parametrize("seed", range(5))
def test_a_base_deficit_is_told_from_a_base_excess(excess: str, other: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    bicarbonate = rng.normal(24, 5, 300)
    base = bicarbonate - 24 + rng.normal(0, 3, 300)
    bicarbonate[::7] = np.nan
    assert find_wrong_sign({excess: base, other: bicarbonate}) is None
    assert find_wrong_sign({excess: -base, other: bicarbonate}) == excess
    assert find_wrong_sign({excess: -base[:90], other: bicarbonate[:90]}) is None  # too few rows
    assert find_wrong_sign({excess: rng.normal(0, 3, 300), other: bicarbonate}) is None
    assert find_wrong_sign({excess: np.zeros(300), other: bicarbonate}) is None


def test_bicarbonate_above_the_pressure_of_carbon_dioxide_is_turned_round() -> None:
    rng = np.random.default_rng(0)
    gas, bicarbonate = rng.normal(42, 6, 60), rng.normal(24, 4, 60)
    assert find_reversed_pair({"HCO3": bicarbonate, "PaCO2": gas}) is None
    assert find_reversed_pair({"HCO3": gas, "PaCO2": bicarbonate}) == ("HCO3", "PaCO2")
    assert find_reversed_pair({"bicar": gas, "pco2": bicarbonate}) == ("bicar", "pco2")
