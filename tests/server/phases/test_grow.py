"""Trees grown by a whole run in memory: server, messages and sites."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from client.site import Site
from common.config import RunConfig
from common.requests import GrowRequest, Request
from server.app import run_federation
from tests import tiny
from tests.server.phases.memory_runs import lead, lines, quiet, scripts
from tests.wire import FakeGrid


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
