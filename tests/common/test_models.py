"""The contract of every file of common/models: a new one is tested the moment it exists."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from common import models, plugins
from common.errors import ConfigError
from common.models._layers import Dropout
from common.models._reconstruct import Reconstruction
from common.seeds import seed_for
from common.task import Task
from tests.common.model_checks import NETWORKS, PAIRS, TASKS, build, calm, each_pair, stirred


def make_options(name: str) -> set[str]:
    return set(plugins.load_plugin("common.models", "build", name, "model").Options.model_fields)


def inputs(task: Task, batch: int = 5, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(batch, task.channels, task.samples, generator=generator),
        torch.randn(batch, len(task.features), generator=generator),
    )


def labels(task: Task, batch: int) -> Tensor:
    y = torch.arange(batch) % len(task.classes)
    return nn.functional.one_hot(y, len(task.classes)).float() if task.kind == "multilabel" else y


def said(model: nn.Module, x: Tensor, features: Tensor) -> Tensor:
    """Return what a model gives, a row an example: logits, or all that it reconstructs and its latent values."""
    result = model(x, features)
    if isinstance(result, Reconstruction):
        parts = (result.signal, result.columns, result.latent)
        return torch.cat([part.flatten(1) for part in parts if part is not None], dim=1)
    return result  # type: ignore[no-any-return]


def loss(logits: Tensor | Reconstruction, y: Tensor) -> Tensor:
    if isinstance(logits, Reconstruction):
        pairs = ((logits.signal, logits.wanted), (logits.columns, logits.wanted_columns))
        errors = [((made - like) ** 2).mean() for made, like in pairs if made is not None and like is not None]
        return torch.stack(errors).sum() + logits.penalty.mean()
    if y.ndim == 2:
        return nn.functional.binary_cross_entropy_with_logits(logits, y)
    return nn.functional.cross_entropy(logits, y)


@pytest.fixture(params=NETWORKS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_every_model_accepts_every_signal_or_every_table() -> None:
    missing = {(name, title) for name in NETWORKS for title in TASKS} - set(PAIRS)
    assert {title for name, title in missing if name != "tabular_autoencoder"} == {"table"}
    assert {title for name, title in missing if name == "tabular_autoencoder"} == {
        title for title, task in TASKS.items() if not task.features
    }
    assert {name for name, title in PAIRS if title == "table"} >= {"logreg", "mlp", "tabular_autoencoder"}


@pytest.mark.parametrize("name", [name for name in NETWORKS if (name, "table") not in PAIRS])
def test_a_model_of_signals_refuses_a_table_in_one_line(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build(name, TASKS["table"])
    instead = "tabular_autoencoder" if name == "autoencoder" else "logreg or mlp"
    assert str(caught.value) == f"model.name={name} needs a signal; this data set has features only: use {instead}"


@each_pair
def test_logits_have_a_row_per_example_and_a_column_per_class(name: str, title: str) -> None:
    task = TASKS[title]
    model = stirred(build(name, task)).eval()
    for batch in (1, 5):
        result, given = model(*inputs(task, batch)), inputs(task, batch)
        if isinstance(result, Reconstruction):
            pairs = ((result.signal, result.wanted, given[0]), (result.columns, result.wanted_columns, given[1]))
            for made, wanted, like in pairs:
                assert made is None or wanted is None or made.shape == wanted.shape == like.shape
            assert (result.signal is None, result.columns is None) == (name != "autoencoder", not task.features)
            assert result.penalty.shape == result.latent[:, 0].shape == (batch,)
        else:
            assert result.shape == (batch, len(task.classes))
        logits = said(model, *given)
        assert logits.dtype == torch.float32
        assert torch.isfinite(logits).all()
        assert torch.equal(logits, said(model, *given))


@each_pair
def test_the_output_for_an_example_does_not_depend_on_others(name: str, title: str) -> None:
    task = TASKS[title]
    model = calm(stirred(build(name, task)))
    x, features = inputs(task)
    for training in (False, True):
        model.train(training)
        together = said(model, x, features)
        alone = torch.cat([said(model, x[i : i + 1], features[i : i + 1]) for i in range(len(x))])
        torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


@each_pair
def test_the_gradient_reaches_every_parameter(name: str, title: str) -> None:
    task = TASKS[title]
    model = calm(build(name, task)).train()
    loss(model(*inputs(task, 17)), labels(task, 17)).backward()
    for path, parameter in model.named_parameters():
        assert parameter.grad is not None, path
        assert parameter.grad.abs().sum() > 0, path
        assert torch.isfinite(parameter.grad).all(), path


@each_pair
def test_each_parameter_trains_while_all_others_are_frozen(name: str, title: str) -> None:
    task = TASKS[title]
    (x, features), y = inputs(task, 3), labels(task, 3)
    model = calm(stirred(build(name, task))).train()
    loss(model(x, features), y).backward()
    wanted = {path: parameter.grad for path, parameter in model.named_parameters()}
    for path in wanted:
        models.freeze_parameters(model, [other for other in wanted if other != path])
        model.zero_grad()
        loss(model(x, features), y).backward()
        for other, parameter in model.named_parameters():
            assert (parameter.grad is not None) == (other == path)
        torch.testing.assert_close(model.get_parameter(path).grad, wanted[path], rtol=1e-3, atol=1e-5)


@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")  # nn.LSTM, see common/models/lstm.py
@each_pair
def test_gradients_of_single_examples_can_be_computed(name: str, title: str) -> None:
    # What differential privacy clips: all at once by vmap, against one example after the other.
    task = TASKS[title]
    model = calm(stirred(build(name, task))).train()
    (x, features), y = inputs(task, 3), labels(task, 3)
    weights = {path: parameter.detach() for path, parameter in model.named_parameters()}

    def one(weights: dict[str, Tensor], x: Tensor, features: Tensor, y: Tensor) -> Tensor:
        return loss(functional_call(model, weights, (x[None], features[None])), y[None])

    together = vmap(grad(one), in_dims=(None, 0, 0, 0))(weights, x, features, y)
    for i in range(3):
        model.zero_grad()
        loss(model(x[i : i + 1], features[i : i + 1]), y[i : i + 1]).backward()
        for path, parameter in model.named_parameters():
            torch.testing.assert_close(together[path][i], parameter.grad, rtol=1e-3, atol=1e-5)


@each_pair
def test_state_consists_of_weights_alone(name: str, title: str) -> None:
    model = build(name, TASKS[title])
    modules = list(model.modules())
    refused = (nn.modules.batchnorm._BatchNorm, nn.InstanceNorm1d, nn.Dropout, nn.MultiheadAttention)
    refused = refused if name == "lstm" else (*refused, nn.RNNBase)  # what Opacus has no gradients of examples for
    assert not [item for item in modules if isinstance(item, refused)]
    assert not list(model.buffers())
    state = model.state_dict()
    assert list(state) == list(dict(model.named_parameters())) == list(build(name, TASKS[title], 9).state_dict())
    assert {value.dtype for value in state.values()} == {torch.float32}


@each_pair
def test_the_seed_determines_the_initial_weights(name: str, title: str) -> None:
    task = TASKS[title]
    torch.manual_seed(1)
    first = build(name, task, 3).state_dict()
    torch.manual_seed(2)
    torch.rand(7)
    again = build(name, task, 3).state_dict()
    other = build(name, task, 4).state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    if name == "logreg":
        assert not any(value.any() for value in first.values())
    else:
        assert not all(torch.equal(first[key], other[key]) for key in first)


def test_building_does_not_advance_the_global_generator(name: str) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    build(name, TASKS["beats"])
    assert torch.equal(torch.rand(3), expected)


@each_pair
def test_the_initial_weights_are_those_of_the_constructor(name: str, title: str) -> None:
    module = plugins.load_plugin("common.models", "build", name, "model")
    torch.manual_seed(seed_for(3, "initial weights"))
    plain = module.build(TASKS[title], module.Options()).state_dict()
    built = build(name, TASKS[title], 3).state_dict()
    assert all(torch.equal(plain[key], built[key]) for key in plain)


@pytest.mark.parametrize("title", ["beats", "hours with features"])
def test_features_affect_the_output_unless_they_are_disabled(name: str, title: str) -> None:
    task = TASKS[title]
    x, features = inputs(task)
    using = stirred(build(name, task)).eval()
    for column in range(len(task.features)):
        changed = features.clone()
        changed[:, column] += 1
        assert not torch.allclose(said(using, x, features), said(using, x, changed))
    if name == "tabular_autoencoder":  # has nothing but features
        return
    off = {"features": False} if "features" in make_options(name) else {"inputs": "signal"}
    ignoring = stirred(build(name, task, **off)).eval()
    assert torch.equal(said(ignoring, x, features), said(ignoring, x, features + 1))
    assert torch.equal(said(ignoring, x, features), said(ignoring, x, features[:, :0]))


@each_pair
def test_the_signal_affects_the_output(name: str, title: str) -> None:
    task = TASKS[title]
    both = {"inputs": "both"} if "inputs" in make_options(name) and task.features and task.channels else {}
    model = stirred(build(name, task, **both)).eval()
    x, features = inputs(task)
    for channel in range(task.channels):
        changed = x.clone()
        changed[:, channel] += torch.linspace(0, 3, task.samples)
        observed = not torch.allclose(said(model, x, features), said(model, changed, features))
        assert observed == (name != "tabular_autoencoder")


@pytest.mark.parametrize("name", ["logreg", "mlp"])
def test_the_inputs_of_models_without_convolutions(name: str) -> None:
    task = TASKS["hours with features"]
    x, features = inputs(task)
    for wanted, width in (("auto", 5), ("features", 5), ("signal", 144), ("both", 149)):
        model = stirred(build(name, task, inputs=wanted)).eval()
        assert next(iter(model.parameters())).shape[1] == width
        assert torch.equal(model(x, features), model(x + 1, features)) == (width == 5)
    for title, refused in (("table", "signal"), ("table", "both"), ("strips of 12 leads", "features")):
        lacks = "features" if refused == "features" else "signal"
        with pytest.raises(ConfigError, match=f"model.options of {name}: inputs={refused}, but .* has no {lacks}"):
            build(name, TASKS[title], inputs=refused)


def test_dropout_acts_in_training_only(name: str) -> None:
    if "dropout" not in make_options(name):
        assert "hide" in make_options(name) or not [
            module for module in build(name, TASKS["beats"]).modules() if isinstance(module, Dropout)
        ]
        return
    task = TASKS["beats"]
    x, features = inputs(task)
    model = build(name, task, dropout=0.5).eval()
    assert torch.equal(model(x, features), model(x, features))
    model.train()
    torch.manual_seed(1)
    one = model(x, features)
    assert not torch.equal(one, model(x, features))
    torch.manual_seed(1)
    assert torch.equal(one, model(x, features))


WRONG: list[tuple[dict[str, object], str]] = [
    ({"dropout": 1.0}, "dropout: Input should be less than 1, got 1.0"),
    ({"dropout": "much"}, "dropout: Input should be a valid number, got 'much'"),
    ({"features": 1}, "features: Input should be a valid boolean, got 1"),
    ({"hidden": 0}, "hidden: Input should be greater than or equal to"),
    ({"inputs": "all"}, "inputs: Input should be 'auto', 'features', 'signal' or 'both', got 'all'"),
    ({"widths": []}, "widths"),
    ({"stride": 0}, "stride: Input should be greater than or equal to 1"),
]


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [(name, options, said) for name in NETWORKS for options, said in WRONG if set(options) <= make_options(name)],
)
def test_a_wrong_option_is_named(name: str, options: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build(name, TASKS["beats"], **options)
    assert str(caught.value).startswith(f"model.options of {name}: {said}")


def test_an_unknown_option_or_model_is_answered_with_the_known_ones(name: str) -> None:
    with pytest.raises(ConfigError, match=f"model.options of {name}: unknown key depht"):
        build(name, TASKS["beats"], depht=3)
    with pytest.raises(
        ConfigError, match=r"no model named 'rnn': choose one of autoencoder, boosting, cnn, forest, gru, logreg, "
    ):
        build("rnn", TASKS["beats"])


@each_pair
def test_weights_survive_a_file(name: str, title: str, tmp_path: Path) -> None:
    task = TASKS[title]
    model = stirred(build(name, task, 1)).eval()
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, tmp_path / "weights.safetensors")
    other = build(name, task, 2).eval()
    other.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    assert torch.equal(said(model, *inputs(task)), said(other, *inputs(task)))
