"""Rounding and suppression of the figures of a test answer, so that they may leave the hospital."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel

from client.gate.corrected_counts import correct_counts
from client.gate.guarded_settings import allows
from client.gate.register import Register
from client.gate.tables import are_exact, coarsen_counts, is_single, resample_table, round_counts
from client.policy import SitePolicy
from common.metrics.counts import Counts
from common.metrics.early_warning import Floats, Ints
from common.metrics.figures import Figure

DECIMALS = 2
"""Decimals of an interval's bounds, which are rounded outwards: with `share_resamples` they come from exact counts."""
PEOPLE_PER_PARAMETER = 10
"""People behind each parameter of a recalibration that is fitted at the site."""
PARAMETERS = {"threshold": 1, "temperature": 1, "platt": 2, "isotonic": 20}
"""Number of fitted parameters of each recalibration; of isotonic regression, the number of its steps."""

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True)
class ReleaseRules:
    """The rules that an evaluation at a hospital must follow; a simulation has none.

    Attributes:
        policy: the hospital's policy.
        may_release: whether a group of people may be reported, given the name of its table.
        answer_sizes: from people, their groups, `(groups, people)`, and the part of the answer, to the number to
            report for each group there.
        bootstrap_seed: seeds the draws of patients; secret, so that no one can infer patients from an interval.
        growth: how many times as large as the policy's `count_noise` the errors of counts are.
        mixing: how outcomes of validation patients were replaced (client/gate/corrected_counts.py); None: not at all.
    """

    policy: SitePolicy
    may_release: Callable[[Mapping[str, Sequence[str]]], Mapping[str, bool]]
    answer_sizes: Callable[[Sequence[str], npt.NDArray[np.bool_], str], Ints]
    bootstrap_seed: int
    growth: float = 1.0
    mixing: Floats | None = None

    @classmethod
    def from_register(
        cls,
        policy: SitePolicy,
        register: Register,
        dataset: str,
        run: str,
        split: str = "test",
        question: str = "",
        growth: float = 1.0,
    ) -> ReleaseRules:
        """Return the rules of a hospital that keeps a register, for answers about the people of a split.

        `question`: a digest of what is asked, on which the errors of counts depend. `growth`: of these errors.
        """

        def may_release(groups: Mapping[str, Sequence[str]]) -> Mapping[str, bool]:
            allowed = register.release(dataset, split, list(groups.values()), policy.min_cell_patients, run)
            return dict(zip(groups, allowed, strict=True))

        def answer_sizes(names: Sequence[str], groups: npt.NDArray[np.bool_], part: str) -> Ints:
            # with the growth: the same error twice as large would show the number without it
            own = f"{question}\x1f{growth!r}\x1f{part}"
            return register.answer_sizes(names, groups, policy.min_cell_patients, own, policy.count_noise * growth)

        seed = int.from_bytes(register.read_secret()[8:14], "big")
        return cls(policy, may_release, answer_sizes, seed, growth)

    def describe_errors(self) -> list[str]:
        """Return a sentence on errors of counts that have grown, or nothing."""
        if self.growth <= 1 or not self.policy.count_noise:
            return []
        error = self.policy.count_noise * self.growth
        return [f"counts of people are off by about {error:.1f}: this hospital has answered many questions in 30 days"]

    @property
    def exact(self) -> bool:
        """Whether counts leave as they are, as in a simulation: then nothing that rests on scores is a secret."""
        return are_exact(self.policy)

    def allows(self, key: str) -> bool:
        """Return whether the policy lets a run choose a guarded setting."""
        return allows(self.policy, key)

    def coarsen(self, total: Counts, people: Counts, names: Sequence[str], table: str = "") -> Counts:
        """Return the counts of a table as they may leave.

        The tables of an answer, and the parts of a table, have errors of their own (`coarsen_counts`).

        Args:
            total: counts of the table.
            people: the same for each person, on a leading axis.
            names: the people of that axis.
            table: the table's name in the answer.
        """

        def sizes_in(part: str) -> Callable[[npt.NDArray[np.bool_]], Ints]:
            return lambda groups: self.answer_sizes(names, groups, f"{table}\x1f{part}")

        def sizes(groups: npt.NDArray[np.bool_]) -> Ints:
            return self.answer_sizes(names, groups, "")

        return coarsen_counts(total, people, self.policy, sizes, sizes_in, self.growth)

    def coarsen_validation(
        self, total: Counts, people: Counts, names: Sequence[str], hidden: npt.NDArray[np.bool_] | None = None
    ) -> Counts:
        """Return the counts of validation patients as they may leave, corrected for replaced outcomes.

        `hidden`: suppressed classes, bool `(classes,)`; otherwise as `coarsen`.
        """
        released = self.coarsen(total, people, names)
        return released if self.mixing is None else correct_counts(released, self.mixing, hidden)

    def resample(self, total: Counts, people: Counts, resamples: int, seed: int) -> Counts:
        """Return resampled counts for intervals, drawn from the released ones: exact ones would reveal people.

        Each cell of the table is drawn anew among as many people. Where people have many examples there are none:
        examples of one person are no independent draws.
        """
        rng = np.random.default_rng(seed)
        draws = resamples if is_single(people) else 0
        return resample_table(total, draws, rng)

    def round_people(self, counts: Sequence[int]) -> list[int]:
        """Return numbers of people, rounded and suppressed so that they may leave."""
        return [int(n) for n in round_counts(np.asarray(counts, dtype=np.int64), self.policy.round_counts_to)]

    def hide_groups(self, people: Ints) -> Ints | None:
        """Return numbers of people in the groups of a reliability diagram, or None where counts leave with errors.

        They are exact, and a cut between two groups could be moved past one person.
        """
        return people if are_exact(self.policy) else None

    def allows_fit(self, name: str, people: int) -> bool:
        """Return whether a recalibration may be fitted on this number of validation patients."""
        return PARAMETERS[name] * PEOPLE_PER_PARAMETER <= people


def round_intervals(item: Model) -> Model:
    """Return a model with the bounds of all intervals in it, at any depth, rounded outwards."""
    changed: dict[str, object] = {}
    for name in type(item).model_fields:
        value = getattr(item, name)
        new = _round_value(value)
        if new is not value:
            changed[name] = new
    return item.model_copy(update=changed) if changed else item


def _round_value(value: object) -> object:
    if isinstance(value, Figure):
        return round_interval(value)
    if isinstance(value, BaseModel):
        return round_intervals(value)
    if isinstance(value, tuple) and any(isinstance(part, BaseModel) for part in value):
        return tuple(_round_value(part) for part in value)
    if isinstance(value, Mapping) and any(isinstance(part, BaseModel) for part in value.values()):
        return {key: _round_value(part) for key, part in value.items()}
    return value


def round_interval(figure: Figure) -> Figure:
    """Return a figure whose interval is rounded outwards; it then contains the value."""
    scale = 10**DECIMALS
    changed: dict[str, float] = {}
    if figure.low is not None and math.isfinite(figure.low):
        changed["low"] = math.floor(figure.low * scale) / scale
    if figure.high is not None and math.isfinite(figure.high):
        changed["high"] = math.ceil(figure.high * scale) / scale
    if figure.value is not None and changed:
        changed = {key: (min if key == "low" else max)(bound, figure.value) for key, bound in changed.items()}
    return figure.model_copy(update=changed)
