"""Noise of people: what weights that rest on the same people have in common, so that copies do not average it away.

A weight's gradient is a sum over people of the slope at a unit's output times the unit's input. Each person gets random
numbers for a round, the same in all weights and all steps, by which its slopes and inputs seem to be others:

- `OUTCOME` times a normal number multiplies the person's part. With cross entropy a slope is probability minus outcome,
  so that this covers which outcome the person has: at probability 1/2 the two outcomes differ by twice the part, and
  the noise has that standard deviation.
- a normal number for each input, times the input's standard deviation over people, is added to the person's inputs.

Whatever weights a model has, and however many copies of a unit, the update is then a function of these noisy slopes and
inputs. Honest training sees about the noise that another sample of as many people would bring.
"""

from __future__ import annotations

import secrets

import torch
from torch import Tensor, nn

from client.privacy.ghost_norms import LayerCall

OUTCOME = 2.0
"""Standard deviation of the number that multiplies a person's part."""


class PersonNoise:
    """Random numbers of people for one round.

    Args:
        groups: number of groups of people; each group has numbers of its own.
    """

    def __init__(self, groups: int) -> None:
        self._groups = groups
        self._random = torch.Generator().manual_seed(secrets.randbits(63))
        self._part = self._draw(groups)
        self._inputs: dict[str, Tensor] = {}

    def draw(self, parts: Tensor, present: Tensor, call: LayerCall | None = None) -> Tensor:
        """Return the noise of one parameter in one step, in the parameter's shape.

        Args:
            parts: each present group's gradient of the parameter, `(present groups, ...)`.
            present: the groups' numbers.
            call: the layer's inputs and slopes, if the parameter is a weight that multiplies inputs.
        """
        noise = OUTCOME * torch.einsum("g,g...->...", self._part[present], parts)
        if call is None or not isinstance(call.module, nn.Linear | nn.Conv1d | nn.Conv2d):
            return noise
        channel = -1 if isinstance(call.module, nn.Linear) else 1
        inputs = call.into.detach().movedim(channel, -1).flatten(0, -2).float().cpu()
        spread = inputs.std(0, correction=0)
        if call.name not in self._inputs:
            self._inputs[call.name] = self._draw(self._groups, *parts.shape[2:])
        slope = (
            call.slope.detach().movedim(channel, 1).flatten(2).sum(2) if call.slope.ndim > 2 else call.slope.detach()
        )
        slopes = call.group.summed(slope).float().cpu()
        numbers = self._inputs[call.name][present] * spread.view(-1, *(1,) * (parts.ndim - 3))
        return noise + torch.einsum("go,gi...->oi...", slopes, numbers)

    def _draw(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self._random)
