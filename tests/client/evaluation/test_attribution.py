"""Attributions: complete, exact for a linear model, averaged over people, and suppressed for classes of few."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from client.evaluation import attribution
from client.policy import SIMULATION_POLICY, SitePolicy
from client.site_context import SiteContext
from common import models
from common.sections.training import ModelConfig
from tests import tiny


class Linear(nn.Module):
    """Two classes: the log odds of the second are a weighted sum of signal and features."""

    def __init__(self) -> None:
        super().__init__()
        self.signal = nn.Parameter(torch.arange(1.0, 9.0).reshape(1, 2, 4))
        self.table = nn.Parameter(torch.tensor([[2.0, -3.0, 0.0]]))

    def forward(self, x: Tensor, features: Tensor) -> Tensor:
        odds = (x * self.signal).sum((1, 2)) + (features * self.table).sum(1) + 0.7
        return torch.stack([torch.zeros_like(odds), odds], 1)


def batch(seed: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    x, features = (torch.randn(5, *shape, generator=rng) for shape in ((2, 4), (3,)))
    return x, features, torch.tensor([0, 1, 1, 0, 1])


@pytest.mark.parametrize("how", ["integrated_gradients", "occlusion"])
def test_attributions_of_a_linear_model_are_weight_times_value(how: str) -> None:
    model, (x, features, y) = Linear(), batch()
    signal, table = attribution.attribute_batch(model, x, features, y, how)
    sign = np.where(y.numpy() == 1, 1.0, -1.0)
    np.testing.assert_allclose(table, sign[:, None] * (features * model.table).detach().numpy(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(signal, sign[:, None, None] * (x * model.signal).detach().numpy(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["cnn", "gru", "mlp", "logreg", "transformer"])
def test_integrated_gradients_add_up_to_the_difference_of_scores(name: str) -> None:
    model = models.build_model(tiny.TASK, ModelConfig(name=name), 3).eval()
    cohort = tiny.cohort(5, people=2)
    x, features, y = torch.from_numpy(cohort.x), torch.from_numpy(cohort.features), torch.from_numpy(cohort.y)  # type: ignore[arg-type]
    explanation = attribution.integrate_gradients(model, x, features, y)
    sums = explanation[0].sum((1, 2)) + explanation[1].sum(1)
    with torch.no_grad():
        gap = attribution.true_class_log_odds(model, x, features, y) - attribution.true_class_log_odds(
            model, 0 * x, 0 * features, y
        )
    torch.testing.assert_close(sums, gap, atol=2e-2, rtol=1e-2)


def test_unused_inputs_have_no_attribution() -> None:
    model, (x, features, y) = Linear(), batch()
    for how in ("integrated_gradients", "occlusion"):
        _, table = attribution.attribute_batch(model, x, features, y, how)
        assert np.abs(table[:, 2]).max() == 0
        assert np.abs(table[:, 0]).min() > 0


def test_occlusion_agrees_with_a_slow_loop() -> None:
    model = models.build_model(tiny.TASK, ModelConfig(name="cnn"), 3).eval()
    cohort = tiny.cohort(5, people=1)
    x, features, y = torch.from_numpy(cohort.x), torch.from_numpy(cohort.features), torch.from_numpy(cohort.y)  # type: ignore[arg-type]
    signal, _ = attribution.attribute_batch(model, x, features, y, "occlusion")
    with torch.no_grad():
        for sample in range(tiny.TASK.samples):  # 16 samples, each a stretch of its own
            gone = x.clone()
            gone[3, 0, sample] = 0
            fall = (
                attribution.true_class_log_odds(model, x, features, y)[3]
                - attribution.true_class_log_odds(model, gone, features, y)[3]
            )
            assert signal[3, 0, sample] == pytest.approx(float(fall), abs=1e-5)


def test_each_person_counts_once() -> None:
    values = np.array([[1.0], [1.0], [1.0], [5.0]])
    assert attribution.mean_over_people(values, np.array([0, 0, 0, 1]))[0] == 3.0


def config(how: str = "integrated_gradients") -> Any:
    return tiny.run_config(evaluation__explain=how)


def test_classes_of_few_people_are_suppressed() -> None:
    cohort = tiny.cohort(5, people=8, classes=(0, 1))
    rare = cohort.y.copy()
    rare[cohort.patient < 3] = 2  # three people
    cohort = replace(cohort, y=rare)
    model = models.build_model(tiny.TASK, ModelConfig(name="cnn"), 3)

    def attributions(**context: Any) -> Any:
        return attribution.compute_attributions(SiteContext(**context), "a", model, cohort, config("occlusion"))

    strict = SIMULATION_POLICY.model_copy(update={"min_cell_patients": 5})
    for explanation in (
        attributions(policy=strict),
        attributions(policy=SitePolicy(), site="a", data=Path("here")),
    ):  # a floor at hospitals
        assert explanation.suppressed == ("F",)
        assert set(explanation.classes) == {"N", "V"}
        assert explanation.patients == 5
    assert set(attributions(policy=SIMULATION_POLICY).classes) == {"N", "V", "F"}
    none = attributions(policy=SIMULATION_POLICY.model_copy(update={"min_cell_patients": 9}))
    assert (none.classes, none.features, none.patients) == ({}, {}, 0)


def test_mean_signals_are_means_over_people(monkeypatch: pytest.MonkeyPatch) -> None:
    cohort = tiny.cohort(5, people=6, each=4)
    model = models.build_model(tiny.TASK, ModelConfig(name="cnn"), 3)
    explanation = attribution.compute_attributions(SiteContext(SIMULATION_POLICY), "a", model, cohort, config())
    assert explanation is not None
    for c, name in enumerate(tiny.TASK.classes):
        people = [cohort.x[(cohort.patient == i) & (cohort.y == c)] for i in range(6)]
        means = [beats.mean(0) for beats in people if len(beats)]
        np.testing.assert_allclose(explanation.classes[name].signal, np.mean(means, 0), rtol=1e-3)
        assert explanation.classes[name].patients == len(means)
    assert explanation.features.keys() == {"rr"}
    assert explanation.channels["lead"] > 0
    assert attribution.compute_attributions(SiteContext(SIMULATION_POLICY), "a", model, cohort, config("none")) is None


def test_every_person_is_among_the_sampled_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    cohort = tiny.cohort(5, people=10, each=30, classes=(0,))
    few = attribution.sample_examples(cohort, config(), "a")
    assert np.bincount(few.patient).tolist() == [attribution.MAX_EXAMPLES_PER_PERSON] * 10
    monkeypatch.setattr(attribution, "MAX_EXAMPLES", 10)
    assert np.bincount(attribution.sample_examples(cohort, config(), "a").patient).tolist() == [1] * 10
