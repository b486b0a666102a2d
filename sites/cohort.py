"""Cohort: one site's examples. It never leaves the site; neither do its patients' names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from common.errors import DataError
from common.task import Task

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class DataCard:
    """What a data set is, in the words of its publishers; the report quotes it."""

    name: str
    title: str
    inputs: str
    labels: str
    sites: str
    splits: str
    source: str
    citation: str
    licence: str
    synthetic: bool = False


@dataclass(frozen=True)
class Patient:
    """One recording's owner, as far as partitions and splits need to know.

    `id` names the recording; `person` is shared by recordings of one person; `site` is the natural hospital;
    `published` the side of a published split ("train", "test"); `examples` the count of each class.
    """

    id: str
    person: str
    examples: tuple[int, ...]
    site: str | None = None
    published: str | None = None


@dataclass(frozen=True)
class Cohort:
    """Examples with their patients.

    `x`: float32 `(examples, channels, samples)`; `features`: float32 `(examples, features)`; `y`: int64
    `(examples,)`; `patient`: int64 `(examples,)`, an index into `patients`; `persons`: the person behind
    each patient; `split`: int8 `(examples,)`, an index into SPLITS, or -1 where not assigned. `excluded`:
    what was left out, counted; `synthetic`: whether the files say that they were generated.
    """

    task: Task
    x: npt.NDArray[np.float32]
    features: npt.NDArray[np.float32]
    y: npt.NDArray[np.int64]
    patient: npt.NDArray[np.int64]
    patients: tuple[str, ...]
    persons: tuple[str, ...]
    split: npt.NDArray[np.int8]
    excluded: Mapping[str, int] = field(default_factory=dict)
    synthetic: bool = False

    def __post_init__(self) -> None:
        n = len(self.y)
        expected = {
            "x": (self.x.shape, (n, self.task.channels, self.task.samples)),
            "features": (self.features.shape, (n, len(self.task.features))),
            "patient": (self.patient.shape, (n,)),
            "split": (self.split.shape, (n,)),
        }
        for name, (shape, wanted) in expected.items():
            if shape != wanted:
                raise DataError(f"{self.task.name}: {name} has shape {shape}, not {wanted}")
        if n and (self.y.min() < 0 or self.y.max() >= len(self.task.classes)):
            raise DataError(f"{self.task.name}: a label is outside the {len(self.task.classes)} classes")
        if n and (self.patient.min() < 0 or self.patient.max() >= len(self.patients)):
            raise DataError(f"{self.task.name}: an example belongs to none of the {len(self.patients)} patients")
        if len(self.patients) != len(self.persons):
            raise DataError(f"{self.task.name}: patients and persons differ in number")
        with np.errstate(invalid="ignore"):
            # The sum is infinite or NaN if a value is, and needs no mask of the size of x.
            finite = np.isfinite(self.x.sum(dtype=np.float64)) and np.isfinite(self.features).all()
        if not finite:
            raise DataError(f"{self.task.name}: an input is NaN or infinite")

    def take(self, chosen: npt.NDArray[np.bool_] | npt.NDArray[np.int64]) -> Cohort:
        """Return the chosen examples, as a mask or as indices; patients without examples stay listed."""
        return replace(
            self,
            x=self.x[chosen],
            features=self.features[chosen],
            y=self.y[chosen],
            patient=self.patient[chosen],
            split=self.split[chosen],
        )

    def part(self, name: str) -> Cohort:
        """Return the examples of one split."""
        return self.take(self.split == SPLITS.index(name))

    def with_split(self, split: npt.NDArray[np.int8]) -> Cohort:
        """Return the same examples with another split."""
        return replace(self, split=split)

    def people(self) -> int:
        """Return how many persons have examples here."""
        return len({self.persons[i] for i in np.unique(self.patient)})

    def class_counts(self) -> tuple[int, ...]:
        """Return the number of examples of each class."""
        return tuple(int(n) for n in np.bincount(self.y, minlength=len(self.task.classes)))

    def summary(self) -> dict[str, Any]:
        """Return the counts of people, examples and classes: what the handshake tells of each split."""
        return {"patients": self.people(), "examples": len(self.y), "classes": list(self.class_counts())}


def join(cohorts: list[Cohort]) -> Cohort:
    """Return all examples as one cohort: what only a simulation may do."""
    if not cohorts:
        raise DataError("no examples to join: every site is empty")
    offsets = np.cumsum([0, *(len(item.patients) for item in cohorts[:-1])])
    excluded: dict[str, int] = {}
    for item in cohorts:
        for what, number in item.excluded.items():
            excluded[what] = excluded.get(what, 0) + number
    return Cohort(
        cohorts[0].task,
        np.concatenate([item.x for item in cohorts]),
        np.concatenate([item.features for item in cohorts]),
        np.concatenate([item.y for item in cohorts]),
        np.concatenate([item.patient + offset for item, offset in zip(cohorts, offsets, strict=True)]),
        tuple(name for item in cohorts for name in item.patients),
        tuple(name for item in cohorts for name in item.persons),
        np.concatenate([item.split for item in cohorts]),
        excluded,
        any(item.synthetic for item in cohorts),
    )
