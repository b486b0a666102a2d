"""What sites keep of a run that is stopped and resumed, and what they are refused for."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from client.site import Site
from server.run import digest_weights
from tests import tiny
from tests.server.test_resume import _one_thread, in_round, lines, run, run_config, sites

__all__ = ["_one_thread", "sites"]  # fixtures


def test_a_site_whose_state_is_gone_is_refused_by_name(tmp_path: Path) -> None:
    config = run_config("scaffold")
    assert not run(config, tmp_path, in_round(3))
    shutil.rmtree(tmp_path / "sites" / "north")
    assert run(config, tmp_path)
    assert lines(tmp_path)[2]["lost"] == {
        "north": "its state of an earlier round is gone: restore its state folder, or start the run anew"
    }


def test_sites_keep_the_state_of_every_round_that_a_run_may_go_on_from(tmp_path: Path) -> None:
    config = run_config("ditto", federation__rounds=5, federation__checkpoints=3)
    assert run(config, tmp_path / "whole")
    assert not run(config, tmp_path / "broken", in_round(5))
    for number in (4, 3):  # of the last three checkpoints, two are damaged
        path = tmp_path / "broken" / "checkpoints" / f"round-0000{number}.safetensors"
        path.write_bytes(path.read_bytes()[:100])
    assert run(config, tmp_path / "broken")
    assert [event["round"] for event in lines(tmp_path / "broken", "events.jsonl") if event["event"] == "resume"] == [2]
    assert lines(tmp_path / "broken")[4]["weights"] == lines(tmp_path / "whole")[4]["weights"]
    kept = [
        digest_weights(dict(load_file(next((tmp_path / part / "sites/east").glob("*/round-00005.safetensors")))))
        for part in ("whole", "broken")
    ]
    assert kept[0] == kept[1]


def test_a_site_that_states_other_data_than_before_does_not_go_on(
    tmp_path: Path, sites: dict[str, Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = run_config()
    assert not run(config, tmp_path, in_round(2))
    sites["north"] = tiny.site("north", 1, tiny.cohort(1, people=7, each=4), parts=(2, 1, *[0] * 5))
    assert run(config, tmp_path)
    why = "it states other counts than when the run began: its data or policy changed"
    assert [line["lost"] for line in lines(tmp_path)] == [
        {"north": f"validation: {why}"}, {"north": why}, {"north": why}
    ]  # fmt: skip
