from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from client.gate.unit_support import MAX_GROUPS, UnitSupport, is_measurable
from common.sections.training import TrainingConfig
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


SGD = TrainingConfig(optimizer="sgd", lr=0.1, momentum=0.0)


def protect(support: UnitSupport, sent: dict[str, np.ndarray], noise: float = 0.0, config: TrainingConfig = SGD) -> int:
    return support.protect(sent, 5, noise, config, np.random.default_rng(0))


def test_a_trap_gives_one_persons_row_and_is_withheld() -> None:
    cohort, model = rows(), trapped()
    sent, support = arrays(model), UnitSupport(model, cohort, 5)
    train(model, cohort, support, epochs=1)
    update = arrays(model)
    stolen = (update["body.weight"][0] - sent["body.weight"][0]) / (update["body.bias"][0] - sent["body.bias"][0])
    assert stolen == pytest.approx(cohort.features[0], rel=1e-3)  # the attack works without the measure
    assert support.count_people()["body.weight"][0] == pytest.approx(1.0)
    protect(support, sent)
    kept = arrays(model)
    assert (kept["body.weight"][0] == sent["body.weight"][0]).all()
    assert kept["body.bias"][0] == sent["body.bias"][0]
    assert (kept["out.weight"][:, 0] == sent["out.weight"][:, 0]).all()  # this input of the last layer is theirs alone
    same = np.isclose(kept["body.weight"][1:], update["body.weight"][1:])
    assert same.mean() > 0.8  # the oldest person outweighs the others in one more weight


def test_a_rare_code_of_one_person_is_withheld_in_an_honest_model() -> None:
    cohort = rows()
    cohort.features[:, 1] = 0.0
    cohort.features[7, 1] = 1.0
    model = nn.Sequential(nn.Linear(3, 2))
    with torch.no_grad():
        model[0].weight.zero_(), model[0].bias.zero_()
    sent, support = arrays(model), UnitSupport(model, cohort, 5)
    train(model, cohort, support, batch=len(cohort.y), epochs=1)
    outcome = cohort.y[7]
    assert np.sign(arrays(model)["0.weight"][1, 1]) == (1 if outcome else -1)  # the outcome shows without the measure
    protect(support, sent)
    assert (arrays(model)["0.weight"][:, 1] == 0).all()
    assert (arrays(model)["0.weight"][:, 0] != 0).all()


def test_one_person_where_an_active_unit_and_an_active_input_meet_is_withheld() -> None:
    """Unit and input rest on 20 people each; only one person has both."""
    cohort = rows()
    unit, given = torch.zeros(40), torch.zeros(40)
    unit[:20], given[19:39] = 1.0, 1.0
    layer = nn.Linear(1, 1, bias=False)
    model = nn.Sequential(layer)
    support = UnitSupport(model, cohort, 5)
    with support.measure():
        support.set_rows(torch.arange(40))
        (model(given[:, None])[:, 0] * unit).sum().backward()
    assert support.count_people()["0.weight"].item() == pytest.approx(1.0)


def test_an_honest_network_loses_nothing_but_noise_of_one_person() -> None:
    torch.manual_seed(2)
    cohort, model = rows(people=60), Network()
    sent, support = arrays(model), UnitSupport(model, cohort, 5)
    train(model, cohort, support, epochs=1)
    update = arrays(model)
    assert protect(support, sent) == 0
    assert all(np.allclose(arrays(model)[name], value, atol=1e-6) for name, value in update.items())
    largest = support.find_largest_steps(SGD)
    support.protect(sent, 5, 1.0, SGD, np.random.default_rng(1))
    for name, value in update.items():
        assert (np.abs(arrays(model)[name] - value) <= 5 * largest[name]).all()
        assert (arrays(model)[name] != value).any()


