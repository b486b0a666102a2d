"""Scores of anomaly detectors, and annotations of strips and abnormal beats."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import wfdb

from common.errors import DataError, UsageError
from common.models._reconstruct import build_reconstruction_error
from common.task import Task
from experiments import restore
from experiments.scoring import output as score_output
from experiments.scoring import score
from experiments.scoring.score import open_model
from sites.unlabelled_rows import ScorableRows, unlabelled_cohort
from tests.experiments.scoring.scored_runs import make_model, make_run_folder, scored


def test_reference_annotations_are_never_written(tmp_path: Path) -> None:
    for bad in ("atr", "hea", "dat", "qrs"):
        with pytest.raises(UsageError, match="other files have that suffix"):
            score_output.check_extension(bad, "qrs")
    for bad in ("w1", "", "../x"):
        with pytest.raises(UsageError, match="use 1 to 16 letters"):
            score_output.check_extension(bad, "atr")
    score_output.check_extension("wrd", "atr")
    wfdb.wrann("r", "wrd", np.asarray([5]), ["N"], write_dir=str(tmp_path))
    theirs = (tmp_path / "r.wrd").read_bytes()
    with pytest.raises(DataError, match=r"r\.wrd was not written by this program"):
        score_output.write_annotations(tmp_path / "r.wrd", [1, 5], ['"', "V"], ["wardround", ""], 360)
    assert (tmp_path / "r.wrd").read_bytes() == theirs
    (tmp_path / "r.wrd").unlink()
    for symbol in ("V", "S"):  # its own file it may write again
        score_output.write_annotations(tmp_path / "r.wrd", [1, 5], ['"', symbol], ["wardround", ""], 360)
        assert wfdb.rdann(str(tmp_path / "r"), "wrd").symbol == ['"', symbol]


def test_strips_and_abnormal_beats_as_annotations(tmp_path: Path) -> None:
    strips = Task("t", "multilabel", ("NORM", "MI"), ("", ""), 1, 1000, 100.0, (), ("II",))
    beats = Task("t", "multiclass", ("normal", "abnormal"), ("", ""), 1, 96, 125.0, (), ("II",))
    for task, about, expected in (
        (strips, {}, (['"', '"', '"'], ["NORM 0.88", "", "none 0.27"])),
        (beats, {"beats": "reference"}, (["N", '"', "?"], ["", "", ""])),
    ):
        logits = np.asarray([[2.0, -1.0], [-1.0, -1.5 if task is strips else 1.0]], dtype=np.float32)
        given = unlabelled_cohort(
            task, np.zeros((2, 1, task.samples), np.float32), np.zeros((2, 0), np.float32), ("r",), False
        )
        position = {"sample": np.asarray([0 if task is strips else 1, 50]), "seconds": np.asarray([0.0, 0.5])}
        output = score_output.ScoreWriter(tmp_path / task.kind, "scores.csv", make_model(task, logits), "wrd")
        output.add(score.score_rows(make_model(task, logits), ScorableRows(given, position, rate=100.0, about=about)))
        output.close(complete=True)
        result = wfdb.rdann(str(tmp_path / task.kind / "r"), "wrd")
        symbols, notes = expected
        assert result.symbol == symbols
        plain = [text if not text.startswith("wardround") else "" for text in result.aux_note]
        assert plain == notes


@pytest.mark.parametrize("threshold", [-1.0, None])
def test_a_detector_s_scores_are_those_of_its_evaluation(
    tmp_path: Path, hospitals: Path, threshold: float | None
) -> None:
    raw = {"data": {"dataset": "mitdb", "options": {"leads": 1}}, "model": {"name": "autoencoder"}}
    run = make_run_folder(tmp_path / "run", raw, threshold=threshold)
    data, out = hospitals / "north", tmp_path / "out"
    done = scored("--run", run, "--data", data, "--out", out, "--json")
    assert done.exit_code == 0, done.output
    table = pd.read_csv(out / "scores.csv", dtype={"record": str}, keep_default_na=False)
    assert not [name for name in table.columns if name.startswith("p_")]
    opened = open_model(run)
    source = opened.source(data)
    model, task = restore.model(run)
    name = table["record"][0]
    given = source.read([name])
    with torch.inference_mode():
        made = model(torch.from_numpy(given.x), torch.from_numpy(given.features))
        error = build_reconstruction_error(task)(made).double().numpy()
    part = table[table["record"] == name]
    np.testing.assert_allclose(part["log_anomaly"], np.log(error), rtol=1e-4, atol=1e-4)
    result = wfdb.rdann(str(out / name), "wrd")
    marks = [mark for mark in result.symbol if mark != '"']
    if threshold is None:
        assert set(table["class"]) == {""}
        assert set(marks) == {"Q"}
    else:
        above = np.log(error) >= threshold
        assert part["class"].tolist() == np.where(above, "abnormal", "normal").tolist()
        assert marks == np.where(above, "?", "N").tolist()
        notes = [text for text, mark in zip(result.aux_note, result.symbol, strict=True) if mark == "?"]
        np.testing.assert_allclose([float(text) for text in notes], np.log(error)[above], atol=0.006)


def test_a_row_that_a_detector_scores_may_have_gaps(tmp_path: Path) -> None:
    raw = {
        "data": {"dataset": "heart_disease", "options": {"protocol": "explicit"}, "scaling": "none"},
        "model": {"name": "tabular_autoencoder"},
    }
    run, data = make_run_folder(tmp_path / "run", raw, threshold=0.5), tmp_path / "data"
    data.mkdir()
    row = "63.0,1.0,1.0,145.0,?,1.0,2.0,150.0,0.0,2.3,?,?,?,?"
    (data / "processed.here.data").write_text("\n".join([row, ",".join("?" * 14)]) + "\n")
    assert scored("--run", run, "--data", data, "--out", tmp_path / "out").exit_code == 0
    table = pd.read_csv(tmp_path / "out" / "scores.csv")
    assert table["record"].tolist() == ["here-0001"]
    assert np.isfinite(table["log_anomaly"]).all()
