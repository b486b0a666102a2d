"""Noise that belongs to people: copies of a unit have it in common."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from client.gate.person_noise import OUTCOME, PersonNoise
from client.gate.unit_support import UnitSupport
from client.privacy.ghost_norms import LayerCall, UnitGroup
from common.sections.training import TrainingConfig
from tests.client.gate.test_unit_support import arrays, rows, train

SGD = TrainingConfig(optimizer="sgd", lr=0.1, momentum=0.0)


def test_noise_is_the_gradient_of_people_with_other_inputs() -> None:
    """Compared with a loop over people, each with a part that is multiplied and inputs that are shifted."""
    torch.manual_seed(0)
    count = np.array([1, 3, 2])
    into, slope = torch.randn(6, 4), torch.randn(6, 5)
    call = LayerCall("body", nn.Linear(4, 5), into, slope, UnitGroup(count, torch.device("cpu")))
    large = call.weight_gradients()
    assert large is not None
    parts, present = large[0], torch.tensor([0, 2, 4])
    noise = PersonNoise(5)
    drawn = noise.draw(parts, present, call)
    expected, spread, owner = torch.zeros(5, 4), into.std(0, correction=0), np.repeat([0, 2, 4], count)
    for row, person in enumerate(owner):
        seeming = into[row] * OUTCOME * noise._part[person] + spread * noise._inputs["body"][person]
        expected += torch.outer(slope[row], seeming)
    assert drawn.numpy() == pytest.approx(expected.numpy(), abs=1e-5)
    again = noise.draw(parts, present, call)  # the same numbers in each step of a round
    assert torch.equal(again, drawn)


@pytest.mark.parametrize("layer", [nn.Conv1d(2, 3, 5, padding=2), nn.Conv1d(2, 3, 5, bias=False)])
def test_noise_of_a_convolution(layer: nn.Conv1d) -> None:
    torch.manual_seed(0)
    into = torch.randn(4, 2, 16)
    slope = torch.randn_like(layer(into))
    call = LayerCall("body", layer, into, slope, UnitGroup(np.array([2, 2]), torch.device("cpu")))
    large = call.weight_gradients()
    assert large is not None
    parts, noise = large[0].permute(large[1]), PersonNoise(2)
    drawn = noise.draw(parts, torch.tensor([0, 1]), call)
    expected, spread = torch.zeros(3, 2, 5), into.movedim(1, -1).flatten(0, 1).std(0, correction=0)
    for person in (0, 1):
        slopes = slope[2 * person : 2 * person + 2].sum((0, 2))
        expected += parts[person] * OUTCOME * noise._part[person]
        expected += slopes[:, None, None] * (noise._inputs["body"][person] * spread[:, None])
    assert drawn.detach().numpy() == pytest.approx(expected.detach().numpy(), abs=1e-4)


class Copies(nn.Module):
    """A unit of the inputs, copied 500 times, with equal ways to the outcome."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.out = nn.Linear(3, 500), nn.Linear(500, 2)
        with torch.no_grad():
            self.body.weight.copy_(torch.tensor([1.0, -1.0, 0.5]).repeat(500, 1)), self.body.bias.zero_()
            self.out.weight.copy_(torch.tensor([[0.01], [-0.01]]).repeat(1, 500)), self.out.bias.zero_()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.out(torch.relu(self.body(x)))
        return logits


@pytest.mark.parametrize(("person_noise", "averages_away"), [(0.0, True), (0.5, False)])
def test_copies_of_a_unit_do_not_average_the_noise_away(person_noise: float, averages_away: bool) -> None:
    cohort = rows(people=60)
    errors, largest = [], 0.0
    for number in range(12):
        model = Copies()
        sent, support = arrays(model), UnitSupport(model, cohort, 5)
        train(model, cohort, support, batch=len(cohort.y), epochs=1)
        exact, largest = arrays(model)["body.bias"].mean(), support.find_largest_steps(SGD)["body.bias"].mean()
        support.protect(sent, 5, 1.0, SGD, np.random.default_rng(number), person_noise=person_noise)
        errors.append(arrays(model)["body.bias"].mean() - exact)
    assert (np.std(errors) < 0.2 * largest) == averages_away
