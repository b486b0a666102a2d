"""The contract of every file of common/models: a new one is tested the moment it exists."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from common import models, plugins
from common.errors import ConfigError
from common.models import gru, tcn, transformer
from common.models._layers import Dropout, FeatureHead, fold_into_steps, group_norm
from common.models._reconstruct import Reconstruction
from common.sections.training import ModelConfig
from common.seeds import seed_for
from common.task import Task

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "models.md"


def made(
    kind: Any, classes: int, channels: int, samples: int, features: int, rate: float = 125.0, name: str = "t"
) -> Task:
    labels, leads = (tuple(f"{letter}{i}" for i in range(count)) for letter, count in (("c", classes), ("l", channels)))
    return Task(name, kind, labels, labels, channels, samples, rate, tuple(f"f{i}" for i in range(features)), leads)


TASKS = {
    "beats": made("multiclass", 4, 4, 96, 8),
    "beats without features": made("multiclass", 2, 1, 187, 0),
    "strips of 12 leads": made("multilabel", 5, 12, 150, 0, 100.0),
    "hours with features": made("multiclass", 2, 6, 24, 5, 1 / 3600),
    "table": made("multiclass", 2, 0, 0, 13, 0.0),
}


def build(name: str, task: Task, seed: int = 1, **options: object) -> nn.Module:
    return models.build_model(task, ModelConfig(name=name, options=dict(options)), seed)


def options_of(name: str) -> set[str]:
    return set(plugins.load_plugin("common.models", "build", name, "model").Options.model_fields)


def _takes(name: str, task: Task) -> bool:
    try:
        build(name, task)
    except ConfigError:
        return False
    return True


PAIRS = [(name, title) for name in models.list_models() for title, task in TASKS.items() if _takes(name, task)]


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
    found = model(x, features)
    if isinstance(found, Reconstruction):
        parts = (found.signal, found.columns, found.latent)
        return torch.cat([part.flatten(1) for part in parts if part is not None], dim=1)
    return found  # type: ignore[no-any-return]


def loss(logits: Tensor | Reconstruction, y: Tensor) -> Tensor:
    if isinstance(logits, Reconstruction):
        pairs = ((logits.signal, logits.wanted), (logits.columns, logits.wanted_columns))
        errors = [((made - like) ** 2).mean() for made, like in pairs if made is not None and like is not None]
        return torch.stack(errors).sum() + logits.penalty.mean()
    if y.ndim == 2:
        return nn.functional.binary_cross_entropy_with_logits(logits, y)
    return nn.functional.cross_entropy(logits, y)


def calm(model: nn.Module) -> nn.Module:
    """Return the model without dropout."""
    for module in model.modules():
        if isinstance(module, Dropout):
            module.rate = 0.0
    return model


def stirred(model: nn.Module) -> nn.Module:
    """Return the model with weights of which none is zero, as after training."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Models this small are slower on several threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=models.list_models())
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


each_pair = pytest.mark.parametrize(("name", "title"), PAIRS)


def test_every_model_accepts_every_signal_or_every_table() -> None:
    missing = {(name, title) for name in models.list_models() for title in TASKS} - set(PAIRS)
    assert {title for name, title in missing if name != "tabular_autoencoder"} == {"table"}
    assert {title for name, title in missing if name == "tabular_autoencoder"} == {
        title for title, task in TASKS.items() if not task.features
    }
    assert {name for name, title in PAIRS if title == "table"} >= {"logreg", "mlp", "tabular_autoencoder"}


@pytest.mark.parametrize("name", [name for name in models.list_models() if (name, "table") not in PAIRS])
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
        found, given = model(*inputs(task, batch)), inputs(task, batch)
        if isinstance(found, Reconstruction):
            pairs = ((found.signal, found.wanted, given[0]), (found.columns, found.wanted_columns, given[1]))
            for made, wanted, like in pairs:
                assert made is None or wanted is None or made.shape == wanted.shape == like.shape
            assert (found.signal is None, found.columns is None) == (name != "autoencoder", not task.features)
            assert found.penalty.shape == found.latent[:, 0].shape == (batch,)
        else:
            assert found.shape == (batch, len(task.classes))
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
    off = {"features": False} if "features" in options_of(name) else {"inputs": "signal"}
    ignoring = stirred(build(name, task, **off)).eval()
    assert torch.equal(said(ignoring, x, features), said(ignoring, x, features + 1))
    assert torch.equal(said(ignoring, x, features), said(ignoring, x, features[:, :0]))


