"""Own data in two commands: `wardround data init FILE`, `wardround run FILE-run.yaml`; then score and check."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from common.errors import DataError
from experiments.cli.main import app
from sites.datasets.table import simulate


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own") / "data"
    simulate.generate(folder, hospitals=3, patients=60, seed=1)
    (folder / "table.yaml").unlink()
    return folder


def invoke(*words: str) -> str:
    result = CliRunner().invoke(app, list(words))
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.slow
def test_a_csv_to_a_report_without_python(table: Path, tmp_path: Path) -> None:
    said = invoke("data", "init", str(table / "hospitals.csv"))
    assert "180 rows, 9 columns" in said
    run = table / "hospitals-run.yaml"
    again = CliRunner().invoke(app, ["data", "init", str(table / "hospitals.csv")])
    assert again.exit_code != 0
    runs = tmp_path / "runs"
    invoke("run", str(run), "--runs", str(runs), "--set", "federation.rounds=5", "--set", "baselines.local=false",
           "--set", "baselines.pooled=false", "--set", "baselines.classical=[]")  # fmt: skip
    folder = next(runs.iterdir())
    report = json.loads((folder / "report.json").read_text())
    assert "SYNTHETIC" in (folder / "report.html").read_text()
    assert "hospital-2" in json.dumps(report)
    new = tmp_path / "new"
    new.mkdir()
    frame = pd.read_csv(table / "hospitals.csv").drop(columns=["died", "hospital"]).head(30)
    frame.to_csv(new / "monday.csv", index=False)
    invoke("score", "--run", str(folder), "--data", str(new), "--out", str(tmp_path / "scores.csv"))
    scores = pd.read_csv(tmp_path / "scores.csv")
    assert len(scores) == 30
    assert "readable" in invoke("data", "check", str(table), "--contract", str(table / "table.yaml"))


@pytest.mark.slow
def test_a_folder_of_recordings_to_a_report_without_python(hospitals: Path, tmp_path: Path) -> None:
    folder = tmp_path / "holter"
    shutil.copytree(hospitals, folder)
    output = invoke("data", "init", str(folder))
    assert "6 recordings (wfdb), beats" in output
    output = invoke("data", "check", str(folder), "--contract", str(folder / "recordings.yaml"))
    assert "6 patients" in output
    assert "agrees with" in output
    assert "S, V" in invoke("data", "describe", "recordings", str(folder), "--min-people", "1")
    runs = tmp_path / "runs"
    invoke("run", str(folder / "holter-run.yaml"), "--runs", str(runs), "--set", "federation.rounds=1", "--set",
           "sites.validation=0", "--set", "federation.choose=last", "--set", "sites.test=0.34", "--set",
           "baselines.local=false", "--set", "baselines.pooled=false", "--set", "baselines.classical=[]")  # fmt: skip
    assert "SYNTHETIC" in (next(runs.iterdir()) / "report.html").read_text()


def test_recordings_with_a_table_of_labels_are_described(hospitals: Path, tmp_path: Path) -> None:
    """Classes that were not counted once ended the command with a bug."""
    names = sorted(path.stem for path in (hospitals / "north").glob("*.hea"))
    for path in (hospitals / "north").iterdir():
        if path.suffix in (".hea", ".dat"):
            shutil.copy(path, tmp_path / path.name)
    rows = [f"{name},{'ill' if number % 2 else 'well'}" for number, name in enumerate(names)]
    (tmp_path / "labels.csv").write_text("\n".join(["recording,label", *rows]) + "\n")
    assert "from the table" in invoke("data", "init", str(tmp_path))
    (run,) = tmp_path.glob("*-run.yaml")
    assert "choose: last" in run.read_text()  # three patients: no round can be chosen by validation


def test_a_measurement_is_no_outcome(tmp_path: Path) -> None:
    """One with 48 values became 48 classes."""
    rows = [f"p{number},{number % 48 / 10:.1f},{number % 2}" for number in range(96)]
    (tmp_path / "stays.csv").write_text("\n".join(["patient,lactate,died", *rows]) + "\n")
    with pytest.raises(DataError, match="48 different numbers are a measurement"):
        CliRunner().invoke(
            app, ["data", "init", str(tmp_path / "stays.csv"), "--outcome", "lactate"], catch_exceptions=False
        )


def test_what_has_to_be_corrected_comes_before_the_run(tmp_path: Path) -> None:
    simulate.generate(tmp_path / "data", hospitals=3, patients=60, seed=1)
    file = tmp_path / "data" / "hospitals.csv"
    (tmp_path / "data" / "table.yaml").unlink()
    assert invoke("data", "init", str(file)).splitlines()[-1].startswith("next:    wardround run")
    frame = pd.read_csv(file)
    frame.loc[frame["hospital"] == "hospital-2", "creatinine"] *= 88.4
    frame.to_csv(file, index=False)
    *_, instruction, command = invoke("data", "init", str(file), "--force").splitlines()
    assert instruction.startswith("next:    correct what is wrong in the data, describe them again with --force")
    assert command.strip().startswith("wardround run")


def test_few_people_of_a_class_are_hidden_in_the_list_of_hospitals(tmp_path: Path) -> None:
    simulate.generate(tmp_path / "data", hospitals=2, patients=40, seed=1)
    file = tmp_path / "data" / "hospitals.csv"
    (tmp_path / "data" / "table.yaml").unlink()
    frame = pd.read_csv(file).drop_duplicates("patient")
    frame["died"] = 0
    frame.loc[frame.groupby("hospital").head(3).index, "died"] = 1
    frame.to_csv(file, index=False)
    invoke("data", "init", str(file))
    lines = invoke("data", "describe", str(tmp_path / "data" / "hospitals-run.yaml")).splitlines()
    assert f"  hospital-1: {(frame['hospital'] == 'hospital-1').sum()} patients; survived 37, died <5" in lines


def test_scoring_or_evaluating_a_file_in_place_of_its_folder_is_named(table: Path) -> None:
    for command in ("score", "evaluate"):
        words = [command, "--run", str(table), "--data", str(table / "hospitals.csv")]
        result = CliRunner().invoke(app, words)
        assert "is a file: give the folder that holds it" in str(result.exception) + result.output


def test_columns_are_not_named_for_recordings(hospitals: Path) -> None:
    result = CliRunner().invoke(app, ["data", "init", str(hospitals), "--outcome", "died"])
    assert result.exit_code != 0
    assert "holds recordings" in str(result.exception)


@pytest.mark.slow
def test_a_meds_extract_to_a_report_without_python(tmp_path: Path) -> None:
    folder = tmp_path / "extract"
    invoke("data", "synth", "meds", str(folder), "--hospitals", "2", "--patients", "120")
    (folder / "meds.yaml").unlink()
    assert "240 people" in invoke("data", "init", str(folder))
    assert "agrees with" in invoke("data", "check", str(folder), "--contract", str(folder))
    runs = tmp_path / "runs"
    invoke("run", str(folder / "extract-run.yaml"), "--runs", str(runs), "--set", "federation.rounds=3", "--set",
           "baselines.local=false", "--set", "baselines.pooled=false", "--set", "baselines.classical=[]")  # fmt: skip
    assert "SYNTHETIC" in (next(runs.iterdir()) / "report.html").read_text()


def test_checking_a_file_in_place_of_its_folder_is_named(table: Path) -> None:
    result = CliRunner().invoke(app, ["data", "check", str(table / "hospitals.csv")])
    assert result.exit_code != 0
    assert "is a file: give the folder" in str(result.exception) + result.output
