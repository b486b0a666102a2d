"""Runs in which sites lack a split or a class, or nothing is left to do."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Error

from client.site import Site
from common.errors import EngineError
from common.metrics import evaluation
from common.reports import HandshakeCounts, SplitCounts
from server import strategies
from server.outcome import Outcome
from server.phases.handshake import run_handshake
from server.phases.test import run_test
from server.phases.train import run_rounds
from server.run import Run
from tests import tiny
from tests.server.phases.memory_runs import fails_in, hello, lead, lines, outcome, quiet, scripts, strictly
from tests.wire import FakeGrid

pytestmark = pytest.mark.usefixtures("waiting_clock")


def test_nothing_to_train_on_anywhere(tmp_path: Path) -> None:
    none = SplitCounts(patients=0, examples=0, classes=(0, 0, 0))
    grid = FakeGrid([hello("north", counts=HandshakeCounts(train=none, validation=none, test=none))])
    with pytest.raises(EngineError, match="no site has training examples"):
        lead(grid, tiny.run_config(), tmp_path)


def test_a_final_evaluation_without_answers_is_a_failure(sites: dict[str, Site], tmp_path: Path) -> None:
    gone = [fails_in(s, lambda request: Error(code=1, reason="gone"), "test", {1, 2}) for s in scripts(sites)]
    with pytest.raises(EngineError, match="final evaluation: none of 2 sites answered"):
        lead(FakeGrid(gone), tiny.run_config(), tmp_path)
    assert (tmp_path / "model.safetensors").is_file()


def test_sites_without_a_split_are_left_out_of_it(sites: dict[str, Site], tmp_path: Path) -> None:
    sites["east"] = tiny.site("east", 5, parts=(0, 0, 0))  # neither validation nor test patients
    sites["west"] = tiny.site("west", 6, parts=(2, 2, 1))  # nobody to train on
    sites["only"] = tiny.site("only", 7, tiny.cohort(7, people=6, classes=(0, 1)))  # no example of F
    grid = FakeGrid(scripts(sites))
    done = lead(grid, tiny.run_config(), tmp_path)
    kinds = {(node, request.kind) for node, request in grid.sent}
    assert (3, "test") not in kinds
    assert (3, "validate") not in kinds
    assert (4, "train") not in kinds
    assert set(done["test"]["all"]) == {"north", "south", "west", "only"}
    assert lines(tmp_path)[0]["lost"] == {}
    assert any("no examples of F" in note for note in done["test"]["all"]["only"]["notes"])
    assert done["test"]["all"]["only"]["classes"]["F"]["f1"]["value"] is None


def test_a_class_that_only_one_hospital_has(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = {"north": tiny.site("north", 1), "south": tiny.site("south", 2, tiny.cohort(2, classes=(0, 1)))}
    monkeypatch.setattr("client.site.read_site", lambda place, config: found[str(place.site)])
    done = lead(FakeGrid(scripts(found)), tiny.run_config(), tmp_path)
    own = done["test"]["all"]["north"]["classes"]["F"]
    pooled = done["pooled"]["all"]["classes"]["F"]
    assert pooled["examples"] == own["examples"] > 0
    assert pooled["recall"]["value"] == own["recall"]["value"]


def test_an_interrupt_in_a_round_leaves_a_readable_folder(sites: dict[str, Site], tmp_path: Path) -> None:
    def listen(event: dict[str, Any]) -> None:
        if event["event"] in ("reply", "done") and event.get("round", 2) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lead(FakeGrid(scripts(sites)), tiny.run_config(federation__rounds=3), tmp_path, listen)
    done = outcome(tmp_path)
    assert (done["status"], done["error"], done["chosen"]) == ("interrupted", "stopped by the user", 1)
    assert strictly((tmp_path / "server.done").read_text()) == {
        "status": "interrupted",
        "error": "stopped by the user",
    }
    assert len(lines(tmp_path)) == 1
    assert (tmp_path / "model.safetensors").is_file()


def test_train_leaves_what_it_was_given_alone(sites: dict[str, Site]) -> None:
    config = tiny.run_config()
    grid = FakeGrid(scripts(sites))
    federation, _ = run_handshake(grid, config, quiet)
    before = copy.deepcopy(federation.reports)
    run, found = (
        Run.from_handshake(grid, config, strategies.build_strategy(config.federation.strategy), federation, quiet),
        Outcome(),
    )
    kept: list[int] = []
    run_rounds(run, lambda number, weights: kept.append(number), found)
    run_test(run, found)
    assert federation.reports == before
    assert kept[-1] == found.chosen
    assert evaluation.find_worst_site(found.test["all"], "accuracy") is not None
