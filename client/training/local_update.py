"""A round's update at a site, with what strategies add: local layers, control variates, a personal model.

The request says what is added (its `method`), so nothing here depends on which strategy the server uses. What must
last from round to round is kept by client/training/state_files.py.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from torch import nn

from client.site_context import SiteContext
from client.training.loop import TrainingResult
from client.training.state_files import StateFiles
from common.arrays import Weights
from common.errors import SiteError
from common.requests import ModelRequest, TrainRequest

log = logging.getLogger("wardround.site")


class TrainFunction(Protocol):
    """Trains a model on a site's training patients."""

    def __call__(
        self,
        purpose: str,
        *,
        proximal: float = 0.0,
        anchor: Weights | None = None,
        correction: Weights | None = None,
    ) -> TrainingResult:
        """Train the model in place, as client.training.loop.train_model; `purpose` goes into the seed."""


@dataclass(frozen=True)
class SavedState:
    """What a site kept of a run when it last trained the weights that the server sent.

    Attributes:
        arrays: the kept arrays by name; empty at a site that is new to the run, or whose state is lost.
        files: where the state of later rounds goes; None if the strategy keeps none.
        lost: whether the server counts on a state that is not there.
    """

    arrays: Weights = field(default_factory=dict)
    files: StateFiles | None = None
    lost: bool = False

    @classmethod
    def load(cls, context: SiteContext, site: str, request: ModelRequest) -> SavedState:
        """Return the state that belongs to the weights of a request.

        Raises:
            SiteError: the strategy keeps state, but the site has no folder for it.
            DataError: a file is damaged.
        """
        if not request.method.keeps_state:
            return cls()
        files = StateFiles.for_run(context, site, request.run_id)
        arrays = files.read(request.state_round) if request.state_round else None
        lost = request.state_round > 0 and arrays is None
        if lost:
            log.warning(
                "%s: no state of round %d in %s: training continues without it", site, request.state_round, files.folder
            )
        return cls(arrays or {}, files, lost)


@dataclass(frozen=True)
class Update:
    """What a round of training produced.

    Attributes:
        result: steps, losses and learning rates; client/requests/ decides which of them are sent.
        weights: the trained weights without local layers; they leave the site.
        control: the change of the site's control variates (SCAFFOLD), else empty; it leaves the site.
    """

    result: TrainingResult
    weights: Weights
    control: Weights


def load_start_weights(model: nn.Module, request: ModelRequest, saved: SavedState) -> None:
    """Load the weights that the server sent into a model, and the site's own local layers over them.

    Raises:
        SiteError: the weights or layers do not fit the model.
    """
    local = request.method.local
    if not set(local) <= set(model.state_dict()):
        raise SiteError("the server names local layers that the model does not have")
    if saved.arrays and local and set(saved.arrays) != set(local):
        raise SiteError("the state that this site kept of the run does not hold the local layers that the server names")
    load_weights(model, {**request.weights, **{name: saved.arrays[name] for name in local if name in saved.arrays}})


def load_personal_weights(model: nn.Module, request: ModelRequest, saved: SavedState) -> None:
    """Load the site's personal weights into a model; those of the request, before it has any.

    Raises:
        SiteError: the weights do not fit the model.
    """
    load_weights(model, saved.arrays or request.weights)


def train_locally(model: nn.Module, request: TrainRequest, saved: SavedState, train: TrainFunction) -> Update:
    """Train a model that `load_start_weights` has prepared, and keep what must last.

    Raises:
        SiteError: training failed, or the control variates of the request do not fit the model.
    """
    method = request.method
    if method.control:
        result, state, change = _train_with_control_variates(model, request, saved, train)
    else:
        result, change = train("train", proximal=request.proximal), {}
        state = {name: value for name, value in copy_weights(model).items() if name in method.local}
    weights = {name: value for name, value in copy_weights(model).items() if name not in method.local}
    if method.pull is not None:
        load_personal_weights(model, request, saved)
        train("personal", proximal=method.pull, anchor=request.weights)
        state = copy_weights(model)
    if saved.files is not None:
        saved.files.write(request.round, state, keep=(request.state_round, *request.needed_rounds))
    return Update(result, weights, change)


def _train_with_control_variates(
    model: nn.Module, request: TrainRequest, saved: SavedState, train: TrainFunction
) -> tuple[TrainingResult, Weights, Weights]:
    """Train with corrected steps; return also the site's new control variates, and their change.

    SCAFFOLD (Karimireddy et al. 2020, arXiv:1910.06378), option II: c_i+ = c_i - c + (x - y_i) / (sum of the rates).
    """
    before, common = copy_weights(model), request.control
    own = {name: saved.arrays.get(name, np.zeros_like(value)) for name, value in before.items()}
    shapes = {name: value.shape for name, value in before.items()}
    if any({name: value.shape for name, value in arrays.items()} != shapes for arrays in (own, common)):
        raise SiteError("the control variates do not fit the model")
    result = train("train", proximal=request.proximal, correction={name: common[name] - own[name] for name in own})
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


def load_weights(model: nn.Module, weights: Weights) -> None:
    """Load arrays into a model by name.

    Raises:
        SiteError: the arrays do not fit the model.
    """
    own = model.state_dict()
    shapes = {name: value.shape for name, value in weights.items()}
    if {name: tuple(value.shape) for name, value in own.items()} != shapes:
        raise SiteError("the server's weights do not fit the model of the configuration")
    try:
        with torch.no_grad():  # what load_state_dict does, which takes three times as long
            for name, value in own.items():
                value.copy_(torch.from_numpy(np.array(weights[name])))
    except TypeError:  # numbers of a kind that torch does not have
        raise SiteError("the server's weights do not fit the model of the configuration") from None
