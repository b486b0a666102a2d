"""Which sites train in a round: drawn from the seed, and named where they are offline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from client.site import Site
from common.errors import ConfigError
from server import app
from server.phases.train import draw_sites
from tests import tiny
from tests.server.phases.test_losses import lines, read, run, scripts, sites
from tests.wire import FakeGrid

__all__ = ["sites"]  # a fixture

pytestmark = pytest.mark.usefixtures("waiting_clock")


def test_sites_of_a_round_are_drawn_from_the_seed() -> None:
    names = [f"s{number}" for number in range(6)]
    config = tiny.run_config(federation__sites_per_round=2)
    drawn = [draw_sites(config, number, names) for number in range(1, 201)]
    assert drawn == [draw_sites(config, number, names[::-1]) for number in range(1, 201)]
    assert all(len(set(each)) == 2 and each == sorted(each) for each in drawn)
    shares = [sum(name in each for each in drawn) / 200 for name in names]
    assert all(0.22 < share < 0.45 for share in shares)  # a third of the rounds; three standard errors are 0.1
    other = tiny.run_config(federation__sites_per_round=2, seed=9)
    assert [draw_sites(other, number, names) for number in range(1, 201)] != drawn
    assert draw_sites(tiny.run_config(federation__sites_per_round=9), 1, names) == names
    assert draw_sites(tiny.run_config(), 1, names) == names


def test_only_drawn_sites_train_and_all_validate(sites: dict[str, Site], tmp_path: Path) -> None:
    config = tiny.run_config(federation__sites_per_round=2, federation__rounds=4)
    grid = FakeGrid(scripts(sites))
    run(grid, config, tmp_path)
    names = dict(enumerate(sites, 1))
    for line in lines(tmp_path):
        trained = {
            names[node] for node, request in grid.sent if request.kind == "train" and request.round == line["round"]
        }
        assert trained == set(line["drawn"]) == {name for name, item in line["sites"].items() if "train" in item}
        assert {name for name, item in line["sites"].items() if "validation" in item} == set(sites)
        assert line["lost"] == {}
    assert read(tmp_path)["partial"] == {}
    assert len({tuple(line["drawn"]) for line in lines(tmp_path)}) > 1


def test_a_drawn_site_that_is_offline_is_named_and_nobody_takes_its_place(
    sites: dict[str, Site], tmp_path: Path
) -> None:
    config = tiny.run_config(federation__sites_per_round=2, federation__rounds=6)
    whole = FakeGrid(scripts(sites))
    run(whole, config, tmp_path / "whole")
    grid = FakeGrid(scripts(sites))

    def listen(event: dict[str, Any]) -> None:
        if event["event"] == "handshake":
            grid.offline = {3}

    app.run_federation(grid, config, tmp_path / "two", listen)
    for one, other in zip(lines(tmp_path / "whole"), lines(tmp_path / "two"), strict=True):
        assert one["drawn"] == other["drawn"]
        lost = {"west": "offline"} if "west" in one["drawn"] else {"west": "validation: offline"}
        assert other["lost"] == lost


def test_a_privacy_of_hospitals_has_its_own_draw() -> None:
    with pytest.raises(ConfigError, match=r"privacy\.hospital_sampling instead of federation\.sites_per_round"):
        tiny.run_config(
            privacy__level="hospital", privacy__sigma=1.0, federation__sites_per_round=1, federation__choose="last",
            federation__weights="equal", privacy__weight_total=2.0, training__loss="cross_entropy",
        )  # fmt: skip
