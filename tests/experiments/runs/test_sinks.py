from __future__ import annotations

import sqlite3
import sys
from pathlib import Path
from typing import Any

import pytest

from common.config import parse_config
from common.errors import ConfigError
from experiments.cli import run_progress
from experiments.report.build import build_report
from experiments.report.write import write_report
from experiments.runs import run, sinks
from experiments.watcher import start_event


class Stored:
    """A sink that remembers."""

    def __init__(self, where: str = "", fail: str = "") -> None:
        self.where, self.fail = where, fail
        self.opened: tuple[Any, ...] | None = None
        self.figures: dict[tuple[str, int], float] = {}
        self.files: list[str] = []
        self.status = ""

    def open(self, name, settings, notices) -> None:
        self.opened = (name, settings, list(notices))

    def figure(self, name, value, step) -> None:
        if name.startswith(self.fail or "never"):
            raise OSError("disk full")
        self.figures[name, step] = value

    def file(self, path) -> None:
        self.files.append(path.name)

    def close(self, status) -> None:
        self.status = status


class Observed(run_progress.QuietPrinter):
    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def handle(self, event) -> None:
        self.events.append(event)


ROUND = {
    "event": "round",
    "round": 2,
    "validation": {"macro_f1": 0.5, "examples": 7, "macro_auroc": None},
    "sites": {
        "north": {"train": {"loss": 0.25, "steps": 3}, "validation": {"macro_f1": 0.75}},
        "south": {"train": None},
    },
}


def report_event(sink: Any, folder: Path, status: str = "complete", synthetic: bool = False) -> Observed:
    """Tell a sink of a run that has ended, as launch.run does."""
    write_report(build_report(folder), folder)
    observed = Observed()
    result = sinks.SinkWatcher(observed, [("kept:x", sink)])
    result.handle(start_event(folder, parse_config({})))
    result.handle({"event": "handshake", "sites": {"north": {"synthetic": synthetic}}})
    result.handle(ROUND)
    result.close_sinks(status)
    return observed


def test_rounds_and_test_figures_reach_a_sink(make_run) -> None:
    folder, sink = make_run(), Stored()
    observed = report_event(sink, folder)
    name, settings, notices = sink.opened
    assert (name, settings["federation.rounds"], notices) == ("run-1", "3", [])
    assert sink.figures["validation/macro_f1/all hospitals", 2] == 0.5
    assert sink.figures["validation/macro_f1/north", 2] == 0.75
    assert sink.figures["train/loss/north", 2] == 0.25
    report = build_report(folder)
    for model in report.models:
        for site, item in {**model.sites, "all hospitals": model.pooled}.items():
            path = f"test/{model.name}/macro_f1/{site}"
            ends = [sink.figures.get((path + end, 3)) for end in ("", "/low", "/high")]
            assert ends == [item.macro_f1.value, item.macro_f1.low, item.macro_f1.high]
    assert {"report.json", "report.html", "summary.md", "model_card.md", "forest.png", "curves.png"} <= set(sink.files)
    assert sink.status == "complete"
    assert [event["event"] for event in observed.events] == ["start", "handshake", "round"]


@pytest.mark.parametrize(("card", "reported"), [(True, False), (False, True), (False, False)])
def test_made_up_data_say_so_in_the_runs_name(make_run, card, reported) -> None:
    sink = Stored()
    report_event(sink, make_run(synthetic=card), synthetic=reported)
    name, _, notices = sink.opened
    assert name == ("SYNTHETIC run-1" if card or reported else "run-1")
    assert any(text.startswith("SYNTHETIC: generated") for text in notices) is (card or reported)


def test_a_sink_that_fails_is_reported_and_dropped(make_run) -> None:
    sink = Stored(fail="train/")
    observed = report_event(sink, make_run())
    assert {"event": "sink-failed", "sink": "kept:x", "error": "disk full"} in observed.events
    assert sum(event["event"] == "sink-failed" for event in observed.events) == 1
    assert not any(name.startswith("test/") for name, _ in sink.figures)


@pytest.mark.parametrize("text", ["mlflow", "mlflow:", "wandb:x", ""])
def test_a_sink_that_is_none_is_refused(text) -> None:
    with pytest.raises(ConfigError, match="write it as mlflow:PATH or tensorboard:PATH"):
        sinks.open_sink(text)


