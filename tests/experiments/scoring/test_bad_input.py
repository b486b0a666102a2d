"""What bad recordings, folders and runs come to in scoring."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from common.errors import DataError
from common.task import Task
from experiments.scoring import output as score_output
from experiments.scoring import score
from experiments.scoring.score import ScoringModel, open_model
from sites.unlabelled import recordings
from sites.unlabelled_rows import ScorableRows
from tests.experiments.scoring.scored_runs import make_run_folder, scored


def test_bad_recordings_do_not_stop_the_others(
    beats_run: Path, tmp_path: Path, write_recording: Callable[..., None]
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    signal = np.rint(1000 * np.exp(-0.5 * ((np.arange(5000) % 200 - 100) / 4) ** 2))[:, None]
    signal += np.rint(np.random.default_rng(1).normal(0, 9, signal.shape))
    beats = list(range(100, 5000, 200))
    for name, digital in {
        "good": signal,
        "flat": signal * 0,
        "lost": np.full_like(signal, -(2**15)),
        "short": signal[:60],
        "railed": 2000 * np.sign(np.sin(np.arange(5000) / 30))[:, None],
    }.items():
        here = [at for at in beats if at < len(digital)] or [1]
        write_recording(data, name, digital, here, ["N"] * len(here), rate=250)
    (data / "cut.hea").write_text((data / "good.hea").read_text().replace("good", "cut"))
    (data / "cut.dat").write_bytes((data / "good.dat").read_bytes()[:500])
    done = scored("--run", beats_run, "--data", data, "--out", tmp_path / "out", "--json")
    assert done.exit_code == 0, done.output
    summary = json.loads(done.stdout)
    assert summary["records"] == 1
    assert summary["records without a score"] == 5
    assert set(pd.read_csv(tmp_path / "out" / "scores.csv")["record"]) == {"good"}
    left = pd.read_csv(tmp_path / "out" / "excluded.csv")
    whole = left[left["rows"] == "all"].set_index("record")["reason"]
    assert "lead MLII is flat throughout" in whole["flat"]
    assert "lead MLII holds no sample" in whole["lost"]
    assert "shorter than one window" in whole["short"]
    assert "truncated" in whole["cut"]
    railed = left[left["record"] == "railed"]
    assert set(railed["reason"]) == {"saturated lead"}
    assert railed["sample"].tolist() == beats
    assert sorted(path.name for path in (tmp_path / "out").glob("*.wrd")) == ["good.wrd"]


def test_nothing_to_score_is_an_error_that_names_the_reasons(
    beats_run: Path, tmp_path: Path, write_recording: Callable[..., None]
) -> None:
    write_recording(tmp_path, "r", np.zeros((5000, 1)), [100], ["N"])
    opened = open_model(beats_run)
    output = score_output.ScoreWriter(tmp_path / "out", "scores.csv", opened, None)
    for item in score.score_records(opened, tmp_path, "auto", "atr", lambda done, total: None):
        output.add(item)
    with pytest.raises(DataError, match=r"nothing could be scored \(r: lead MLII is flat .*excluded\.csv"):
        output.close(complete=True)
    assert not (tmp_path / "out" / "scores.csv").exists()


def test_wrong_folders_and_runs(beats_run: Path, tmp_path: Path, hospitals: Path) -> None:
    with pytest.raises(DataError, match=r"is no run folder: its run\.json is missing"):
        open_model(hospitals)
    with pytest.raises(DataError, match="no recordings"):
        list(score.score_records(open_model(beats_run), beats_run, "auto", "atr", lambda done, total: None))
    with pytest.raises(DataError, match="no complete model 'pooled'"):
        open_model(beats_run, "pooled")
    (beats_run / "model.safetensors").unlink()
    with pytest.raises(DataError, match="no complete model 'federated'"):
        open_model(beats_run)


def test_a_model_of_other_inputs_is_refused(tmp_path: Path) -> None:
    folder = make_run_folder(tmp_path / "run", {"data": {"dataset": "mitdb"}})
    reported = json.loads((folder / "federated.json").read_text())
    opened = open_model(folder)
    task = Task.from_dict(reported["task"] | {"rate_hz": 250.0})
    other = ScoringModel("old", "federated", opened.config, task, opened.predict)
    with pytest.raises(DataError, match=r"run old: .* of mitdb \(rate_hz\): train again"):
        other.source(tmp_path)


def test_no_recording_stops_the_others(
    beats_run: Path, hospitals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ward = tmp_path / "ward"
    shutil.copytree(hospitals / "north", ward)
    header = ward / "north-002.hea"
    header.write_text(header.read_text().replace(" 360 ", " 0 ", 1))
    (ward / "RECORDS").write_text("north-001\nnorth-002\nnorth-003\nnorth-001\nmissing\nnone/\n")
    real = recordings.read_rows

    def failing(folder: Path, name: str, *rest: Any) -> ScorableRows:
        if name == "north-003":
            raise IndexError("secret")
        return real(folder, name, *rest)

    monkeypatch.setattr(recordings, "read_rows", failing)
    out = tmp_path / "out"
    summary = json.loads(scored("--run", beats_run, "--data", ward, "--out", out, "--json").stdout)
    assert summary["records"] == 1
    assert summary["records without a score"] == 4
    excluded = pd.read_csv(out / "excluded.csv").set_index("record").reason
    assert "sampling frequency of 0" in excluded["north-002"]
    assert excluded["north-003"] == "north-003 cannot be read (IndexError): check it with `wardround data verify`"
    assert "missing.hea" in excluded["missing"]
    assert "none.hea" in excluded["none"]
