"""Norms and clipped sums of unit gradients without the gradients, against one ordinary backward pass a unit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from client.privacy import ghost_norms, unit_gradients
from client.privacy.ghost_norms import GradientPass, LayerCall, find_trained_layers
from client.privacy.unit_gradients import GradientMethod, UnitGradients
from client.privacy.unit_group import UnitGroup
from client.privacy.units import group_rows_by_unit
from client.training.batches import load_tensors
from client.training.losses import Loss, build_example_loss
from common import models
from common.models._layers import Dropout
from common.sections.training import ModelConfig
from sites.cohort import Cohort
from tests import tiny

SMALL: dict[str, dict[str, Any]] = {
    "cnn": {"widths": [8, 16], "hidden": 8}, "gru": {"width": 8, "hidden": 8, "layers": 2}, "tcn": {"width": 8},
    "autoencoder": {"widths": [8, 16]}, "lstm": {"width": 8, "hidden": 8}, "transformer": {"width": 8, "hidden": 8},
}  # fmt: skip
LOSS = build_example_loss(tiny.TASK)
REBUILT = build_example_loss(replace(tiny.TASK, classes=("N", "A"), class_titles=("normal", "other"), anomaly=True))


def network(name: str) -> nn.Module:
    """Return a model in training whose dropout is off, so that two methods give one gradient."""
    model = models.build_model(tiny.TASK, ModelConfig(name=name, options=SMALL.get(name, {})), seed=1).train()
    for module in model.modules():
        if isinstance(module, Dropout):
            module.rate = 0.0
    return model


def units_and_rows(each: int, ragged: bool = True) -> tuple[list[npt.NDArray[np.int64]], Any, Cohort]:
    cohort = tiny.cohort(1, people=6, each=each)
    units = [
        rows[: len(rows) - i % 2 * (each > 1 and ragged)]
        for i, rows in enumerate(group_rows_by_unit(cohort, "patient"))
    ]
    cut, features, y = load_tensors(cohort, torch.device("cpu"))
    return units, lambda rows: (cut(rows), features[rows], y[rows]), cohort


def compute_loss(model: nn.Module) -> Loss:
    return REBUILT if "autoencoder" in type(model).__module__ else LOSS


def compute_slowly(model: nn.Module, units: Any, rows: Any) -> Tensor:
    result, loss = [], compute_loss(model)
    trained = [p for p in model.parameters() if p.requires_grad]
    for unit in units:
        x, features, y = rows(torch.from_numpy(unit))
        parts = torch.autograd.grad(loss(model(x, features), x, features, y).mean(), trained)
        result.append(torch.cat([part.flatten() for part in parts]))
    return torch.stack(result).double()


def check(model: nn.Module, each: int, method: GradientMethod | None = None) -> None:
    """Compare the clipped sum with the slow loop's, at a limit that clips half of the units."""
    units, rows, _ = units_and_rows(each)
    expected = compute_slowly(model, units, rows)
    norm = expected.norm(dim=1)
    limit = float(norm.median())
    truth = (expected * (limit / norm).clamp(max=1)[:, None]).sum(0).numpy()
    result = UnitGradients(model, compute_loss(model), method).clipped_sum(units, rows, limit)
    assert np.linalg.norm(result - truth) < 1e-5 * np.linalg.norm(truth)
    whole = UnitGradients(model, compute_loss(model), method).clipped_sum(units, rows, float("inf"))
    assert np.linalg.norm(whole - expected.sum(0).numpy()) < 1e-5 * np.linalg.norm(whole)
    assert np.linalg.norm(whole - truth) > 1e-3 * np.linalg.norm(truth)


@pytest.mark.parametrize("each", [1, 3, 20])
@pytest.mark.parametrize("name", sorted({*models.list_models()} - {"boosting", "forest"}))  # trees have no gradients
def test_clipped_sums_of_every_model_agree_with_a_slow_loop(name: str, each: int) -> None:
    model = network(name)
    assert (UnitGradients(model, compute_loss(model)).method == "ghost") == (name != "lstm")
    check(model, each)


