"""Scores of a run's model: probabilities, and the files they are written to."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import wfdb
from safetensors.torch import load_file, save_file
from scipy.special import expit, softmax
from wfdb import processing

from common import models
from common.config import load_config
from common.errors import DataError
from common.task import Task
from experiments import restore
from experiments.scoring import score
from experiments.scoring.score import ScoringModel, open_model
from sites.unlabelled_rows import Exclusion, ScorableRows, unlabelled_cohort
from tests.experiments.scoring.scored_runs import make_model, make_run_folder, scored

TASK = Task("t", "multiclass", ("normal", "abnormal"), ("", ""), 0, 0, 0.0, ("a", "b"), ())


def saved_task(folder: Path) -> Task:
    return Task.from_dict(json.loads((folder / "federated.json").read_text())["task"])


def make_rows(task: Task, n: int) -> ScorableRows:
    return ScorableRows(
        unlabelled_cohort(task, np.zeros((n, 0, 0), np.float32), np.zeros((n, 2), np.float32), ("p",), False), {}
    )


@pytest.mark.parametrize("threshold", [None, 1.5])
def test_probabilities_and_classes(threshold: float | None) -> None:
    logits = np.asarray([[0.0, 1.0], [2.0, 0.0], [-1.0, 3.0]], dtype=np.float32)
    actual = score.score_rows(make_model(TASK, logits, threshold), make_rows(TASK, 3))
    np.testing.assert_allclose(actual.probability, softmax(logits.astype(float), axis=1))
    np.testing.assert_allclose(actual.odds[:, 1], [1, -2, 4])
    first = "normal" if threshold else "abnormal"
    assert actual.predicted.tolist() == [first, "normal", "abnormal"]


def test_labels_each_on_their_own() -> None:
    task = Task("t", "multilabel", ("A", "B", "C"), ("", "", ""), 0, 0, 0.0, ("a", "b"), ())
    logits = np.asarray([[1.0, -2.0, 3.0], [-1.0, -1.0, -1.0]], dtype=np.float32)
    actual = score.score_rows(make_model(task, logits), make_rows(task, 2))
    np.testing.assert_allclose(actual.probability, expit(logits.astype(float)))
    assert actual.predicted.tolist() == ["A+C", ""]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_score_is_never_nan(bad: float) -> None:
    logits = np.asarray([[0.0, 1.0], [bad, 0.0], [1.0, 0.0]], dtype=np.float32)
    actual = score.score_rows(make_model(TASK, logits), make_rows(TASK, 3))
    assert np.isfinite(actual.odds).all()
    assert actual.predicted.tolist() == ["abnormal", "normal"]
    assert actual.rows.exclusions == (Exclusion("p", score.NOT_FINITE, rows=1),)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_folder_of_recordings(beats_run: Path, hospitals: Path, tmp_path: Path, suffix: str) -> None:
    data, out = hospitals / "north", tmp_path / "out"
    before = {path.name: hashlib.sha256(path.read_bytes()).digest() for path in data.iterdir()}
    done = scored("--run", beats_run, "--data", data, "--out", out / f"s.{suffix}", "--json")
    assert done.exit_code == 0, done.output
    assert {path.name: hashlib.sha256(path.read_bytes()).digest() for path in data.iterdir()} == before
    summary = json.loads(done.stdout)
    read = pd.read_csv if suffix == "csv" else pd.read_parquet
    table = read(out / f"s.{suffix}", **({"dtype": {"record": str}} if suffix == "csv" else {}))
    assert summary["rows"] == len(table)
    assert {path.name for path in out.iterdir()} - {path.name for path in out.glob("*.wrd")} == {
        f"s.{suffix}", "s.excluded.csv", "s.json"
    }  # fmt: skip
    assert summary["beats"] == {"reference annotations (.atr)": 3}
    assert table["synthetic"].all()
    assert summary["notice"].startswith("SYNTHETIC: the data scored are generated")
    assert not table.drop(columns="reference").isna().any().any()
    np.testing.assert_allclose(table[[f"p_{name}" for name in "NSVF"]].sum(axis=1), 1, atol=1e-4)
    model, _ = restore.model(beats_run)
    opened = open_model(beats_run)
    for name, part in table.groupby("record"):
        truth = wfdb.rdann(str(data / name), "atr")
        mine = wfdb.rdann(str(out / name), "wrd")
        beat = np.isin(mine.symbol, list("NSVF"))
        assert mine.sample[beat].tolist() == part["sample"].tolist()
        assert np.asarray(mine.symbol)[beat].tolist() == part["class"].tolist()
        assert mine.fs == 360
        match = processing.compare_annotations(truth.sample, mine.sample[beat], 1)
        assert (match.tp, match.fp) == (len(part), 0)
        (note,) = [text for text in mine.aux_note if text]
        assert "SYNTHETIC" in note and "not for clinical use" in note and "trial-1" in note  # noqa: PT018
        theirs = opened.source(data).read([name])
        with torch.inference_mode():
            logits = model(torch.from_numpy(theirs.x), torch.from_numpy(theirs.features)).numpy()
        np.testing.assert_allclose(part[[f"p_{c}" for c in "NSVF"]], softmax(logits, axis=1), rtol=1e-4, atol=1e-6)


def test_quiet_prints_the_table_alone_and_plain_says_what_was_used(
    beats_run: Path, hospitals: Path, tmp_path: Path
) -> None:
    words = ("--run", beats_run, "--data", hospitals / "north", "--out", tmp_path / "out", "--beats", "detect")
    assert scored(*words, "-q").stdout == f"{tmp_path / 'out' / 'scores.csv'}\n"
    plain = scored(*words).stdout
    assert "beats of 3 record(s): R peaks found by this program (qrs)" in plain
    assert "SYNTHETIC: the data scored are generated" in plain


@pytest.mark.parametrize("directory", ["model", "hello"])
def test_a_model_of_generated_data_says_so(tmp_path: Path, directory: str, hospitals: Path) -> None:
    folder = make_run_folder(tmp_path / "run", {"data": {"dataset": "mitdb"}}, synthetic=directory == "hello")
    if directory == "model":
        (folder / "run.json").write_text(json.dumps({"id": "x", "data": {"synthetic": True}}))
    assert score.synthetic_notice(open_model(folder), False).startswith(
        "SYNTHETIC: the model was trained on generated data"
    )
    assert score.synthetic_notice(open_model(folder), True).count("generated") == 2


def test_rows_of_a_table(tmp_path: Path) -> None:
    raw = {"data": {"dataset": "heart_disease", "options": {"protocol": "explicit"}}, "model": {"name": "mlp"}}
    run, data = make_run_folder(tmp_path / "run", raw, threshold=0.25), tmp_path / "data"
    data.mkdir()
    row = "63.0,1.0,1.0,145.0,233.0,1.0,2.0,150.0,0.0,2.3,3.0,0.0,6.0,?"
    (data / "processed.here.data").write_text("\n".join([row, ",".join("?" * 14), row.replace("63", "41")]) + "\n")
    done = scored("--run", run, "--data", data, "--out", tmp_path / "out", "--json")
    assert done.exit_code == 0, done.output
    table = pd.read_csv(tmp_path / "out" / "scores.csv")
    assert table["record"].tolist() == ["here-0001", "here-0003"]
    assert ((table["log_odds"] >= 0.25) == (table["class"] == "disease")).all()
    np.testing.assert_allclose(expit(table["log_odds"]), table["p_disease"], rtol=1e-4)
    assert json.loads(done.stdout)["left out"] == {"every value is missing": 1}
    assert not list((tmp_path / "out").glob("*.wrd"))


def test_cells_that_became_missing_are_reported_by_column(tmp_path: Path) -> None:
    raw = {"data": {"dataset": "heart_disease", "options": {"protocol": "explicit"}}, "model": {"name": "mlp"}}
    run, data = make_run_folder(tmp_path / "run", raw), tmp_path / "data"
    data.mkdir()
    row = "63.0,1.0,1.0,145.0,233.0,1.0,2.0,150.0,0.0,2.3,3.0,0.0,6.0,?"
    rows = [row, row, row, row.replace("233.0", "6.0"), row.replace("145.0", "0").replace("150.0", "9999")]
    (data / "processed.here.data").write_text("\n".join(rows) + "\n")
    command = ("--run", run, "--data", data, "--out", tmp_path / "out")
    counts = json.loads(scored(*command, "--json").stdout)["cells read as not measured"]
    assert counts == {
        "chol outside 50 to 900 mg/dl, read as not measured": 1,
        "thalach outside 30 to 250 beats/min, read as not measured": 1,
        "trestbps of 0, read as not measured": 1,
    }
    printed = scored(*command).stdout
    assert all(f"cells: 1 x {what}" in printed for what in counts)


def test_ctrl_c_keeps_what_is_done(
    beats_run: Path, hospitals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = score.score_rows, []

    def stopping(model: ScoringModel, rows: ScorableRows) -> Any:
        calls.append(rows)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(model, rows)

    monkeypatch.setattr(score, "score_rows", stopping)
    done = scored("--run", beats_run, "--data", hospitals / "north", "--out", tmp_path / "out")
    assert done.exit_code == 130
    assert f"stopped; 2 record(s) scored so far are in {tmp_path / 'out'}" in done.stderr
    table = pd.read_csv(tmp_path / "out" / "scores.csv", dtype={"record": str})
    assert table["record"].nunique() == 2
    assert len(list((tmp_path / "out").glob("*.wrd"))) == 2
    assert json.loads((tmp_path / "out" / "score.json").read_text())["complete"] is False
    assert not [path for path in (tmp_path / "out").iterdir() if path.name.endswith(".part")]


def test_a_hospital_s_own_layers(tmp_path: Path) -> None:
    raw = {"data": {"dataset": "mitdb"}, "federation": {"strategy": {"name": "fedbn"}}}
    folder = make_run_folder(tmp_path / "run", raw, chosen=3)
    with pytest.raises(
        DataError, match="at each hospital, so that the saved model is incomplete: name a hospital with --site"
    ):
        open_model(folder)
    with pytest.raises(DataError, match="holds no layers of north; it has those of: no hospital"):
        open_model(folder, site="north")
    built = models.build_model(saved_task(folder), load_config(folder / "config.yaml").model, 1).eval()
    built.load_state_dict(load_file(folder / "model.safetensors"))
    local = restore.load_site_weights
    from server import strategies

    names = strategies.build_method(load_config(folder / "config.yaml").federation.strategy, built).local
    own = {name: torch.full_like(built.state_dict()[name], 0.5) for name in names}
    directory = folder / "sites" / "north" / ("0" * 32)
    directory.mkdir(parents=True)
    save_file(own, directory / "round-00003.safetensors")
    actual = local(folder, built, load_config(folder / "config.yaml"), "federated", "north")
    assert {name: value.tolist() for name, value in actual.items()} == {n: v.tolist() for n, v in own.items()}
    given = unlabelled_cohort(
        saved_task(folder), np.ones((2, 4, 96), np.float32), np.ones((2, 21), np.float32), ("p",), False
    )
    built.load_state_dict({**built.state_dict(), **own})
    with torch.inference_mode():
        expected = built(torch.from_numpy(given.x), torch.from_numpy(given.features)).numpy()
    np.testing.assert_allclose(open_model(folder, site="north").predict(given), expected, rtol=1e-5)
    with pytest.raises(DataError, match="has no personal models: its strategy is fedbn"):
        open_model(folder, "personal", "north")


def test_an_irregular_rhythm_is_reported_with_its_figures(beats_run: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    for name, at in (("af", 100 + np.cumsum(rng.uniform(100, 260, 150))), ("sinus", 100 + 180 * np.arange(150))):
        beats = at.astype(int)
        time = np.arange(beats[-1] + 300)[:, None]
        signal = np.rint(200 * np.exp(-0.5 * ((time - beats) / 3) ** 2).sum(1) + rng.normal(0, 2, len(time)))
        digital = np.stack([signal, signal // 2], axis=1).astype(np.int64)
        wfdb.wrsamp(
            name, fs=250, units=["mV"] * 2, sig_name=["II", "V1"], d_signal=digital, fmt=["16"] * 2,
            adc_gain=[200.0] * 2, baseline=[0] * 2, write_dir=str(tmp_path),
        )  # fmt: skip
        wfdb.wrann(name, "atr", beats, ["N"] * len(beats), write_dir=str(tmp_path))
    out = tmp_path / "out"
    result = scored("--run", beats_run, "--data", tmp_path, "--out", out)
    assert "irregular rhythm, as in atrial fibrillation, around 150 of 300 beats (1 record(s))" in result.output
    assert "normal beats called abnormal" in result.output
    rhythm = json.loads((out / "score.json").read_text())["rhythm"]
    assert (rhythm["beats"], rhythm["irregular"], rhythm["records"]) == (300, 150, 1)
    assert rhythm["all beats"]["normal"] == 300
    assert rhythm["regular rhythm"]["normal"] == rhythm["irregular rhythm"]["normal"] == 150
    table = pd.read_csv(out / "scores.csv")
    assert table[table.irregular].record.unique().tolist() == ["af"]
    for part, rows in (("regular rhythm", table[~table.irregular]), ("irregular rhythm", table[table.irregular])):
        assert rhythm[part]["normal called abnormal"] == int((rows["class"] != "N").sum())
    notes = wfdb.rdann(str(out / "af"), "wrd").aux_note
    assert any("rhythm irregular around 100% of the beats" in note for note in notes)
    assert not any("rhythm irregular" in note for note in wfdb.rdann(str(out / "sinus"), "wrd").aux_note)


def test_a_recording_is_scored_without_libraries_that_nothing_uses(
    beats_run: Path, hospitals: Path, tmp_path: Path
) -> None:
    code = (
        "import sys\nfrom experiments.cli.main import app\n"
        f"app(['score', '--run', {str(beats_run)!r}, '--data', {str(hospitals / 'north')!r},"
        f" '--out', {str(tmp_path / 'out')!r}, '--beats', 'detect', '-q'], standalone_mode=False)\n"
        "unused = ('flwr', 'sklearn', 'requests')\n"
        "print([name for name in unused if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
