"""Models: one file each, named by the file. `build(task, options) -> nn.Module`, `Options` checks the options.

Transfer: `start_from` gives a model the weights of another, `frozen` says which of its parameters do not train.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from common import plugins
from common.errors import ConfigError
from common.sections.training import ModelConfig
from common.seeds import seed_for
from common.settings import validate_settings
from common.task import Task

if TYPE_CHECKING:
    from torch import Tensor, nn

_building = threading.Lock()
"""Layers draw their weights from torch's one global stream: threads that build at once would share it."""


def list_models() -> tuple[str, ...]:
    """Return the names of the models."""
    return plugins.list_plugins("common.models", "build")


def build_model(task: Task, wanted: ModelConfig, seed: int) -> nn.Module:
    """Return a freshly initialised model; the same seed gives the same weights.

    Raises:
        ConfigError: no such model, or a wrong option.
    """
    import torch

    module = plugins.load_plugin("common.models", "build", wanted.name, "model")
    options = validate_settings(module.Options, wanted.options, f"model.options of {wanted.name}")
    with _building, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for(seed, "initial weights"))
        model: nn.Module = module.build(task, options)
    return model


def count_latent_values(model: nn.Module) -> int:
    """Return how many latent values a model that reconstructs has."""
    width: int = model.latent.out_features  # type: ignore[union-attr,assignment]
    return width


def reconstruction_error_function(task: Task) -> Callable[[Any], Tensor]:
    """Return what gives the reconstruction error of each example, `(batch,)`, from such a model's outputs."""
    from common.models import _reconstruct

    return _reconstruct.build_reconstruction_error(task)


def transfer_weights(model: nn.Module, weights: Mapping[str, Any], anew: Sequence[str] = ()) -> list[str]:
    """Give a model the weights of another; return the names of those taken.

    Args:
        model: changed in place; parameters that match `anew` keep the values they have.
        weights: arrays by name.
        anew: patterns of names, such as `head.*`, as fnmatch reads them.

    Raises:
        ConfigError: a parameter that is not in `anew` is missing on one side or has another shape, a pattern
            fits no name, or nothing would be taken.
    """
    import torch

    state = model.state_dict()
    _fits_something("federation.start_except", anew, {**state, **weights})
    wrong: dict[str, str] = {}
    taken: dict[str, torch.Tensor] = {}
    for name in [*state, *(name for name in weights if name not in state)]:
        if _matches(name, anew):
            continue
        if name not in weights:
            wrong[name] = "not in the saved model"
        elif name not in state:
            wrong[name] = "in the saved model alone"
        elif tuple(weights[name].shape) != tuple(state[name].shape):
            wrong[name] = f"saved as {list(weights[name].shape)}, here {list(state[name].shape)}"
        else:
            taken[name] = torch.as_tensor(weights[name], dtype=state[name].dtype)
    if wrong:
        listed = "; ".join(f"{name} ({why})" for name, why in list(wrong.items())[:4])
        more = f" and {len(wrong) - 4} more" if len(wrong) > 4 else ""
        layers = ", ".join(dict.fromkeys(f"{name.rpartition('.')[0] or name}.*" for name in wrong))
        raise ConfigError(
            f"federation.start: the saved model does not fit in {listed}{more}: give model.options as it had them, "
            f"or let these layers begin anew with federation.start_except=[{layers}]"
        )
    if not taken:
        raise ConfigError("federation.start: federation.start_except leaves nothing of the saved model to take")
    model.load_state_dict({**state, **taken})
    return list(taken)


def freeze_parameters(model: nn.Module, patterns: Sequence[str]) -> list[str]:
    """Let the parameters that match a pattern rest and all others train; return the names of those that rest.

    Norms keep no running statistics, so a frozen norm acts as any other; dropout in frozen layers stays on in training.

    Raises:
        ConfigError: a pattern fits no parameter, or nothing is left to train.
    """
    parameters = dict(model.named_parameters())
    _fits_something("training.freeze", patterns, parameters)
    resting = [name for name in parameters if _matches(name, patterns)]
    if parameters and len(resting) == len(parameters):
        raise ConfigError("training.freeze: all parameters are frozen, nothing is left to train")
    for name, parameter in parameters.items():
        parameter.requires_grad_(name not in resting)
    return resting


def check_per_unit_gradients(model: nn.Module, level: str) -> None:
    """Refuse a model of which one unit's gradient cannot be had.

    Raises:
        ConfigError: it mixes examples (BatchNorm), or it cannot be mapped over examples (level record: torch's
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


def _fits_something(key: str, patterns: Sequence[str], names: Iterable[str]) -> None:
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            layers = ", ".join(dict.fromkeys(f"{name.rpartition('.')[0] or name}.*" for name in names))
            raise ConfigError(f"{key}: {pattern!r} fits no parameter; there are {layers}")
