"""`wardround new`: what it writes works, and its contract checks can fail."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from common.errors import ConfigError
from common.metrics.registry import Metric
from common.settings import Section
from experiments.cli.main import app
from experiments.new_code import contract
from experiments.new_code.create import KINDS, create_package

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def written(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ModuleType]:
    """The module that `wardround new` writes for a kind."""
    result = CliRunner().invoke(app, ["new", request.param, f"my_{request.param}", "--into", str(tmp_path)])
    assert result.exit_code == 0, result.output
    name = f"wardround_my_{request.param}"
    folder = tmp_path / f"my_{request.param}"
    assert {path.name for path in folder.iterdir()} == {"pyproject.toml", f"{name}.py", f"test_{name}.py"}
    spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[name]


@pytest.mark.parametrize("written", ["model"], indirect=True)
def test_a_written_model_keeps_its_contract(written: ModuleType) -> None:
    contract.check_model(written)


@pytest.mark.parametrize("written", ["strategy"], indirect=True)
def test_a_written_strategy_keeps_its_contract(written: ModuleType) -> None:
    contract.check_strategy(written)


@pytest.mark.parametrize("written", ["data"], indirect=True)
def test_a_written_data_set_keeps_its_contract(written: ModuleType, tmp_path: Path) -> None:
    contract.check_data(written, {"simulated": True}, tmp_path)


@pytest.mark.parametrize("written", ["metric"], indirect=True)
def test_a_written_metric_keeps_its_contract(written: ModuleType) -> None:
    def recall(truth: np.ndarray, predicted: np.ndarray) -> float:
        return float(np.mean([np.mean(predicted[truth == code] == code) for code in np.unique(truth)]))

    contract.check_metric(written.METRIC, recall)


class Options(Section):
    """None."""


class MixesExamples(nn.Module):
    def __init__(self, classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(classes))

    def forward(self, x: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        return (features.mean() + features[:, :1]) * self.weight


def test_a_model_that_mixes_patients_is_recognised() -> None:
    module = ModuleType("mixes")
    module.Options = Options  # type: ignore[attr-defined]
    module.build = lambda task, options: MixesExamples(len(task.classes))  # type: ignore[attr-defined]
    with pytest.raises(AssertionError, match="an example changes the logits of another"):
        contract.check_model(module)


def test_a_metric_that_differs_from_the_truth_is_recognised() -> None:
    metric = Metric("share", "share", lambda s: s.accuracy)
    with pytest.raises(AssertionError, match="share of 2 classes is"):
        contract.check_metric(metric, lambda truth, predicted: float(np.mean(truth == predicted)) - 0.01)
    contract.check_metric(metric, lambda truth, predicted: float(np.mean(truth == predicted)))


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        ("model", "cnn", "there is a model cnn already"),
        ("metric", "auroc", "there is a metric auroc already"),
        ("data", "../x", "is no name"),
        ("strategy", "My", "is no name"),
    ],
)
def test_names_that_cannot_be_used_are_refused(kind: str, name: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        create_package(kind, name, tmp_path)
    create_package(kind, "mine", tmp_path)
    with pytest.raises(ConfigError, match="exists: choose another name"):
        create_package(kind, "mine", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_written_test_passes(kind: str, tmp_path: Path) -> None:
    """It installs the plug-in in a process of its own and runs two rounds of a federation with it."""
    create_package(kind, f"my_{kind}", tmp_path)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path / f"my_{kind}")]
    paths = os.pathsep.join([str(ROOT), str(tmp_path / f"my_{kind}")])
    result = subprocess.run(
        command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True, timeout=600
    )
    assert result.returncode == 0, result.stdout[-3000:]
