from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

pytest.importorskip("tornado")


from common.errors import WardroundError
from experiments.monitor.model_choice import FILE, choose_model, read_choice
from experiments.monitor.service import Settings
from experiments.monitor.worker import ModelLoader, NewModel
from tests.experiments.monitor.conftest import Client, cut, heartbeats, run_in_thread
from tests.experiments.scoring.scored_runs import make_run_folder


def make_other(folder: Path) -> Path:
    options = {"leads": 1, "shape": 1, "causal": True}
    run = make_run_folder(folder, {"data": {"dataset": "mitdb", "options": options}})
    (run / "run.json").write_text(json.dumps({"id": "trial-2", "status": "complete", "data": {}}))
    return run


@pytest.fixture
def own_monitor(causal_run: Path, tmp_path: Path) -> Iterator[Client]:
    yield from run_in_thread(Settings(NewModel(causal_run), tmp_path / "state", port=0))


@pytest.mark.processes
def test_a_running_monitor_takes_another_model_without_a_gap(own_monitor: Client, tmp_path: Path) -> None:
    ward, packets = own_monitor.running.ward, iter(cut(heartbeats(7200), "bed-1"))
    assert ward.model_name == "trial-1"

    def send_and_look() -> bool:
        packet = next(packets)
        own_monitor.wait(lambda: own_monitor.send(packet)[0] == 202)
        return ward.model_name == "trial-2"

    assert not any(send_and_look() for _ in range(20))
    choose_model(tmp_path / "state", NewModel(make_other(tmp_path / "other")))
    own_monitor.wait(send_and_look)
    assert all(send_and_look() for _ in range(15))
    row = own_monitor.wait(lambda: (own := own_monitor.overview()["bed-1"]) and not own["learning"] and own)
    assert {name: row["losses"][name] for name in ("lost", "restarts", "shed")} == {"lost": 0, "restarts": 0, "shed": 0}
    beats = json.loads(own_monitor.call("/api/patients/bed-1")[1])["beats"]
    assert max(later["seconds"] - earlier["seconds"] for earlier, later in pairwise(beats)) < 0.85  # 75 a minute

    def read_models_used() -> list[str]:
        entries = json.loads(own_monitor.call("/api/audit")[1])["entries"]
        return [entry["subject"] for entry in entries if entry["action"] == "use model"]

    assert own_monitor.wait(read_models_used) == ["other, federated"]  # written by a thread of its own, a little later


def test_a_model_that_cannot_be_used_is_refused_and_the_one_before_goes_on(causal_run: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    with pytest.raises(WardroundError):
        choose_model(state, NewModel(tmp_path / "nothing"))
    with pytest.raises(WardroundError, match="--state"):
        choose_model(state, NewModel(causal_run))
    state.mkdir()
    assert read_choice(state) is None
    choose_model(state, NewModel(causal_run))
    assert read_choice(state) == NewModel(causal_run.resolve())
    (state / FILE).write_text("[]")
    assert read_choice(state) is None
    loader = ModelLoader(NewModel(tmp_path / "nothing"))
    assert loader.done.wait(120)
    assert loader.model is None
    assert "nothing" in loader.error
