"""Training by DP-SGD: its steps, noise, sampling and dropout."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from client.privacy.budget import DpSgdPlan
from client.privacy.dp_sgd import _sample_rows, train_privately
from client.training.loop import Schedule
from common import models, noise
from common.sections.training import ModelConfig
from tests import tiny
from tests.client.privacy.networks import network, row_loader

PLAIN = DpSgdPlan("record", 1.0, 0.0, float("inf"), 1, 64, private=False)


def test_no_noise_and_no_clipping_is_the_plain_step() -> None:
    config = tiny.run_config(training__optimizer="sgd", training__momentum=0.0, training__weight_decay=0.0).training
    cohort, model = tiny.cohort(5), network(tiny.TASK, "cnn")
    before = torch.cat([p.detach().flatten() for p in model.parameters()]).clone()
    read = row_loader(cohort)(torch.arange(len(cohort.y)))
    loss = nn.functional.cross_entropy(model(*read[:2]), read[2])
    gradient = torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))])
    result = train_privately(model, cohort, config, PLAIN, 1)
    after = torch.cat([p.detach().flatten() for p in model.parameters()])
    rate = result.rate_sum
    assert (after - (before - rate * gradient)).norm() < 1e-5 * rate * gradient.norm()
    assert result.loss == ()


def test_private_training_follows_the_learning_rate_of_the_run() -> None:
    config = tiny.run_config(training__epochs=2, training__lr=0.1).training
    cohort, plan = tiny.cohort(5), replace(PLAIN, sigma=1.0, clip=0.5, q=0.25, steps=8)
    result = train_privately(network(tiny.TASK, "mlp"), cohort, config, plan, 1, schedule=Schedule(1, 4))
    done = [(1 + step / 4) / 4 for step in range(8)]
    by_hand = sum(0.1 * (0.01 + 0.99 * (1 + np.cos(np.pi * share)) / 2) for share in done)
    assert (result.steps, result.rate_sum) == (8, pytest.approx(by_hand))


def test_private_steps_fill_whole_epochs() -> None:
    config = tiny.run_config(training__epochs=2).training
    with pytest.raises(ValueError, match="3 private steps cannot be spread evenly over 2 epochs"):
        train_privately(network(tiny.TASK, "mlp"), tiny.cohort(5), config, replace(PLAIN, steps=3), 1)


def test_dropout_differs_between_units_and_is_seeded() -> None:
    cohort, options = tiny.cohort(5, people=3, each=1), {"dropout": 0.9}
    one, other, third = (
        models.build_model(tiny.TASK, ModelConfig(name="mlp", options=options), seed=1) for _ in range(3)
    )
    config = tiny.run_config().training
    for model, seed in ((one, 1), (other, 1), (third, 2)):
        train_privately(model, cohort, config, PLAIN, seed)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(one.parameters(), third.parameters(), strict=True))


def test_with_secret_noise_dropout_is_secret_too() -> None:
    cohort, options, actual = tiny.cohort(5, people=3, each=1), {"dropout": 0.5}, []
    for private_ in (True, True, False, False):
        model = models.build_model(tiny.TASK, ModelConfig(name="mlp", options=options), seed=1)
        train_privately(model, cohort, tiny.run_config().training, replace(PLAIN, private=private_), 1)
        actual.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert not torch.equal(actual[0], actual[1])
    assert torch.equal(actual[2], actual[3])


class Nobody:
    """A source that draws nobody; its noise is that of a seed."""

    private = False

    def __init__(self, units: int) -> None:
        self._units, self._inner = units, noise.SeededSource(1)

    def uniform(self, count: int) -> Any:
        return np.full(count, 0.999) if count == self._units else self._inner.uniform(count)


def test_a_step_without_units_is_noise_alone() -> None:
    config = tiny.run_config(training__optimizer="sgd", training__momentum=0.0, training__weight_decay=0.0,
                             training__schedule="constant", training__lr=1.0).training  # fmt: skip
    cohort, model = tiny.cohort(5), network(tiny.TASK, "cnn", widths=[64, 64], hidden=64)
    before = torch.cat([p.detach().flatten() for p in model.parameters()]).clone()
    plan = DpSgdPlan("patient", 0.5, 3.0, 0.25, 2, 64)
    train_privately(model, cohort, config, plan, 1, source=Nobody(cohort.people()))
    moved = torch.cat([p.detach().flatten() for p in model.parameters()]) - before
    expected = 3.0 * 0.25 / (0.5 * cohort.people()) * np.sqrt(2)
    assert moved.std().item() == pytest.approx(expected, rel=5 / np.sqrt(len(moved)))


def test_the_noise_in_the_weights_has_the_variance_that_is_charged() -> None:
    config = tiny.run_config(training__optimizer="sgd", training__momentum=0.0, training__weight_decay=0.0,
                             training__schedule="constant", training__lr=1.0).training  # fmt: skip
    cohort, model = tiny.cohort(5), network(tiny.TASK, "cnn", widths=[64, 64], hidden=64)
    plain = copy.deepcopy(model)
    plan = DpSgdPlan("patient", 1.0, 2.0, 0.5, 1, 64)
    train_privately(model, cohort, config, plan, 1)
    train_privately(plain, cohort, config, replace(plan, sigma=0.0), 1)
    difference = torch.cat([(a - b).flatten() for a, b in zip(model.parameters(), plain.parameters(), strict=True)])
    assert difference.std().item() == pytest.approx(2.0 * 0.5 / cohort.people(), rel=5 / np.sqrt(len(difference)))


def test_a_persons_examples_are_sampled_anew_at_each_step() -> None:
    unit, source = np.arange(100), noise.SeededSource(1)
    some = [_sample_rows(unit, 10, source) for _ in range(50)]
    assert all(len(set(rows.tolist())) == 10 for rows in some)
    assert len(set(np.concatenate(some).tolist())) > 80
    np.testing.assert_array_equal(_sample_rows(unit, 100, source), unit)


# --- a site -------------------------------------------------------------------------------------------------------
