"""Distances between hospitals over the server's own exchange, against the rows of all of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Error

from client.gate.register import TOO_FEW
from client.policy import SIMULATION_POLICY, SitePolicy
from client.requests import domain_shift
from client.site import Site
from client.site_context import SiteContext
from common import distance, messages, scaling
from common.errors import SiteError
from common.requests import Request
from common.task import Task
from experiments.baselines import two_sample_test
from server import app
from sites.comparison_columns import column_names, column_table
from tests import tiny
from tests.server.phases.test_scaling import vitals
from tests.wire import FakeGrid, build_request, site_script

pytestmark = pytest.mark.usefixtures("waiting_clock")


@pytest.fixture(name="sites")
def _sites(monkeypatch: pytest.MonkeyPatch) -> dict[str, Site]:
    parts = (0,) * 12 + (1, 1, 2, 2)
    result = {name: vitals(name, seed, parts) for name, seed in (("east", 1), ("north", 1), ("west", 4))}
    monkeypatch.setattr("client.site.read_site", lambda context, config: result[str(context.site)])
    return result


def config(**more: Any) -> Any:
    return tiny.run_config(model={"name": "logreg"}, evaluation__domain_shift=True, **more)


def reported(site: Site, policy: SitePolicy) -> Any:
    """Return a site whose refusal is told as the client's app tells it."""
    script = site_script(site, policy)

    def answer(request: Request) -> Any:
        try:
            return script(request)
        except SiteError as error:
            return Error(messages.ERROR_CODE, messages.pack_error(site.name, "SiteError", str(error)))

    return answer


def lead(sites: dict[str, Site], run: Any, out: Path, policies: dict[str, SitePolicy] | None = None) -> Any:
    scripts = [reported(site, (policies or {}).get(name, SIMULATION_POLICY)) for name, site in sites.items()]
    app.run_federation(FakeGrid(scripts), run, out)
    return json.loads((out / "federated.json").read_text())


def test_pairs_are_those_of_the_rows(sites: dict[str, Site], tmp_path: Path) -> None:
    result = lead(sites, config(), tmp_path)["shift"]
    ends = [(item["one"], item["other"]) for item in result["pairs"]]
    assert ends == [("east", "north"), ("east", "west"), ("north", "west")]
    values = {name: column_table(site.train) for name, site in sites.items()}
    base = scaling.fit_standard_scaling(scaling.compute_column_moments(np.concatenate(list(values.values()))))
    z = {name: (rows - base.centre) / base.spread for name, rows in values.items()}
    for item in result["pairs"]:
        one, other = (
            distance.summarise_columns(z[item[end]], np.zeros(len(z[item[end]])), 1, 0) for end in ("one", "other")
        )
        index, gap = distance.psi(one.cells, other.cells), distance.ks(one.cells, other.cells)
        reported = {part["name"]: (part["psi"], part["ks"]) for part in item["columns"]}
        np.testing.assert_allclose([reported["bp"], reported["lab"]], np.stack([index, gap], 1), rtol=1e-6)
        labels = [sites[item[end]].train.class_counts() for end in ("one", "other")]
        assert item["label_distance"] == pytest.approx(distance.label_shift(*labels)[0])
    same, far, _ = result["pairs"]
    assert (same["psi_large"], same["mmd"]) == (0, pytest.approx(0, abs=0.02))
    assert far["lda_auroc"] > 0.75 > same["lda_auroc"]
    assert result["lost"] == {}


def test_an_external_hospital_is_compared_to_all_that_trained(sites: dict[str, Site], tmp_path: Path) -> None:
    result = lead(sites, config(sites__external=["west"]), tmp_path)["shift"]
    last = result["pairs"][-1]
    assert (last["one"], last["other"]) == ("all that trained", "west")
    values = [column_table(sites[name].train) for name in ("east", "north")]
    base = scaling.fit_standard_scaling(scaling.compute_column_moments(np.concatenate(values)))
    z = [(rows - base.centre) / base.spread for rows in (np.concatenate(values), column_table(sites["west"].train))]
    both = [distance.summarise_columns(part, np.zeros(len(part)), 1, 0) for part in z]
    assert last["lda_auroc"] == pytest.approx(distance.lda_auroc(*both))


