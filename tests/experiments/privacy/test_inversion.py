"""Reconstruction from a gradient: exact where it can be worked out by hand, and gone with clipping and noise."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional
from typer.testing import CliRunner

from client.privacy.budget import DpSgdPlan
from common import models
from common.config import RunConfig
from common.errors import ConfigError
from common.sections.training import ModelConfig
from experiments.cli.main import app
from experiments.privacy import inversion
from experiments.privacy.inversion import demonstrate_inversion, one_person_per_example, step_gradient
from tests import tiny

OPEN = DpSgdPlan("patient", 1.0, 0.0, math.inf, 1, 1, private=False)


def config(model: dict[str, Any], **more: Any) -> RunConfig:
    held = {
        "model": model,
        "training__loss": "cross_entropy",
        "federation__choose": "last",
        "privacy__epsilon": 8.0,
        "privacy__delta": 1e-3,
        "privacy__sampling": 0.5,
        "privacy__accountant": "rdp",
        "privacy__noise": "seeded",
    }
    return tiny.run_config(**{**held, **more})  # fmt: skip


LINEAR = [
    {"name": "mlp", "options": {"inputs": "both"}},
    {"name": "mlp", "options": {"inputs": "signal", "norm": False}},
    {"name": "logreg", "options": {"inputs": "signal"}},
    {"name": "logreg", "options": {"inputs": "both"}},
]


@pytest.mark.slow
@pytest.mark.parametrize("model", LINEAR)
def test_behind_a_linear_layer_a_beat_lies_open_until_it_is_clipped_and_noisy(model: dict[str, Any]) -> None:
    result = demonstrate_inversion(config(model), tiny.cohort(1), beats=4, site="north")
    assert result.attack == "linear"
    views = {view.name: view for view in result.views}
    assert list(views) == ["guess", "open-1", "open-4", "protected-1", "protected-4"]
    assert views["open-1"].correlation > 0.9999
    assert views["open-1"].error < 1e-6
    np.testing.assert_allclose(views["open-1"].reconstruction, result.original, atol=1e-3)
    assert views["open-4"].correlation < 0.999
    assert max(abs(views[name].correlation) for name in ("protected-1", "protected-4")) < 0.8
    assert views["protected-1"].error > 0.3


def test_of_several_beats_a_mixture_is_seen_that_can_be_worked_out() -> None:
    several = replace(one_person_per_example(tiny.cohort(1).take(np.arange(3))), y=np.asarray([0, 0, 1]))
    wanted = config({"name": "logreg", "options": {"inputs": "signal"}})
    model = models.build_model(tiny.TASK, wanted.model, seed=1)  # all weights are 0: every class has chance 1/3
    observed = step_gradient(model, several, wanted, OPEN)
    slopes = np.full((3, 3), 1 / 3) - np.eye(3)[several.y]
    weight = slopes.T @ np.asarray(several.x).reshape(3, 16) / 3
    bias = slopes.mean(0)
    np.testing.assert_allclose(observed["out.weight"], weight, atol=1e-6)
    attack = inversion._linear_attack(model, tiny.TASK)
    assert attack is not None
    np.testing.assert_allclose(attack(observed)[0], bias @ weight / (bias @ bias), rtol=1e-4, atol=1e-5)


def test_what_is_attacked_is_the_gradient_of_the_step_and_its_noise() -> None:
    one = one_person_per_example(tiny.cohort(1).take(np.arange(1)))
    wanted = config({"name": "cnn", "options": {"widths": [64, 64], "kernel": 3, "hidden": 64, "dropout": 0.0}})
    model = models.build_model(tiny.TASK, wanted.model, seed=1)
    before = copy.deepcopy(model.state_dict())
    observed = step_gradient(model, one, wanted, OPEN)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    x, features = torch.as_tensor(np.asarray(one.x)), torch.as_tensor(one.features)
    loss = functional.cross_entropy(model(x, features), torch.as_tensor(one.y))
    for (name, _), part in zip(
        model.named_parameters(), torch.autograd.grad(loss, list(model.parameters())), strict=True
    ):
        torch.testing.assert_close(observed[name], part, rtol=1e-4, atol=1e-6)
    noisy = step_gradient(model, one, wanted, DpSgdPlan("patient", 1.0, 3.0, 0.5, 1, 1, private=False))
    every = torch.cat([part.flatten() for part in noisy.values()])
    assert every.std().item() == pytest.approx(3.0 * 0.5, rel=5 / math.sqrt(len(every)))


def test_a_guess_is_the_mean_of_other_patients_beats_of_the_class() -> None:
    train = tiny.cohort(2)
    rows = (train.patient != train.patient[5]) & (train.y == train.y[5])
    expected = np.asarray(train.x)[rows].mean(0)
    np.testing.assert_allclose(inversion._mean_beat(train, 5), expected, rtol=1e-5)


@pytest.mark.slow
def test_a_search_finds_inputs_of_the_same_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inversion, "_linear_attack", lambda model, task: None)
    monkeypatch.setattr(inversion, "STEPS", 300)
    result = demonstrate_inversion(
        config({"name": "mlp", "options": {"inputs": "signal", "widths": [64]}}), tiny.cohort(1), beats=2
    )
    views = {view.name: view for view in result.views}
    assert result.attack == "search"
    assert views["open-1"].correlation > 0.95
    assert views["protected-1"].correlation < 0.8


def test_what_cannot_be_shown_is_refused() -> None:
    mlp = {"name": "mlp", "options": {"inputs": "signal"}}
    for more, beats, says in (
        ({"privacy__epsilon": None}, 4, "set privacy.epsilon"), ({}, 1, "--beats 1"), ({}, 49, "48 training examples"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=says):
            demonstrate_inversion(config(mlp, **more), tiny.cohort(1), beats=beats)
    model = models.build_model(tiny.TASK, ModelConfig(name="mlp", options={"inputs": "features"}), 0)
    assert inversion._linear_attack(model, tiny.TASK) is None


YAML = """
name: small
data: {options: {hospitals: 2, patients: 5, minutes: 0.5}}
sites: {validation: 0}
training: {loss: cross_entropy, device: cpu}
model: {name: mlp, options: {inputs: both}}
federation: {rounds: 2, choose: last}
privacy: {epsilon: 4.0, delta: 0.001, sampling: 0.5, accountant: rdp}
"""


def test_the_command(tmp_path: Path) -> None:
    path = tmp_path / "small.yaml"
    path.write_text(YAML)
    done = CliRunner().invoke(app, ["privacy", "inversion", str(path), "--runs", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert "SYNTHETIC" in done.stdout
    [folder] = tmp_path.glob("small-inversion-*")
    held = json.loads((folder / "inversion.json").read_text())
    assert [view["name"] for view in held["views"]] == ["guess", "open-1", "open-8", "protected-1", "protected-8"]
    assert held["views"][1]["correlation"] > 0.9999
    assert "original" not in held
    drawing = (folder / "inversion.svg").read_text()
    assert "SYNTHETIC" in drawing
    assert "one beat, no protection: correlation 1.00" in drawing
    assert (folder / "inversion.png").read_bytes().startswith(b"\x89PNG")
