"""The description of a table: which column is what, in which unit, and how missing values are written.

It is a YAML file `table.yaml` next to the data, and the same keys stand under `data.options` of a run. The keys of
`read` say how the files are read, and may differ between hospitals. All other keys are the contract: what is predicted
from what, which must be the same at every hospital.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from common.errors import ConfigError
from common.settings import Section, validate_settings
from sites.own_description import find_first_difference, read_description_file

FILE_NAME = "table.yaml"
"""Name of the description in a data folder."""
FORMAT = 1
"""Version of the keys of the file."""
Text = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Cell = Annotated[str, StringConstraints(max_length=200, strip_whitespace=True)]
"""What stands in a cell, around which spaces do not count."""
ClassName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9 _.+/-]{0,39}$")]
InputName = Annotated[str, StringConstraints(pattern=r"^[^=\x00-\x1f]{1,60}$")]
MEASURED = " measured"
"""Ending of the name of the 0/1 input that says whether another input was measured."""


class Reading(Section):
    """How a hospital's files are read."""

    files: tuple[Text, ...] = Field(
        ("*.csv",), min_length=1, description="names or patterns of the files in the data folder, as in visits-*.csv"
    )
    delimiter: Literal[",", ";", "\t", "|"] = Field(",", description="what separates the columns of a text file")
    decimal: Literal[".", ","] = Field(".", description="what separates whole numbers from fractions")
    encoding: Text = Field("utf-8", description="encoding of the text files, as Python names it")
    missing: tuple[Cell, ...] = Field(
        ("", "NA", "NaN", "nan", "null", "NULL", "?"), description="what stands in a cell that was not measured"
    )
    hospital: Text | None = Field(None, description="the column with the name of the hospital; none: see hospital_from")
    hospital_from: Literal["file", "folder"] = Field(
        "folder", description="without a column: each file is a hospital; or the whole folder is one"
    )
    columns: dict[str, Text] = Field(
        default_factory=dict,
        description="columns that are called differently in these files: contract's name: file's name",
    )


class Sex(Section):
    """The column with the patients' sex."""

    column: Text = Field(..., description="the column")
    female: tuple[Cell, ...] = Field(("F", "f", "female"), min_length=1, description="what stands for female")
    male: tuple[Cell, ...] = Field(("M", "m", "male"), min_length=1, description="what stands for male")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if shared := set(self.female) & set(self.male):
            raise ValueError(f"{sorted(shared)[0]!r} stands for both sexes")
        return self


class Outcome(Section):
    """What is predicted."""

    column: Text = Field(..., description="the column")
    values: tuple[Cell, ...] = Field(
        ..., min_length=2, max_length=50, description="what stands in it; of two, the second is the event"
    )
    classes: tuple[ClassName, ...] = Field((), description="a name for each of the values; none: the values themselves")
    title: str = Field("", max_length=200, description="the outcome in words, as in death in hospital")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(set(self.values)) != len(self.values):
            raise ValueError("values: one of them occurs twice")
        if self.classes and len(self.classes) != len(self.values):
            raise ValueError(
                f"classes: {len(self.values)} values need {len(self.values)} names, not {len(self.classes)}"
            )
        if len(set(self.names)) != len(self.values):
            raise ValueError("classes: two values need two names")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The name of each class."""
        if self.classes:
            return self.classes
        names = tuple(re.sub(r"[^A-Za-z0-9 _.+/-]", "", value).strip() for value in self.values)
        return tuple(name if re.match(r"[A-Za-z0-9]", name) else f"class {i}" for i, name in enumerate(names))


class Time(Section):
    """Rows in time: several rows of a patient, in which an event is predicted some hours ahead."""

    column: Text = Field(..., description="the column: hours (a number), or date and time in ISO 8601")
    ahead_hours: float = Field(
        0.0, ge=0, le=8760, description="a row is labelled with the event if it begins within so many hours"
    )
    after: Literal["keep", "drop"] = Field(
        "drop", description="rows after the event has begun: keep them as labelled, or leave them out"
    )
    carry: bool = Field(True, description="use the last measured value where none was measured in a row")


class Input(Section):
    """One input of the model."""

    name: InputName = Field(..., description="its name in the model and in reports")
    column: Text | None = Field(None, description="the column; none: the same name")
    kind: Literal["number", "yes_no", "category"] = Field("number", description="kind of the values")
    unit: str = Field("", max_length=40, description="unit of a number, the same at every hospital")
    range: tuple[float, float] | None = Field(
        None,
        description="public range of a number, as from a textbook: cells outside it are read as not measured, and "
        "private training clips to it",
    )
    yes_values: tuple[Cell, ...] = Field(("1", "yes", "true"), min_length=1, description="yes_no: what stands for yes")
    no_values: tuple[Cell, ...] = Field(("0", "no", "false"), min_length=1, description="yes_no: what stands for no")
    values: tuple[Cell, ...] = Field(
        (), max_length=200, description="category: the values, each of which is a 0/1 input"
    )
    others: Literal["refuse", "missing"] = Field(
        "refuse", description="a value that is not named here: refuse the file, or read it as not measured"
    )
    indicator: bool = Field(False, description="a further 0/1 input that says whether this one was measured")

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
        if self.kind == "category" and not self.values:
            raise ValueError("a category needs values")
        if len(set(self.values)) != len(self.values):
            raise ValueError("values: one of them occurs twice")
        if self.range is not None and not (self.kind == "number" and self.range[0] < self.range[1]):
            raise ValueError("range: two numbers, the lower one first, for an input of kind number")
        if self.kind == "yes_no" and set(self.yes_values) & set(self.no_values):
            raise ValueError("yes_values and no_values share a value")
        return self

    @property
    def source(self) -> str:
        """Name of the column in the contract."""
        return self.column or self.name

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the model's inputs that come from this column."""
        own = tuple(f"{self.name}={value}" for value in self.values) if self.kind == "category" else (self.name,)
        return (*own, self.name + MEASURED) if self.indicator else own


