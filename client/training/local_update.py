"""What a strategy asks of a site beside training: local layers, control variates, a personal model.

The server says what it asks (`messages.Method`); which strategy that is does not matter here. What must last
from round to round goes through client/training/kept_state.py.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from client.site_context import SiteContext
from client.training.kept_state import StateFiles
from client.training.loop import TrainingResult
from common.errors import SiteError
from common.messages import Request, Weights

log = logging.getLogger("wardround.site")


class TrainFunction(Protocol):
    """client.training.loop.fit on a site's patients; `purpose` seeds it."""

    def __call__(
        self,
        purpose: str,
        *,
        proximal: float = 0.0,
        anchor: Mapping[str, Any] | None = None,
        correction: Mapping[str, Any] | None = None,
    ) -> TrainingResult:
        """Train the model in place."""


@dataclass(frozen=True)
class SavedState:
    """What a site has kept of a run up to the weights that came: nothing, if it is new there or lost it."""

    arrays: Weights = field(default_factory=dict)
    files: StateFiles | None = None
    lost: bool = False

    @classmethod
    def of(cls, context: SiteContext, site: str, request: Request) -> SavedState:
        """Return what a site kept.

        Raises:
            SiteError: it has no place for it.
            DataError: a file is damaged.
        """
        if not request.method.keeps_state:
            return cls()
        files = StateFiles.of(context, site, request.run_id)
        found = files.read(request.base) if request.base else None
        lost = request.base > 0 and found is None
        if lost:
            log.warning("%s: no state of round %d in %s: going on without", site, request.base, files.folder)
        return cls(found or {}, files, lost)


@dataclass(frozen=True)
class Update:
    """What training gave: `weights` and `control` leave the site."""

    result: TrainingResult
    weights: Weights
    control: Weights


def load_start_weights(model: nn.Module, request: Request, kept: SavedState) -> None:
    """Give a model the weights that came, and the local layers that the site keeps.

    Raises:
        SiteError: they do not fit the model.
    """
    local = request.method.local
    if not set(local) <= set(model.state_dict()):
        raise SiteError("the server wants layers kept local that the model does not have")
    if kept.arrays and local and set(kept.arrays) != set(local):
        raise SiteError("what this site keeps of the run is not the local layers that the server names")
    load_weights(model, {**request.weights, **{name: kept.arrays[name] for name in local if name in kept.arrays}})


def load_personal_weights(model: nn.Module, request: Request, kept: SavedState) -> None:
    """Give a model the site's personal weights, which start as the federation's own.

    Raises:
        SiteError: they do not fit the model.
    """
    load_weights(model, kept.arrays or request.weights)


def train_locally(model: nn.Module, request: Request, kept: SavedState, fit: TrainFunction) -> Update:
    """Train a model that `start` has prepared, and keep what must last.

    Raises:
        SiteError: as fit, or the control variates that came do not fit the model.
    """
    method = request.method
    if method.control:
        result, state, change = _with_control(model, request, kept, fit)
    else:
        result, change = fit("train", proximal=request.proximal), {}
        state = {name: value for name, value in copy_weights(model).items() if name in method.local}
    weights = {name: value for name, value in copy_weights(model).items() if name not in method.local}
    if method.pull is not None:
        load_personal_weights(model, request, kept)
        fit("personal", proximal=method.pull, anchor=request.weights)
        state = copy_weights(model)
    if kept.files is not None:
        kept.files.write(request.round, state, keep=(request.base, request.kept))
    return Update(result, weights, change)


def _with_control(
    model: nn.Module, request: Request, kept: SavedState, fit: TrainFunction
) -> tuple[TrainingResult, Weights, Weights]:
    """Train with corrected steps; return also the new control variates, and their change (SCAFFOLD, option II)."""
    before, common = copy_weights(model), request.control
    own = {name: kept.arrays.get(name, np.zeros_like(value)) for name, value in before.items()}
    shapes = {name: value.shape for name, value in before.items()}
    if any({name: value.shape for name, value in arrays.items()} != shapes for arrays in (own, common)):
        raise SiteError("the control variates do not fit the model")
    result = fit("train", proximal=request.proximal, correction={name: common[name] - own[name] for name in own})
    after = copy_weights(model)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    new, change = {}, {}
    for name, old in own.items():
        moved = (before[name].astype(np.float64) - after[name]) / result.rate_sum
        new[name] = (old - common[name] + moved).astype(old.dtype) if name in trained else old
        change[name] = new[name] - old
    return result, new, change


def copy_weights(model: nn.Module) -> Weights:
    """Return a copy of a model's weights as arrays on the CPU."""
    return {name: value.detach().cpu().contiguous().numpy().copy() for name, value in model.state_dict().items()}


def load_weights(model: nn.Module, weights: Mapping[str, Any]) -> None:
    """Give a model weights.

    Raises:
        SiteError: they do not fit.
    """
    try:
        model.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in weights.items()})
    except (RuntimeError, TypeError):
        raise SiteError("the server's weights do not fit the model of the configuration") from None
