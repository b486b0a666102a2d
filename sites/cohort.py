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
    """What a data set is, in the words of its publishers; the report quotes it.

    `warning`: a sentence that must stand beside every figure from these data, or nothing.
    """

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
    warning: str = ""


@dataclass(frozen=True)
class Patient:
    """One recording's owner, as far as partitions and splits need to know.

    `id` names the recording; `person` is shared by recordings of one person; `site` is the natural hospital;
    `published` the side of a published split ("train", "validation", "test"); `examples` the count of each
    class; `group` what a split into folds keeps together beside the person (a ward, a hospital of a region).
    """

    id: str
    person: str
    examples: tuple[int, ...]
    site: str | None = None
    published: str | None = None
    group: str | None = None


Selection = npt.NDArray[np.bool_] | npt.NDArray[np.int64] | slice


@dataclass(frozen=True)
class Windows:
    """Overlapping windows over a table of hours: the rows are held once, windows are cut a batch at a time.

    `rows`: float32 `(rows, channels)`, in order of time within each patient; `end`: int64 `(examples,)`, the
    last row of each window; `first`: int64 `(examples,)`, the first row of the same patient; `samples`: the
    length of a window; `pad`: float32 `(channels,)`, what stands before the patient's first row, none: NaN,
    not measured.
    """

    rows: npt.NDArray[np.float32]
    end: npt.NDArray[np.int64]
    first: npt.NDArray[np.int64]
    samples: int
    pad: npt.NDArray[np.float32] | None = None

    @property
    def padding(self) -> npt.NDArray[np.float32]:
        """What stands before a patient's first row, `(channels,)`."""
        return np.full(self.rows.shape[1], np.nan, np.float32) if self.pad is None else self.pad

    def __len__(self) -> int:
        """Return the number of windows."""
        return len(self.end)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return `(examples, channels, samples)`, as a dense array of the windows would have."""
        return len(self.end), self.rows.shape[1], self.samples

    def __getitem__(self, chosen: Selection) -> Windows:
        """Return some of the windows, over the same rows."""
        return replace(self, end=self.end[chosen], first=self.first[chosen])

    def dense(self) -> npt.NDArray[np.float32]:
        """Return the windows as an array `(examples, channels, samples)`."""
        index = self.end[:, None] + np.arange(1 - self.samples, 1)
        found = self.rows[np.maximum(index, 0)]
        found[index < self.first[:, None]] = self.padding
        return np.ascontiguousarray(found.transpose(0, 2, 1))


@dataclass(frozen=True)
class Cohort:
    """Examples with their patients.

    `x`: float32 `(examples, channels, samples)`, or Windows of that shape; `features`: float32 `(examples,
    features)`; `y`: int64 `(examples,)`, or `(examples, classes)` of 0 and 1 where the task is multilabel;
    `patient`: int64 `(examples,)`, an index into `patients`, rising in time within a patient; `persons`: the
    person behind each patient; `split`: int8 `(examples,)`, an index into SPLITS, or -1 where not assigned.
    `excluded`: what was left out, counted; `synthetic`: whether the files say that they were generated.
    `age` (years, NaN unknown) and `sex` (0 female, 1 male, -1 unknown): of each of `patients`, where the data
    has them. `utility`: float32 `(examples, 2)`, what silence and what an alarm are worth at each example.
    `hours`: float32 `(examples,)`, the time that each stands for, and `until`: float32 `(examples,)`, hours until the
    patient's event begins, NaN where none does; where the data has them.
    `seconds`: float64 `(examples,)`, since the beginning of the recording, where the data have a time. `kinds`: bool
    `(examples, against)`, which of the abnormal classes an example has, where the task names them.
    """

    task: Task
    x: npt.NDArray[np.float32] | Windows
    features: npt.NDArray[np.float32]
    y: npt.NDArray[np.int64]
    patient: npt.NDArray[np.int64]
    patients: tuple[str, ...]
    persons: tuple[str, ...]
    split: npt.NDArray[np.int8]
    excluded: Mapping[str, int] = field(default_factory=dict)
    synthetic: bool = False
    age: npt.NDArray[np.float32] | None = None
    sex: npt.NDArray[np.int8] | None = None
    utility: npt.NDArray[np.float32] | None = None
    hours: npt.NDArray[np.float32] | None = None
    until: npt.NDArray[np.float32] | None = None
    seconds: npt.NDArray[np.float64] | None = None
    kinds: npt.NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        n, classes = len(self.y), len(self.task.classes)
        expected = {
            "x": (self.x.shape, (n, self.task.channels, self.task.samples)),
            "features": (self.features.shape, (n, len(self.task.features))),
            "patient": (self.patient.shape, (n,)),
            "split": (self.split.shape, (n,)),
            "y": (self.y.shape, (n, classes) if self.task.kind == "multilabel" else (n,)),
        }
        if self.age is not None:
            expected["age"] = (self.age.shape, (len(self.patients),))
        if self.sex is not None:
            expected["sex"] = (self.sex.shape, (len(self.patients),))
        if self.utility is not None or self.task.utility:
            expected["utility"] = (() if self.utility is None else self.utility.shape, (n, 2))
        for name in ("hours", "until"):
            if (column := getattr(self, name)) is not None:
                expected[name] = (column.shape, (n,))
        if self.seconds is not None:
            expected["seconds"] = (self.seconds.shape, (n,))
        if self.kinds is not None:
            expected["kinds"] = (self.kinds.shape, (n, len(self.task.against)))
        for name, (shape, wanted) in expected.items():
            if shape != wanted:
                raise DataError(f"{self.task.name}: {name} has shape {shape}, not {wanted}")
        top = 2 if self.task.kind == "multilabel" else classes
        if n and (self.y.min() < 0 or self.y.max() >= top):
            raise DataError(f"{self.task.name}: a label is outside the {classes} classes")
        if n and (self.patient.min() < 0 or self.patient.max() >= len(self.patients)):
            raise DataError(f"{self.task.name}: an example belongs to none of the {len(self.patients)} patients")
        if len(self.patients) != len(self.persons):
            raise DataError(f"{self.task.name}: patients and persons differ in number")
        if not (_usable(self.x, self.task.missing) and _usable(self.features, self.task.missing)):
            raise DataError(f"{self.task.name}: an input is {'' if self.task.missing else 'NaN or '}infinite")

    def take(self, chosen: Selection) -> Cohort:
        """Return the chosen examples, as a mask or as indices; patients without examples stay listed."""
        return replace(
            self,
            x=self.x[chosen],
            features=self.features[chosen],
            y=self.y[chosen],
            patient=self.patient[chosen],
            split=self.split[chosen],
            utility=None if self.utility is None else self.utility[chosen],
            hours=None if self.hours is None else self.hours[chosen],
            until=None if self.until is None else self.until[chosen],
            seconds=None if self.seconds is None else self.seconds[chosen],
            kinds=None if self.kinds is None else self.kinds[chosen],
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
        """Return the number of examples of each class (multilabel: that have it)."""
        if self.task.kind == "multilabel":
            return tuple(int(n) for n in self.y.sum(0))
        return tuple(int(n) for n in np.bincount(self.y, minlength=len(self.task.classes)))

    def summary(self) -> dict[str, Any]:
        """Return the counts of people, examples and classes: what the handshake tells of each split."""
        return {"patients": self.people(), "examples": len(self.y), "classes": list(self.class_counts())}


def _usable(values: npt.NDArray[np.float32] | Windows, missing: bool) -> bool:
    """Return whether all values are finite, or missing where that may be."""
    flat = values.rows if isinstance(values, Windows) else values
    if missing:
        return not np.isinf(flat).any()
    with np.errstate(invalid="ignore"):
        # The sum is infinite or NaN if a value is, and needs no mask of the size of the array.
        return bool(np.isfinite(flat.sum(dtype=np.float64)))


def join_cohorts(cohorts: list[Cohort]) -> Cohort:
    """Return all examples as one cohort: what only a simulation may do."""
    if not cohorts:
        raise DataError("no examples to join: every site is empty")
    offsets = np.cumsum([0, *(len(item.patients) for item in cohorts[:-1])])
    excluded: dict[str, int] = {}
    for item in cohorts:
        for what, number in item.excluded.items():
            excluded[what] = excluded.get(what, 0) + number
    known = {
        name: None
        if any(getattr(item, name) is None for item in cohorts)
        else np.concatenate([getattr(item, name) for item in cohorts])
        for name in ("age", "sex", "utility", "hours", "until", "seconds", "kinds")
    }
    return Cohort(
        cohorts[0].task,
        _joined([item.x for item in cohorts]),
        np.concatenate([item.features for item in cohorts]),
        np.concatenate([item.y for item in cohorts]),
        np.concatenate([item.patient + offset for item, offset in zip(cohorts, offsets, strict=True)]),
        tuple(name for item in cohorts for name in item.patients),
        tuple(name for item in cohorts for name in item.persons),
        np.concatenate([item.split for item in cohorts]),
        excluded,
        any(item.synthetic for item in cohorts),
        **known,
    )


def _joined(parts: list[npt.NDArray[np.float32] | Windows]) -> npt.NDArray[np.float32] | Windows:
    windows = [item for item in parts if isinstance(item, Windows)]
    if not windows:
        return np.concatenate([item for item in parts if not isinstance(item, Windows)])
    shifts = np.cumsum([0, *(len(item.rows) for item in windows[:-1])])
    return Windows(
        np.concatenate([item.rows for item in windows]),
        np.concatenate([item.end + shift for item, shift in zip(windows, shifts, strict=True)]),
        np.concatenate([item.first + shift for item, shift in zip(windows, shifts, strict=True)]),
        windows[0].samples,
        windows[0].pad,
    )
