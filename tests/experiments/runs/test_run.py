"""One run from configuration to report, also when it fails or is stopped."""

from __future__ import annotations

import errno
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from common import config, run_folder
from common.config import RunConfig
from common.errors import ConfigError, DataError, EngineError
from common.sections.evaluation import BaselinesConfig
from common.sections.training import FederationConfig, TrainingConfig
from experiments.baselines import networks
from experiments.cli import run_progress
from experiments.engines import link_site_recordings, local
from experiments.runs import run as launch
from sites import datasets


class Heard(run_progress.QuietPrinter):
    """Remembers the stages and events."""

    def __init__(self) -> None:
        self.stages: list[str] = []
        self.events: list[dict[str, Any]] = []

    def handle(self, event: dict[str, Any]) -> None:
        if event["event"] == "stage":
            self.stages.append(event["what"])
        else:
            self.events.append(event)


@pytest.fixture
def reports(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders of which a report was asked; none is drawn."""
    result: list[Path] = []

    def write(folder: Path, **ending: Any) -> None:
        result.append(folder)
        if ending:
            run_folder.update_run(folder, **ending)

    monkeypatch.setattr(launch, "write_run_report", write)
    return result


@pytest.fixture
def run(hospitals: Path) -> RunConfig:
    return config.parse_config(
        {
            "name": "launch",
            "data": {"path": str(hospitals)},
            "model": {"options": {"widths": [4], "kernel": 3, "hidden": 4}},
            "training": {"device": "cpu"},
            "federation": {"rounds": 2},
            "evaluation": {"bootstrap": 10, "bins": 64},
            "baselines": {"reuse": False},
        }
    )


def about(folder: Path) -> Any:
    return json.loads((folder / "run.json").read_text())


def test_a_whole_run(run: RunConfig, tmp_path: Path, reports: list[Path]) -> None:
    heard = Heard()
    folder = launch.run_experiment(run, tmp_path, heard)
    assert reports == [folder]
    assert about(folder)["status"] == "complete"
    assert about(folder)["seconds"] > 0
    assert about(folder)["data"]["synthetic"] is True
    names = {path.name for path in folder.iterdir()}
    assert names >= {
        "config.yaml", "run.json", "events.jsonl", "rounds.jsonl", "model.safetensors", "federated.json",
        "server.done", "baselines.json", "model.pooled.safetensors", "model.local.north.safetensors",
    }  # fmt: skip
    assert not list(folder.glob("*.part"))
    assert [event["event"] for event in heard.events if event["event"] == "round"] == ["round"] * 2
    assert [heard.stages[-3], heard.stages[-1]] == ["training the baselines", "writing the report"]
    assert re.match(r"baselines: they took \d+ s; a run without them: ", heard.stages[-2])
    assert config.load_config(folder / "config.yaml").federation.rounds == 2


@pytest.mark.parametrize(("error", "status"), [(KeyboardInterrupt(), "interrupted"), (EngineError("x"), "failed")])
def test_a_run_that_ends_early_says_so(
    run: RunConfig, tmp_path: Path, reports: list[Path], monkeypatch: pytest.MonkeyPatch, error: Any, status: str
) -> None:
    def breaks(config: RunConfig, out: Path, sites: int, listen: Any) -> None:
        (out / "events.jsonl").write_text("")
        raise error

    monkeypatch.setattr(local, "run_local", breaks)
    with pytest.raises(type(error)):
        launch.run_experiment(run, tmp_path, Heard())
    assert len(reports) == 1
    assert about(reports[0])["status"] == status


def test_the_first_error_is_not_hidden_by_the_report(
    run: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_: Any, **__: Any) -> None:
        raise ValueError("no report")

    monkeypatch.setattr(launch, "write_run_report", breaks)
    monkeypatch.setattr(networks, "train_baselines", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        launch.run_experiment(run, tmp_path, Heard())
    (folder,) = tmp_path.iterdir()
    assert about(folder)["status"] == "interrupted"
    assert json.loads((folder / "federated.json").read_text())["status"] == "complete"


def test_a_run_whose_report_cannot_be_written_is_not_complete(
    run: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    observed: list[str] = []

    def fills(path: Path, content: object) -> None:
        observed.append(about(path.parent)["status"])
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr("experiments.report.write.write_text", fills)
    with pytest.raises(OSError, match="No space left"):
        launch.run_experiment(run, tmp_path, Heard())
    (folder,) = tmp_path.iterdir()
    assert observed[0] == "running"
    assert about(folder)["status"] == "failed"
    assert not (folder / "report.json").exists()


def test_baselines_that_fail_are_reported(
    run: RunConfig, tmp_path: Path, reports: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(networks, "train_baselines", lambda *_: {"local:north": "loss"})
    heard = Heard()
    launch.run_experiment(run, tmp_path, heard)
    assert heard.events[-1] == {"event": "baseline-failed", "model": "local:north", "error": "loss"}


def test_no_baselines_where_none_are_asked_for(run: RunConfig, tmp_path: Path, reports: list[Path]) -> None:
    none = run.model_copy(update={"baselines": BaselinesConfig(local=False, pooled=False)})
    folder = launch.run_experiment(none, tmp_path, Heard())
    assert not (folder / "baselines.json").exists()


def test_classical_models_alone_are_baselines(
    run: RunConfig, tmp_path: Path, reports: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(networks, "train_baselines", lambda *_: {"logreg:pooled": "loss"})
    alone = run.model_copy(update={"baselines": BaselinesConfig(local=False, pooled=False, classical=("logreg",))})
    heard = Heard()
    launch.run_experiment(alone, tmp_path, heard)
    assert heard.events[-1] == {"event": "baseline-failed", "model": "logreg:pooled", "error": "loss"}


@pytest.mark.parametrize(
    ("section", "values", "kind", "why"),
    [
        ("model", {"name": "cnnn"}, ConfigError, "no model named 'cnnn': choose one of .*cnn"),
        ("model", {"options": {"width": 1}}, ConfigError, "unknown key width .did you mean widths"),
        ("data", {"dataset": "other"}, ConfigError, "no data set named 'other'"),
        ("data", {"path": "/nowhere"}, DataError, "no data folder /nowhere"),
        ("federation", {"strategy": {"name": "x"}}, ConfigError, "no strategy named 'x'"),
        ("sites", {"scheme": "even", "count": 99}, ConfigError, "sites.count=99: only 6 people"),
    ],
)
def test_what_is_wrong_is_reported_before_a_folder_is_made(
    run: RunConfig, tmp_path: Path, section: str, values: dict[str, Any], kind: type[Exception], why: str
) -> None:
    raw = json.loads(run.model_dump_json())
    raw[section] |= values
    with pytest.raises(kind, match=why):
        launch.run_experiment(config.parse_config(raw), tmp_path, Heard())
    assert not list(tmp_path.iterdir())


def test_a_device_that_is_not_there(run: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    wants = run.model_copy(update={"training": TrainingConfig(device="cuda")})
    with pytest.raises(ConfigError, match="no CUDA device"):
        launch.run_experiment(wants, tmp_path, Heard())
    assert not list(tmp_path.iterdir())


def test_the_ray_extra_is_missing(run: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    wants = run.model_copy(update={"federation": FederationConfig(engine="ray")})
    with pytest.raises(ConfigError, match=r"pip install 'wardround\[ray\]'"):
        launch.run_experiment(wants, tmp_path, Heard())


def test_a_server_elsewhere_needs_its_authority(run: RunConfig, tmp_path: Path) -> None:
    wants = run.model_copy(update={"federation": FederationConfig(engine="federation", address="127.0.0.1:1")})
    with pytest.raises(ConfigError, match=r"federation.ca"):
        launch.run_experiment(wants, tmp_path, Heard())


def test_a_hospital_laid_out_holds_its_recordings_alone(run: RunConfig, tmp_path: Path) -> None:
    source = datasets.open_source(run, None)
    dealt, _, _ = datasets.assign_hospitals(source, run)
    link_site_recordings(source, dealt["south"], tmp_path / "south")
    made = datasets.open_source(run, tmp_path / "south")
    assert {item.id for item in made.patients()} == set(dealt["south"])


def test_a_hospital_s_folder_keeps_the_folders_of_its_recordings(tmp_path: Path, hospitals: Path) -> None:
    ward = tmp_path / "ward"
    shutil.copytree(hospitals / "north", ward / "w1")
    (ward / "w1" / "RECORDS").unlink()
    (ward / "RECORDS").write_text("w1/north-001\nw1/north-002\n")
    run = RunConfig.model_validate({"data": {"dataset": "mitdb", "path": str(ward)}})
    link_site_recordings(datasets.open_source(run, None), ("w1/north-002",), tmp_path / "site")
    made = datasets.open_source(run, tmp_path / "site")
    assert [item.id for item in made.patients()] == ["w1/north-002"]


@pytest.mark.parametrize("reading", [True, False])
def test_no_cell_of_a_patient_is_in_the_terminal_or_the_report(
    run: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, reading: bool
) -> None:
    where = "client.site.read_site" if reading else "client.evaluation.evaluate.evaluate_site"

    def quotes(*_: Any, **__: Any) -> None:
        raise ValueError("could not convert string to float: '<0.3'")

    monkeypatch.setattr(where, quotes)
    for name in ("evaluate", "handshake"):
        monkeypatch.setattr(f"client.requests.{name}.evaluate_site", quotes, raising=False)
    heard = Heard()
    none = run.model_copy(update={"baselines": BaselinesConfig(local=False, pooled=False)})
    with caplog.at_level("INFO"), pytest.raises(EngineError) as error:
        launch.run_experiment(none, tmp_path, heard)
    assert "unexpected ValueError in tests/experiments/runs/test_run.py" in str(error.value)
    (folder,) = tmp_path.iterdir()
    observed = [str(error.value), json.dumps(heard.events), caplog.text]
    observed += [
        path.read_text() for path in folder.iterdir() if path.suffix in (".json", ".jsonl", ".md", ".html", ".csv")
    ]
    assert (folder / "summary.md").is_file()
    assert not any("<0.3" in text or "&lt;0.3" in text for text in observed)
