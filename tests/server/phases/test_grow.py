"""Trees grown by a whole run in memory: server, messages and sites."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from client import input_scaling
from client.site import Site
from common import models
from common.config import RunConfig
from common.requests import FinalTestRequest, GrowRequest, Request
from common.tree_plan import draw_trees, plan_run
from experiments.baselines.trees import grow_trees
from server.app import run_federation
from server.run import digest_weights
from sites.cohort import join_cohorts
from tests import tiny
from tests.server.phases.memory_runs import lead, lines, quiet, scored, scripts
from tests.wire import FakeGrid

pytestmark = pytest.mark.usefixtures("waiting_clock")


def tree_config(**more: Any) -> RunConfig:
    options = {"trees": 6, "depth": 2, "bins": 8, "sample": 1.0, "columns": 1.0, "min_people": 0.0}
    return tiny.run_config(model={"name": "boosting", "options": options}, federation__rounds=3, **more)


@pytest.fixture
def wide_sites(sites: dict[str, Site]) -> dict[str, Site]:
    """The two sites, whose larger one has missing values too."""
    train = sites["south"].train
    features = train.features.copy()
    features[::7] = np.nan
    task = replace(train.task, missing=True)
    for name, site in list(sites.items()):
        parts = {
            split: replace(getattr(site, split), task=task, features=features)
            if (name, split) == ("south", "train")
            else replace(getattr(site, split), task=task)
            for split in ("train", "validation", "test")
        }
        sites[name] = replace(site, task=task, **parts)
    return sites


def test_a_round_needs_a_message_for_each_depth(wide_sites: dict[str, Site], tmp_path: Path) -> None:
    grid = FakeGrid(scripts(wide_sites))
    result = lead(grid, tree_config(), tmp_path)
    asked = [(node, request) for node, request in grid.sent if isinstance(request, GrowRequest)]
    assert [(request.round, request.depth) for node, request in asked if node == 1] == [
        (number, depth) for number in (1, 2, 3) for depth in (0, 1)
    ]
    assert result["status"] == "complete"
    assert result["pooled"]["all"]["examples"] == sum(len(site.test.y) for site in wide_sites.values())
    weights = load_file(tmp_path / "model.safetensors")
    assert (weights["feature"][: 2 * result["chosen"]] == 0).any()
    assert not weights["value"][2 * result["chosen"] :].any()
    assert [line["round"] for line in lines(tmp_path)] == [1, 2, 3]


def test_the_model_depends_neither_on_the_order_of_answers_nor_on_how_people_are_divided(
    wide_sites: dict[str, Site], tmp_path: Path
) -> None:
    config = tree_config(federation__choose="last")
    one, other = tmp_path / "one", tmp_path / "other"
    lead(FakeGrid(scripts(wide_sites)), config, one)
    lead(FakeGrid(scripts(wide_sites), order=lambda message: -message.metadata.dst_node_id), config, other)
    assert (one / "model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes()


def test_a_run_that_was_stopped_ends_with_the_trees_of_one_that_was_not(
    wide_sites: dict[str, Site], tmp_path: Path
) -> None:
    config = tree_config()
    lead(FakeGrid(scripts(wide_sites)), config, tmp_path / "whole")

    def stop(event: dict[str, Any]) -> None:
        if event.get("event") == "round" and event["round"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_federation(FakeGrid(scripts(wide_sites)), config, tmp_path / "stopped", stop)
    lead(FakeGrid(scripts(wide_sites)), config, tmp_path / "stopped")
    whole, stopped = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "stopped"))
    assert all(np.array_equal(whole[name], stopped[name]) for name in whole)


def test_a_site_with_sums_of_another_shape_is_lost_and_the_others_go_on(
    wide_sites: dict[str, Site], tmp_path: Path
) -> None:
    honest = scripts(wide_sites)

    def wrong(request: Request) -> Any:
        reply: Any = honest[0](request)
        if not isinstance(request, GrowRequest) or request.round != 2:
            return reply
        return replace(reply, sums={name: value[..., :1] for name, value in reply.sums.items()})

    result = lead(FakeGrid([wrong, honest[1]]), tree_config(), tmp_path)
    assert result["lost"] == {"north": "round 2: its sums do not fit the task"}
    assert result["status"] == "complete"
    assert quiet({}) is None


def test_a_forest_needs_a_message_a_round_and_gives_the_trees_of_all_rows_in_one_place(
    wide_sites: dict[str, Site], tmp_path: Path
) -> None:
    options = {"trees": 12, "depth": 3, "bins": 8}
    config = tiny.run_config(
        model={"name": "forest", "options": options}, federation__rounds=4, federation__choose="last"
    )
    grid = FakeGrid(scripts(wide_sites))
    result = lead(grid, config, tmp_path / "run")
    asked = [request for node, request in grid.sent if isinstance(request, GrowRequest) and node == 1]
    assert [(request.round, request.depth) for request in asked] == [(number, 0) for number in (1, 2, 3, 4)]
    assert result["status"] == "complete"
    weights = load_file(tmp_path / "run" / "model.safetensors")
    plan = plan_run(config, wide_sites["south"].task)
    assert np.array_equal(weights["feature"], draw_trees(plan)["feature"])
    assert weights["value"][::3].any((1, 2)).all()
    scaling = input_scaling.fit_scaling([site.train for site in wide_sites.values()], "bins")
    whole = join_cohorts([input_scaling.apply_scaling(site.train, scaling) for site in wide_sites.values()])
    model = models.build_model(whole.task, config.model, config.seed)
    grow_trees(model, whole, config, "pooled")
    np.testing.assert_allclose(model.state_dict()["value"].numpy(), weights["value"], atol=1e-5)


@pytest.mark.parametrize(
    ("model", "messages"),
    [
        ({"name": "boosting", "options": {"trees": 12, "depth": 2, "bins": 8, "min_people": 0.0}}, 2),
        ({"name": "forest", "options": {"trees": 12, "depth": 2, "bins": 8}}, 1),
    ],
)
def test_growing_ends_after_the_patience_and_the_trees_after_the_best_round_are_dropped(
    wide_sites: dict[str, Site], tmp_path: Path, model: dict[str, Any], messages: int
) -> None:
    right = dict(enumerate([4, 7, 6, 5, 9, 9], 1))  # round 2 is the best of the first four
    requests: list[Request] = []
    config = tiny.run_config(
        model=model,
        federation__rounds=6,
        federation__patience=2,
        evaluation__metric="accuracy",
        evaluation__bootstrap=0,
    )
    events: list[dict[str, Any]] = []
    grid = FakeGrid([scored(script, right, requests) for script in scripts(wide_sites)])
    result = lead(grid, config, tmp_path, events.append)
    asked = [request for node, request in grid.sent if isinstance(request, GrowRequest) and node == 1]
    assert [request.round for request in asked] == [number for number in (1, 2, 3, 4) for _ in range(messages)]
    stopped = next(event for event in events if event["event"] == "stopped")
    assert (stopped["round"], stopped["rounds"], stopped["chosen"], result["chosen"]) == (4, 6, 2, 2)
    weights = load_file(tmp_path / "model.safetensors")
    last = asked[-1].weights["value"]  # the server's trees of round 4, before their leaves
    assert last[4:6].any()
    assert np.array_equal(weights["value"][:4], last[:4])
    assert weights["value"][:4].any()
    assert not weights["value"][4:].any()
    assert model["name"] == "forest" or (weights["feature"][4:] < 0).all()
    tested = [request for request in requests if isinstance(request, FinalTestRequest)]
    assert {digest_weights(request.weights) for request in tested} == {digest_weights(weights)}


def test_sites_explain_trees_and_say_where_they_cannot(
    wide_sites: dict[str, Site], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("lightgbm")
    config = tree_config(evaluation__explain="shap")
    result = lead(FakeGrid(scripts(wide_sites)), config, tmp_path / "with")
    assert {item["method"] for item in result["explanations"].values()} == {"shap"}
    assert len(result["explanations"]) == 2
    assert max(result["explanations"]["south"]["features"].values()) > 0
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    result = lead(FakeGrid(scripts(wide_sites)), config, tmp_path / "without")
    assert result["explanations"] == {}
    notes = result["test"]["all"]["south"]["notes"]
    assert any("LightGBM is not installed: pip install 'wardround[trees]'" in note for note in notes)


@pytest.mark.parametrize(("rounds", "choose", "expected"), [(20, "best", 104), (20, "last", 84), (6, "last", 28)])
def test_300_trees_of_depth_4_need_so_many_messages_to_a_site(
    wide_sites: dict[str, Site], tmp_path: Path, rounds: int, choose: str, expected: int
) -> None:
    options = {"trees": 300, "depth": 4, "bins": 8, "sample": 1.0, "columns": 1.0, "min_people": 0.0}
    config = tiny.run_config(
        model={"name": "boosting", "options": options}, federation__rounds=rounds, federation__choose=choose
    )
    grid = FakeGrid(scripts(wide_sites))
    lead(grid, config, tmp_path)
    sent = [request for node, request in grid.sent if node == 1]
    # handshake, sums and histograms for the bins, a message for each depth, validation of a round, test
    assert len(sent) == expected == 1 + 2 + 4 * rounds + (rounds if choose == "best" else 0) + 1
    assert {node for node, _ in grid.sent} == {1, 2}
