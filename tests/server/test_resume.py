"""A run that was stopped anywhere and resumed ends as one that was not, to the last bit."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from client.site import Site
from common.config import RunConfig
from common.errors import ConfigError, DataError, EngineError
from common.run_folder import RunFolder
from experiments.engines import local
from server import checkpoints, strategies
from server.checkpoints import CheckpointFolder
from server.resume import cut_rounds
from server.run import digest_weights
from tests import tiny

NAMES = ("east", "north", "south", "up", "west")


OPTIONS: dict[str, tuple[dict[str, Any], int]] = {
    "fedprox": ({"mu": 1.0}, 2),
    "fedavgm": ({"lr": 0.5, "momentum": 0.7}, 2),
    "fedmedian": ({}, 3),
    "fedtrimmedavg": ({"cut": 0.25}, 4),
    "geomedian": ({}, 3),
    "krum": ({"malicious": 1}, 5),
    "multikrum": ({"malicious": 1, "select": 3}, 5),
    "fedper": ({"layers": ["out.bias", "stem.*"]}, 2),
    "ditto": ({"pull": 2.0}, 2),
    "scaffold": ({"lr": 0.5}, 2),
}
"""Options and number of sites, of strategies that need others than none and two."""


class Killed(BaseException):
    """The process ends here."""


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def sites(monkeypatch: pytest.MonkeyPatch) -> dict[str, Site]:
    found = {}
    for i, name in enumerate(NAMES):
        cohort = tiny.cohort(i, people=5 + i % 3, each=3 + i)
        found[name] = tiny.site(name, i, cohort, parts=(2, 1, *[0] * (3 + i % 3)))
    monkeypatch.setattr("client.site.read_site", lambda place, config: found[NAMES[place.index]])
    return found


def run_config(name: str = "fedavg", **sections: Any) -> RunConfig:
    given: dict[str, Any] = {
        "federation__strategy": {"name": name, "options": OPTIONS.get(name, ({}, 2))[0]},
        "federation__rounds": 3,
        "federation__workers": 1,
        "training__optimizer": "sgd",
        "training__momentum": 0.0,
        "training__lr": 0.05,
        "training__batch_size": 12,
        "evaluation__bootstrap": 0,
    }
    return tiny.run_config(**(given | sections))


def run(config: RunConfig, out: Path, stop: Callable[[dict[str, Any]], bool] = lambda event: False) -> bool:
    """Run a configuration in a folder, or go on with it; return whether it came to its end."""

    def listen(event: dict[str, Any]) -> None:
        if stop(event):
            raise Killed

    count = OPTIONS.get(config.federation.strategy.name, ({}, 2))[1]
    try:
        local.run_local(config, out, count, listen)
    except Killed:
        return False
    return True


def lines(out: Path, name: str = "rounds.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / name).read_text().splitlines()]


def without_clock(item: Any) -> Any:
    """Return a JSON value without what a clock measured."""
    if isinstance(item, dict):
        return {key: without_clock(value) for key, value in item.items() if key not in ("time", "seconds")}
    return [without_clock(value) for value in item] if isinstance(item, list) else item


def results(out: Path) -> dict[str, Any]:
    """Return all that a run left: its outcome, its rounds, its model, and what its sites kept of the last round."""
    kept = {
        f"{path.parent.parent.name}/{path.name}": digest_weights(dict(load_file(path)))
        for path in (out / "sites").glob("*/*/round-00003.safetensors")
    }
    return {
        "outcome": without_clock(json.loads((out / "federated.json").read_text())),
        "rounds": without_clock(lines(out)),
        "model": (out / "model.safetensors").read_bytes(),
        "sites": kept,
        "ids": len({path.parent.name for path in (out / "sites").glob("*/*/*.safetensors")}) <= 1,
    }


def in_round(number: int, phase: str = "train") -> Callable[[dict[str, Any]], bool]:
    """Return a stop at the first reply of a round."""
    return lambda event: event["event"] == "reply" and (event["round"], event["phase"]) == (number, phase)


@pytest.mark.parametrize("name", strategies.list_strategies())
def test_a_resumed_run_ends_as_an_unbroken_one(tmp_path: Path, name: str) -> None:
    config = run_config(name)
    assert run(config, tmp_path / "whole")
    assert not run(config, tmp_path / "broken", in_round(2))
    assert not run(config, tmp_path / "broken", in_round(3, "validate"))
    assert run(config, tmp_path / "broken")
    assert results(tmp_path / "broken") == results(tmp_path / "whole")
    resumed = [event["round"] for event in lines(tmp_path / "broken", "events.jsonl") if event["event"] == "resume"]
    assert resumed == [1, 2]
    assert len({line["weights"] for line in lines(tmp_path / "whole")}) == 3


@pytest.mark.parametrize(
    "stop",
    [
        in_round(2),
        in_round(3, "validate"),
        lambda event: event["event"] == "stopped",
        lambda event: event["event"] == "reply" and event["phase"] == "test",
    ],
)
def test_a_resumed_run_stops_after_the_same_round(tmp_path: Path, stop: Callable[[dict[str, Any]], bool]) -> None:
    # a rate so high that validation is soon no better
    config = run_config(federation__rounds=12, federation__patience=2, training__lr=2.0, evaluation__metric="loss")
    assert run(config, tmp_path / "whole")
    done = lines(tmp_path / "whole")
    losses = [line["validation"]["loss"] for line in done]
    best = losses.index(min(losses)) + 1
    assert 3 <= len(done) == best + 2 < 12
    assert not run(config, tmp_path / "broken", stop)
    assert run(config, tmp_path / "broken")
    assert results(tmp_path / "broken") == results(tmp_path / "whole")


@pytest.mark.slow
def test_a_run_may_be_stopped_at_any_event(tmp_path: Path) -> None:
    config = run_config("scaffold")
    assert run(config, tmp_path / "whole")
    count = len(lines(tmp_path / "whole", "events.jsonl"))
    assert count > 15
    for number in range(count):
        out, left = tmp_path / f"stopped-{number}", iter(range(number))
        assert not run(config, out, lambda event, left=left: next(left, None) is None)
        assert run(config, out)
        assert results(out) == results(tmp_path / "whole"), f"stopped at event {number}"


def test_what_was_written_last_may_be_cut_off(tmp_path: Path) -> None:
    config = run_config("fedadam")
    assert run(config, tmp_path / "whole")
    assert not run(config, tmp_path / "broken", in_round(3))
    newest = max((tmp_path / "broken" / "checkpoints").iterdir())
    newest.write_bytes(newest.read_bytes()[:-20])
    with (tmp_path / "broken" / "rounds.jsonl").open("a") as file:
        file.write('{"round": 3, "si')
    assert run(config, tmp_path / "broken")
    assert results(tmp_path / "broken") == results(tmp_path / "whole")
    (event,) = [event for event in lines(tmp_path / "broken", "events.jsonl") if event["event"] == "resume"]
    assert (event["round"], event["damaged"]) == (1, [newest.name])


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda folder: [path.write_bytes(b"") for path in folder.glob("checkpoints/*")], "no checkpoint in .* can"),
        (lambda folder: (folder / "rounds.jsonl").write_text(""), "rounds.jsonl has no line of round 1"),
        (lambda folder: shutil.rmtree(folder / "checkpoints"), "has rounds but no checkpoint to go on from"),
    ],
)  # fmt: skip
def test_a_damaged_folder_is_refused_and_stays_as_it_was(tmp_path: Path, spoil: Any, why: str) -> None:
    config = run_config()
    assert not run(config, tmp_path, in_round(3))
    spoil(tmp_path)
    before = (tmp_path / "federated.json").read_text()
    with pytest.raises(DataError, match=why):
        run(config, tmp_path)
    assert (tmp_path / "federated.json").read_text() == before
    assert json.loads((tmp_path / "server.done").read_text())["status"] == "failed"


def test_another_configuration_is_refused_by_its_keys(tmp_path: Path) -> None:
    assert not run(run_config(), tmp_path, in_round(2))
    with pytest.raises(ConfigError, match=r"begun with another federation\.rounds, training\.lr: a run keeps"):
        run(run_config(federation__rounds=5, training__lr=0.01), tmp_path)


def test_another_version_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not run(run_config(), tmp_path, in_round(2))
    monkeypatch.setattr(checkpoints, "read_release", lambda: "9.9")
    with pytest.raises(ConfigError, match=r"was begun by Wardround 0\.1\.0\S*, this is 9\.9: resume it with the same"):
        run(run_config(), tmp_path)
    monkeypatch.undo()
    monkeypatch.setattr(checkpoints, "FORMAT", "wardround.checkpoint/9")
    with pytest.raises(ConfigError, match=r"another version \(wardround.checkpoint/2, this one reads .*/9\)"):
        run(run_config(), tmp_path)


def test_two_processes_do_not_work_on_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from common.run_folder import hold_lock

    monkeypatch.setattr("server.app.LOCK_SECONDS", 0.1)
    with hold_lock(RunFolder(tmp_path).server_lock), pytest.raises(DataError, match="in use by another process"):
        run(run_config(), tmp_path)
    assert run(run_config(), tmp_path)


def test_the_last_two_checkpoints_and_the_best_are_kept(tmp_path: Path) -> None:
    config = run_config(federation__rounds=5, federation__checkpoints=2)
    folder = CheckpointFolder(tmp_path, 2)
    assert run(config, tmp_path)
    chosen = json.loads((tmp_path / "federated.json").read_text())["chosen"]
    before = lines(tmp_path)[3]["chosen"]
    assert folder.rounds() == sorted({4, 5, chosen, before})
    best = folder.read(chosen)
    assert digest_weights(dict(best.weights)) == digest_weights(dict(load_file(tmp_path / "model.safetensors")))


def test_a_checkpoint_has_the_report_that_a_site_made_last(tmp_path: Path) -> None:
    assert run(run_config(federation__rounds=1), tmp_path)
    folder = CheckpointFolder(tmp_path)
    first = folder.read(1)
    site = sorted(first.reports)[0]
    changed = first.reports[site].model_copy(update={"warning": "read again"})
    for number, reports in ((2, first.reports), (3, {**first.reports, site: changed})):
        folder.write(replace(first, round=number, reports=reports))
        assert folder.read(number).reports == reports


# The parts.


def test_rounds_after_the_last_complete_one_are_cut(tmp_path: Path) -> None:
    path = tmp_path / "rounds.jsonl"
    path.write_text('{"round": 1}\n{"round": 2}\n{"round": 3}\n{"rou')
    cut_rounds(path, 2)
    assert path.read_text() == '{"round": 1}\n{"round": 2}\n'
    cut_rounds(path, 0)
    assert path.read_text() == ""
    with pytest.raises(DataError, match="no line of round 1"):
        cut_rounds(path, 1)


def test_a_strategy_that_holds_what_cannot_be_saved_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flwr.serverapp.strategy import FedAvg

    def aggregate(self: Any, *arguments: Any) -> Any:
        self.memory = {1: object()}
        return original(self, *arguments)

    original = FedAvg.aggregate_train
    monkeypatch.setattr(FedAvg, "aggregate_train", aggregate)
    with pytest.raises(EngineError, match="the strategy FedAvg holds memory, of the type dict, which no checkpoint"):
        run(run_config(), tmp_path)


def test_a_flipped_bit_is_damage(tmp_path: Path) -> None:
    assert not run(run_config(), tmp_path, in_round(2))
    path = tmp_path / "checkpoints" / "round-00001.safetensors"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"round-00001\.safetensors is damaged"):
        CheckpointFolder(tmp_path).read(1)


def test_the_state_of_a_strategy_comes_back_with_its_types() -> None:
    from flwr.serverapp.strategy import FedAvgM

    from common import messages
    from server.strategy_state import export_state, restore_state

    one, fresh = FedAvgM(server_momentum=0.5), FedAvgM(server_momentum=0.5)
    one.current_arrays = messages.pack_weights({"b": np.ones(2, np.float64), "a": np.zeros((1, 2), np.float32)})
    one.momentum_vector = [np.full(2, 0.25), np.float32(3)]
    one.extra = {"x": (1, None, "y", 0.1)}
    state = export_state(one, fresh)
    assert set(state.values) == {"current_arrays", "momentum_vector", "extra"}
    restore_state(fresh, json.loads(json.dumps(state.values)) and state)
    assert list(fresh.current_arrays) == ["b", "a"]
    assert [value.dtype for value in messages.unpack_weights(fresh.current_arrays).values()] == [np.float64, np.float32]
    assert [np.asarray(value).dtype for value in fresh.momentum_vector] == [np.float64, np.float32]
    assert fresh.extra == one.extra


def test_a_run_keeps_its_id_from_the_handshake_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hospital's approval and its register know a run by its id."""
    from client import requests

    original, ids = requests.handle, []

    def handle(context: Any, request: Any) -> Any:
        ids.append(request.run_id)
        return original(context, request)

    monkeypatch.setattr("client.requests.handle", handle)
    assert not run(run_config(), tmp_path, in_round(2))
    assert run(run_config(), tmp_path)
    assert len(set(ids)) == 1