@pytest.mark.parametrize(("kind", "module"), [("mlflow", "mlflow"), ("tensorboard", "torch.utils.tensorboard")])
def test_an_extra_that_is_not_installed_is_named(monkeypatch, tmp_path, kind, module) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=rf"pip install 'wardround\[{kind}\]'"):
        sinks.open_sink(f"{kind}:{tmp_path}")


def test_figures_stay_on_this_machine() -> None:
    with pytest.raises(ConfigError, match="only logged to a local store"):
        sinks.open_sink("mlflow:https://example.org")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["store", "runs.db"])
def test_mlflow_holds_the_figures(make_run, tmp_path, name) -> None:
    pytest.importorskip("mlflow")
    folder = make_run(synthetic=True, rename=("south", "St. Mary's [s]"))
    observed = report_event(sinks.open_sink(f"mlflow:{tmp_path / name}"), folder)
    assert not [event for event in observed.events if event["event"] == "sink-failed"]
    base = sqlite3.connect(tmp_path / name / "mlflow.db" if name == "store" else tmp_path / name)
    try:
        assert base.execute("select name, status from runs").fetchall() == [("SYNTHETIC run-1", "FINISHED")]
        result = dict(base.execute("select key, value from metrics where step = 3").fetchall())
        assert base.execute("select value from metrics where key = 'validation/macro_f1/north'").fetchall() == [(0.75,)]
        parameters = dict(base.execute("select key, value from params").fetchall())
        [tag] = base.execute("select value from tags where key = 'notice.1'").fetchone()
    finally:
        base.close()
    item = build_report(folder).federated.sites["St. Mary's [s]"].macro_f1
    assert result["test/federated/macro_f1/St. Mary_s _s_"] == item.value
    assert result["test/federated/macro_f1/St. Mary_s _s_/high"] == item.high
    assert parameters["federation.rounds"] == "3"
    assert tag.startswith("SYNTHETIC")
    assert {"report.html", "forest.png"} <= {path.name for path in tmp_path.rglob("*-artifacts/**/*")}


@pytest.mark.slow
def test_tensorboard_holds_the_figures(make_run, tmp_path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = make_run(synthetic=True)
    observed = report_event(sinks.open_sink(f"tensorboard:{tmp_path / 'board'}"), folder)
    assert not [event for event in observed.events if event["event"] == "sink-failed"]
    [logged] = (tmp_path / "board").iterdir()
    assert logged.name == "SYNTHETIC-run-1"
    result = EventAccumulator(str(logged)).Reload()
    [event] = result.Scalars("validation/macro_f1/north")
    assert (event.step, event.value) == (2, 0.75)
    [event] = result.Scalars("test/federated/macro_f1/all hospitals")
    assert event.value == pytest.approx(build_report(folder).federated.pooled.macro_f1.value, abs=1e-6)
    assert "plots/forest" in result.Tags()["images"]


@pytest.mark.slow
def test_a_run_opens_its_sinks_first_and_hides_them_from_hospitals(tmp_path, monkeypatch) -> None:
    made: list[Stored] = []
    monkeypatch.setitem(sinks.SINK_KINDS, "tensorboard", lambda where: made.append(Stored(where)) or made[-1])
    raw = {
        "data": {"options": {"hospitals": 2, "patients": 4, "minutes": 1.0}},
        "model": {"name": "logreg"},
        "federation": {"rounds": 2},
        "evaluation": {"bootstrap": 10},
        "baselines": {"local": False, "pooled": False},
        "report": {"sinks": ["tensorboard:here"]},
    }
    folder = run.run_experiment(parse_config(raw), tmp_path, run_progress.QuietPrinter())
    [sink] = made
    assert (sink.where, sink.status) == ("here", "complete")
    assert sink.opened[0] == f"SYNTHETIC {folder.name}"
    assert {step for name, step in sink.figures if name.startswith("train/loss/")} == {1, 2}
    assert any(name.startswith("test/federated/") for name, _ in sink.figures)
    assert "here" not in (folder / "config.yaml").read_text()
    raw["report"]["sinks"] = ["tensorboard:here", "no"]
    with pytest.raises(ConfigError, match=r"report\.sinks: 'no'"):
        run.run_experiment(parse_config(raw), tmp_path, run_progress.QuietPrinter())
    assert len(list(tmp_path.iterdir())) == 1