def test_a_hospital_suppresses_small_cells_or_refuses(sites: dict[str, Site], tmp_path: Path) -> None:
    policies = {"west": replace_policy(min_cell_patients=4)}
    result = lead(sites, config(), tmp_path / "some", policies)["shift"]
    hidden = {(item["one"], item["other"]): item["suppressed"] for item in result["pairs"]}
    assert hidden["east", "north"] == 0
    assert hidden["east", "west"] > 0
    policies = {"west": replace_policy(min_cell_patients=13)}
    result = lead(sites, config(), tmp_path / "none", policies)["shift"]
    assert [(item["one"], item["other"]) for item in result["pairs"]] == [("east", "north")]
    assert result["lost"] == {"west": TOO_FEW}


def replace_policy(**changes: Any) -> SitePolicy:
    return SIMULATION_POLICY.model_copy(update=changes)


def test_a_real_hospital_has_a_floor_and_a_private_one_refuses(sites: dict[str, Site], tmp_path: Path) -> None:
    base = scaling.fit_standard_scaling(scaling.compute_column_moments(column_table(sites["west"].train))).to_bytes()
    context = SiteContext(tiny.policy(), site="west", data=Path("here"), state=tmp_path)
    cells = {
        one.simulated: domain_shift.sum_columns(one, sites["west"].train, config(), base)["cells"]
        for one in (context, SiteContext(SIMULATION_POLICY, site="west"))
    }
    assert ((cells[False] == 0) | (cells[False] >= 5)).all()  # few and nobody are alike
    assert (cells[False] != cells[True]).any()
    assert (cells[True] >= 0).all()
    for policy in (tiny.policy(private_only=True), tiny.policy(max_epsilon=3.0)):
        with pytest.raises(Exception, match="no epsilon counts"):
            site_script(sites["west"], policy)(build_request("domain_shift", config()))


def test_columns_of_each_kind_of_task(sites: dict[str, Site]) -> None:
    site = tiny.site("north", 1)
    assert column_names(site.task) == ("rr",)  # 16 samples are no beat
    np.testing.assert_array_equal(column_table(site.train), site.train.features)
    hours = Task("h", "multiclass", ("a", "b"), ("a", "b"), 2, 5, 1 / 3600, ("age",), ("hr", "bp"))
    x = np.arange(40, dtype=np.float32).reshape(4, 2, 5)
    cohort = replace(site.train.take(slice(0, 4)), task=hours, x=x, y=np.zeros(4, np.int64))
    assert column_names(hours) == ("age", "hr", "bp")
    np.testing.assert_array_equal(column_table(cohort)[:, 1:], x[:, :, -1])


def test_trees_distinguish_different_hospitals_and_not_like_ones(sites: dict[str, Site]) -> None:
    run = config(evaluation__bootstrap=50)
    rows = {name: two_sample_test.sample_rows(site, run) for name, site in sites.items()}
    like, far = (two_sample_test.pair_auroc(rows["east"], rows[name], 1, run) for name in ("north", "west"))
    assert like is not None
    assert far is not None
    assert like.value is not None
    assert like.value < 0.65  # the same rows on both sides
    assert far.value is not None
    assert far.low is not None
    assert far.value > far.low > 0.7
    few = rows["west"][0], np.zeros(len(rows["west"][0]), np.int64)
    assert two_sample_test.pair_auroc(rows["east"], few, 1, run) is None


def test_no_person_is_on_both_sides_of_a_fold() -> None:
    y, person = np.repeat([0, 1], [40, 60]), np.repeat(np.arange(20), 5)
    for train, test in two_sample_test._folds(y, person, 3):
        assert not set(person[train]) & set(person[test])
        assert {*y[train]} == {*y[test]} == {0, 1}
        assert len(train) + len(test) == 100
