"""Federated scaling against the scaling of all rows at one place."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.preprocessing import StandardScaler

from common import scaling
from common.scaling import Scaling


@pytest.fixture(name="parts")
def _parts() -> list[np.ndarray]:
    """Three sites' rows: pressures, a skewed laboratory value, a rare flag, a constant, one never measured."""
    rng = np.random.default_rng(2)
    result = []
    for site, n in enumerate((500, 80, 1)):
        values = np.stack(
            [
                rng.normal(120 + 10 * site, 20, n),
                rng.lognormal(2, 1.5, n),
                (rng.random(n) < 0.1).astype(float),
                np.full(n, 7.3),
                np.full(n, np.nan),
            ],
            axis=1,
        ).astype(np.float32)
        values[rng.random(n) < 0.3, 0] = np.nan
        result.append(values)
    return result


def merged(parts: list[np.ndarray]) -> dict[str, np.ndarray]:
    return scaling.add_statistics(scaling.compute_column_moments(part) for part in parts)


def test_merged_moments_give_the_scaling_of_all_rows(parts: list[np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaling, "BLOCK", 64)
    rows = np.concatenate(parts)
    result = scaling.fit_standard_scaling(merged(parts))
    wanted = StandardScaler().fit(rows[:, :4].astype(np.float64))
    np.testing.assert_allclose(result.centre[:4], wanted.mean_, rtol=1e-9)
    np.testing.assert_allclose(result.spread[:4], wanted.scale_, rtol=1e-5)
    np.testing.assert_array_equal(merged(parts)["missing"], np.isnan(rows).sum(0))
    scaled = result.apply(rows)
    theirs = np.nan_to_num(wanted.transform(rows[:, :4].astype(np.float64)), nan=0.0)
    np.testing.assert_allclose(scaled[:, :4], theirs, atol=2e-5)
    assert (scaled[:, 4] == 0).all()


def test_ranks_are_those_of_all_rows(parts: list[np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaling, "BLOCK", 64)
    rows = np.concatenate(parts)
    base = scaling.fit_standard_scaling(merged(parts))
    counts = scaling.add_statistics({"h": scaling.count_rank_bins(part, base.centre, base.spread)} for part in parts)[
        "h"
    ]
    np.testing.assert_array_equal(counts.sum(1), (~np.isnan(rows)).sum(0))
    scaled = scaling.fit_quantile_scaling(base, counts).apply(rows)
    for column in range(4):
        here = ~np.isnan(rows[:, column])
        values = rows[here, column]
        rank = (stats.rankdata(values, "average") - 0.5) / len(values)
        np.testing.assert_allclose(scaled[here, column], (rank - 0.5) * np.sqrt(12), atol=0.1)
        assert (scaled[~here, column] == 0).all()
        assert abs(scaled[here, column].mean()) < 1e-4
    assert scaled[:, 0].std() == pytest.approx(np.sqrt((~np.isnan(rows[:, 0])).mean()), abs=0.01)
    order = np.argsort(rows[:, 1])
    assert (np.diff(scaled[order, 1]) >= 0).all()


def test_columns_can_be_scaled_separately(parts: list[np.ndarray]) -> None:
    rows = parts[0]
    result = scaling.fit_standard_scaling(merged(parts))
    np.testing.assert_array_equal(result.apply(rows)[:, 2:], result.apply(rows[:, 2:], 2))


def test_a_scaling_survives_the_wire(parts: list[np.ndarray]) -> None:
    base = scaling.fit_standard_scaling(merged(parts))
    counts = scaling.count_rank_bins(parts[0], base.centre, base.spread)
    for result in (base, scaling.fit_quantile_scaling(base, counts)):
        again = Scaling.from_bytes(result.to_bytes())
        np.testing.assert_array_equal(again.apply(parts[1]), result.apply(parts[1]))
    with pytest.raises(ValueError, match="cannot be read"):
        Scaling.from_bytes(b"else")
