"""A run's models are used only as the run wrote them: a changed, exchanged or missing file is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from common.errors import DataError
from common.run_folder import update_run
from common.scaling import RANK_BINS, Scaling
from experiments.runs.model_files import digest_model_files
from experiments.scoring.score import open_model
from sites.datasets.table import simulate
from sites.datasets.table.description import read_description
from tests.experiments.scoring.scored_runs import make_run_folder

WIDTH = 9


@pytest.fixture(params=[True, False], ids=["recorded", "earlier version"])
def run(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """The folder of a run on a generated table, with digests of its files or, as of earlier versions, without."""
    simulate.generate(tmp_path / "data", hospitals=1, patients=40, seed=1)
    options = read_description(tmp_path / "data" / "table.yaml")
    data = {"dataset": "table", "scaling": "standard", "options": options}
    folder = make_run_folder(tmp_path / "run", {"data": data, "model": {"name": "logreg"}}, threshold=0.5)
    if request.param:
        update_run(folder, files=digest_model_files(folder))
    assert open_model(folder).threshold == 0.5
    return folder


def change_weights(folder: Path, change: Callable[[np.ndarray], Any]) -> None:
    weights = {name: array.copy() for name, array in load_file(folder / "model.safetensors").items()}
    for array in weights.values():
        change(array)
    save_file(weights, folder / "model.safetensors")


def change_outcome(folder: Path, **entries: Any) -> None:
    path = folder / "federated.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


def change_task(folder: Path, **entries: Any) -> None:
    task = json.loads((folder / "federated.json").read_text())["task"]
    change_outcome(folder, task=task | entries)


def change_scaling(folder: Path, centre: Any, spread: Any, ranks: Any = None) -> None:
    scaling = Scaling(np.asarray(centre), np.asarray(spread), *([] if ranks is None else [np.asarray(ranks)]))
    (folder / "scaling.safetensors").write_bytes(scaling.to_bytes())


ones = np.ones(WIDTH)
DAMAGE: dict[str, Callable[[Path], Any]] = {
    "a weight that is no number": lambda folder: change_weights(folder, lambda array: array.fill(np.nan)),
    "a scaling that is missing": lambda folder: (folder / "scaling.safetensors").unlink(),
    "a spread of 0": lambda folder: change_scaling(folder, 0 * ones, 0 * ones),
    "a spread below 0": lambda folder: change_scaling(folder, 0 * ones, -ones),
    "an endless centre": lambda folder: change_scaling(folder, np.inf * ones, ones),
    "a spread of another width": lambda folder: change_scaling(folder, ones, np.ones(1)),
    "ranks of another width": lambda folder: change_scaling(folder, ones, ones, np.zeros((2, RANK_BINS), np.float32)),
    "a threshold that is a text": lambda folder: change_outcome(folder, threshold="0.5"),
    "a threshold that is true": lambda folder: change_outcome(folder, threshold=True),
    "a threshold that is no number": lambda folder: change_outcome(folder, threshold=float("nan")),
    "run.json of another kind": lambda folder: (folder / "run.json").write_text("[]"),
    "a later version": lambda folder: update_run(folder, format=99),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_what_no_run_writes_is_refused(run: Path, what: str) -> None:
    DAMAGE[what](run)
    with pytest.raises(DataError):
        open_model(run)


@pytest.mark.parametrize("classes", [["died", "survived"], ["a", "b"]])
def test_classes_that_the_data_do_not_have_are_refused(run: Path, classes: list[str]) -> None:
    change_task(run, classes=classes, class_titles=classes)
    with pytest.raises(DataError, match=r"federated.json"):
        open_model(run).source(run.parent / "data")


EXCHANGED: dict[str, Callable[[Path], Any]] = {
    "weights of another run": lambda folder: change_weights(folder, lambda array: array.fill(0.25)),
    "scaling of another run": lambda folder: change_scaling(folder, ones, 2 * ones),
    "another threshold": lambda folder: change_outcome(folder, threshold=0.6),
    "no threshold": lambda folder: change_outcome(folder, threshold=None),
    "another configuration": lambda folder: (folder / "config.yaml").write_bytes(
        (folder / "config.yaml").read_bytes() + b"\n"
    ),
    "an added file": lambda folder: (folder / "latent.safetensors").write_bytes(b""),
}


@pytest.mark.parametrize("what", EXCHANGED)
@pytest.mark.parametrize("run", [True], indirect=True)
def test_a_file_of_another_run_is_refused_by_its_digest(run: Path, what: str) -> None:
    EXCHANGED[what](run)
    with pytest.raises(DataError, match=r"(has changed since|is not of) the run that its run\.json describes"):
        open_model(run)


@pytest.mark.parametrize("run", [True], indirect=True)
def test_files_that_a_model_does_not_need_may_change(run: Path) -> None:
    (run / "model.local.north.safetensors").write_bytes(b"")
    (run / "report.json").write_text("{}")
    assert open_model(run).threshold == 0.5
