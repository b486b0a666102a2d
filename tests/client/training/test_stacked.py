"""Sites that train in one stacked step, against each site's own training."""

from __future__ import annotations

import copy
import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from client.training import training_group
from client.training.loop import Schedule, TrainingResult, TrainingStopped
from client.training.stacked import is_stackable, train_stacked
from client.training.training_call import TrainingCall
from client.training.training_group import GroupMember, TrainingGroup
from common import models
from common.errors import NotFiniteError, SiteError
from common.sections.training import ModelConfig, TrainingConfig
from tests import tiny

SIZES = (1, 3, 16, 17, 40, 5, 33)
"""Rows of the sites; with batches of 16 they take 1 to 3 steps an epoch."""
MLP = {"widths": (8, 4), "dropout": 0.3, "inputs": "both"}


def make_call(rows: int, seed: int, model: str = "mlp", options: Any = None, **values: Any) -> TrainingCall:
    whole = tiny.cohort(seed, people=rows, each=1)
    network = models.build_model(tiny.TASK, ModelConfig(name=model, options=options or {}), seed)
    about = {"proximal": values.pop("proximal", 0.0), "replaced": values.pop("replaced", 0.0)}
    about |= {"anchor": values.pop("anchor", None), "correction": values.pop("correction", None)}
    plain = {"batch_size": 16, "lr": 0.01, "device": "cpu", "epochs": 3}
    config = TrainingConfig(**plain | values)
    return TrainingCall(
        network, whole, config, seed, (50, 30, 20), 100, Schedule(2, 30), whole.part("validation"), None, **about
    )


def make_calls(**values: Any) -> list[TrainingCall]:
    return [make_call(rows, seed, **values) for seed, rows in enumerate(SIZES, 1)]


def train_alone(call: TrainingCall) -> tuple[nn.Module, TrainingResult]:
    own = replace(call, model=copy.deepcopy(call.model))
    return own.model, own.run()


@pytest.mark.parametrize(
    "values",
    [
        {"options": MLP},
        {"options": MLP, "loss": "cross_entropy", "schedule": "constant", "clip_norm": 0.05},
        {"options": {"widths": (8,), "norm": False, "dropout": 0.0}, "optimizer": "sgd", "weight_decay": 0.3},
        {"options": MLP, "proximal": 0.7, "optimizer": "sgd", "lr": 0.1},
        {"model": "logreg", "batch_size": 4096, "optimizer": "sgd", "momentum": 0.0, "lr": 0.5},
        {"model": "logreg", "options": {"inputs": "signal"}},
    ],
)
def test_a_stacked_step_gives_what_each_site_would_alone(values: dict[str, Any]) -> None:
    calls = make_calls(**values)
    alone = [train_alone(call) for call in calls]
    for call, (model, own), stacked in zip(calls, alone, train_stacked(calls), strict=True):
        assert isinstance(stacked, TrainingResult)
        assert (stacked.examples, stacked.steps, stacked.stopped_early) == (own.examples, own.steps, False)
        assert stacked.loss == pytest.approx(own.loss, rel=1e-5)
        assert stacked.rate_sum == pytest.approx(own.rate_sum, rel=1e-12)
        for (name, value), expected in zip(call.model.named_parameters(), model.parameters(), strict=True):
            torch.testing.assert_close(value, expected, rtol=1e-5, atol=2e-6, msg=lambda text, n=name: f"{n}: {text}")


def test_one_sites_numbers_do_not_depend_on_another_beyond_the_last_digits() -> None:
    calls = make_calls(options=MLP)
    apart = [copy.deepcopy(calls[4].model)]
    [result] = train_stacked([replace(calls[4], model=apart[0])])
    train_stacked(calls)
    assert isinstance(result, TrainingResult)
    for one, other in zip(apart[0].parameters(), calls[4].model.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=2e-6)


