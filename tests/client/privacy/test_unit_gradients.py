"""Gradients of single units, and their clipped sums, against slow loops."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from client.privacy import unit_gradients
from client.privacy.unit_gradients import UnitGradients
from client.privacy.units import count_units, group_rows_by_unit
from client.training.losses import build_example_loss
from common import models
from common.errors import ConfigError
from sites.cohort import Cohort
from tests import tiny
from tests.client.privacy.networks import MODELS, network, row_loader


def compute_slowly(model: nn.Module, cohort: Cohort, units: Any) -> Tensor:
    """Return the gradients of units, each by an ordinary backward pass."""
    read, loss, gradients = row_loader(cohort), build_example_loss(cohort.task), []
    for unit in units:
        model.zero_grad()
        x, features, y = read(torch.from_numpy(unit))
        loss(model(x, features), x, features, y).mean().backward()
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in model.parameters()]))  # type: ignore[union-attr]
    model.zero_grad()
    return torch.stack(gradients)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("each", [1, 3, 20])
@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_unit_gradients_agree_with_a_slow_loop(name: str, each: int) -> None:
    if name == "lstm" and each == 1:
        with pytest.raises(ConfigError, match=r"nn\.LSTM"):
            models.check_per_unit_gradients(network(tiny.TASK, name), "record")
    cohort = tiny.cohort(1, people=4, each=each)
    units = [rows[: len(rows) - i % 2 * (each > 1)] for i, rows in enumerate(group_rows_by_unit(cohort, "patient"))]
    model = network(tiny.TASK, name)
    models.check_per_unit_gradients(model, "patient")
    result = UnitGradients(model, build_example_loss(cohort.task)).each(units, row_loader(cohort))
    expected = compute_slowly(model, cohort, units)
    assert (result - expected).norm(dim=1).div(expected.norm(dim=1)).max() < 1e-5
    assert expected.norm(dim=1).min() > 1e-3


def test_multilabel_gradients_in_small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    task = replace(tiny.TASK, kind="multilabel")
    whole = tiny.cohort(2, people=5, each=2)
    y = np.random.default_rng(1).integers(0, 2, (10, 3))
    cohort = replace(whole, task=task, y=y)
    model, units = network(task, "cnn"), group_rows_by_unit(cohort, "patient")
    monkeypatch.setattr(unit_gradients, "MAX_GRADIENT_BYTES", 1)
    result = UnitGradients(model, build_example_loss(task)).each(units, row_loader(cohort))
    assert torch.allclose(result, compute_slowly(model, cohort, units), rtol=1e-4, atol=1e-6)


def test_unsupported_layers_use_vmap() -> None:
    cohort, units = tiny.cohort(1, people=4, each=1), [np.asarray([i]) for i in range(4)]

    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(3))
            self.out = nn.Linear(16, 3)

        def forward(self, x: Tensor, features: Tensor) -> Tensor:
            result: Tensor = self.out(x.flatten(1)) * self.scale
            return result

    result = UnitGradients(Odd(), build_example_loss(cohort.task))
    assert result.method == "vmap"
    for name in MODELS:
        known = UnitGradients(network(tiny.TASK, name), build_example_loss(cohort.task)).method == "ghost"
        assert known == (name != "lstm")
    model = Odd()
    expected = compute_slowly(model, cohort, units)
    assert torch.allclose(
        UnitGradients(model, build_example_loss(cohort.task)).each(units, row_loader(cohort)), expected, atol=1e-6
    )


def test_frozen_layers_are_left_out() -> None:
    cohort, units = tiny.cohort(1, people=4, each=1), [np.asarray([i]) for i in range(4)]
    whole, part = network(tiny.TASK, "cnn"), network(tiny.TASK, "cnn")
    models.freeze_parameters(part, ["stem*", "head.hidden.bias"])
    expected = UnitGradients(whole, build_example_loss(cohort.task)).each(units, row_loader(cohort))
    result = UnitGradients(part, build_example_loss(cohort.task))
    keep = torch.cat([torch.full((p.numel(),), name in result.trained) for name, p in whole.named_parameters()])
    assert 0 < int((~keep).sum()) < len(keep)
    assert torch.allclose(result.each(units, row_loader(cohort)), expected[:, keep], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("each", [1, 3, 12])
def test_clipping_agrees_with_a_slow_loop(each: int) -> None:
    cohort = tiny.cohort(3, people=6, each=each)
    units, model = group_rows_by_unit(cohort, "patient"), network(tiny.TASK, "cnn")
    gradients = compute_slowly(model, cohort, units).double()
    limit = float(gradients.norm(dim=1).median())
    expected = sum(g * min(1.0, limit / float(g.norm())) for g in gradients)
    result = UnitGradients(model, build_example_loss(cohort.task)).clipped_sum(units, row_loader(cohort), limit)
    np.testing.assert_allclose(result, np.asarray(expected), rtol=1e-4, atol=1e-6)
    without = UnitGradients(model, build_example_loss(cohort.task)).clipped_sum(units[1:], row_loader(cohort), limit)
    assert np.linalg.norm(result - without) <= limit * (1 + 1e-6)


def test_a_gradient_that_is_not_finite_adds_nothing() -> None:
    cohort = tiny.cohort(3, people=3, each=1)
    units, model = group_rows_by_unit(cohort, "patient"), network(tiny.TASK, "mlp", inputs="both")
    broken = replace(cohort, x=cohort.x.copy())  # type: ignore[union-attr]
    broken.x[units[1]] = np.nan  # type: ignore[index]
    result = UnitGradients(model, build_example_loss(cohort.task)).clipped_sum(units, row_loader(broken), 1.0)
    rest = UnitGradients(model, build_example_loss(cohort.task)).clipped_sum(
        [units[0], units[2]], row_loader(cohort), 1.0
    )
    np.testing.assert_allclose(result, rest, atol=1e-6)
    assert np.linalg.norm(rest) > 0.01


def test_a_person_is_a_unit_whatever_their_recordings() -> None:
    cohort = replace(tiny.cohort(1, people=3, each=2), persons=("b", "a", "b"))
    assert [unit.tolist() for unit in group_rows_by_unit(cohort, "patient")] == [[2, 3], [0, 1, 4, 5]]
    assert [unit.tolist() for unit in group_rows_by_unit(cohort, "record")] == [[i] for i in range(6)]
    assert (count_units(cohort, "patient"), count_units(cohort, "record")) == (2, 6)


@pytest.mark.parametrize("method", ["ghost", "vmap", "loop"])
@pytest.mark.parametrize("size", [1e-24, 1e-30])
def test_tiny_gradients_are_clipped_too(method: Any, size: float) -> None:
    """A square in single precision is 0 below 1e-23, and a norm of 0 would pass unclipped below any noise."""
    cohort = tiny.cohort(1, people=5, each=2)
    model, units, loss = network(tiny.TASK, "cnn"), group_rows_by_unit(cohort, "patient"), build_example_loss(tiny.TASK)
    gradients = UnitGradients(model, lambda *batch: loss(*batch) * size, method)
    total = gradients.clipped_sum(units, row_loader(cohort), size / 100)
    length = float(np.linalg.norm(total / size))
    assert 0.001 < length <= len(units) / 100 * 1.001
