from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from client.gate.unit_support import UnitSupport
from common.task import Task
from sites.cohort import Cohort

TASK = Task("rows", "multiclass", ("no", "yes"), ("no", "yes"), 0, 0, 0.0, ("age", "sex", "dose"), ())


def rows(people: int = 40, each: int = 1) -> Cohort:
    rng = np.random.default_rng(0)
    n = people * each
    features = rng.normal(size=(n, 3)).astype(np.float32)
    features[0, 0] = 5.0  # one person far older than all others
    owner = np.repeat(np.arange(people), each)
    names = tuple(f"p{i}" for i in range(people))
    y = rng.integers(0, 2, n)
    return Cohort(TASK, np.zeros((n, 0, 0), np.float32), features, y, owner, names, names, np.zeros(n, np.int8))


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.out = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(torch.relu(self.body(x)))


def train(model: nn.Module, cohort: Cohort, support: UnitSupport, batch: int = 8, epochs: int = 2) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with support.measure():
        for _ in range(epochs):
            for start in range(0, len(cohort.y), batch):
                index = torch.arange(start, min(start + batch, len(cohort.y)))
                support.set_rows(index)
                loss = nn.functional.cross_entropy(
                    model(torch.from_numpy(cohort.features)[index]), torch.from_numpy(cohort.y)[index]
                )
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()


def arrays(model: nn.Module) -> dict[str, np.ndarray]:
    return {name: value.detach().numpy().copy() for name, value in model.state_dict().items()}


def trapped() -> Network:
    """Return a network whose first hidden unit fires for the one oldest person alone."""
    torch.manual_seed(1)
    model = Network()
    with torch.no_grad():
        model.body.weight[0] = torch.tensor([1.0, 0.0, 0.0])
        model.body.bias[0] = -4.0
        model.out.weight[:, 0] = torch.tensor([1.0, -1.0])
    return model


def test_a_trap_gives_one_persons_row_and_is_withheld() -> None:
    cohort, model = rows(), trapped()
    sent, support = arrays(model), UnitSupport(model, cohort)
    train(model, cohort, support, epochs=1)
    update = arrays(model)
    stolen = (update["body.weight"][0] - sent["body.weight"][0]) / (update["body.bias"][0] - sent["body.bias"][0])
    assert stolen == pytest.approx(cohort.features[0], rel=1e-3)  # the attack works without the measure
    kept, count = support.withhold(sent, update, 5)
    assert support.count_people()["body"][0] == pytest.approx(1.0)
    assert count == 1
    assert (kept["body.weight"][0] == sent["body.weight"][0]).all()
    assert kept["body.bias"][0] == sent["body.bias"][0]
    assert (kept["body.weight"][1:] == update["body.weight"][1:]).all()
    assert (kept["out.weight"] == update["out.weight"]).all()


def test_an_honest_network_loses_nothing() -> None:
    torch.manual_seed(2)
    cohort, model = rows(), Network()
    sent, support = arrays(model), UnitSupport(model, cohort)
    train(model, cohort, support)
    update = arrays(model)
    kept, count = support.withhold(sent, update, 5)
    assert count == 0
    assert all((kept[name] == value).all() for name, value in update.items())


def test_the_number_of_people_is_the_slow_sum_over_examples() -> None:
    cohort, model = rows(people=10, each=3), trapped()
    reference = Network()
    reference.load_state_dict(model.state_dict())
    support = UnitSupport(model, cohort)
    train(model, cohort, support, batch=len(cohort.y), epochs=1)
    parts = np.zeros((10, 2))
    for i in range(len(cohort.y)):
        hidden = torch.relu(reference.body(torch.from_numpy(cohort.features)[i : i + 1])).detach()
        logits = reference.out(hidden)
        own = torch.softmax(logits, 1).detach().numpy()[0] - np.eye(2)[cohort.y[i]]
        length = np.sqrt(float((hidden**2).sum()) + 1)  # the layer's input, and 1 for its bias
        parts[cohort.patient[i]] += np.abs(own) / len(cohort.y) * length
    expected = parts.sum(0) ** 2 / (parts**2).sum(0)
    assert support.count_people()["out"] == pytest.approx(expected, rel=1e-5)


def test_one_who_outweighs_all_others_counts_as_one() -> None:
    cohort, model = rows(), Network()
    support = UnitSupport(model, cohort)
    with support.measure():
        support.set_rows(torch.arange(len(cohort.y)))
        weight = torch.ones(len(cohort.y))
        weight[3] = 1e6
        (model(torch.from_numpy(cohort.features)).sum(1) * weight).sum().backward()
    assert support.count_people()["out"] == pytest.approx(1.0, abs=1e-3)


def test_convolutions_are_measured_by_channel() -> None:
    cohort = rows(people=6)
    layer = nn.Sequential(nn.Conv1d(1, 2, 3), nn.ReLU())
    support = UnitSupport(layer, cohort)
    with support.measure():
        support.set_rows(torch.arange(6))
        found = layer(torch.randn(6, 1, 10, generator=torch.Generator().manual_seed(0)))
        found[:2, 0].sum().backward()
    people = support.count_people()["0"]
    assert 1 < people[0] <= 2
    assert people[1] == 0
