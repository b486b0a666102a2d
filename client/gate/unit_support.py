"""Protection of people against crafted models: how many people each weight's update rests on, and noise.

The gradient of a weight is a sum over people: the gradient of the loss at a unit's output times one number of the
unit's input. A crafted model, or a rare value of an input, can make this sum rest on one person: a unit that is active
for nobody else (a trap weight, arXiv:2112.02918), or an input that is 0 for everybody else, such as a rare code. The
update of that weight is then the person's value, or its sign the person's outcome. If two weights differ by one person,
so does the difference of their updates. A hospital therefore measures during training how much each person contributes
to the gradient of every single weight, and

- sends no update of a weight whose effective number of people, (sum of parts)^2 / (sum of squared parts), is too small;
- adds noise to every weight's update, with the standard deviation of the largest part that one person has in it. With n
  people of equal parts that is 1/n of what they contribute, so training suffers little.

This is not differential privacy: copies of a unit, or a crafted model that is sent again, average the noise away. What
is behind it then are records that the hospital has changed (client/gate/changed_records.py).

The parts are computed as DP-SGD does (client/privacy/ghost_norms.py), for linear layers, convolutions and norms. Other
layers (recurrent, attention) cannot be measured; a hospital trains them only with differential privacy, or if its
policy allows them.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from client.privacy.ghost_norms import LayerCall, find_trained_layers, is_supported_layer
from client.privacy.unit_group import UnitGroup
from common.arrays import Weights
from common.sections.training import TrainingConfig
from sites.cohort import Cohort

MAX_GROUPS = 256
"""People are measured in at most so many groups; a group counts as one person, which only adds to the protection."""
MAX_NUMBERS = 2**26
"""Most numbers (groups times weights) that are held at once; larger models are measured in fewer groups."""
ADAM_EPSILON = 1e-8
Floats = npt.NDArray[np.float64]


def is_measurable(model: nn.Module) -> bool:
    """Return whether each person's part can be measured in every trained weight of a model."""
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    return find_trained_layers(model, trained) is not None


