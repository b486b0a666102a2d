"""What `import wardround` offers: federations over DataFrames, runs, predictions, comparison."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

import wardround as wr
from common.errors import DataError, UsageError
from experiments.python.predict import predict_frame
from sites.datasets.table import simulate

ROOT = Path(__file__).resolve().parents[3]
QUICK = ("federation.rounds=3", "baselines.local=false", "baselines.pooled=false", "baselines.classical=[]",
         "evaluation.bootstrap=50")  # fmt: skip


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pd.DataFrame]:
    """Three hospitals of a generated table, without the column of the hospital."""
    folder = tmp_path_factory.mktemp("frames") / "data"
    simulate.generate(folder, hospitals=3, patients=80, seed=1)
    whole = pd.read_csv(folder / "hospitals.csv")
    return {str(name): own.drop(columns="hospital") for name, own in whole.groupby("hospital")}


@pytest.fixture(scope="module")
def run(frames: dict[str, pd.DataFrame], tmp_path_factory: pytest.TempPathFactory) -> wr.Run:
    return wr.federate(frames, outcome="died", settings=QUICK, runs=tmp_path_factory.mktemp("runs"), progress=False)


def test_importing_is_quick_and_loads_nothing_heavy() -> None:
    code = (
        "import sys, time; start = time.process_time(); import wardround; "
        "print(time.process_time() - start, *sys.modules)"
    )
    output = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    seconds, *modules = output.split()
    assert float(seconds) < 0.3
    assert not {"torch", "numpy", "pandas", "flwr", "sklearn", "pydantic"} & set(modules)
    assert set(wr.__all__) <= set(dir(wr))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        wr.nothing  # noqa: B018


@pytest.mark.slow
def test_a_federation_over_frames_gives_its_hospitals(run: wr.Run, frames: dict[str, pd.DataFrame]) -> None:
    assert list(run.sites.index) == [*frames, "all hospitals"]
    assert {"patients", "auroc", "auroc low", "auroc high", "accuracy"} <= set(run.sites.columns)
    federated = run.report.federated
    assert federated is not None
    figure = federated.sites["hospital-1"].figure("auroc")
    assert figure is not None
    assert run.sites.loc["hospital-1", "auroc"] == figure.value
    assert run.models.loc["federated", "auroc"] == run.sites.loc["all hospitals", "auroc"]
    assert "hospital-2" in run._repr_html_()
    assert not list(Path("/tmp").glob(f"{run.folder.name}*"))  # the rows are not kept


@pytest.mark.slow
def test_predictions_of_rows_and_of_inputs_agree(run: wr.Run, frames: dict[str, pd.DataFrame]) -> None:
    new = frames["hospital-1"].drop(columns=["died", "patient"]).head(40).set_axis(range(100, 140))
    result = run.predict(new)
    assert list(result.columns) == ["survived", "died", "predicted"]
    assert list(result.index) == list(new.index)
    np.testing.assert_allclose(result[["survived", "died"]].sum(axis=1), 1, atol=1e-6)
    task = wr.load_run(run.folder)._open("federated", None).task
    inputs = pd.DataFrame(index=new.index)
    for name in task.features:  # by hand, not by the program's reader
        column, _, value = name.partition("=")
        if name == "male":
            inputs[name] = (new["sex"] == "M").astype(float)
        elif name in new:
            inputs[name] = new[name]
        elif name.endswith(" measured"):
            inputs[name] = new[name.removesuffix(" measured")].notna().astype(float)
        else:
            inputs[name] = (new[column] == value).astype(float)
    pd.testing.assert_frame_equal(run.predict(inputs), result)
    by_array = run.predict(inputs.to_numpy())
    np.testing.assert_allclose(by_array["died"], result["died"])
    shuffled = run.predict(new.iloc[::-1])
    pd.testing.assert_frame_equal(shuffled.iloc[::-1], result)
    with pytest.raises(DataError, match="must have the shape"):
        run.predict(np.zeros((3, 2)))
    with pytest.raises(DataError, match=r"^predict: no column creatinine$"):
        run.predict(new.drop(columns="creatinine"))


@pytest.mark.slow
def test_a_run_and_its_report_are_shown_in_one_line(run: wr.Run) -> None:
    assert repr(run.report) == str(run.report)
    assert repr(run.report).startswith(f"<Report {run.folder.name}: complete, 3 hospitals")
    assert len(repr(run.report)) < 200
    assert "report.html" in run._repr_html_()


def test_data_that_are_no_folder_are_refused_without_a_row_of_them(frames: dict[str, pd.DataFrame]) -> None:
    with pytest.raises(UsageError, match=r"data is a folder, not DataFrame; for DataFrames use federate$"):
        wr.run({"name": "face"}, data=frames["hospital-1"])  # type: ignore[arg-type]


@pytest.mark.slow
def test_runs_are_compared(run: wr.Run, frames: dict[str, pd.DataFrame], tmp_path: Path) -> None:
    other = wr.federate(frames, outcome="died", settings=[*QUICK, "training.lr=0.01"], runs=tmp_path, progress=False)
    table = wr.compare(run, other.folder, metric="accuracy")
    pooled = table[table["hospital"] == "all hospitals"]
    assert len(pooled) == 2
    first, second = pooled["value"]
    assert pooled["difference"].iloc[1] == pytest.approx(second - first)
    with pytest.raises(UsageError, match="at least two"):
        wr.compare(run)


@pytest.mark.slow
def test_a_configuration_runs_and_opens_again(tmp_path: Path) -> None:
    simulate.generate(tmp_path / "data", hospitals=2, patients=60, seed=1)
    config = {
        "name": "face", "data": {"dataset": "table", "scaling": "standard"}, "model": {"name": "logreg"},
        "sites": {"scheme": "natural"}, "evaluation": {"metric": "auroc"},
    }  # fmt: skip
    result = wr.run(config, data=tmp_path / "data", settings=QUICK, runs=tmp_path / "runs", progress=False)
    assert result.report.run.status == "complete"
    pd.testing.assert_frame_equal(wr.load_run(result.folder).sites, result.sites)
    with pytest.raises(DataError, match="holds no report"):
        wr.load_run(tmp_path)


def test_frames_that_do_not_fit_are_named(frames: dict[str, pd.DataFrame]) -> None:
    with pytest.raises(DataError, match="federate: no column dead; there are patient, age"):
        wr.federate(frames, outcome="dead")
    with pytest.raises(DataError, match="hospital-2 has no column crp, which another hospital has"):
        wr.federate(frames | {"hospital-2": frames["hospital-2"].drop(columns="crp")}, outcome="died")
    with pytest.raises(UsageError, match="a DataFrame is needed, not list"):
        wr.federate({"north": [1, 2]}, outcome="died")  # type: ignore[dict-item]
    with pytest.raises(UsageError, match="at least one hospital"):
        wr.federate({}, outcome="died")
    with pytest.raises(
        UsageError, match=r"give the DataFrames by hospital, .*groupby\('hospital'\).*; not a DataFrame"
    ):
        wr.federate(frames["hospital-1"], outcome="died")  # type: ignore[arg-type]


def test_what_is_no_number_is_refused_without_its_value() -> None:
    table = pd.DataFrame({"age": [70, 61], "lactate": [1.5, "Mrs Smith"]})
    task = SimpleNamespace(features=("age", "lactate"), channels=0, samples=0, missing=True)
    model: Any = SimpleNamespace(task=task)
    for inputs, what in ((table, "the column lactate"), (table.to_numpy(), "the array")):
        with pytest.raises(DataError) as error:
            predict_frame(model, inputs)
        assert str(error.value) == (
            f"predict: {what} holds something that is no number: give the model's inputs as numbers, or a DataFrame "
            "with the columns of the run's table"
        )
