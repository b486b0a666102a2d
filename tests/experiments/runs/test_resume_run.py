"""Going on with a run that was stopped: what is run again, what is not, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from common import config
from common.config import RunConfig
from common.errors import ConfigError, DataError, EngineError
from common.run_folder import RunFolder, hold_lock, update_run
from experiments.baselines import networks
from experiments.cli.run_progress import QuietPrinter
from experiments.engines import local
from experiments.runs import resumable, run, series
from experiments.runs.series import Plan


class StoppingPrinter(QuietPrinter):
    """Stops a run, as Ctrl-C does, at the first event for which `stop` is true; keeps all events."""

    def __init__(self, stop: Callable[[dict[str, Any]], bool] = lambda event: False) -> None:
        self.events: list[dict[str, Any]] = []
        self._stop = stop

    def handle(self, event: dict[str, Any]) -> None:
        self.events.append(event)
        if self._stop(event):
            raise KeyboardInterrupt


def in_round(number: int) -> StoppingPrinter:
    return StoppingPrinter(lambda event: event["event"] == "reply" and event["round"] == number)


@pytest.fixture(autouse=True)
def _no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    def write(folder: Path, **ending: Any) -> None:
        if ending:
            update_run(folder, **ending)

    monkeypatch.setattr(run, "write_run_report", write)


@pytest.fixture
def wanted(hospitals: Path) -> RunConfig:
    return config.parse_config(
        {
            "name": "broken",
            "data": {"path": str(hospitals)},
            "model": {"options": {"widths": [4], "kernel": 3, "hidden": 4}},
            "training": {"device": "cpu"},
            "federation": {"rounds": 3, "workers": 1},
            "evaluation": {"bootstrap": 0, "bins": 64},
            "baselines": {"local": False, "pooled": False},
        }
    )


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def stopped_run(wanted: RunConfig, root: Path, number: int = 3) -> Path:
    with pytest.raises(KeyboardInterrupt) as stop:
        run.run_experiment(wanted, root, in_round(number))
    (folder,) = root.iterdir()
    assert stop.value.__notes__ == [f"go on with: wardround run --resume {folder}"]
    return folder


def test_a_stopped_run_goes_on_and_is_as_one_that_was_not(wanted: RunConfig, tmp_path: Path) -> None:
    whole = run.run_experiment(wanted, tmp_path / "whole", QuietPrinter())
    folder = stopped_run(wanted, tmp_path / "runs")
    assert read(folder / "run.json")["status"] == "interrupted"
    before = read(folder / "run.json")["seconds"]
    heard = StoppingPrinter()
    assert run.resume_experiment(folder, heard) == folder
    about = read(folder / "run.json")
    assert (about["status"], len(about["resumed"])) == ("complete", 1)
    assert about["seconds"] > before > 0
    assert read(folder / "federated.json")["weights"] == read(whole / "federated.json")["weights"]
    assert (folder / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert [event["round"] for event in heard.events if event["event"] == "round"] == [3]
    assert [event["round"] for event in heard.events if event["event"] == "resume"] == [2]


def test_a_complete_run_is_not_repeated(wanted: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = run.run_experiment(wanted, tmp_path, QuietPrinter())
    monkeypatch.setattr(run, "carry_messages", lambda *_: pytest.fail("it was run again"))
    before = (folder / "run.json").read_text()
    assert run.resume_experiment(folder, QuietPrinter()) == folder
    assert (folder / "run.json").read_text() == before


def test_a_run_that_was_stopped_after_its_federation_is_not_federated_again(
    wanted: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wants = wanted.model_copy(
        update={"baselines": wanted.baselines.model_copy(update={"pooled": True, "reuse": False})}
    )
    monkeypatch.setattr(networks, "train_baselines", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        run.run_experiment(wants, tmp_path, QuietPrinter())
    (folder,) = tmp_path.iterdir()
    trained: list[Path] = []
    monkeypatch.setattr(networks, "train_baselines", lambda config, folder, *_: trained.append(folder) or {})
    monkeypatch.setattr(run, "carry_messages", lambda *_: pytest.fail("it was federated again"))
    run.resume_experiment(folder, QuietPrinter())
    assert trained == [folder]
    assert read(folder / "run.json")["status"] == "complete"


def test_another_configuration_is_refused_by_its_keys(wanted: RunConfig, tmp_path: Path) -> None:
    folder = stopped_run(wanted, tmp_path)
    other = config.parse_config(json.loads(wanted.model_dump_json()), ["training.lr=0.5", "federation.rounds=9"])
    with pytest.raises(ConfigError, match=r"begun with another federation\.rounds, training\.lr: leave these"):
        run.resume_experiment(folder, QuietPrinter(), other)
    path = folder / "config.yaml"
    path.write_text(path.read_text().replace("seed: 1", "seed: 2"))
    with pytest.raises(ConfigError, match=r"config\.yaml was changed \(seed\)"):
        run.resume_experiment(folder, QuietPrinter())


def test_another_version_and_other_folders_are_refused(wanted: RunConfig, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is no run folder"):
        run.resume_experiment(tmp_path / "nothing", QuietPrinter())
    folder = stopped_run(wanted, tmp_path)
    about = read(folder / "run.json")
    update_run(folder, versions={**about["versions"], "wardround": "0.0.1"})
    with pytest.raises(
        ConfigError, match=r"was begun by Wardround 0\.0\.1, this is .*: resume it with the same version"
    ):
        run.resume_experiment(folder, QuietPrinter())


def test_a_folder_of_an_earlier_format_is_refused(wanted: RunConfig, tmp_path: Path) -> None:
    folder = stopped_run(wanted, tmp_path)
    update_run(folder, format=1)
    with pytest.raises(ConfigError, match=r"was written by an earlier version \(format 1, this one writes 2\)"):
        run.resume_experiment(folder, QuietPrinter())


def test_a_run_that_another_process_works_on_is_refused(wanted: RunConfig, tmp_path: Path) -> None:
    folder = stopped_run(wanted, tmp_path)
    with hold_lock(RunFolder(folder).lock), pytest.raises(DataError, match="in use by another process"):
        run.resume_experiment(folder, QuietPrinter())


def test_a_torn_line_of_events_is_removed(wanted: RunConfig, tmp_path: Path) -> None:
    folder = stopped_run(wanted, tmp_path)
    with (folder / "events.jsonl").open("a") as file:
        file.write('{"event": "rep')
    run.resume_experiment(folder, QuietPrinter())
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    assert events[-1]["event"] == "done"


def test_an_error_says_how_to_go_on_where_that_helps(
    wanted: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = local.run_local

    def fails(wanted: RunConfig, out: Path, sites: int, listen: Any) -> None:
        original(wanted, out, sites, listen)
        raise EngineError("the network is gone")

    monkeypatch.setattr(local, "run_local", fails)
    with pytest.raises(EngineError, match="the network is gone") as error:
        run.run_experiment(wanted, tmp_path, QuietPrinter())
    assert error.value.__notes__[0].startswith("go on with: wardround run --resume ")

    def refuses(*_: Any) -> None:
        raise ConfigError("another strategy is needed")

    monkeypatch.setattr(local, "run_local", refuses)
    with pytest.raises(ConfigError) as refusal:
        run.run_experiment(wanted, tmp_path / "refused", QuietPrinter())
    assert not hasattr(refusal.value, "__notes__")


def test_a_series_goes_on_within_a_run(wanted: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = Plan.from_texts(["seed=1,2"])
    configs = [(chosen, wanted.model_copy(update={"seed": int(chosen["seed"])})) for chosen in plan.runs()]
    seen: list[int] = []

    def stop(event: dict[str, Any]) -> bool:
        seen.extend([event["round"]] if event["event"] == "round" else [])
        return len(seen) == 5  # in the last but one round of the second run

    with pytest.raises(KeyboardInterrupt) as stopped:
        series.run_configurations(configs, tmp_path, StoppingPrinter(stop))
    assert stopped.value.__notes__ == ["the same command goes on from here"]
    heard = StoppingPrinter()
    done = series.run_configurations(configs, tmp_path, heard)
    assert [event["round"] for event in heard.events if event["event"] == "round"] == [2, 3]
    assert [len(list((tmp_path / f"seed-{seed}").iterdir())) for seed in (1, 2)] == [1, 1]
    assert all(read(folder / "run.json")["status"] == "complete" for _, folder in done)
    assert resumable.find_resumable_run(tmp_path / "seed-1", wanted.model_copy(update={"seed": 3})) is None
