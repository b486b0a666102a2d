"""Patients whose examples a model was trained on are found in other folders, and nobody else is."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import save_file
from typer.testing import CliRunner

from common import models
from common.config import parse_config
from common.run_folder import write_run_description
from common.task import Task
from experiments.cli.main import app
from experiments.scoring.training_overlap import count_equal_patients, find_overlap
from sites import datasets
from sites.cohort import Cohort, Windows
from sites.datasets.sepsis import simulate
from sites.equal_inputs import example_keys

PEOPLE = 60


def make_cohort(values: np.ndarray, patient: np.ndarray) -> Cohort:
    names = tuple(f"f{i}" for i in range(values.shape[1]))
    task = Task("t", "multiclass", ("no", "yes"), ("", ""), 0, 0, 0.0, names, (), missing=True)
    n, people = len(values), tuple(map(str, range(int(patient.max()) + 1)))
    empty = np.zeros((n, 0, 0), np.float32)
    split = np.full(n, -1, np.int8)
    return Cohort(
        task, empty, values.astype(np.float32), np.zeros(n, np.int64), patient.astype(np.int64), people, people, split
    )


def test_patients_are_counted_by_half_of_their_examples() -> None:
    rng = np.random.default_rng(0)
    patient = np.repeat(np.arange(PEOPLE), 4)
    whole = make_cohort(rng.normal(size=(4 * PEOPLE, 3)), patient)
    keys = example_keys(whole)
    assert len(np.unique(keys)) == 4 * PEOPLE
    for shared, expected in ((4, 7), (2, 7), (1, 0)):
        trained = keys[(patient < 7) & (np.arange(4 * PEOPLE) % 4 < shared)]
        assert count_equal_patients(whole, trained) == expected
    assert count_equal_patients(whole, np.zeros(0, np.uint64)) == 0


def test_a_value_that_is_missing_is_equal_to_itself_alone() -> None:
    keys = example_keys(make_cohort(np.asarray([[np.nan, 1], [np.nan, 1], [0, 1], [-0.0, 1], [1, 0]]), np.arange(5)))
    assert keys[0] == keys[1]
    assert keys[2] == keys[3]
    assert len(np.unique(keys)) == 3


def test_coarse_inputs_identify_nobody() -> None:
    rng = np.random.default_rng(1)
    one, other = (rng.integers(0, 30, (PEOPLE, 1)).astype(float) for _ in range(2))
    trained = np.unique(example_keys(make_cohort(other, np.arange(PEOPLE))))
    assert count_equal_patients(make_cohort(one, np.arange(PEOPLE)), trained) == 0


def test_a_window_is_known_by_its_last_hour() -> None:
    rng = np.random.default_rng(2)
    rows = rng.normal(size=(10, 2)).astype(np.float32)
    base = make_cohort(np.zeros((10, 1)), np.repeat([0, 1], 5))
    task = replace(base.task, channels=2, samples=3, channel_names=("a", "b"))
    windows = Windows(rows, np.arange(10), np.repeat([0, 5], 5), 3)
    dense = replace(base, task=replace(task, samples=1), x=rows[:, :, None])
    assert np.array_equal(example_keys(replace(base, task=task, x=windows)), example_keys(dense))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run on two generated hospitals, with an untrained model."""
    home = tmp_path_factory.mktemp("overlap")
    simulate.generate(home / "train", patients=12, seed=3)
    config = parse_config(
        {
            "data": {"dataset": "sepsis", "scaling": "none", "path": str(home / "train")},
            "model": {"name": "logreg"},
            "sites": {"external": ["B"]},
            "evaluation": {"bootstrap": 20, "metric": "auroc"},
        }
    )
    task = datasets.open_source(config, None).task()
    folder = home / "run"
    folder.mkdir()
    write_run_description(config, folder, {}, [])
    outcome = {"task": task.to_dict(), "threshold": 0.0, "chosen": 1, "sites": {}, "status": "complete"}
    (folder / "federated.json").write_text(json.dumps(outcome))
    save_file(models.build_model(task, config.model, 1).state_dict(), folder / "model.safetensors")
    return folder


def evaluated_notices(run: Path, data: Path, out: Path) -> list[tuple[str, str]]:
    done = CliRunner().invoke(app, ["evaluate", "--run", str(run), "--data", str(data), "--out", str(out), "--json"])
    assert done.exit_code == 0, done.output
    return [(item["level"], item["text"]) for item in json.loads(done.stdout)["notices"]]


def test_patients_of_training_under_other_names_are_a_leak(run: Path, tmp_path: Path) -> None:
    simulate.generate(tmp_path / "other", patients=15, seed=9)
    new = tmp_path / "new"
    shutil.copytree(tmp_path / "other" / "training" / "training_setA", new)
    assert not [item for item in evaluated_notices(run, new, tmp_path / "out1") if "train" in item[1]]
    hospitals = run.parent / "train" / "training"
    for number, path in enumerate(sorted((hospitals / "training_setA").glob("*.psv"))):
        shutil.copy(path, new / f"p9{number:05d}.psv")
    config = parse_config({"data": {"dataset": "sepsis", "path": str(run.parent / "train")}})
    [leak] = [text for level, text in evaluated_notices(run, new, tmp_path / "out2") if level == "leak"]
    learnt = int(leak.partition(" ")[0])
    share = 1 - config.sites.test
    assert learnt == round(12 * share)
    assert leak.startswith(f"{learnt} of 27 patients have the same inputs as patients that the model was trained")


def test_an_external_hospital_took_no_part(run: Path, tmp_path: Path) -> None:
    external = run.parent / "train" / "training" / "training_setB"
    assert not [item for item in evaluated_notices(run, external, tmp_path / "out") if item[0] == "leak"]


def test_data_of_the_run_that_are_elsewhere_are_named(tmp_path: Path) -> None:
    for path in (None, str(tmp_path / "gone")):
        notice = find_overlap(parse_config({"data": {"dataset": "sepsis", "path": path}}), "federated", [])
        assert notice is not None
        assert notice["level"] == "warning"
        assert "could not be checked" in notice["text"]


def test_a_run_that_is_not_complete_or_of_another_release_is_named(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    about = json.loads((folder / "run.json").read_text())
    about |= {"status": "failed", "versions": about["versions"] | {"wardround": "9.9"}}
    (folder / "run.json").write_text(json.dumps(about))
    simulate.generate(tmp_path / "other", patients=15, seed=9)
    texts = [text for _, text in evaluated_notices(folder, tmp_path / "other", tmp_path / "out")]
    assert any("run is not complete (failed)" in text for text in texts)
    assert any("of release 9.9 and this evaluation of" in text for text in texts)
