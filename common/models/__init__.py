"""Models: one file each, whose name is the model's. It defines `Options`, and `build(task, options) -> nn.Module`.

Transfer learning: `transfer_weights` copies the weights of another model, `freeze_parameters` excludes parameters from
training.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from types import ModuleType
from typing import TYPE_CHECKING, Any

from common import plugin_files, plugins
from common.errors import ConfigError
from common.sections.training import ModelConfig
from common.seeds import seed_for
from common.settings import validate_settings
from common.task import Task

if TYPE_CHECKING:
    from torch import Tensor, nn

_building = threading.Lock()
"""Held while a model is built: layers draw initial weights from torch's global generator, which threads share."""


def list_models() -> tuple[str, ...]:
    """Return the names of all models."""
    return plugins.list_plugins("common.models", "build")


def load_model_module(wanted: ModelConfig) -> ModuleType:
    """Return the module of a model.

    Raises:
        ConfigError: there is no such model, or its file is not trusted here.
    """
    if wanted.file is not None:
        return plugin_files.load_plugin_file(wanted.file, wanted.digest, "build", "model")
    return plugins.load_plugin("common.models", "build", wanted.name, "model")


def build_model(task: Task, wanted: ModelConfig, seed: int) -> nn.Module:
    """Return an initialised model; equal seeds give equal weights.

    Args:
        task: inputs and classes.
        wanted: the model and its options.
        seed: the run's seed.

    Raises:
        ConfigError: there is no such model, an option is invalid, or the model does not fit the task.
    """
    import torch

    module = load_model_module(wanted)
    options = validate_settings(module.Options, wanted.options, f"model.options of {wanted.name}")
    with _building, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for(seed, "initial weights"))
        model: nn.Module = module.build(task, options)
    return model


def count_latent_values(model: nn.Module) -> int:
    """Return the number of latent values of an autoencoder."""
    width: int = model.latent.out_features  # type: ignore[union-attr,assignment]
    return width


def reconstruction_error_function(task: Task) -> Callable[[Any], Tensor]:
    """Return a function from an autoencoder's output to the reconstruction error of each example, `(batch,)`."""
    from common.models import _reconstruct

    return _reconstruct.build_reconstruction_error(task)


def transfer_weights(model: nn.Module, weights: Mapping[str, Any], excluded: Sequence[str] = ()) -> list[str]:
    """Copy the weights of a saved model into a model; return the names of the copied parameters.

    Args:
        model: changed in place.
        weights: the saved arrays by name.
        excluded: patterns (fnmatch) of parameters that keep their values, such as `head.*`.

    Raises:
        ConfigError: a parameter that is not excluded is missing on one side or has another shape, a pattern matches no
            name, or nothing would be copied.
    """
    import torch

    state = model.state_dict()
    _check_patterns("federation.start_except", excluded, {**state, **weights})
    wrong: dict[str, str] = {}
    copied: dict[str, torch.Tensor] = {}
    for name in [*state, *(name for name in weights if name not in state)]:
        if _matches(name, excluded):
            continue
        if name not in weights:
            wrong[name] = "not in the saved model"
        elif name not in state:
            wrong[name] = "only in the saved model"
        elif tuple(weights[name].shape) != tuple(state[name].shape):
            wrong[name] = f"saved as {list(weights[name].shape)}, here {list(state[name].shape)}"
        else:
            copied[name] = torch.as_tensor(weights[name], dtype=state[name].dtype)
    if wrong:
        listed = "; ".join(f"{name} ({why})" for name, why in list(wrong.items())[:4])
        more = f" and {len(wrong) - 4} more" if len(wrong) > 4 else ""
        layers = ", ".join(dict.fromkeys(f"{name.rpartition('.')[0] or name}.*" for name in wrong))
        raise ConfigError(
            f"federation.start: the saved model does not fit in {listed}{more}: give the model.options that it had, "
            f"or leave these layers out with federation.start_except=[{layers}]"
        )
    if not copied:
        raise ConfigError("federation.start: federation.start_except excludes every parameter of the saved model")
    model.load_state_dict({**state, **copied})
    return list(copied)


def freeze_parameters(model: nn.Module, patterns: Sequence[str]) -> list[str]:
    """Exclude the parameters that match a pattern from training; return their names.

    Normalisation layers keep no running statistics, so freezing does not change what they compute; dropout in frozen
    layers stays on in training.

    Args:
        model: changed in place.
        patterns: patterns (fnmatch) of parameter names.

    Raises:
        ConfigError: a pattern matches no parameter, or nothing is left to train.
    """
    parameters = dict(model.named_parameters())
    _check_patterns("training.freeze", patterns, parameters)
    frozen = [name for name in parameters if _matches(name, patterns)]
    if parameters and len(frozen) == len(parameters):
        raise ConfigError("training.freeze: all parameters are frozen, nothing is left to train")
    for name, parameter in parameters.items():
        parameter.requires_grad_(name not in frozen)
    return frozen


def check_per_unit_gradients(model: nn.Module, level: str) -> None:
    """Refuse a model without gradients of single units, which private training needs.

    Args:
        model: the model.
        level: the level of privacy.

    Raises:
        ConfigError: it mixes examples (BatchNorm), or gives no gradients of single examples (level record: torch's
            recurrent kernels, as in nn.LSTM).
    """
    from torch import nn

    for name, module in model.named_modules():
        kind = type(module).__name__
        # BatchNorm and its running statistics mix all examples of a batch; InstanceNorm shares its base class
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            raise ConfigError(f"privacy: {name} is a {kind}, which mixes patients: use a model with GroupNorm")
        if level == "record" and isinstance(module, nn.RNNBase):
            raise ConfigError(
                f"privacy.level=record: {name} is an nn.{kind}, which gives no gradients of single examples: "
                "use privacy.level=patient, or model.name=gru"
            )


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _check_patterns(key: str, patterns: Sequence[str], names: Iterable[str]) -> None:
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            layers = ", ".join(dict.fromkeys(f"{name.rpartition('.')[0] or name}.*" for name in names))
            raise ConfigError(f"{key}: {pattern!r} matches no parameter; there are {layers}")
