"""The contract of every file of common/models: a new one is tested the moment it exists."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from common import models, plugins
from common.config import ModelConfig
from common.errors import ConfigError
from common.models._layers import Dropout, group_norm
from common.seeds import seed_for
from common.task import Task

TASKS = {
    "window": Task(
        "w",
        "multiclass",
        ("N", "S", "V", "F"),
        ("",) * 4,
        4,
        96,
        125.0,
        tuple("abcdefgh"),
        ("a", "b", "c", "d"),
    ),
    "one lead": Task("k", "multiclass", ("N", "V"), ("",) * 2, 1, 187, 125.0, (), ("a",)),
}


def inputs(task: Task, batch: int = 5, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(batch, task.channels, task.samples, generator=generator),
        torch.randn(batch, len(task.features), generator=generator),
    )


def build(name: str, task: Task, seed: int = 1, **options: object) -> nn.Module:
    return models.build(task, ModelConfig(name=name, options=dict(options)), seed)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Models this small are slower on several threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=models.names())
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=TASKS)
def task(request: pytest.FixtureRequest) -> Task:
    return TASKS[request.param]


def test_logits_have_a_row_an_example_and_a_column_a_class(name: str, task: Task) -> None:
    model = build(name, task).eval()
    for batch in (1, 5):
        logits = model(*inputs(task, batch))
        assert logits.shape == (batch, len(task.classes))
        assert logits.dtype == torch.float32
        assert torch.isfinite(logits).all()


def test_an_example_is_judged_alone(name: str, task: Task) -> None:
    model = build(name, task)
    x, features = inputs(task)
    _no_dropout(model)
    for training in (False, True):
        model.train(training)
        together = model(x, features)
        alone = torch.cat([model(x[i : i + 1], features[i : i + 1]) for i in range(len(x))])
        torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def _no_dropout(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, Dropout):
            module.rate = 0.0


def test_the_gradient_reaches_every_parameter(name: str, task: Task) -> None:
    model = build(name, task).train()
    _no_dropout(model)
    logits = model(*inputs(task, 16))
    nn.functional.cross_entropy(logits, torch.arange(16) % len(task.classes)).backward()
    for path, parameter in model.named_parameters():
        assert parameter.grad is not None, path
        assert parameter.grad.abs().sum() > 0, path
        assert torch.isfinite(parameter.grad).all(), path


def test_nothing_but_weights_travels(name: str, task: Task) -> None:
    model = build(name, task)
    assert not [item for item in model.modules() if isinstance(item, nn.modules.batchnorm._BatchNorm)]
    state = model.state_dict()
    assert state.keys() == dict(model.named_parameters()).keys()
    assert {value.dtype for value in state.values()} == {torch.float32}


def test_the_seed_alone_decides_the_first_weights(name: str, task: Task) -> None:
    torch.manual_seed(1)
    first = build(name, task, 3).state_dict()
    torch.manual_seed(2)
    torch.rand(7)
    again = build(name, task, 3).state_dict()
    other = build(name, task, 4).state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not all(torch.equal(first[key], other[key]) for key in first)


def test_building_leaves_the_global_generator_where_it_was(name: str, task: Task) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    build(name, task)
    assert torch.equal(torch.rand(3), expected)


def test_the_first_weights_are_those_of_the_plain_constructor(name: str, task: Task) -> None:
    module = plugins.load("common.models", "build", name, "model")
    torch.manual_seed(seed_for(3, "initial weights"))
    plain = module.build(task, module.Options()).state_dict()
    built = build(name, task, 3).state_dict()
    assert all(torch.equal(plain[key], built[key]) for key in plain)


def test_features_count_unless_they_are_switched_off(name: str) -> None:
    task = TASKS["window"]
    x, features = inputs(task)
    using, ignoring = build(name, task).eval(), build(name, task, features=False).eval()
    assert not torch.equal(using(x, features), using(x, features + 1))
    assert torch.equal(ignoring(x, features), ignoring(x, features + 1))
    assert torch.equal(ignoring(x, features), ignoring(x, features[:, :0]))


def test_the_signal_counts(name: str, task: Task) -> None:
    model = build(name, task).eval()
    x, features = inputs(task)
    for channel in range(task.channels):
        changed = x.clone()
        changed[:, channel] += torch.linspace(0, 3, task.samples)
        assert not torch.allclose(model(x, features), model(changed, features))


def test_dropout_acts_in_training_alone(name: str) -> None:
    task = TASKS["window"]
    x, features = inputs(task)
    model = build(name, task, dropout=0.5).eval()
    assert torch.equal(model(x, features), model(x, features))
    model.train()
    torch.manual_seed(1)
    one = model(x, features)
    assert not torch.equal(one, model(x, features))
    torch.manual_seed(1)
    assert torch.equal(one, model(x, features))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"dropuot": 0.1}, "unknown key dropuot (did you mean dropout?)"),
        ({"dropout": 1.0}, "dropout: Input should be less than 1, got 1.0"),
        ({"dropout": "much"}, "dropout: Input should be a valid number, got 'much'"),
        ({"features": 1}, "features: Input should be a valid boolean, got 1"),
        ({"hidden": 0}, "hidden: Input should be greater than or equal to"),
    ],
)
def test_a_wrong_option_is_named(name: str, options: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build(name, TASKS["window"], **options)
    assert str(caught.value).startswith(f"model.options of {name}: {said}")


def test_a_wrong_name_lists_the_models() -> None:
    with pytest.raises(ConfigError, match=r"no model named 'rnn': choose one of cnn, lstm"):
        build("rnn", TASKS["window"])


def test_weights_survive_a_file(name: str, task: Task, tmp_path: Path) -> None:
    model = build(name, task, 1).eval()
    save_file(
        {key: value.contiguous() for key, value in model.state_dict().items()},
        tmp_path / "weights.safetensors",
    )
    other = build(name, task, 2).eval()
    other.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    assert torch.equal(model(*inputs(task)), other(*inputs(task)))


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


@pytest.mark.parametrize("options", [{"kernel": 4}, {"widths": []}, {"widths": [0]}])
def test_a_cnn_that_cannot_be_built_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"model\.options of cnn: (kernel|widths)"):
        models.build(next(iter(TASKS.values())), ModelConfig(name="cnn", options=options), 1)
