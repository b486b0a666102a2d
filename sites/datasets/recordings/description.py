"""The description of a folder of recordings: which examples, from which leads, in which classes.

It is a YAML file `recordings.yaml` in the data folder, and the same keys stand under `data.options` of a run. The keys
of `read` say where this folder's files, annotations and patients are, and may differ between hospitals. All other keys
are the contract, which must be the same at every hospital.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from common.settings import Section, validate_settings
from sites.datasets.table.description import Cell, ClassName, Sex, Text
from sites.ecg.annotations import AAMI_CLASSES
from sites.ecg.beat_cohort import BeatView
from sites.own_description import read_description_file

FILE_NAME = "recordings.yaml"
"""Name of the description in a data folder."""
FORMAT = 1
"""Version of the keys of the file."""
LeadName = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f]{1,40}$")]
Ending = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_]{1,12}$")]


class LabelTable(Section):
    """A CSV or Parquet file with one row a recording."""

    file: Text = Field(..., description="the file, in the data folder")
    delimiter: Literal[",", ";", "\t", "|"] = Field(",", description="what separates the columns of a text file")
    decimal: Literal[".", ","] = Field(".", description="what separates whole numbers from fractions")
    encoding: Text = Field("utf-8", description="encoding of a text file, as Python names it")
    missing: tuple[Cell, ...] = Field(("", "NA"), description="what stands in a cell that is not known")
    recording: Text = Field("recording", description="the column with the name of the recording, without its ending")
    label: Text | None = Field(None, description="the column with the label, where labels come from the table")
    patient: Text | None = Field(None, description="the column that says which patient")
    hospital: Text | None = Field(None, description="the column with the name of the hospital")
    age: Text | None = Field(None, description="the column with the age in years")
    sex: Sex | None = Field(None, description="the column with the sex")


class Reading(Section):
    """Where a hospital's recordings, annotations and patients are."""

    files: Literal["wfdb", "edf"] = Field("wfdb", description="kind of the recordings")
    annotator: Ending | None = Field(
        "atr",
        description="ending of the WFDB annotation files next to the recordings; none: EDF+ annotations in the file "
        "itself, or, where labels come from a table, R peaks that are detected",
    )
    table: LabelTable | None = Field(None, description="a table with labels, patients or hospitals")
    patient: Literal["header", "folder", "recording"] = Field(
        "header",
        description="without a column: whose a recording is by its header, name and contents; or its folder is the "
        "patient; or each recording is one patient's",
    )
    persons: dict[str, Text] = Field(
        default_factory=dict, description="recording: patient, for those whom the rule above would get wrong"
    )
    hospital: Literal["whole", "folder"] = Field(
        "whole", description="without a column: the data folder is one hospital, or each folder in it is one"
    )
    skip: tuple[Text, ...] = Field((), description="recordings that are not used, such as those of paced hearts")
    leads: dict[str, LeadName] = Field(
        default_factory=dict, description="leads that are called otherwise here: name in these files: contract's name"
    )


class Class(Section):
    """A class and what stands for it."""

    name: ClassName = Field(..., description="its name")
    title: str = Field("", max_length=200, description="the class in words")
    values: tuple[Cell, ...] = Field(
        ..., min_length=1, description="what stands for it: codes of beats, names of rhythms, or labels of the table"
    )


class Description(BeatView):
    """Options of the data set `recordings`."""

    title: str = Field("", max_length=200, description="what the data are, as the report says it")
    source: str = Field("", max_length=500, description="where the data come from")
    licence: str = Field("", max_length=200, description="who may use the data, and for what")
    question: str = Field("", max_length=200, description="what a model answers, as a question")
    synthetic: bool = Field(False, description="the data are generated, not from patients")
    read: Reading = Field(default_factory=Reading, description="where the files are; may differ between hospitals")
    examples: Literal["beats", "strips"] = Field(
        "beats", description="an example is a beat, or a strip of some seconds"
    )
    labels: Literal["beats", "rhythms", "table"] = Field(
        "beats",
        description="the label is the beat's annotation, the rhythm's annotation, or in the table of recordings",
    )
    classes: tuple[Class, ...] = Field(..., min_length=2, max_length=50, description="the classes, in order")
    target: str = Field("", max_length=200, description="what is predicted, in words")
    strip_leads: tuple[LeadName, ...] = Field(("II",), min_length=1, max_length=32, description="strips: the leads")
    seconds: int = Field(10, ge=1, le=300, description="strips: length")
    rate: int = Field(100, ge=50, le=1000, description="strips: Hz to which they are resampled")
    band: tuple[float, float] | None = Field((0.5, 40.0), description="strips: pass band in Hz; none: not filtered")

    @model_validator(mode="before")
    @classmethod
    def _widen(cls, raw: Any) -> Any:
        """Accept whole numbers as edges of the band, which YAML does not write as fractions."""
        if isinstance(raw, dict) and isinstance(raw.get("band"), list | tuple):
            edges = tuple(float(v) if isinstance(v, int) and not isinstance(v, bool) else v for v in raw["band"])
            return raw | {"band": edges}
        return raw

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = [item.name for item in self.classes]
        values = [value for item in self.classes for value in item.values]
        for what, given in (("two have the name", names), ("two hold the value", values)):
            if twice := sorted({value for value in given if given.count(value) > 1}):
                raise ValueError(f"classes: {what} {twice[0]}")
        if len(set(self.strip_leads)) < len(self.strip_leads):
            raise ValueError("strip_leads: one of them is listed twice")
        if self.examples == "strips" and self.labels == "beats":
            raise ValueError("labels: a strip has the label of its rhythm (rhythms) or of its recording (table)")
        if self.examples == "beats" and self.labels == "rhythms":
            raise ValueError("labels: a beat has the label of its annotation (beats) or of its recording (table)")
        if self.labels == "table" and (self.read.table is None or self.read.table.label is None):
            raise ValueError("labels: from a table, which read.table names with its column label")
        if self.labels != "table" and self.read.annotator is None and self.read.files == "wfdb":
            raise ValueError("labels: annotations, whose ending read.annotator names")
        if self.band is not None and not 0 < self.band[0] < self.band[1] <= self.rate / 2:
            raise ValueError("band: two frequencies, the lower one first, at most half of rate")
        if self.labels == "beats" and self.read.annotator is not None:
            for value in values:
                if value not in AAMI_CLASSES:
                    raise ValueError(f"classes: {value} is no code of a beat in WFDB: {' '.join(AAMI_CLASSES)}")
        return self

    def contract(self) -> dict[str, Any]:
        """Return what must be the same at every hospital, JSON-ready."""
        return self.model_dump(mode="json", exclude={"read", "title", "source", "licence", "question"})

    @property
    def class_index(self) -> dict[str, int]:
        """The number of the class of each value."""
        return {value: i for i, item in enumerate(self.classes) for value in item.values}


def load_description(path: Path) -> Description:
    """Return the description in a file.

    Raises:
        ConfigError: no such file, or it is no description; names the key.
    """
    return validate_settings(Description, read_description(path), str(path))


def read_description(path: Path) -> dict[str, Any]:
    """Return the keys of a description's file, without those that name its format."""
    return read_description_file(path, "recordings", FORMAT, "a folder of recordings")
