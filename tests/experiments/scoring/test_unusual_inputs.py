"""A hospital's inputs in another unit, and classes that it lacks, are named next to the scaling of training."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from client.input_scaling import fit_scaling
from common.task import Task
from experiments.scoring.unusual_inputs import describe_unusual_inputs, find_unusual_inputs
from sites.cohort import Cohort
from tests.experiments.scoring.scored_runs import make_run_folder, scored

NAMES = ("age", "creatinine", "crp", "sex")


def make_cohort(people: int, seed: int, change: Callable[[np.ndarray], object] = lambda values: None) -> Cohort:
    rng = np.random.default_rng(seed)
    values = np.column_stack(
        [
            rng.normal(60, 15, people),
            rng.lognormal(0, 0.5, people),
            rng.lognormal(3, 1.0, people),
            rng.integers(0, 2, people),
        ]
    )
    values[::5, 1] = np.nan
    change(values)
    task = Task("t", "multiclass", ("alive", "died"), ("", ""), 0, 0, 0.0, NAMES, (), units=True, missing=True)
    names, y = tuple(map(str, range(people))), np.arange(people) % 2
    empty = np.zeros((people, 0, 0), np.float32)
    split = np.full(people, -1, np.int8)
    return Cohort(task, empty, values.astype(np.float32), y, np.arange(people), names, names, split)


def multiply(column: int, factor: float) -> Callable[[np.ndarray], object]:
    def change(values: np.ndarray) -> None:
        values[:, column] *= factor

    return change


@pytest.mark.parametrize(
    ("change", "unusual"),
    [
        (lambda values: None, []),
        (multiply(1, 88.4), ["creatinine"]),
        (multiply(1, 10.0), ["creatinine"]),
        (multiply(0, 12.0), ["age"]),
        (multiply(0, 1 / 18.0), ["age"]),
        (multiply(2, 100.0), ["crp"]),
        (multiply(1, 1.5), []),  # sicker, not in another unit
        (multiply(3, 0.0), []),
    ],
)
def test_inputs_far_from_those_of_training_are_named(
    change: Callable[[np.ndarray], object], unusual: list[str]
) -> None:
    scaling = fit_scaling([make_cohort(300, 1)], "standard")
    assert scaling is not None
    for seed in range(2, 12):
        assert list(find_unusual_inputs(make_cohort(100, seed, change), scaling)) == unusual
    assert list(find_unusual_inputs(make_cohort(19, 2, change), scaling)) == []  # too few to say


def test_a_class_without_an_example_is_named() -> None:
    whole = make_cohort(40, 1)
    healthy = whole.take(whole.y == 0)
    assert describe_unusual_inputs({"north": whole, "south": healthy}, None) == [
        "south: no example of died: figures that need this class have no value."
    ]


def test_the_sentence_names_the_hospital_and_the_columns() -> None:
    scaling = fit_scaling([make_cohort(300, 1)], "standard")
    [text] = describe_unusual_inputs({"north": make_cohort(60, 2, multiply(1, 88.4))}, scaling)
    assert text.startswith("north: creatinine: far from the values that the model was trained on. Is it another unit")


@pytest.fixture
def table_run(tmp_path: Path) -> Path:
    """Return a run on a table whose model scales each input by a mean of 0 and a spread of 1."""
    options = {
        "read": {"files": ["t.csv"]},
        "patient": "who",
        "outcome": {"column": "died", "values": ["0", "1"]},
        "inputs": [{"name": "dose"}, {"name": "rate"}],
    }
    data = {"dataset": "table", "options": options, "scaling": "standard"}
    return make_run_folder(tmp_path / "run", {"data": data, "model": {"name": "logreg"}})


def write_table(path: Path, rate: float) -> None:
    path.parent.mkdir(exist_ok=True)
    dose = np.random.default_rng(1).standard_normal(30)
    rows = [f"{path.stem}{i},{value:.3f},{rate + value:.3f}" for i, value in enumerate(dose)]
    path.write_text("\n".join(["who,dose,rate", *rows]) + "\n")


@pytest.mark.parametrize(("rate", "unusual"), [(0.0, []), (10.0, ["rate: far from the values"])])
def test_scoring_names_inputs_far_from_those_of_training(
    table_run: Path, tmp_path: Path, rate: float, unusual: list[str]
) -> None:
    write_table(tmp_path / "data" / "t.csv", rate)
    done = scored("--run", table_run, "--data", tmp_path / "data", "--out", tmp_path / "out", "--json")
    notes = json.loads(done.stdout)["to check"]
    assert [note[: len(unusual[0])] for note in notes] == unusual if unusual else notes == {}
    assert list(notes.values()) == [30] * len(unusual)


def test_tables_that_the_run_does_not_name_are_reported(table_run: Path, tmp_path: Path) -> None:
    write_table(tmp_path / "data" / "t.csv", 0.0)
    write_table(tmp_path / "data" / "tuesday.csv", 0.0)
    done = scored("--run", table_run, "--data", tmp_path / "data", "--out", tmp_path / "out", "--json")
    assert json.loads(done.stdout)["records without a score"] == 1
    excluded = (tmp_path / "out" / "excluded.csv").read_text()
    assert "tuesday.csv" in excluded
    assert "a table that the run's read.files does not name" in excluded
