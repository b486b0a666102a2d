"""One site's examples with their patients, which never leave the site; and the card that describes a data set.

Names of patients and recordings stay at the site too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from common.errors import DataError
from common.task import Task

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class DataCard:
    """What a data set is, in the words of its publishers; the report quotes it.

    Attributes:
        name: the data set's name in a configuration.
        title: its full name and version.
        inputs: what is measured, at which rate, and how it becomes examples.
        labels: what is predicted, and who labelled it.
        sites: which hospitals there are, or how they are simulated.
        splits: the published split, or how patients are split.
        source: the publisher's page.
        citation: the papers to cite.
        licence: the licence of the data.
        synthetic: whether the data are generated.
        warning: a sentence that is printed with every figure from these data, or "".
        question: what a model answers, as a question about patients; "": made of the event's title.
        examples: what examples are where a patient has several, in the plural, such as heartbeats; "": examples.
        years: when the data were recorded; "": not stated.
        setting: who the patients are and where they were treated; "": not stated.
        site_kind: what a site is, such as region.
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
    question: str = ""
    examples: str = ""
    years: str = ""
    setting: str = ""
    site_kind: str = "hospital"


@dataclass(frozen=True, slots=True)
class Patient:
    """One recording and its owner, as far as partitions and splits need to know.

    Attributes:
        id: name of the recording.
        person: name of its owner, the same for all recordings of one person.
        examples: number of examples of each class.
        site: natural hospital, where the data set has hospitals.
        published: side of a published split: "train", "validation" or "test".
        group: people of one group (a ward, a hospital of a region) share a fold.
    """

    id: str
    person: str
    examples: tuple[int, ...]
    site: str | None = None
    published: str | None = None
    group: str | None = None


Selection = npt.NDArray[np.bool_] | npt.NDArray[np.int64] | slice
"""Which examples: a mask, indices, or a slice."""


@dataclass(frozen=True)
class Windows:
    """Overlapping windows over a table of hours; the rows are held once and windows are cut a batch at a time.

    Attributes:
        rows: float32 `(rows, channels)`, in order of time within each patient.
        end: int64 `(examples,)`, last row of each window.
        first: int64 `(examples,)`, first row of the same patient.
        samples: length of a window, in rows.
        pad: float32 `(channels,)`, values before the patient's first row; None: NaN, not measured.
    """

    rows: npt.NDArray[np.float32]
    end: npt.NDArray[np.int64]
    first: npt.NDArray[np.int64]
    samples: int
    pad: npt.NDArray[np.float32] | None = None

    @property
    def padding(self) -> npt.NDArray[np.float32]:
        """Values before a patient's first row, `(channels,)`."""
        return np.full(self.rows.shape[1], np.nan, np.float32) if self.pad is None else self.pad

    def __len__(self) -> int:
        """Return the number of windows."""
        return len(self.end)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return `(examples, channels, samples)`, as a dense array of the windows would have."""
        return len(self.end), self.rows.shape[1], self.samples

    def __getitem__(self, chosen: Selection) -> Windows:
        """Return a selection of the windows, over the same rows."""
        return replace(self, end=self.end[chosen], first=self.first[chosen])

    def dense(self) -> npt.NDArray[np.float32]:
        """Return the windows as an array `(examples, channels, samples)`."""
        index = self.end[:, None] + np.arange(1 - self.samples, 1)
        windows = self.rows[np.maximum(index, 0)]
        windows[index < self.first[:, None]] = self.padding
        return np.ascontiguousarray(windows.transpose(0, 2, 1))


@dataclass(frozen=True)
class Cohort:
    """Examples with their patients.

    Attributes:
        task: inputs and classes.
        x: float32 `(examples, channels, samples)`, or Windows of that shape.
        features: float32 `(examples, features)`.
        y: int64 `(examples,)`, or `(examples, classes)` of 0 and 1 where the task is multilabel.
        patient: int64 `(examples,)`, index into `patients`; examples of a patient are in order of time.
        patients: names of the recordings.
        persons: the person of each of `patients`.
        split: int8 `(examples,)`, index into SPLITS; -1: not assigned.
        excluded: number of examples or recordings left out, by reason.
        synthetic: whether the files say that they were generated.
        age: float32 `(patients,)`, years, NaN if unknown; None if the data set has no ages.
        sex: int8 `(patients,)`, 0 female, 1 male, -1 unknown; None if the data set has no sexes.
        utility: float32 `(examples, 2)`, utility of no alarm and of an alarm; None if the task has no utility.
        hours: float32 `(examples,)`, hours that each example covers, where the data have a time.
        until: float32 `(examples,)`, hours until the patient's event, NaN without one, where the data have it.
        seconds: float64 `(examples,)`, seconds since the start of the recording, where the data have a time.
        kinds: bool `(examples, against)`, which of the abnormal classes an example has, where the task names them.
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
        if not (_is_usable(self.x, self.task.missing) and _is_usable(self.features, self.task.missing)):
            raise DataError(f"{self.task.name}: an input is {'' if self.task.missing else 'NaN or '}infinite")

    def take(self, selection: Selection) -> Cohort:
        """Return a selection of the examples; patients without examples stay listed."""
        return replace(
            self,
            x=self.x[selection],
            features=self.features[selection],
            y=self.y[selection],
            patient=self.patient[selection],
            split=self.split[selection],
            utility=None if self.utility is None else self.utility[selection],
            hours=None if self.hours is None else self.hours[selection],
            until=None if self.until is None else self.until[selection],
            seconds=None if self.seconds is None else self.seconds[selection],
            kinds=None if self.kinds is None else self.kinds[selection],
        )

    def part(self, name: str) -> Cohort:
        """Return the examples of one split."""
        return self.take(self.split == SPLITS.index(name))

    def with_split(self, split: npt.NDArray[np.int8]) -> Cohort:
        """Return the same examples with another split."""
        return replace(self, split=split)

    @cached_property
    def people_names(self) -> tuple[str, ...]:
        """The persons who have examples, sorted."""
        return tuple(sorted({self.persons[i] for i in np.unique(self.patient).tolist()}))

    def people(self) -> int:
        """Return the number of persons who have examples."""
        return len(self.people_names)

    def class_counts(self) -> tuple[int, ...]:
        """Return the number of examples of each class (multilabel: of examples that have the label)."""
        if self.task.kind == "multilabel":
            return tuple(int(n) for n in self.y.sum(0))
        return tuple(int(n) for n in np.bincount(self.y, minlength=len(self.task.classes)))

    def summary(self) -> dict[str, Any]:
        """Return the counts of people, examples and classes, as the handshake reports them for each split."""
        return {"patients": self.people(), "examples": len(self.y), "classes": list(self.class_counts())}


