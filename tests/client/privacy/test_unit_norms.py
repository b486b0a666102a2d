"""Squared norms of unit gradients of any size, against NumPy in float64, and the memory that gradients share."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from client.privacy.ghost_norms import LayerCall, _get_moments
from client.privacy.unit_group import UnitGroup
from client.privacy.unit_norms import (
    MAX_SINGLE,
    GradientMemory,
    compute_norms,
    compute_squared_norms,
    scale_to_one,
    sum_squares,
)

CPU = torch.device("cpu")


@pytest.mark.parametrize("scale", [1e-30, 1e-22, 1e-13, 1.0, 1e18, 1e25])
@pytest.mark.parametrize("others", [1.0, 1e-30])
def test_squared_norms_of_any_size_agree_with_float64(scale: float, others: float) -> None:
    torch.manual_seed(1)
    parts = [torch.randn(5, size) for size in (1, 300, MAX_SINGLE)]
    for raw in parts:
        raw *= others
        raw[2] *= scale / others
    truth = np.sum([np.square(raw.numpy().astype(np.float64)).sum(1) for raw in parts], axis=0)
    pairs = []
    for raw in parts:
        norm = compute_norms(raw)
        assert norm is not None
        pairs.append((raw, norm))
    np.testing.assert_allclose(sum_squares(pairs).numpy(), truth, rtol=1e-5)
    np.testing.assert_allclose(sum(compute_squared_norms(raw) for raw in parts), truth, rtol=1e-12)
    assert compute_norms(torch.ones(1, MAX_SINGLE + 1)) is None


def test_a_norm_that_is_not_a_number_stays_one() -> None:
    raw = torch.ones(3, 4)
    raw[1, 2], raw[2, 0] = torch.nan, torch.inf
    assert sum_squares([(raw, torch.linalg.vector_norm(raw, dim=1))]).isfinite().tolist() == [True, False, False]


def test_scaling_by_powers_of_two_is_exact() -> None:
    sizes = torch.tensor([2.0**-149, 3e-40, 1e-20, 1.0, 3.5, 1e30, 3e38, 0.0])
    held = sizes.view(-1, 1, 1) * torch.tensor([[1.0, -0.5], [0.25, 0.0]])
    scaled, power = scale_to_one(held)
    np.testing.assert_array_equal(scaled.double().numpy() * power.view(-1, 1, 1).numpy(), held.double().numpy())
    assert power.log2().frac().eq(0).all()
    largest = scaled[:-1].abs().amax((1, 2))
    assert largest[2:].ge(0.5).all()
    assert largest[:2].ge(2.0**-24).all()  # of numbers below 2**-126, whose powers do not exist in float32
    assert scaled.abs().le(4).all()


def test_a_pass_takes_memory_again_that_does_not_overlap() -> None:
    memory = GradientMemory(CPU)
    addresses = []
    for _ in range(3):
        memory.start_pass()
        taken = [memory.take(2, 3), memory.take(4), memory.take(1, 5, 2)]
        for number, part in enumerate(taken):
            part.fill_(number)
        assert [set(part.flatten().tolist()) for part in taken] == [{0.0}, {1.0}, {2.0}]
        addresses.append([part.data_ptr() for part in taken])
    assert addresses[1] == addresses[2]
    assert memory.take_scratch(7).data_ptr() == memory.take_scratch(2, 3).data_ptr()


@pytest.mark.parametrize("each", [1, 3])
def test_group_norm_gradients_are_the_same_from_the_forward_pass_and_anew(each: int) -> None:
    torch.manual_seed(2)
    norm, x = nn.GroupNorm(2, 6, eps=1e-3), 5 + torch.randn(6, 6, 1, 9)
    with torch.no_grad():
        norm.weight.copy_(torch.randn(6))
    slope = torch.randn_like(x)
    group = UnitGroup(np.full(6 // each, each), CPU)
    moments = _get_moments(norm(x))
    assert moments is not None
    stored = LayerCall("norm", norm, x, slope, group, moments).small_gradients()
    anew = LayerCall("norm", norm, x, slope, group).small_gradients()
    for unit in range(6 // each):
        rows = slice(unit * each, (unit + 1) * each)
        truth = torch.autograd.grad(norm(x[rows]), list(norm.parameters()), slope[rows])
        for calculated in (stored, anew):
            assert torch.allclose(calculated["weight"][unit], truth[0], rtol=1e-5, atol=1e-5)
            assert torch.allclose(calculated["bias"][unit], truth[1], rtol=1e-5, atol=1e-5)