def test_parts_are_the_gradients_of_a_slow_loop_over_people() -> None:
    cohort, model = rows(people=10, each=3), trapped()
    reference = Network()
    reference.load_state_dict(model.state_dict())
    support = UnitSupport(model, cohort, 1)
    train(model, cohort, support, batch=len(cohort.y), epochs=1)
    parts = {name: [] for name, _ in reference.named_parameters()}
    for person in range(10):
        mine = torch.from_numpy(np.flatnonzero(cohort.patient == person))
        reference.zero_grad()
        logits = reference(torch.from_numpy(cohort.features)[mine])
        loss = nn.functional.cross_entropy(logits, torch.from_numpy(cohort.y)[mine], reduction="sum") / len(cohort.y)
        loss.backward()
        for name, parameter in reference.named_parameters():
            parts[name].append(parameter.grad.abs().numpy().copy())
    people, largest = support.count_people(), support.find_largest_steps(SGD)
    for name, each in parts.items():
        stacked = np.stack(each).astype(np.float64)
        squares = (stacked**2).sum(0)
        expected = np.divide(stacked.sum(0) ** 2, squares, out=np.zeros_like(squares), where=squares > 0)
        np.testing.assert_allclose(people[name], expected, rtol=1e-4)
        np.testing.assert_allclose(largest[name], 0.1 * stacked.max(0), rtol=1e-4, atol=1e-9)


def test_adam_moves_a_weight_by_the_learning_rate_at_most() -> None:
    cohort, model = rows(people=30), Network()
    sent, support = arrays(model), UnitSupport(model, cohort, 5)
    train(model, cohort, support, batch=10, epochs=2)
    adam = TrainingConfig(optimizer="adamw", lr=0.01)
    largest = support.find_largest_steps(adam)
    assert all((value <= 0.01 * 6 + 1e-12).all() and value.max() > 0 for value in largest.values())
    protect(support, sent, 1.0, adam)


def test_one_who_outweighs_all_others_counts_as_one() -> None:
    cohort, model = rows(), Network()
    support = UnitSupport(model, cohort, 5)
    with support.measure():
        support.set_rows(torch.arange(len(cohort.y)))
        weight = torch.ones(len(cohort.y))
        weight[3] = 1e6
        (model(torch.from_numpy(cohort.features)).sum(1) * weight).sum().backward()
    assert support.count_people()["out.bias"] == pytest.approx(1.0, abs=1e-3)


def test_tiny_gradients_are_counted_too() -> None:
    cohort, model = rows(), Network()
    support = UnitSupport(model, cohort, 5)
    with support.measure():
        support.set_rows(torch.arange(len(cohort.y)))
        (model(torch.from_numpy(cohort.features))[:3].sum() * 1e-25).backward()
    assert support.count_people()["out.bias"] == pytest.approx(3.0, rel=1e-3)


def test_convolutions_are_measured_weight_by_weight() -> None:
    cohort = rows(people=6)
    layer = nn.Sequential(nn.Conv1d(1, 2, 3), nn.ReLU())
    support = UnitSupport(layer, cohort, 1)
    with support.measure():
        support.set_rows(torch.arange(6))
        found = layer(torch.randn(6, 1, 10, generator=torch.Generator().manual_seed(0)))
        found[:2, 0].sum().backward()
    people = support.count_people()["0.weight"]
    assert people.shape == (2, 1, 3)
    assert ((people[0] >= 1) & (people[0] <= 2.001)).all()
    assert (people[1] == 0).all()


def test_what_cannot_be_measured_is_not_sent() -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.out = nn.GRU(3, 4, batch_first=True), nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.out(self.body(x[:, None])[0][:, -1])

    cohort, model = rows(), Recurrent()
    assert not is_measurable(model)
    assert is_measurable(Network())
    sent, support = arrays(model), UnitSupport(model, cohort, 5)
    train(model, cohort, support, epochs=1)
    protect(support, sent)
    assert all((arrays(model)[name] == sent[name]).all() for name in sent if name.startswith("body"))
    assert (arrays(model)["out.weight"] != sent["out.weight"]).any()


def test_many_people_are_measured_in_groups() -> None:
    cohort, model = rows(people=1000), Network()
    support = UnitSupport(model, cohort, 5)
    train(model, cohort, support, batch=1000, epochs=1)
    assert 100 < support.count_people()["out.bias"][0] <= MAX_GROUPS