def test_a_site_with_a_number_that_is_not_finite_fails_alone() -> None:
    calls = make_calls(options=MLP)
    calls[4].train.features[0] = np.inf
    before = [copy.deepcopy(call.model.state_dict()) for call in calls]
    results = train_stacked(calls)
    assert [isinstance(result, NotFiniteError) for result in results] == [number == 4 for number in range(len(SIZES))]
    for call, old in zip(calls, before, strict=True):
        moved = any(not torch.equal(value, old[name]) for name, value in call.model.state_dict().items())
        assert moved == (call is not calls[4])
    with pytest.raises(NotFiniteError):
        calls[4].run()


def test_it_stops_between_steps() -> None:
    stop = threading.Event()
    stop.set()
    results = train_stacked([replace(call, stop=stop) for call in make_calls()])
    assert all(isinstance(result, TrainingStopped) for result in results)


@pytest.mark.parametrize(
    "values",
    [
        {"model": "cnn"},
        {"options": {"widths": (1024, 64)}},
        {"loss": "focal"},
        {"augment": 0.1},
        {"patience": 2},
        {"freeze": ("out.*",)},
        {"replaced": 0.1},
        {"anchor": {}},
        {"correction": {}},
    ],
)
def test_what_differs_from_plain_training_is_not_stacked(values: dict[str, Any]) -> None:
    assert is_stackable(make_call(9, 1))
    assert not is_stackable(make_call(9, 1, **values))


class Member(threading.Thread):
    """Trains as a member of a group, and keeps what came of it."""

    def __init__(self, group: TrainingGroup, number: int, call: TrainingCall | None, running: list[int]) -> None:
        super().__init__()
        self.group, self.number, self.call, self.running, self.result = group, number, call, running, None

    def run(self) -> None:
        with GroupMember(self.group, self.number) as member:
            self.running[0] += 1
            assert self.running[0] == 1, "two members run at a time"
            if self.call is not None:
                self.running[0] -= 1
                try:
                    self.result: Any = member.train(self.call)
                except Exception as error:
                    self.result = error
                self.running[0] += 1
                assert self.running[0] == 1, "two members run at a time"
            self.running[0] -= 1


def run_group(calls: list[TrainingCall | None], *, in_order: bool = True) -> list[Any]:
    group, running = TrainingGroup(len(calls)), [0]
    members = [Member(group, number, call, running) for number, call in enumerate(calls)]
    for member in members[:: 1 if in_order else -1]:
        member.start()
        member.join(0.2)  # it waits for the others: the next one comes after it
    for member in members:
        member.join(600)
        assert not member.is_alive()
    assert running == [0]
    return [member.result for member in members]


def test_a_group_waits_for_none_that_does_not_train() -> None:
    calls = make_calls(options=MLP)
    alone = [train_alone(call)[1] for call in calls]
    odd = make_call(9, 3, loss="focal")
    results = run_group([None, *calls, None, odd])
    assert [result.loss for result in results[1:-2]] == [pytest.approx(own.loss, rel=1e-5) for own in alone]
    assert results[-1].loss == train_alone(make_call(9, 3, loss="focal"))[1].loss  # bit for bit: trained alone
    assert run_group([None, None]) == [None, None]


def test_weights_do_not_depend_on_who_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    stacks: list[list[int]] = []

    def note(calls: Any) -> Any:
        stacks.append([len(call.train.y) for call in calls])
        return train_stacked(calls)

    monkeypatch.setattr(training_group, "train_stacked", note)
    results = [run_group([*make_calls(options=MLP)], in_order=in_order) for in_order in (True, False)]
    assert stacks == [list(SIZES)] * 2
    assert results[0] == results[1]


def test_whatever_breaks_in_a_stacked_step_reaches_each_member(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(calls: Any) -> Any:
        raise SiteError("broken")

    monkeypatch.setattr(training_group, "train_stacked", fail)
    assert [str(result) for result in run_group([*make_calls()])] == ["broken"] * len(SIZES)


def test_a_member_trains_a_second_model_alone() -> None:
    first, second = make_call(9, 3), make_call(9, 3)
    group = TrainingGroup(1)
    with GroupMember(group, 0) as member:
        member.train(first)
        result = member.train(second)
    assert result == train_alone(make_call(9, 3))[1]
