"""The proximal term and corrected steps of training, against the gradients of their formulas."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from client.training import loop
from client.training.local_update import copy_weights, load_weights
from client.training.loop import train_model
from client.training.losses import build_mean_loss
from common import models
from common.arrays import Weights
from common.errors import SiteError
from common.sections.training import ModelConfig, TrainingConfig
from common.seeds import seed_for
from tests import tiny

COUNTS = (8, 8, 8)


def make_model(seed: int = 1) -> nn.Module:
    options = {"widths": (4,), "kernel": 3, "hidden": 4, "dropout": 0.0}
    return models.build_model(tiny.TASK, ModelConfig(name="cnn", options=options), seed)


def make_config(**values: Any) -> TrainingConfig:
    plain = {"optimizer": "sgd", "momentum": 0.0, "weight_decay": 0.0, "schedule": "constant", "clip_norm": 1e9}
    return TrainingConfig(**{"batch_size": 8, "lr": 0.05, "device": "cpu", "epochs": 1} | plain | values)


class Watch(torch.optim.SGD):
    """Notes the weights and the gradients of every step."""

    observed: list[tuple[list[torch.Tensor], list[torch.Tensor]]]

    def step(self, closure: Any = None) -> None:
        parameters = [p for group in self.param_groups for p in group["params"]]
        gradients = [p.grad.clone() for p in parameters if p.grad is not None]
        self.observed.append(([p.detach().clone() for p in parameters], gradients))
        super().step(closure)


def watched(monkeypatch: pytest.MonkeyPatch, config: TrainingConfig, **more: Any) -> Any:
    """Return the weights and gradients of every step, and the model after it."""
    observed: list[Any] = []

    def watching(model: nn.Module, config: TrainingConfig) -> Watch:
        optimizer = Watch(model.parameters(), lr=config.lr)
        optimizer.observed = observed
        return optimizer

    monkeypatch.setattr(loop, "make_optimizer", watching)
    model = make_model()
    train_model(model, tiny.cohort(3, people=4), config, 7, counts=COUNTS, **more)
    return observed, model


def loss_gradients(weights: list[torch.Tensor], step: int, config: TrainingConfig) -> list[torch.Tensor]:
    """The gradient of the loss alone, at some weights, on the batch of a step."""
    model, data = make_model(), tiny.cohort(3, people=4)
    for parameter, value in zip(model.parameters(), weights, strict=True):
        parameter.data.copy_(value)
    order = torch.randperm(len(data.y), generator=torch.Generator().manual_seed(seed_for(7, "shuffle")))
    rows = order[step * config.batch_size : (step + 1) * config.batch_size]
    compute_loss = build_mean_loss(config, COUNTS, torch.device("cpu"))
    x, features = torch.tensor(data.x)[rows], torch.tensor(data.features)[rows]
    loss = compute_loss(model(x, features), x, features, torch.tensor(data.y)[rows])
    return list(torch.autograd.grad(loss, list(model.parameters())))


def test_the_proximal_gradient_is_mu_times_the_distance_from_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    config, mu = make_config(), 3.0
    observed, _ = watched(monkeypatch, config, proximal=mu)
    start = [p.detach() for p in make_model().parameters()]
    assert len(observed) == 4
    for step, (weights, gradients) in enumerate(observed):
        plain = loss_gradients(weights, step, config)
        pulled = 0.0
        for w, w0, g, without in zip(weights, start, gradients, plain, strict=True):
            torch.testing.assert_close(g, without + mu * (w - w0), rtol=1e-6, atol=1e-8)  # the last bit is fused
            pulled = max(pulled, float((g - without).abs().max()))
        # nothing pulls on the first batch, and something does on every later one
        assert (pulled == 0) == (step == 0)
        assert step == 0 or pulled > 1e-3


def test_the_anchor_may_be_another_model(monkeypatch: pytest.MonkeyPatch) -> None:
    config, home = make_config(), copy_weights(make_model(2))
    observed, _ = watched(monkeypatch, config, proximal=0.5, anchor=home)
    weights, gradients = observed[0]
    plain = loss_gradients(weights, 0, config)
    for w, g, without, w0 in zip(weights, gradients, plain, home.values(), strict=True):
        torch.testing.assert_close(g, without + 0.5 * (w - torch.tensor(w0)), rtol=1e-6, atol=1e-8)


def test_a_strong_proximal_term_keeps_the_model_at_its_anchor() -> None:
    # a step of lr * mu = 1 along the term alone jumps onto the anchor
    home = copy_weights(make_model(2))
    model = make_model()
    train_model(model, tiny.cohort(3), make_config(lr=1e-3, epochs=5), 7, counts=COUNTS, proximal=1e3, anchor=home)
    for name, value in copy_weights(model).items():
        np.testing.assert_allclose(value, home[name], atol=0.02)


def some(seed: int) -> Weights:
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=v.shape).astype(v.dtype) * 0.1 for name, v in copy_weights(make_model()).items()}


def test_a_correction_is_added_to_every_step_after_clipping(monkeypatch: pytest.MonkeyPatch) -> None:
    config, extra = make_config(clip_norm=0.1), some(1)
    observed, model = watched(monkeypatch, config, correction=extra)
    names = [name for name, _ in model.named_parameters()]
    for step, (weights, gradients) in enumerate(observed):
        plain = loss_gradients(weights, step, config)
        length = float(torch.cat([g.ravel() for g in plain]).norm())
        assert length > 0.1
        for name, g, without in zip(names, gradients, plain, strict=True):
            torch.testing.assert_close(g, without * (0.1 / length) + torch.tensor(extra[name]), rtol=1e-4, atol=1e-6)


def test_frozen_parameters_get_neither_proximal_term_nor_correction() -> None:
    model = make_model()
    before = copy_weights(model)
    home = copy_weights(make_model(2))
    config = make_config(freeze=("head.*",))
    train_model(model, tiny.cohort(3), config, 7, counts=COUNTS, proximal=1.0, anchor=home, correction=some(1))
    for name, value in copy_weights(model).items():
        assert np.array_equal(value, before[name]) == name.startswith("head.")


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_the_rates_are_those_of_the_steps_that_led_to_the_weights(schedule: str) -> None:
    # steps along a constant direction: the distance is the sum of the rates
    config = make_config(schedule=schedule, epochs=3, clip_norm=1e-12)
    model, extra = make_model(), {name: np.ones_like(value) for name, value in copy_weights(make_model()).items()}
    before = copy_weights(model)
    result = train_model(model, tiny.cohort(3, people=4), config, 7, counts=COUNTS, correction=extra)
    for name, value in copy_weights(model).items():
        np.testing.assert_allclose(before[name] - value, result.rate_sum, rtol=1e-3, atol=1e-5)
    assert result.rate_sum == pytest.approx(12 * 0.05) or schedule == "cosine"


def test_the_rates_end_at_the_epoch_that_early_stopping_keeps() -> None:
    # a correction that spoils the model epoch by epoch: the first is the best
    config = make_config(epochs=4, patience=2)
    wrong = {name: -50 * np.sign(value) for name, value in copy_weights(make_model()).items()}
    result = train_model(
        make_model(), tiny.cohort(3, people=4), config, 7, counts=COUNTS, validation=tiny.cohort(4), correction=wrong
    )
    assert result.stopped_early
    best = int(np.argmin(result.validation)) + 1
    assert best < len(result.validation)
    assert result.rate_sum == pytest.approx(best * 4 * 0.05)


def test_weights_of_another_shape_or_kind_are_refused_by_name() -> None:
    model = torch.nn.Linear(2, 1)
    fitting = {name: value.numpy() for name, value in model.state_dict().items()}
    odd: list[Any] = [np.zeros((2, 2), np.float32), np.zeros((1, 2), np.longdouble)]
    for value in odd:
        with pytest.raises(SiteError, match="do not fit the model"):
            load_weights(model, {**fitting, "weight": value})
    with pytest.raises(SiteError, match="do not fit the model"):
        load_weights(model, {"weight": fitting["weight"]})
