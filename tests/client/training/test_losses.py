"""Losses of labels that were replaced at random."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from client.training.losses import build_mean_loss
from common.sections.training import TrainingConfig

CPU = torch.device("cpu")
NONE = torch.zeros(0)


@pytest.mark.parametrize("kind", ["cross_entropy", "weighted", "focal"])
@pytest.mark.parametrize("classes", [2, 4])
def test_the_loss_is_of_the_label_as_it_is_seen(kind: str, classes: int) -> None:
    """Compared with a matrix of the probabilities that a class is seen as another."""
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(9, classes)), rng.integers(0, classes, 9)
    config = TrainingConfig(loss=kind, weight_power=0.5)  # type: ignore[arg-type]
    counts = list(range(5, 5 + classes))
    seen = np.full((classes, classes), 0.2 / (classes - 1)) + np.eye(classes) * (0.8 - 0.2 / (classes - 1))
    p = (np.exp(logits) / np.exp(logits).sum(1, keepdims=True) @ seen)[np.arange(9), labels]
    share = np.array(counts) / sum(counts)
    weight = np.ones(classes) if kind == "cross_entropy" else share**-0.5 / np.sum(share**0.5)
    expected = -weight[labels] * np.log(p) * ((1 - p) ** config.focal_gamma if kind == "focal" else 1)
    loss = build_mean_loss(config, counts, CPU, replaced=0.2)(torch.tensor(logits), NONE, NONE, torch.tensor(labels))
    assert float(loss) == pytest.approx(expected.mean(), rel=1e-6)


def test_the_loss_of_several_labels() -> None:
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(9, 3)), rng.integers(0, 2, (9, 3))
    p = 0.1 + 0.8 / (1 + np.exp(-logits))
    expected = -(labels * np.log(p) + (1 - labels) * np.log(1 - p)).sum(1).mean()
    build = build_mean_loss(TrainingConfig(loss="cross_entropy"), [3, 4, 5], CPU, 9, 0.1)
    assert float(build(torch.tensor(logits), NONE, NONE, torch.tensor(labels))) == pytest.approx(expected, rel=1e-6)


@pytest.mark.slow
def test_probabilities_stay_those_of_the_true_labels() -> None:
    """A rare class: what is fitted to replaced labels says how often the class truly occurs, and not how often seen."""
    rng = np.random.default_rng(0)
    true = rng.random(200_000) < 0.1
    seen = torch.tensor(np.where(rng.random(len(true)) < 0.15, ~true, true).astype(np.int64))
    loss = build_mean_loss(TrainingConfig(loss="cross_entropy"), [9, 1], CPU, replaced=0.15)
    logit = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([logit], lr=5.0)
    for _ in range(300):
        optimizer.zero_grad()
        loss(logit.expand(len(seen), 2), NONE, NONE, seen).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert float(torch.softmax(logit.detach(), 0)[1]) == pytest.approx(true.mean(), abs=0.004)
    assert float(seen.double().mean()) > 0.2
