"""The training loop against a plain torch loop, and its edge cases."""

from __future__ import annotations

import copy
import math
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from client.training import loop
from client.training.batches import augment_signals, choose_device, predict_logits
from client.training.loop import Schedule, TrainingStopped, train_model
from client.training.losses import build_mean_loss, compute_class_weights
from common import models
from common.errors import ConfigError, SiteError
from common.models._layers import Dropout
from common.sections.training import ModelConfig, TrainingConfig
from common.seeds import seed_for
from sites.cohort import Cohort
from tests import tiny

COUNTS = (30, 12, 6)


def make_model(seed: int = 1) -> nn.Module:
    options = {"widths": (4,), "kernel": 3, "hidden": 4, "dropout": 0.3}
    return models.build_model(tiny.TASK, ModelConfig(name="cnn", options=options), seed)


def make_config(**values: Any) -> TrainingConfig:
    return TrainingConfig(**{"batch_size": 10, "lr": 0.02, "device": "cpu", "epochs": 2} | values)


def same(one: nn.Module, other: nn.Module) -> bool:
    left, right = one.state_dict(), other.state_dict()
    return all(torch.equal(left[key], right[key]) for key in left)


def plain_loss(config: TrainingConfig, logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The loss, example by example, from its formula."""
    share = [n / sum(COUNTS) for n in COUNTS]
    raw = [s**-config.weight_power for s in share]
    scale = sum(w * s for w, s in zip(raw, share, strict=True))
    terms = []
    for row, label in zip(logits, y.tolist(), strict=True):
        p = torch.softmax(row, 0)[label]
        if config.loss == "cross_entropy":
            terms.append(-torch.log(p))
        elif config.loss == "weighted":
            terms.append(-torch.log(p) * raw[label] / scale)
        else:
            terms.append(-((1 - p) ** config.focal_gamma) * torch.log(p) * raw[label] / scale)
    return torch.stack(terms).mean()


def plain_fit(model: nn.Module, data: Cohort, config: TrainingConfig, seed: int) -> None:
    """The same training as a loop that anyone can read."""
    shuffle = torch.Generator().manual_seed(seed_for(seed, "shuffle"))
    drop = torch.Generator().manual_seed(seed_for(seed, "dropout"))
    for module in model.modules():
        if isinstance(module, Dropout):
            module.generator = drop
    weight = compute_class_weights(COUNTS, config.weight_power)
    kinds = {True: config.weight_decay, False: 0.0}
    groups = [
        {"params": [p for p in model.parameters() if (p.ndim > 1) == kind], "weight_decay": decay}
        for kind, decay in kinds.items()
    ]
    optimizer: torch.optim.Optimizer = (
        torch.optim.AdamW(groups, lr=config.lr, fused=True)
        if config.optimizer == "adamw"
        else torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, foreach=True)
    )
    x, features, y = torch.tensor(data.x), torch.tensor(data.features), torch.tensor(data.y)
    batches = math.ceil(len(y) / config.batch_size)
    model.train()
    for epoch in range(config.epochs):
        order = torch.randperm(len(y), generator=shuffle)
        for i in range(batches):
            if config.schedule == "cosine":
                done = (epoch + i / batches) / config.epochs
                for group in optimizer.param_groups:
                    group["lr"] = config.lr * (0.01 + 0.99 * (1 + math.cos(math.pi * done)) / 2)
            rows = order[i * config.batch_size : (i + 1) * config.batch_size]
            optimizer.zero_grad()
            logits = model(x[rows], features[rows])
            if config.loss == "focal":
                log_p = functional.log_softmax(logits, 1)[torch.arange(len(rows)), y[rows]]
                loss = -(weight[y[rows]] * (1 - log_p.exp()) ** config.focal_gamma * log_p).mean()
            else:
                each = functional.cross_entropy(logits, y[rows], reduction="none")
                loss = (each * weight[y[rows]] if config.loss == "weighted" else each).mean()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm, foreach=True)
            optimizer.step()


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("loss", ["cross_entropy", "weighted", "focal"])
@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_training_is_bit_for_bit_the_plain_loop(optimizer: str, loss: str, schedule: str) -> None:
    data, config = tiny.cohort(3), make_config(optimizer=optimizer, loss=loss, schedule=schedule, clip_norm=0.5)
    ours, plain, start = make_model(), make_model(), make_model()
    result = train_model(ours, data, config, 7, counts=COUNTS)
    plain_fit(plain, data, config, 7)
    assert not same(ours, start)
    assert same(ours, plain)
    assert (result.examples, result.steps, len(result.loss)) == (48, 10, 2)


@pytest.mark.parametrize("loss", ["cross_entropy", "weighted", "focal"])
def test_losses_agree_with_their_formulas(loss: str) -> None:
    config = make_config(loss=loss, focal_gamma=1.5, weight_power=0.7)
    logits = torch.randn(20, 3, generator=torch.Generator().manual_seed(1))
    y = torch.arange(20) % 3
    actual = build_mean_loss(config, COUNTS, torch.device("cpu"))(logits, logits, logits, y)
    assert float(actual) == pytest.approx(float(plain_loss(config, logits, y)), rel=1e-5)


def test_class_weights_agree_with_a_hand_calculation() -> None:
    # shares 3/4 and 1/4; power 1: 4/3 and 4, whose mean over the examples is 2
    assert compute_class_weights([3, 1, 0], 1.0).tolist() == pytest.approx([2 / 3, 2.0, 0.0])
    assert compute_class_weights([3, 1], 0.0).tolist() == [1.0, 1.0]
    assert compute_class_weights([0, 0], 0.5).tolist() == [0.0, 0.0]


class Recorder(torch.optim.SGD):
    """Keeps the learning rate of each step."""

    rates: list[float] = []

    def step(self, closure: Any = None) -> Any:
        self.rates.append(self.param_groups[0]["lr"])
        return super().step(closure)


def test_cosine_schedule_runs_over_the_whole_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Recorder, "rates", [])
    monkeypatch.setattr(loop, "make_optimizer", lambda m, c: Recorder(m.parameters(), lr=c.lr))
    config = make_config(lr=1e-3, epochs=1, batch_size=24)
    for done in range(2):
        train_model(make_model(), tiny.cohort(3), config, 1, counts=COUNTS, schedule=Schedule(done, 2))
    # two calls of two steps: a quarter of half a cosine each, from lr towards lr / 100
    by_hand = [1e-3 * (0.01 + 0.99 * (1 + math.cos(math.pi * k / 4)) / 2) for k in range(4)]
    assert Recorder.rates == pytest.approx(by_hand)


def test_early_stopping_keeps_the_best_epoch() -> None:
    data, check = tiny.cohort(3), tiny.cohort(4)
    config = make_config(epochs=30, lr=0.3, patience=3, optimizer="sgd", schedule="constant")
    remaining: list[dict[str, torch.Tensor]] = []

    def keep(epoch: int, model: nn.Module) -> None:
        remaining.append(copy.deepcopy(model.state_dict()))

    model = make_model()
    result = train_model(model, data, config, 1, counts=COUNTS, validation=check, after_epoch=keep)
    best = int(np.argmin(result.validation))
    assert result.stopped_early
    assert len(result.loss) == len(result.validation) == best + 1 + 3 < 30
    assert all(torch.equal(value, remaining[best][key]) for key, value in model.state_dict().items())
    logits = torch.from_numpy(predict_logits(model, check, torch.device("cpu")))
    assert result.validation[best] == pytest.approx(float(plain_loss(config, logits, torch.tensor(check.y))), rel=1e-4)


def test_without_patience_validation_changes_nothing() -> None:
    one, other = make_model(), make_model()
    train_model(one, tiny.cohort(3), make_config(), 1, counts=COUNTS)
    train_model(other, tiny.cohort(3), make_config(), 1, counts=COUNTS, validation=tiny.cohort(4))
    assert same(one, other)


@pytest.mark.parametrize("strength", [0.0, 0.5])
def test_augmentation_is_drawn_from_the_seed(strength: float) -> None:
    actual = [make_model() for _ in range(3)]
    for model, seed in zip(actual, (1, 1, 2), strict=True):
        train_model(model, tiny.cohort(3), make_config(augment=strength), seed, counts=COUNTS)
    assert same(actual[0], actual[1])
    assert not same(actual[0], actual[2])


def test_augmentation_changes_inputs_within_its_bounds() -> None:
    x = torch.linspace(1, 2, 16).repeat(50, 1, 1)
    moved = augment_signals(x, 1.0, torch.Generator().manual_seed(1))
    assert not torch.equal(moved, x)
    assert float(moved.max()) < 2 * 1.2 + 6 * 0.05
    assert float(moved.min()) > 0.8 - 6 * 0.05
    assert torch.allclose(augment_signals(x, 1e-6, torch.Generator().manual_seed(1)), x, atol=1e-5)
    plain, other = make_model(), make_model()
    train_model(plain, tiny.cohort(3), make_config(), 1, counts=COUNTS)
    train_model(other, tiny.cohort(3), make_config(augment=0.5), 1, counts=COUNTS)
    assert not same(plain, other)


def test_two_threads_give_the_weights_of_one() -> None:
    def train(seed: int) -> nn.Module:
        model = make_model(seed)
        train_model(model, tiny.cohort(seed, people=20), make_config(augment=0.3, epochs=3), seed, counts=COUNTS)
        return model

    alone = [train(seed) for seed in range(4)]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(train, range(4)))
    assert all(same(one, other) for one, other in zip(alone, together, strict=True))


def test_models_built_at_once_start_from_their_own_seeds() -> None:
    alone = [make_model(seed) for seed in range(60)]
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            together = list(pool.map(make_model, range(60)))
    finally:
        sys.setswitchinterval(before)
    assert all(same(one, other) for one, other in zip(alone, together, strict=True))


def test_a_site_without_training_examples_is_an_error() -> None:
    with pytest.raises(SiteError, match="no training examples"):
        train_model(make_model(), tiny.cohort(1, people=0), make_config(), 1, counts=COUNTS)


def test_a_loss_that_is_not_finite_is_an_error() -> None:
    with pytest.raises(SiteError, match="not a finite number"):
        train_model(make_model(), tiny.cohort(3), make_config(), 1, counts=(float("nan"), 1, 1))  # type: ignore[arg-type]


def test_a_weight_that_is_not_finite_is_an_error() -> None:
    class Breaks(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            for p in self.param_groups[0]["params"]:
                p.data.fill_(float("inf"))

    with pytest.MonkeyPatch.context() as patch, pytest.raises(SiteError, match="a weight"):
        patch.setattr(loop, "make_optimizer", lambda m, c: Breaks(m.parameters(), lr=c.lr))
        # one step: the loss was computed before the weights broke
        train_model(make_model(), tiny.cohort(3), make_config(epochs=1, batch_size=64), 1, counts=COUNTS)


def test_stop_is_checked_between_steps() -> None:
    stop = threading.Event()
    steps = []

    class Counts(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            steps.append(1)
            if len(steps) == 2:
                stop.set()
            return super().step(closure)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(TrainingStopped):
        patch.setattr(loop, "make_optimizer", lambda m, c: Counts(m.parameters(), lr=c.lr))
        train_model(make_model(), tiny.cohort(3), make_config(), 1, counts=COUNTS, stop=stop)
    assert len(steps) == 2


def test_predict_in_batches_is_one_pass() -> None:
    model, data = make_model(), tiny.cohort(3)
    actual = predict_logits(model, data, torch.device("cpu"), batch=7)
    model.eval()
    with torch.no_grad():
        whole = model(torch.tensor(data.x), torch.tensor(data.features)).numpy()
    assert actual.dtype == np.float32
    np.testing.assert_allclose(actual, whole, rtol=1e-5, atol=1e-6)
    assert predict_logits(model, tiny.cohort(3, people=0), torch.device("cpu")).shape == (0, 3)


def test_the_device_is_chosen_by_setting_and_hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == choose_device("cpu") == torch.device("cpu")
    with pytest.raises(ConfigError, match="no CUDA device"):
        choose_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto") == torch.device("cuda")
    assert choose_device("cpu") == torch.device("cpu")