@pytest.mark.parametrize("always", [True, False])
@pytest.mark.parametrize("name", ["cnn", "tcn", "transformer", "gru", "mlp"])
def test_ghost_norms_agree_with_computed_gradients(name: str, always: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def choose(one: LayerCall) -> bool:
        return always and (one.group.longest == 1 or isinstance(one.module, nn.Linear))

    monkeypatch.setattr(LayerCall, "prefers_ghost_norm", choose)
    for each in (1, 4):
        check(network(name), each)


@pytest.mark.parametrize("method", ["ghost", "vmap", "loop"])
def test_each_method_gives_the_same_sum(method: GradientMethod) -> None:
    check(network("cnn"), 3, method)


def test_gradients_that_are_not_kept_are_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ghost_norms, "MAX_STORED_BYTES", 0)
    monkeypatch.setattr(LayerCall, "prefers_ghost_norm", lambda one: False)
    for name in ("cnn", "tcn", "gru"):
        check(network(name), 3)
    summed: list[str] = []
    whole = LayerCall.weighted_sum
    monkeypatch.setattr(LayerCall, "weighted_sum", lambda one, share: (summed.append(one.name), whole(one, share))[1])
    check(network("cnn"), 1)
    assert "stem" in summed


def test_groups_hold_every_unit_once(monkeypatch: pytest.MonkeyPatch) -> None:
    units = [np.arange(n) for n in (1, 300, 5, 40, 40, 40, 2, 127)]
    for most in (1, 2, 100):
        groups = unit_gradients._groups(units, 128, most)
        assert sorted(len(unit) for some in groups for unit in some) == sorted(map(len, units))
        assert all(len(some) == 1 or (len(some) <= most and sum(map(len, some)) <= 128) for some in groups)
    assert unit_gradients._groups([], 128, 3) == []
    none = UnitGradients(network("cnn"), LOSS)
    assert none.clipped_sum([], units_and_rows(1)[1], 1.0).tolist() == [0.0] * none.size
    monkeypatch.setattr(unit_gradients, "FIRST_ROWS", 7)
    check(network("cnn"), 3)
    units, rows, _ = units_and_rows(3)
    sizes: list[int] = []

    def reading(index: Tensor) -> Any:
        sizes.append(len(index))
        return rows(index)

    some = UnitGradients(network("cnn"), LOSS)
    once = some.clipped_sum(units, reading, 0.1)
    assert sizes == [4, 5, 6]  # units of 2, 2, 2, 3, 3 and 3 rows, at most 7 together
    np.testing.assert_allclose(some.clipped_sum(units, reading, 0.1), once, atol=1e-7)
    assert sizes[3:] == [15]  # all at once, now that it is known how little room they take


class Twice(nn.Module):
    """Calls a convolution, a norm and a linear layer twice each; the second call sees other lengths of signal."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 1, 3, padding=2, dilation=2)
        self.norm, self.out = nn.GroupNorm(1, 1), nn.Linear(16, 3)
        self.steps = nn.Linear(3, 3)

    def forward(self, x: Tensor, features: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.conv(x)))
        x = torch.tanh(self.norm(self.conv(x)))
        y = self.steps(torch.stack([self.out(x.flatten(1)), self.out(x.flip(2).flatten(1))], dim=1)).tanh()
        result: Tensor = self.steps(y).sum(1)
        return result


@pytest.mark.parametrize("each", [1, 4])
@pytest.mark.parametrize("ghosts", [True, False])
def test_a_layer_that_is_called_twice_has_the_sum(each: int, ghosts: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(3)
    monkeypatch.setattr(LayerCall, "prefers_ghost_norm", lambda one: ghosts and isinstance(one.module, nn.Linear))
    check(Twice(), each, "ghost")
    units, rows, _ = units_and_rows(each)
    model = Twice()
    assert torch.allclose(
        UnitGradients(model, LOSS).each(units, rows).double(), compute_slowly(model, units, rows), atol=1e-6
    )


def test_frozen_layers_are_left_out_of_the_sum() -> None:
    model = network("cnn")
    models.freeze_parameters(model, ["stem*", "stages.0.*", "head.hidden.bias"])
    check(model, 1)
    check(model, 3)


def test_units_that_are_not_finite_add_nothing() -> None:
    units, rows, cohort = units_and_rows(2)
    cohort.x[units[1][0]] = np.nan  # type: ignore[index]
    cohort.features[units[4]] = np.inf
    result = UnitGradients(network("cnn"), LOSS).clipped_sum(units, rows, 0.1)
    rest = UnitGradients(network("cnn"), LOSS).clipped_sum([units[i] for i in (0, 2, 3, 5)], rows, 0.1)
    np.testing.assert_allclose(result, rest, atol=1e-7)
    assert np.linalg.norm(rest) > 0.05
    assert not UnitGradients(network("cnn"), LOSS).clipped_sum([units[1]], rows, 1.0).any()


class Alternating(nn.Module):
    """Outputs whose slopes cancel over time, before a signal that hardly changes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 3, 5, bias=False)

    def forward(self, x: Tensor, features: Tensor) -> Tensor:
        result = self.conv(x)
        sign = 1.0 - 2.0 * (torch.arange(result.shape[2]) % 2)
        total: Tensor = (result * sign).sum(2)
        return total


