"""Sums of yes/no columns and of categories: what a coordinator can compute from them is no count of few people."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.gate.columns import MAX_VALUES, floor_columns, floor_columns_by_class, floor_products
from client.input_scaling import compute_input_histogram, compute_input_moments
from client.policy import SIMULATION_POLICY, SitePolicy
from client.requests import domain_shift, scaling
from client.site import Site
from client.site_context import SiteContext
from common import distance
from common.requests import ScalingRequest
from common.scaling import compute_column_moments, fit_standard_scaling
from sites.comparison_columns import column_table
from tests import tiny
from tests.server.phases.test_scaling import vitals

FLOOR, PEOPLE = 5, 40
EACH = np.arange(PEOPLE)


def column(ones: int, people: int = PEOPLE) -> np.ndarray:
    return (np.arange(people) < ones).astype(np.float32)[:, None]


@pytest.mark.parametrize("ones", range(PEOPLE + 1))
def test_the_sum_of_a_yes_no_column_is_no_count_of_few(ones: int) -> None:
    moments = compute_column_moments(floor_columns(column(ones), EACH, FLOOR))
    count = float(moments["total"][0])
    expected = 0 if ones < FLOOR else PEOPLE if ones > PEOPLE - FLOOR else ones
    assert (count, moments["square"][0], moments["count"][0]) == (expected, expected, PEOPLE)


def test_the_numbers_of_categories_that_sums_give_are_of_nobody_or_of_enough() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        numbers = rng.multinomial(PEOPLE, rng.dirichlet([0.5] * 3))
        values = np.repeat([0, 1, 2], numbers).astype(np.float32)[:, None]
        moments = {name: float(each[0]) for name, each in
                   compute_column_moments(floor_columns(values, EACH, FLOOR)).items()}  # fmt: skip
        twos = (moments["square"] - moments["total"]) / 2  # from n1 + 2 n2 and n1 + 4 n2
        ones = moments["total"] - 2 * twos
        for count in (ones, twos, moments["count"] - ones - twos):
            assert count == 0 or count >= FLOOR


def test_a_rare_value_becomes_the_nearest_common_one() -> None:
    values = np.repeat([0, 1, 4, 9], [10, 2, 20, 8]).astype(np.float32)[:, None]
    floored = floor_columns(values, EACH, FLOOR)
    assert sorted(set(floored[:, 0].tolist())) == [0, 4, 9]
    assert (floored == 0).sum() == 12
    assert values[10, 0] == 1  # what was given is not changed
    none_common = np.repeat(np.arange(10), 4).astype(np.float32)[:, None]
    assert len(set(floor_columns(none_common, EACH, FLOOR)[:, 0].tolist())) == 1


def test_people_are_counted_and_not_their_rows() -> None:
    owner = np.repeat(np.arange(10), 20)
    values = np.zeros((200, 1), np.float32)
    values[:60] = 1  # sixty rows of three people
    assert compute_column_moments(floor_columns(values, owner, FLOOR))["total"][0] == 0
    values[60:100] = 1  # five people
    assert compute_column_moments(floor_columns(values, owner, FLOOR))["total"][0] == 100


@pytest.mark.parametrize("lacking", [0, 1, 4, 5, 30, 35, 36, 39, 40])
def test_how_many_lack_a_value_is_nobody_or_enough_people(lacking: int) -> None:
    rng = np.random.default_rng(lacking)
    values = np.stack([rng.integers(0, 2, PEOPLE), rng.normal(size=PEOPLE).round(1) * 10], 1).astype(np.float32)
    values[:lacking] = np.nan
    moments = compute_column_moments(floor_columns(values, EACH, FLOOR))
    expected = 0 if lacking < FLOOR else PEOPLE if lacking > PEOPLE - FLOOR else lacking
    assert moments["missing"].tolist() == [expected] * 2
    assert (moments["count"] + moments["missing"]).tolist() == [PEOPLE] * 2
    # a mean would show in digits after the point by how many it was divided
    assert (moments["total"] == np.rint(moments["total"])).all()


def test_columns_of_many_values_stay_as_they_are() -> None:
    values = np.random.default_rng(0).normal(size=(PEOPLE, 3)).astype(np.float32)
    assert floor_columns(values, EACH, FLOOR) is values
    assert len(np.unique(values[:, 0])) > MAX_VALUES


def test_a_floor_of_one_changes_nothing() -> None:
    values = column(1)
    assert floor_columns(values, EACH, 1) is values
    second = values.T.astype(float) @ values
    floor_products(second, values.astype(float), EACH, 1)
    assert second[0, 0] == 1


def joint_table(second: float, first: np.ndarray, centre: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Return what a coordinator computes from the sums of two yes/no columns: how many have both, one, or none."""
    one, other = first * spread + PEOPLE * centre
    both = second * spread.prod() + centre[1] * one + centre[0] * other - PEOPLE * centre.prod()
    return np.array([both, one - both, other - both, PEOPLE - one - other + both])


def test_sums_of_products_give_no_small_cell_of_a_joint_table() -> None:
    rng = np.random.default_rng(1)
    centre, spread = np.array([0.3, 0.6]), np.array([0.4, 0.5])
    moved = 0
    for _ in range(400):
        cells = rng.multinomial(PEOPLE, rng.dirichlet([0.6] * 4))
        pairs = np.repeat([[0, 0], [0, 1], [1, 0], [1, 1]], cells, axis=0).astype(np.float32)
        z = (floor_columns(pairs, EACH, FLOOR) - centre) / spread
        second, first = z.T @ z, z.sum(0)
        true = joint_table(second[0, 1], first, centre, spread)
        floor_products(second, z, EACH, FLOOR)
        assert second[0, 1] == second[1, 0]
        read = joint_table(second[0, 1], first, centre, spread)
        if np.abs(true - np.where(np.abs(true) < 0.5, 0, np.maximum(true, FLOOR))).max() < 1e-6:
            np.testing.assert_allclose(read, true, atol=1e-6)
        else:
            moved += 1
            assert all(abs(count) < 1e-6 or count > FLOOR - 1e-6 for count in read)
    assert moved > 50
    few = np.repeat([[0, 0], [0, 1], [1, 0], [1, 1]], 2, axis=0) * 1.0  # no table of eight people has these sums
    second = few.T @ few + 1.0
    floor_products(second, few, np.arange(8), FLOOR)
    assert second[0, 1] == 4 * 4 / 8


