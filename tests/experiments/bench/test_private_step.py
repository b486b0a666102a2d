"""The ways that the privacy benchmark compares give one sum; Opacus's among them, as an independent truth."""

from __future__ import annotations

import json
import subprocess
import warnings
from typing import Any

import numpy as np
import pytest
import torch

from client.privacy.budget import DpSgdPlan
from client.privacy.dp_sgd import train_privately
from client.privacy.units import group_rows_by_unit
from client.training.batches import load_tensors
from client.training.losses import build_example_loss
from common import models
from common.models._layers import Dropout
from common.sections.training import ModelConfig
from experiments.bench import private_step
from experiments.bench.private_step import OpacusGhost, OpacusHooks
from tests import tiny

CNN = ModelConfig(name="cnn", options={"widths": [8, 16], "hidden": 8})


def network() -> Any:
    model = models.build_model(tiny.TASK, CNN, seed=1).train()
    for module in model.modules():
        if isinstance(module, Dropout):
            module.rate = 0.0
    return model


@pytest.mark.parametrize("each", [1, 3])
@pytest.mark.filterwarnings("ignore")  # torch's, of Opacus's hooks
def test_every_way_gives_the_sum_of_opacus(each: int) -> None:
    cohort = tiny.cohort(1, people=8, each=each)
    cut, features, y = load_tensors(cohort, torch.device("cpu"))
    units, loss = group_rows_by_unit(cohort, "patient"), build_example_loss(cohort.task)
    result = {}
    for way in private_step.WAYS:
        if each > 1 and way == "opacus-ghost":
            continue
        one = private_step.make_gradients(way)(network(), loss)
        for _ in range(2):  # the second call finds its hooks there
            result[way] = one.clipped_sum(units, lambda rows: (cut(rows), features[rows], y[rows]), 1.3)
        assert isinstance(one, OpacusHooks) == way.startswith("opacus")
        assert isinstance(one, OpacusGhost) == (way == "opacus-ghost")
        assert not one.clipped_sum([], lambda rows: (cut(rows), features[rows], y[rows]), 1.3).any()
    truth = result["opacus-hooks"]
    for way, total in result.items():
        assert np.linalg.norm(total - truth) < 1e-5 * np.linalg.norm(truth), way
    assert 1.3 < np.linalg.norm(truth) < 8 * 1.3


@pytest.mark.filterwarnings("ignore")
def test_opacus_needs_the_plain_layout() -> None:
    from opacus.grad_sample import GradSampleModule

    x, weight = torch.randn(3, 2, 1, 9), torch.randn(4, 2, 1, 5)
    result = []
    for layout in (torch.contiguous_format, torch.channels_last):
        layer = torch.nn.Conv2d(2, 4, (1, 5), bias=False)
        layer.weight.data = weight.clone()
        hooked = GradSampleModule(layer, loss_reduction="sum")
        (hooked(x.contiguous(memory_format=layout)) ** 2).sum().backward()  # type: ignore[no-untyped-call]
        result.append(layer.weight.grad_sample)
    alone = torch.stack(
        [torch.func.grad(lambda w, one: (torch.conv2d(one[None], w) ** 2).sum())(weight, one) for one in x]
    )
    assert torch.allclose(result[0], alone, rtol=1e-4, atol=1e-4)
    # where this fails, Opacus has mended it: the benchmark can let its inputs be
    assert not torch.allclose(result[1], alone, rtol=0.1, atol=0.1)


def test_a_step_takes_its_gradients_from_what_it_is_given() -> None:
    requested = []

    def way(model: Any, loss: Any) -> Any:
        one = OpacusHooks(model, loss)
        requested.append(one)
        return one

    model, cohort = network(), tiny.cohort(1, people=4, each=2)
    before = [p.detach().clone() for p in model.parameters()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        train_privately(
            model, cohort, tiny.run_config().training, DpSgdPlan("record", 0.5, 1.0, 1.0, 2, 64), 1, gradients=way
        )
    assert len(requested) == 1
    assert not all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_the_table_says_what_was_measured_and_what_was_not(monkeypatch: pytest.MonkeyPatch) -> None:
    requested = []

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        requested.append(command[3:])
        if command[4] == "vmap":
            return subprocess.CompletedProcess(command, 1, "", "noise\nRuntimeError: no room")
        one = {"level": command[3], "way": command[4], "ratio": [1.5, 1.75, 2.0], "plain_ms": 4.0, "private_ms": 7.0,
               "plain_mb": 500.2, "private_mb": 520.6}  # fmt: skip
        return subprocess.CompletedProcess(command, 0, "something\n" + json.dumps(one) + "\n", "")

    monkeypatch.setattr(private_step.subprocess, "run", run)
    result = private_step.measure_private_steps(64, 8, 3)
    assert [command[:2] for command in requested].count(["patient", "opacus-ghost"]) == 0
    assert len(requested) == 9
    assert all(command[2:] == ["64", "8", "3"] for command in requested)
    lines = private_step.render_steps_table(result).splitlines()
    assert len(lines) == 11
    assert "1.75 (1.50 to 2.00) | 7.0 | 4.0 | 521 MB | 500 MB |" in lines[2]
    assert "RuntimeError: no room" in lines[3]


def test_one_way_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    train = tiny.cohort(1, people=40, each=2)
    monkeypatch.setattr(private_step, "_make_people", lambda each: train)
    monkeypatch.setattr(private_step, "make_bench_data", lambda sites: tiny)
    monkeypatch.setattr(private_step, "bench_config", lambda *_: tiny.run_config())
    result = private_step.measure_way("patient", "ghost", 16, 2, 2)
    assert result["units"] == 8
    assert 0 < result["ratio"][0] <= result["ratio"][1] <= result["ratio"][2]
    assert result["private_mb"] > 50