class UnitSupport:
    """Measures each person's part of the gradient of each weight, summed over the steps of a round.

    Args:
        model: the model that trains.
        cohort: its training examples, in the order of the rows that `set_rows` names.
        floor: fewest effective people of a weight that is sent, so that groups of people stay more numerous.
    """

    def __init__(self, model: nn.Module, cohort: Cohort, floor: int) -> None:
        self._model = model
        person = np.unique(np.asarray(cohort.persons, dtype=object)[cohort.patient], return_inverse=True)[1]
        people = int(person.max()) + 1 if len(person) else 0
        size = sum(p.numel() for p in model.parameters() if p.requires_grad)
        groups = max(1, min(people, MAX_GROUPS, max(MAX_NUMBERS // max(size, 1), 4 * floor)))
        # people are spread over groups at random, so that no server knows who is measured together
        spread = np.random.default_rng(secrets.randbits(128)).permutation(people) % groups
        self._group = torch.from_numpy(spread[person].astype(np.int64))
        self._groups = groups
        self._layers = {name: part for name, part in model.named_modules() if is_supported_layer(part)}
        self._parts: dict[str, Tensor] = {}
        self._squares: dict[str, Tensor] = {}
        self._step: dict[str, Tensor] = {}
        self._steps = 0
        self._failed: set[str] = set()
        self._rows: Tensor | None = None

    def set_rows(self, rows: Tensor) -> None:
        """Set the rows of the examples that the next step trains on."""
        self._finish_step()
        self._rows = rows
        self._steps += 1

    @contextmanager
    def measure(self) -> Iterator[None]:
        """Return a context manager; each training step inside it adds each person's parts to what is measured."""
        hooks = [
            part.register_forward_hook(lambda part, given, output, name=name: self._watch(name, part, given[0], output))
            for name, part in self._layers.items()
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
            self._finish_step()

    def _watch(self, name: str, part: nn.Module, given: Tensor, output: Tensor) -> None:
        rows = self._rows
        if rows is None or not output.requires_grad:
            return
        if len(output) != len(rows) or len(given) != len(rows):
            self._failed.add(name)
            return
        order = torch.argsort(self._group[rows.cpu()], stable=True)
        present, count = torch.unique_consecutive(self._group[rows.cpu()][order], return_counts=True)
        into, position = given.detach()[order.to(given.device)], order.to(given.device)

        def add(slope: Tensor) -> None:
            call = LayerCall(
                name, part, into, slope.detach()[position], UnitGroup(count.numpy().astype(np.int64), into.device)
            )
            gradients = {which: (raw, tuple(range(raw.ndim))) for which, raw in call.small_gradients().items()}
            if (large := call.weight_gradients()) is not None:
                gradients["weight"] = large
            for which, (raw, axes) in gradients.items():
                key = f"{name}.{which}"
                held = self._step.get(key)
                if held is None:
                    shape = [raw.shape[axis] for axis in axes][1:]
                    held = self._step[key] = torch.zeros(self._groups, *shape)
                held.index_add_(0, present, raw.permute(axes).float().cpu())

        output.register_hook(add)  # type: ignore[no-untyped-call]

    def _finish_step(self) -> None:
        for key, signed in self._step.items():
            square = signed.double().sum(0).square()
            if key not in self._parts:
                self._parts[key] = torch.zeros_like(signed)
                self._squares[key] = torch.zeros_like(square)
            self._parts[key] += signed.abs()
            self._squares[key] += square
        self._step = {}

    def count_people(self) -> dict[str, Floats]:
        """Return the effective number of people of each weight, by parameter; 0 for a weight without gradient."""
        effective = {}
        for name, part in self._parts.items():
            scaled = part.double() / part.amax(0).double().clamp(min=1e-300)  # squares of tiny numbers would be 0
            squares = scaled.square().sum(0)
            effective[name] = torch.where(squares > 0, scaled.sum(0) ** 2 / squares.clamp(min=1e-300), 0.0).numpy()
        return effective

    def find_largest_steps(self, config: TrainingConfig) -> dict[str, Floats]:
        """Return, for each weight by parameter, how far the person with the largest part moved it at most.

        Args:
            config: gives the optimiser. With SGD, the learning rate times the part, and the sum of the momentum's
                powers. With AdamW, the part divided by the root mean square of the gradient, times the learning rate,
                and at most the learning rate for each step.
        """
        return {name: self._convert_to_step(name, part.amax(0).double(), config) for name, part in self._parts.items()}

    def _convert_to_step(self, name: str, gradient: Tensor, config: TrainingConfig) -> Floats:
        """Return how far a sum of gradients over the round's steps moves a parameter, as `find_largest_steps` says."""
        if config.optimizer == "sgd":
            return np.asarray((config.lr / (1 - min(config.momentum, 0.999)) * gradient).numpy())
        typical = (self._squares[name] / max(self._steps, 1)).sqrt()
        steps = (gradient / (typical + ADAM_EPSILON)).clamp(-self._steps, self._steps)
        return np.asarray((config.lr * steps).numpy())

    def protect(
        self,
        sent: Weights,
        floor: int,
        noise: float,
        config: TrainingConfig,
        rng: np.random.Generator,
        *,
        unmeasured: bool = False,
    ) -> int:
        """Withhold weights with few people, add noise to the others, and return the number of weights withheld.

        The trained model's weights are changed in place.

        Args:
            sent: the weights that the round started from.
            floor: minimum effective number of people of a weight; weights below it stay as they were sent.
            noise: standard deviation of each weight's own noise, as a multiple of the largest single person's part.
            config: gives the optimiser.
            rng: generator of the noise; a hospital seeds it from the operating system.
            unmeasured: whether weights of layers that cannot be measured are sent as they are; else they are withheld.
        """
        people, moved = self.count_people(), self.find_largest_steps(config)
        withheld = 0
        with torch.no_grad():
            for name, parameter in self._model.named_parameters():
                if name not in sent or not parameter.requires_grad:
                    continue
                start = np.asarray(sent[name], dtype=np.float64)
                now = parameter.detach().cpu().numpy().astype(np.float64)
                layer = name.rpartition(".")[0]
                if unmeasured and layer not in self._layers:
                    continue
                if name not in people or layer in self._failed:
                    few = np.ones(now.shape, dtype=bool)
                    added = np.zeros(now.shape)
                else:
                    few = people[name] < floor
                    added = noise * rng.normal(size=now.shape) * moved[name]
                withheld += int(few.sum())
                parameter.copy_(torch.from_numpy(np.where(few, start, now + added).astype(np.float32)))
        return withheld