@pytest.mark.parametrize("ghosts", [True, False])
def test_cancelling_slopes_do_not_exceed_the_clipping_norm(ghosts: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    # the products are 10**8 times what is left of them: their sum in float32 says next to nothing about the norm
    monkeypatch.setattr(LayerCall, "prefers_ghost_norm", lambda one: ghosts)
    torch.manual_seed(1)
    x = 100 + 1e-3 * torch.randn(200, 1, 64)
    y = torch.arange(200) % 3
    features = torch.zeros(200, 1)
    model = Alternating()
    nn.init.zeros_(model.conv.weight)
    for unit in range(200):
        one = UnitGradients(model, LOSS, "ghost")
        limit = 1e-3
        result = one.clipped_sum([np.asarray([unit])], lambda rows: (x[rows], features[rows], y[rows]), limit)
        assert np.linalg.norm(result) <= limit * 1.001
    assert compute_slowly(model, [np.asarray([0])], lambda rows: (x[rows], features[rows], y[rows])).norm() > 2e-3


def test_squared_norms_are_those_of_the_gradients() -> None:
    units, rows, _ = units_and_rows(1)
    model = network("cnn")
    trained = dict(model.named_parameters())
    layers = find_trained_layers(model, trained)
    assert layers is not None
    group = UnitGroup(np.ones(len(units), np.int64), torch.device("cpu"))
    x, features, y = rows(torch.from_numpy(np.concatenate(units)))
    observed: list[LayerCall] = []
    run: Callable[[], Tensor] = lambda: LOSS(model(x, features), x, features, y).sum()  # noqa: E731
    GradientPass(layers, trained, group)._run_backward(run, observed.append)
    heavy = [one for one in observed if isinstance(one.module, nn.Linear | nn.Conv2d)]
    assert len(heavy) == 9
    for one in heavy:
        large = one.weight_gradients()
        assert large is not None
        expected = large[0].double().flatten(1).norm(dim=1).square()
        assert torch.allclose(one.ghost_norms_squared().double(), expected, rtol=1e-4)


def test_a_method_that_the_layers_do_not_allow_is_refused() -> None:
    with pytest.raises(ValueError, match="method=ghost does not know"):
        UnitGradients(network("lstm"), LOSS, "ghost")
    with pytest.raises(ValueError, match="method=vmap does not know"):
        UnitGradients(network("lstm"), LOSS, "vmap")
    for layer in (nn.Conv1d(2, 2, 3, groups=2), nn.Conv1d(1, 1, 3, padding_mode="circular"), nn.Conv2d(1, 1, 3),
                  nn.Conv1d(1, 1, 3, padding="same"), nn.Embedding(3, 3)):  # fmt: skip
        whole = nn.Sequential(layer)
        assert find_trained_layers(whole, dict(whole.named_parameters())) is None