@each_pair
def test_the_signal_affects_the_output(name: str, title: str) -> None:
    task = TASKS[title]
    both = {"inputs": "both"} if "inputs" in options_of(name) and task.features and task.channels else {}
    model = stirred(build(name, task, **both)).eval()
    x, features = inputs(task)
    for channel in range(task.channels):
        changed = x.clone()
        changed[:, channel] += torch.linspace(0, 3, task.samples)
        seen = not torch.allclose(said(model, x, features), said(model, changed, features))
        assert seen == (name != "tabular_autoencoder")


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
    if "dropout" not in options_of(name):
        assert "hide" in options_of(name) or not [
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
    [
        (name, options, said)
        for name in models.list_models()
        for options, said in WRONG
        if set(options) <= options_of(name)
    ],
)
def test_a_wrong_option_is_named(name: str, options: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build(name, TASKS["beats"], **options)
    assert str(caught.value).startswith(f"model.options of {name}: {said}")


def test_an_unknown_option_or_model_is_answered_with_the_known_ones(name: str) -> None:
    with pytest.raises(ConfigError, match=f"model.options of {name}: unknown key depht"):
        build(name, TASKS["beats"], depht=3)
    with pytest.raises(
        ConfigError, match=r"no model named 'rnn': choose one of autoencoder, cnn, gru, logreg, lstm, mlp, "
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
    seen = x.grad.abs().sum((0, 1)).nonzero().flatten()
    assert seen[-1] == 60
    assert 60 - seen[0] + 1 == 1 + 2 * (kernel - 1) * (2**blocks - 1)


class TestStart:
    def weights(self, name: str, task: Task, seed: int = 5, **options: object) -> dict[str, np.ndarray]:
        return {key: value.numpy() for key, value in build(name, task, seed, **options).state_dict().items()}

    @each_pair
    def test_all_weights_are_transferred(self, name: str, title: str) -> None:
        model, saved = build(name, TASKS[title], 1), self.weights(name, TASKS[title])
        assert models.transfer_weights(model, saved) == list(saved)
        assert all(np.array_equal(value.numpy(), saved[key]) for key, value in model.state_dict().items())
        next(iter(model.parameters())).data.add_(1)  # the arrays stay as they were
        assert np.array_equal(saved[next(iter(saved))], self.weights(name, TASKS[title])[next(iter(saved))])

    def test_excluded_layers_keep_their_values(self) -> None:
        model = build("cnn", TASKS["beats"], 1)
        before = {key: value.clone() for key, value in model.state_dict().items()}
        saved = self.weights("cnn", TASKS["beats"])
        taken = models.transfer_weights(model, saved, ("head.out.*", "*norm1.bias"))
        for key, value in model.state_dict().items():
            fresh = key.startswith("head.out.") or key.endswith("norm1.bias")
            assert (key in taken) != fresh
            assert np.array_equal(value.numpy(), before[key].numpy() if fresh else saved[key])

    def test_another_task_needs_another_output_layer(self) -> None:
        saved = self.weights("cnn", TASKS["beats"])
        fewer = made("multiclass", 2, 4, 96, 8)
        with pytest.raises(ConfigError) as caught:
            models.transfer_weights(build("cnn", fewer), saved)
        assert str(caught.value) == (
            "federation.start: the saved model does not fit in head.out.weight (saved as [4, 64], here [2, 64]); "
            "head.out.bias (saved as [4], here [2]): give the model.options that it had, or leave these layers "
            "out with federation.start_except=[head.out.*]"
        )
        assert len(models.transfer_weights(build("cnn", fewer), saved, ["head.out.*"])) == len(saved) - 2

    def test_following_the_errors_advice_is_enough(self) -> None:
        # Another count of leads, no features, other classes: what the error says to put in is what is needed.
        saved, other = self.weights("cnn", TASKS["beats"]), TASKS["beats without features"]
        with pytest.raises(ConfigError) as caught:
            models.transfer_weights(build("cnn", other), saved)
        found = re.search(r"start_except=\[(.*)\]$", str(caught.value))
        assert found is not None
        assert "head.embed.0.*" in found[1].split(", ")
        taken = models.transfer_weights(build("cnn", other), saved, found[1].split(", "))
        assert {name.partition(".")[0] for name in taken} == {"stem_norm", "stages"}

    def test_a_layer_that_only_one_model_has_is_named(self) -> None:
        saved = self.weights("tcn", TASKS["hours with features"])
        with pytest.raises(ConfigError, match=r"head\.embed\.0\.weight \(only in the saved model\)"):
            models.transfer_weights(build("tcn", TASKS["hours with features"], features=False), saved)
        saved = self.weights("gru", TASKS["hours with features"])
        with pytest.raises(ConfigError, match=r"layers\.1\.input\.weight \(not in the saved model\)"):
            models.transfer_weights(build("gru", TASKS["hours with features"], layers=2), saved)

    def test_a_failed_transfer_changes_nothing(self) -> None:
        model = build("cnn", TASKS["beats"], 1)
        before = {key: value.clone() for key, value in model.state_dict().items()}
        saved = self.weights("cnn", TASKS["beats"])
        saved["head.out.bias"] = saved["head.out.bias"][:2]
        with pytest.raises(ConfigError):
            models.transfer_weights(model, saved)
        assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())

    def test_patterns_that_match_nothing_or_everything_are_refused(self) -> None:
        model, saved = build("mlp", TASKS["table"], 1), self.weights("mlp", TASKS["table"])
        with pytest.raises(ConfigError) as caught:
            models.transfer_weights(model, saved, ["head.*"])
        assert str(caught.value) == (
            "federation.start_except: 'head.*' matches no parameter; there are body.0.*, body.1.*, body.4.*, body.5.*, "
            "out.*"
        )
        with pytest.raises(ConfigError, match="excludes every parameter of the saved model"):
            models.transfer_weights(model, saved, ["*"])


class TestFrozen:
    def test_matching_parameters_are_frozen_and_the_others_train(self) -> None:
        model = build("mlp", TASKS["table"])
        assert models.freeze_parameters(model, ["body.0.*"]) == ["body.0.weight", "body.0.bias"]
        rests = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
        assert rests == {"body.0.weight", "body.0.bias"}
        assert models.freeze_parameters(model, ["out.bias"]) == ["out.bias"]  # the last word counts
        assert [name for name, parameter in model.named_parameters() if not parameter.requires_grad] == ["out.bias"]
        assert models.freeze_parameters(model, []) == []
        assert all(parameter.requires_grad for parameter in model.parameters())

    def test_patterns_that_match_nothing_or_everything_are_refused(self) -> None:
        model = build("logreg", TASKS["table"])
        with pytest.raises(ConfigError, match=r"training\.freeze: 'body\.\*' matches no parameter; there are out\.\*$"):
            models.freeze_parameters(model, ["body.*"])
        with pytest.raises(ConfigError, match=r"training\.freeze: all parameters are frozen"):
            models.freeze_parameters(model, ["out.*"])
        assert all(parameter.requires_grad for parameter in model.parameters())


def test_the_documentation_gives_the_sizes_of_models() -> None:
    rows = re.findall(r"^\| `(\w+)` \|.*\| ([\d,]+|none) \| ([\d,]+|none) \|$", PAGE.read_text(), re.MULTILINE)
    shown = {name: (beats, hours) for name, beats, hours in rows}
    tasks = (made("multiclass", 4, 2, 96, 14), made("multiclass", 2, 40, 24, 6))
    wanted = {
        name: tuple(f"{sum(p.numel() for p in build(name, task).parameters()):,}" for task in tasks)
        for name in models.list_models()
    }
    assert shown == wanted
