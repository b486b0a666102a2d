"""Table 1's inputs over the server's own exchange, against numpy over the rows of each hospital."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.policy import SIMULATION_POLICY, SitePolicy
from client.site import Site
from common import distance
from server import app
from server.column_description import find_quartiles
from sites.cohort import Cohort
from tests import tiny
from tests.server.phases.test_scaling import VITALS
from tests.wire import FakeGrid, site_script

pytestmark = pytest.mark.usefixtures("waiting_clock")

TASK = replace(VITALS, features=("bp", "lab", "diabetes"), binary_features=("diabetes",), utility=False)
NAMES = ("east", "north")


def hospital(name: str, seed: int, people: int, each: int = 1, *, few: int = 30) -> Site:
    """Return a hospital in which `few` training people lack the lab value and as many have diabetes."""
    rng = np.random.default_rng(seed)
    n = people * each
    y = (rng.random(n) < 0.4).astype(np.int64)
    features = np.stack([rng.normal(110 + 10 * seed, 15, n), rng.lognormal(1, 1, n), np.zeros(n)], 1)
    split = np.repeat(np.arange(people) % 5 == 4, each).astype(np.int8) * 2
    trained = np.flatnonzero(split == 0)
    features[rng.choice(trained, few, replace=False), 1] = np.nan
    features[rng.choice(trained, few, replace=False), 2] = 1
    names = tuple(f"{seed}-{i}" for i in range(people))
    owner = np.repeat(np.arange(people), each)
    empty = np.zeros((n, 0, 0), np.float32)
    return Site.from_cohort(
        name, Cohort(TASK, empty, features.astype(np.float32), y, owner, names, names, split), synthetic=True
    )


def describe(
    sites: dict[str, Site], out: Path, monkeypatch: pytest.MonkeyPatch, policy: SitePolicy = SIMULATION_POLICY
) -> dict[str, dict[str, Any]]:
    """Return each hospital's columns by name."""
    monkeypatch.setattr("client.site.read_site", lambda context, config: sites[str(context.site)])
    config = tiny.run_config(
        model={"name": "logreg"}, evaluation__domain_shift=True, federation__choose="last", federation__rounds=1
    )
    app.run_federation(FakeGrid([site_script(site, policy) for site in sites.values()]), config, out)
    found = json.loads((out / "federated.json").read_text())["shift"]["sites"]
    return {name: {column["name"]: column for column in each["columns"]} for name, each in found.items()}


@pytest.mark.parametrize("policy", [SIMULATION_POLICY, SitePolicy(default_max_epsilon=None)], ids=["simulated", "real"])
def test_inputs_are_described_as_numpy_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: SitePolicy
) -> None:
    sites = {name: hospital(name, seed, 4000) for seed, name in enumerate(NAMES, 1)}
    found = describe(sites, tmp_path, monkeypatch, policy)
    assert set(found) == set(NAMES)
    everything = np.concatenate([site.train.features for site in sites.values()])
    for name, site in sites.items():
        rows = site.train.features
        people = len(rows)
        for index, column in enumerate(("bp", "lab")):
            values = rows[:, index][~np.isnan(rows[:, index])]
            centre, spread = np.nanmean(everything[:, index]), np.nanstd(everything[:, index])
            edges = centre + spread * distance.histogram_edges()
            own = found[name][column]
            assert own["mean"] == pytest.approx(values.mean(), rel=1e-6)
            assert own["deviation"] == pytest.approx(values.std(), rel=1e-4)
            for stated, true in zip(own["quartiles"], np.quantile(values, [0.25, 0.5, 0.75]), strict=True):
                position = int(np.searchsorted(edges, true)) - 1
                assert abs(stated - true) <= edges[position + 1] - edges[position]
        assert (found[name]["lab"]["missing"], found[name]["lab"]["measured"]) == (30, people - 30)
        assert found[name]["lab"]["missing_share"] == round(30 / people, 2)
        assert (found[name]["diabetes"]["yes"], found[name]["diabetes"]["yes_share"]) == (30, round(30 / people, 2))
        assert "quartiles" not in found[name]["diabetes"]


@pytest.mark.parametrize("policy", [SIMULATION_POLICY, SitePolicy(default_max_epsilon=None)], ids=["simulated", "real"])
def test_few_people_are_not_stated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: SitePolicy) -> None:
    sites = {"east": hospital("east", 1, 200, few=3), "north": hospital("north", 2, 200, few=120)}
    found = describe(sites, tmp_path, monkeypatch, policy)
    few = found["east"]
    assert (few["lab"]["missing"], few["lab"]["measured"], few["lab"]["missing_share"]) == (None, None, None)
    assert (few["diabetes"]["yes"], few["diabetes"]["yes_share"]) == (None, None)
    assert (found["north"]["lab"]["missing"], found["north"]["diabetes"]["yes"]) == (120, 120)
    # 40 of 160 have a value in north: enough for a mean. By a histogram whose bins of few people are gone, a real
    # hospital has no quartiles.
    assert found["north"]["lab"]["mean"] is not None
    assert (found["north"]["lab"]["quartiles"] is None) == (policy is not SIMULATION_POLICY)


def test_a_floor_of_a_hospital_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sites = {name: hospital(name, seed, 400, few=8) for seed, name in enumerate(NAMES, 1)}
    found = describe(sites, tmp_path, monkeypatch, SitePolicy(default_max_epsilon=None, min_cell_patients=10))
    assert {found[name]["diabetes"]["yes"] for name in NAMES} == {None}


def test_of_people_with_several_examples_only_shares_are_stated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sites = {name: hospital(name, seed, 50, 10, few=100) for seed, name in enumerate(NAMES, 1)}
    found = describe(sites, tmp_path, monkeypatch)
    for name in NAMES:
        lab, diabetes = found[name]["lab"], found[name]["diabetes"]
        assert (lab["missing"], lab["measured"], lab["missing_share"]) == (None, None, 0.25)
        assert (diabetes["yes"], diabetes["yes_share"]) == (None, 0.25)
    few = {name: hospital(name, seed, 20, 10, few=100) for seed, name in enumerate(NAMES, 1)}  # 16 people train
    found = describe(few, tmp_path / "few", monkeypatch)
    assert found["east"]["bp"]["quartiles"] is None
    assert found["east"]["bp"]["mean"] is None


def test_quartiles_of_a_histogram() -> None:
    """Of as many values in each of two bins: the median is their common edge, the quartiles are their middles."""
    edges = 10 + 2 * distance.histogram_edges()
    cells = np.zeros(distance.HISTOGRAM_BINS + 1)
    cells[[24, 25]], cells[-1] = 40, 1000  # a thousand missing values change nothing
    found = find_quartiles(cells, 10.0, 2.0)
    assert found is not None
    expected = [(edges[24] + edges[25]) / 2, edges[25], (edges[25] + edges[26]) / 2]
    np.testing.assert_allclose(found, expected, atol=(edges[26] - edges[24]) / 4)
    outer = np.zeros(distance.HISTOGRAM_BINS + 1)
    outer[0], outer[20] = 40, 40  # the lower quartile is somewhere below an edge
    assert find_quartiles(outer, 10.0, 2.0) is None