class Description(Section):
    """Options of the data set `table`."""

    title: str = Field("", max_length=200, description="what the data are, as the report says it")
    source: str = Field("", max_length=500, description="where the data come from")
    licence: str = Field("", max_length=200, description="who may use the data, and for what")
    question: str = Field("", max_length=200, description="what a model answers, as a question")
    synthetic: bool = Field(False, description="the data are generated, not from patients")
    read: Reading = Field(default_factory=Reading, description="how the files are read; may differ between hospitals")
    patient: Text | None = Field(None, description="the column that says which patient; none: each row is a patient")
    age: Text | None = Field(None, description="the column with the age in years, for figures by age")
    sex: Sex | None = Field(None, description="the column with the sex, for figures by sex")
    time: Time | None = Field(None, description="rows in time, with an event ahead")
    outcome: Outcome = Field(..., description="what is predicted")
    inputs: tuple[Input, ...] = Field(..., min_length=1, max_length=2000, description="what it is predicted from")

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = [name for item in self.inputs for name in item.features]
        if twice := sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []:
            raise ValueError(f"inputs: {twice[0]} occurs twice")
        roles = [self.patient, self.read.hospital, self.outcome.column, self.time and self.time.column]
        if twice := [name for name in roles if name and roles.count(name) > 1]:
            raise ValueError(f"{twice[0]} is two of: patient, read.hospital, outcome.column, time.column")
        identifiers = {self.patient, self.read.hospital, self.outcome.column} - {None}
        for role, name in (("age", self.age), ("sex.column", self.sex and self.sex.column)):
            if name in identifiers:
                raise ValueError(f"{role}: {name} is the column of the patient, the hospital or the outcome")
        self._check_missing()
        for item in self.inputs:
            if item.source in identifiers:
                raise ValueError(f"inputs: {item.source} is the column of the patient, the hospital or the outcome")
        if self.time is not None and self.patient is None:
            raise ValueError("time: rows in time need the column of the patient")
        if self.time is not None and len(self.outcome.values) != 2:
            raise ValueError("time: an event ahead needs an outcome of two values")
        return self

    def _check_missing(self) -> None:
        """Check that no word stands for a value and for a missing cell."""
        words: list[tuple[str, tuple[str, ...]]] = [("outcome.values", self.outcome.values)]
        if self.sex is not None:
            words.append(("sex", (*self.sex.female, *self.sex.male)))
        for item in self.inputs:
            if item.kind == "category":
                words.append((f"values of input {item.name}", item.values))
            elif item.kind == "yes_no":
                words.append((f"yes_values or no_values of input {item.name}", (*item.yes_values, *item.no_values)))
        absent = {*self.read.missing, ""}
        for where, values in words:
            if both := [value for value in values if value in absent]:
                raise ValueError(f"read.missing: {both[0]!r} stands for a missing cell, and under {where} for a value")

    def contract(self) -> dict[str, Any]:
        """Return what must be the same at every hospital, JSON-ready."""
        return self.model_dump(mode="json", exclude={"read", "title", "source", "licence", "question"})

    def needed_columns(self, *, labelled: bool = True) -> tuple[str, ...]:
        """Return the columns that are read, by their names in the contract."""
        wanted = [self.patient, self.age, self.sex and self.sex.column, self.time and self.time.column]
        wanted += [self.outcome.column] if labelled else []
        wanted += [item.source for item in self.inputs]
        return tuple(dict.fromkeys(name for name in wanted if name))


def load_description(path: Path) -> Description:
    """Return the description in a file.

    Raises:
        ConfigError: no such file, or it is no description; names the key.
    """
    description = validate_settings(Description, read_description(path), str(path))
    known = {*description.needed_columns(), description.read.hospital}
    if unknown := [name for name in description.read.columns if name not in known]:
        raise ConfigError(
            f"{path}: read.columns: {unknown[0]} is no column of this description: the name in the description comes "
            "first, the file's name after it"
        )
    return description


def read_description(path: Path) -> dict[str, Any]:
    """Return the keys of a description's file, without those that name its format.

    Raises:
        ConfigError: no such file, not YAML, or a description of something else.
    """
    return read_description_file(path, "table", FORMAT, "a table")


def find_difference(one: Description, other: Description) -> str:
    """Return the first key in which two contracts differ, as in `inputs.3.unit`, or ""; no value is named."""
    return find_first_difference(one.contract(), other.contract())
