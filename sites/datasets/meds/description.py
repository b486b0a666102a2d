"""The description of a MEDS extract: when is predicted, what, and from which codes.

It is a YAML file `meds.yaml` in the extract's folder, and the same keys stand under `data.options` of a run. The keys
of `read` say where the files of this hospital are, and may differ between hospitals. All other keys are the contract,
which must be the same at every hospital.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from common.settings import Section, validate_settings
from sites.datasets.table.description import ClassName, InputName, Text
from sites.own_description import read_description_file

FILE_NAME = "meds.yaml"
"""Name of the description in an extract's folder."""
FORMAT = 1
"""Version of the keys of the file."""
Code = Annotated[str, StringConstraints(min_length=1, max_length=300)]
Summary = Literal["count", "last", "mean"]
AGE, MALE = "age", "male"
"""Names of the inputs from birth and sex."""


class Reading(Section):
    """Where a hospital's extract is."""

    data: Text = Field("data", description="the folder with the Parquet files of events, at any depth")
    hospital: Text | None = Field(None, description="the column with the hospital; none: the extract is one hospital's")
    labels: Text | None = Field(None, description="file or folder of labels in the form of MEDS, if they are used")
    splits: bool = Field(True, description="use metadata/subject_splits.parquet, where it is there, as published split")
    min_people: int = Field(
        5, ge=1, description="an input whose codes fewer people of the extract have is read as never recorded"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.hospital in ("subject_id", "time", "code", "numeric_value"):
            raise ValueError(f"hospital: {self.hospital} is a column of MEDS, not that of the hospital")
        return self


class Index(Section):
    """The event that makes an example, and the time at which is predicted."""

    codes: tuple[Code, ...] = Field(
        ..., min_length=1, description="codes such as of an admission; a * at the end stands for any ending"
    )
    which: Literal["first", "every"] = Field("first", description="of a person: the first such event, or every one")
    after_hours: float = Field(24.0, ge=0, le=87600, description="hours after it at which is predicted")


class Outcome(Section):
    """What is predicted."""

    codes: tuple[Code, ...] = Field(
        (), description="the event's codes; none: the labels of read.labels; a * at the end stands for any ending"
    )
    within_hours: float | None = Field(
        None, gt=0, description="the event counts within so many hours after the prediction; none: whenever it is"
    )
    values: tuple[Text, ...] = Field(
        ("false", "true"), min_length=2, max_length=50, description="labels: what stands in them, as text"
    )
    classes: tuple[ClassName, ...] = Field(("no event", "event"), min_length=2, description="a name for each class")
    title: str = Field("", max_length=200, description="the outcome in words, as in death in hospital")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.codes and len(self.classes) != 2:
            raise ValueError("classes: two names, of no event and of the event")
        if not self.codes and len(self.classes) != len(self.values):
            raise ValueError(f"classes: {len(self.values)} values need as many names")
        for what, given in (("classes", self.classes), ("values", self.values)):
            if len(set(given)) != len(given):
                raise ValueError(f"{what}: one of them occurs twice")
        return self


class Sex(Section):
    """The codes of the sex."""

    female: tuple[Code, ...] = Field(..., min_length=1, description="codes of female people")
    male: tuple[Code, ...] = Field(..., min_length=1, description="codes of male people")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if shared := set(self.female) & set(self.male):
            raise ValueError(f"{sorted(shared)[0]} stands for both sexes")
        return self


class Input(Section):
    """One or several inputs of the model, from the events of some codes."""

    name: InputName = Field(..., description="its name in the model and in reports")
    codes: tuple[Code, ...] = Field(
        (), description="the codes; none: the name itself; a * at the end stands for any ending"
    )
    summaries: tuple[Summary, ...] = Field(
        ("count",), min_length=1, description="number of events, last value, mean of the values"
    )
    unit: str = Field("", max_length=40, description="unit of the values, the same at every hospital")
    range: tuple[float, float] | None = Field(
        None, description="public range of a value: others are read as not measured, and private training clips to it"
    )
    ever: bool = Field(False, description="from all events before, and those without a time, not from the window alone")

    @model_validator(mode="before")
    @classmethod
    def _widen(cls, raw: Any) -> Any:
        """Accept whole numbers as ends of a range, which YAML does not write as fractions."""
        if isinstance(raw, dict) and isinstance(raw.get("range"), list | tuple):
            try:
                ends = tuple(float(v) if isinstance(v, int) and not isinstance(v, bool) else v for v in raw["range"])
            except OverflowError:
                raise ValueError("range: a number is too large") from None
            return raw | {"range": ends}
        return raw

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(set(self.summaries)) != len(self.summaries):
            raise ValueError("summaries: one of them occurs twice")
        if self.range is not None and not self.range[0] < self.range[1]:
            raise ValueError("range: two numbers, the lower one first")
        return self

    @property
    def patterns(self) -> tuple[str, ...]:
        """The codes or beginnings of codes."""
        return self.codes or (self.name,)

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the model's inputs."""
        return tuple(f"{self.name} {summary}" for summary in self.summaries)


class Description(Section):
    """Options of the data set `meds`."""

    title: str = Field("", max_length=200, description="what the data are, as the report says it")
    source: str = Field("", max_length=500, description="where the data come from")
    licence: str = Field("", max_length=200, description="who may use the data, and for what")
    question: str = Field("", max_length=200, description="what a model answers, as a question")
    synthetic: bool = Field(False, description="the data are generated, not from patients")
    read: Reading = Field(default_factory=Reading, description="where the files are; may differ between hospitals")
    index: Index | None = Field(None, description="the event that makes an example; none where labels name the times")
    outcome: Outcome = Field(..., description="what is predicted")
    window_hours: float | None = Field(24.0, gt=0, description="hours before the prediction that are used; none: all")
    birth: Code | None = Field("MEDS_BIRTH", description="code of the birth, for the age; none: age is no input")
    sex: Sex | None = Field(None, description="codes of the sex; none: sex is no input")
    inputs: tuple[Input, ...] = Field(..., min_length=1, max_length=2000, description="what it is predicted from")

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = self.feature_names
        if twice := sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []:
            raise ValueError(f"inputs: {twice[0]} occurs twice")
        if self.outcome.codes and self.index is None:
            raise ValueError("index: an outcome of codes needs the event that makes an example")
        if not self.outcome.codes and self.read.labels is None:
            raise ValueError("outcome: name its codes, or read.labels with a table of labels")
        return self

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the model's inputs."""
        people = (AGE,) * (self.birth is not None) + (MALE,) * (self.sex is not None)
        return (*people, *(name for item in self.inputs for name in item.features))

    def contract(self) -> dict[str, Any]:
        """Return what must be the same at every hospital, JSON-ready."""
        return self.model_dump(mode="json", exclude={"read", "title", "source", "licence", "question"})


def matches(patterns: tuple[str, ...], code: str) -> bool:
    """Return whether a code is one of `patterns`, in which a `*` at the end stands for any ending.

    >>> matches(("LAB//glucose", "ICU_ADMISSION*"), "ICU_ADMISSION//MICU"), matches(("LAB",), "LAB//glucose")
    (True, False)
    """
    return any(code.startswith(item[:-1]) if item.endswith("*") else code == item for item in patterns)


def input_name(code: str) -> str:
    """Return a code as the name of an input.

    >>> input_name("LAB//K=high")
    'LAB//K high'
    """
    return re.sub(r"[=\x00-\x1f]", " ", code)[:54]


def load_description(path: Path) -> Description:
    """Return the description in a file.

    Raises:
        ConfigError: no such file, or it is no description; names the key.
    """
    return validate_settings(Description, read_description(path), str(path))


def read_description(path: Path) -> dict[str, Any]:
    """Return the keys of a description's file, without those that name its format."""
    return read_description_file(path, "meds", FORMAT, "a MEDS extract")