def _is_usable(values: npt.NDArray[np.float32] | Windows, missing: bool) -> bool:
    """Return whether all values are finite, or NaN where the task allows missing values."""
    flat = values.rows if isinstance(values, Windows) else values
    if missing:
        return not np.isinf(flat).any()
    with np.errstate(invalid="ignore"):
        # The sum is infinite or NaN if any value is, and needs no mask of the size of the array.
        return bool(np.isfinite(flat.sum(dtype=np.float64)))


def join_cohorts(cohorts: list[Cohort]) -> Cohort:
    """Return the examples of all sites as one cohort, which only a simulation can do.

    Raises:
        DataError: there is no cohort.
    """
    if not cohorts:
        raise DataError("no examples to join: every site is empty")
    offsets = np.cumsum([0, *(len(item.patients) for item in cohorts[:-1])])
    excluded: dict[str, int] = {}
    for item in cohorts:
        for reason, count in item.excluded.items():
            excluded[reason] = excluded.get(reason, 0) + count
    optional = {
        name: None
        if any(getattr(item, name) is None for item in cohorts)
        else np.concatenate([getattr(item, name) for item in cohorts])
        for name in ("age", "sex", "utility", "hours", "until", "seconds", "kinds")
    }
    return Cohort(
        cohorts[0].task,
        _concatenate([item.x for item in cohorts]),
        np.concatenate([item.features for item in cohorts]),
        np.concatenate([item.y for item in cohorts]),
        np.concatenate([item.patient + offset for item, offset in zip(cohorts, offsets, strict=True)]),
        tuple(name for item in cohorts for name in item.patients),
        tuple(name for item in cohorts for name in item.persons),
        np.concatenate([item.split for item in cohorts]),
        excluded,
        any(item.synthetic for item in cohorts),
        **optional,
    )


def _concatenate(parts: list[npt.NDArray[np.float32] | Windows]) -> npt.NDArray[np.float32] | Windows:
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
