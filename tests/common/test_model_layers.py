"""Layers and models against torch's own, and against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from common.errors import ConfigError
from common.models import gru, tcn, transformer
from common.models._layers import Dropout, FeatureHead, fold_into_steps, group_norm
from tests.common.model_checks import NETWORKS, TASKS, build, calm, stirred


@pytest.fixture(params=NETWORKS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_dropout_zeroes_its_share_and_keeps_the_mean() -> None:
    layer = Dropout(0.25)
    layer.generator = torch.Generator().manual_seed(1)
    out = layer(torch.ones(20_000))
    assert out.unique().tolist() == [0.0, pytest.approx(4 / 3)]
    assert (out == 0).float().mean().item() == pytest.approx(0.25, abs=0.02)


@pytest.mark.parametrize("channels", [1, 4, 8, 12, 16, 20, 64, 100])
def test_group_norm_divides_the_channels(channels: int) -> None:
    norm = group_norm(channels)
    assert channels % norm.num_groups == 0
    assert norm(torch.randn(2, channels, 5)).shape == (2, channels, 5)


def test_a_head_joins_signal_and_features() -> None:
    head = FeatureHead(3, 2, 8, 4, 0.0)
    assert head(torch.zeros(5, 3), torch.zeros(5, 2)).shape == (5, 4)


@pytest.mark.parametrize("options", [{"kernel": 4}, {"widths": [0]}])
def test_a_cnn_that_cannot_be_built_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"model\.options of cnn: (kernel|widths)"):
        build("cnn", TASKS["beats"], **options)


def test_a_transformer_whose_heads_do_not_divide_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"model\.options of transformer: width must be even and a multiple of heads"):
        build("transformer", TASKS["beats"], width=30)


def test_steps_end_with_the_last_sample() -> None:
    x = torch.arange(1.0, 11).view(1, 2, 5)  # channels 1..5 and 6..10
    assert fold_into_steps(x, 1).tolist() == [[[1, 6], [2, 7], [3, 8], [4, 9], [5, 10]]]
    assert fold_into_steps(x, 2).tolist() == [[[0, 0, 1, 6], [2, 7, 3, 8], [4, 9, 5, 10]]]
    assert fold_into_steps(x, 8).tolist() == [[[0] * 6 + [1, 6, 2, 7, 3, 8, 4, 9, 5, 10]]]


def test_a_gru_layer_is_torch_s() -> None:
    ours = stirred(gru._Layer(6, 10))
    theirs = nn.GRU(6, 10, batch_first=True)
    pairs = {"weight_ih_l0": "input.weight", "bias_ih_l0": "input.bias"}
    pairs |= {"weight_hh_l0": "state.weight", "bias_hh_l0": "state.bias"}
    theirs.load_state_dict({name: ours.state_dict()[mine] for name, mine in pairs.items()})
    x = torch.randn(3, 12, 6, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(ours(x), theirs(x)[0], rtol=1e-5, atol=1e-6)


def test_a_transformer_block_is_torch_s() -> None:
    ours = calm(stirred(transformer._Block(8, 2, 0.1)))
    theirs = nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True, norm_first=True)
    state = ours.state_dict()
    bias = torch.cat([state["query.bias"], torch.zeros(8), state["value.bias"]])
    packed = {
        "self_attn.in_proj_weight": torch.cat([state[f"{part}.weight"] for part in ("query", "key", "value")]),
        "self_attn.in_proj_bias": bias,
    }
    same = {"self_attn.out_proj": "out", "linear1": "wide", "linear2": "narrow", "norm1": "norm1", "norm2": "norm2"}
    for name, mine in same.items():
        packed |= {f"{name}.{part}": state[f"{mine}.{part}"] for part in ("weight", "bias")}
    theirs.load_state_dict(packed)
    x = torch.randn(3, 12, 8, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-5)


def test_positions_are_counted_from_the_last_step() -> None:
    table = transformer.encode_positions(30, 8)
    assert table[-1].tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert torch.equal(table[-7:], transformer.encode_positions(7, 8))
    for back, k in ((3, 0), (29, 2)):  # Vaswani 2017, section 3.5: sin(pos / 10000^(2k / width))
        assert table[-1 - back, k].item() == pytest.approx(np.sin(back / 10_000 ** (2 * k / 8)), abs=1e-6)
        assert table[-1 - back, 4 + k].item() == pytest.approx(np.cos(back / 10_000 ** (2 * k / 8)), abs=1e-6)


@pytest.mark.parametrize(("blocks", "kernel"), [(1, 2), (3, 3)])
def test_a_temporal_convolution_has_its_receptive_field_and_is_causal(blocks: int, kernel: int) -> None:
    model = build("tcn", TASKS["hours with features"], width=4, blocks=blocks, kernel=kernel)
    assert isinstance(model, tcn.TCN)
    stack = model.blocks
    for block in stack:
        block.norm1 = block.norm2 = nn.Identity()
    x = torch.rand(1, 4, 80, generator=torch.Generator().manual_seed(1)).requires_grad_()
    with torch.no_grad():
        for parameter in stack.parameters():
            parameter.abs_()  # so that no ReLU closes
    stack(x)[0, :, 60].sum().backward()
    assert x.grad is not None
    observed = x.grad.abs().sum((0, 1)).nonzero().flatten()
    assert observed[-1] == 60
    assert 60 - observed[0] + 1 == 1 + 2 * (kernel - 1) * (2**blocks - 1)