def test_products_of_several_rows_or_several_values_are_those_of_independent_columns() -> None:
    rng = np.random.default_rng(2)
    z = np.stack([rng.integers(0, 2, PEOPLE), rng.integers(0, 4, PEOPLE), rng.normal(size=PEOPLE)], 1) * 1.0
    z[:2, 0], z[2:, 0] = 1.0, np.where(z[2:, 1] == 3, 0.0, z[2:, 0])  # few have the first and a 3
    z[:2, 1] = 3.0
    second, before = z.T @ z, z.T @ z
    floor_products(second, z, EACH, FLOOR)
    assert second[0, 1] == pytest.approx(z[:, 0].sum() * z[:, 1].sum() / PEOPLE)
    np.testing.assert_array_equal(second[:, 2], before[:, 2])
    np.testing.assert_array_equal(np.diag(second), np.diag(before))
    twice, owner = np.repeat(z[:, :2], 2, axis=0), np.repeat(EACH, 2)
    second = twice.T @ twice
    floor_products(second, twice, owner, FLOOR)
    assert second[0, 1] == pytest.approx(twice[:, 0].sum() * twice[:, 1].sum() / (2 * PEOPLE))


def hospital(tmp_path: Path, **policy: Any) -> SiteContext:
    return SiteContext(SitePolicy(**policy), site="north", data=tmp_path, state=tmp_path)


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Site:
    """A hospital whose first feature is a yes of three of the people who train."""
    held = vitals("north", 1, (0,) * 30 + (1,) * 3 + (2,) * 3)
    owner = held.train.patient
    features = held.train.features.copy()
    features[:, 0] = np.isin(owner, np.unique(owner)[:3])
    held = replace(held, train=replace(held.train, features=features))
    monkeypatch.setattr("client.site.read_site", lambda context, config: held)
    return held


def test_a_hospital_sums_its_inputs_at_that_grain_and_a_simulation_exactly(site: Site, tmp_path: Path) -> None:
    config = tiny.run_config(model={"name": "logreg"}, data__scaling="standard")
    unchanged: dict[str, Any] = {"record_noise": 0.0, "replaced_values": 0.0, "min_unit_patients": 0}
    coarse = scaling.handle_scaling(hospital(tmp_path, **unchanged), ScalingRequest(config)).sums
    assert coarse["total"][0] == coarse["square"][0] == 0
    own = SiteContext(SIMULATION_POLICY, site="north")
    exact, plain = scaling.handle_scaling(own, ScalingRequest(config)).sums, compute_input_moments(site.train)
    assert exact["total"][0] > 0
    open_ = scaling.handle_scaling(hospital(tmp_path, min_cell_patients=1, **unchanged), ScalingRequest(config)).sums
    for name, values in plain.items():
        np.testing.assert_array_equal(values, exact[name])
        np.testing.assert_array_equal(values, open_[name])
    base = fit_standard_scaling(coarse)
    histogram = compute_input_histogram(site.train, base, FLOOR)["histogram"]
    assert (histogram[0] > 0).sum() == 1
    np.testing.assert_array_equal(
        compute_input_histogram(site.train, base)["histogram"],
        compute_input_histogram(site.train, base, 1)["histogram"],
    )


def test_a_hospital_compares_its_columns_at_that_grain(site: Site, tmp_path: Path) -> None:
    config, context = tiny.run_config(model={"name": "logreg"}), hospital(tmp_path)
    moments = domain_shift.sum_columns(context, site.train, config, b"")
    assert moments["total"][0] == 0
    base = fit_standard_scaling(moments)
    summary = domain_shift.sum_columns(context, site.train, config, base.to_bytes())
    ones = summary["first"][0] * base.spread[0] + summary["rows"] * base.centre[0]
    assert ones == pytest.approx(0, abs=1e-6)
    assert np.sort(summary["cells"][0])[-1] == pytest.approx(len(site.train.y), abs=50)
    assert np.sort(summary["cells"][0])[-2] < len(site.train.y) / 2  # by errors: all have one value
    simulated = domain_shift.sum_columns(SiteContext(SIMULATION_POLICY, site="north"), site.train, config, b"")
    for name, values in compute_column_moments(column_table(site.train)).items():
        np.testing.assert_array_equal(values, simulated[name])
    assert distance.SUPPRESSED not in summary["cells"][0]


def test_sums_of_one_class_taken_from_all_give_no_count_of_few() -> None:
    """An autoencoder trains on normal people alone; 9 of all and 6 of the normal ones said yes, so 3 of the others."""
    labels = np.repeat([0, 1], 30)
    values = np.zeros((60, 1), np.float32)
    values[:6] = values[30:33] = 1
    owner = np.arange(60)
    everyone = floor_columns_by_class(values, owner, labels, 5).sum()
    normal = floor_columns_by_class(values[:30], owner[:30], labels[:30], 5).sum()
    assert (everyone, normal) == (6, 6)
    assert floor_columns(values, owner, 5).sum() == 9
    several = floor_columns_by_class(values, owner, np.stack([labels, labels], 1), 5)
    assert several.sum() == 9
