"""Report: what came out of a run, as one frozen document that can be stored, published and drawn again.

Everything that the page, the table and the terminal show is in here, so that report.json alone suffices to
rebuild them. `schema/report-1.json` is the published JSON Schema; `python -m experiments.report.document.report` writes
it anew.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, Field, ValidationError, model_validator

from common.errors import DataError
from common.metrics.explanations import Explanation
from common.metrics.figures import FrozenModel
from common.run_folder import RunFolder
from experiments.report.document.latent import LatentView
from experiments.report.document.privacy import AuditResult, PrivacySpent
from experiments.report.document.results import ModelDifference, ModelResult, WorstSite
from experiments.report.document.run import Data, Level, Notice, Round, Run, Site
from experiments.report.document.shift import LeftOutSite, Shift, TransferResult

SCHEMA_FILE = Path(__file__).parents[1] / "schema" / "report-1.json"


class Report(FrozenModel):
    """A run's report. Refuses to exist for made-up data without a notice that says so."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    format: Literal["wardround.report/1"] = Field("wardround.report/1", alias="schema")
    run: Run
    notices: tuple[Notice, ...] = ()
    data: Data = Data()
    task: dict[str, Any] = Field(default_factory=dict)
    sites: tuple[Site, ...] = ()
    rounds: tuple[Round, ...] = ()
    planned_rounds: int = 0
    chosen_round: int | None = None
    metric: str = "macro_f1"
    models: tuple[ModelResult, ...] = ()
    differences: tuple[ModelDifference, ...] = ()
    privacy: tuple[PrivacySpent, ...] = ()
    views: dict[str, LatentView] = Field(default_factory=dict)
    audit: AuditResult | None = None
    external: tuple[str, ...] = ()
    shift: Shift | None = None
    travel: tuple[TransferResult, ...] = ()
    explanations: dict[str, Explanation] = Field(default_factory=dict)
    left_out: tuple[LeftOutSite, ...] = ()
    left_out_worst: WorstSite | None = None
    lost: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _say_what_is_made_up(self) -> Report:
        if self.data.synthetic and not self.has("synthetic"):
            raise ValueError("synthetic data need a notice of level synthetic")
        if not all(item.private for item in self.privacy) and not self.has("not-private"):
            raise ValueError("noise of a known seed needs a notice of level not-private")
        return self

    def has(self, level: Level) -> bool:
        """Return whether a notice of this level stands beside the figures."""
        return any(notice.level == level for notice in self.notices)

    def model(self, name: str) -> ModelResult | None:
        """Return the model of that name, if it was evaluated."""
        return next((model for model in self.models if model.name == name), None)

    @property
    def federated(self) -> ModelResult | None:
        """The federation's own model, if it was evaluated."""
        return self.model("federated")

    @property
    def locals(self) -> tuple[ModelResult, ...]:
        """The models that one hospital trained alone."""
        return tuple(model for model in self.models if model.kind == "local")

    @property
    def detecting(self) -> bool:
        """Whether scores say how far from normal an example is."""
        return bool(self.task.get("anomaly"))

    @property
    def binary(self) -> bool:
        """Whether the task is to tell one event from its absence."""
        return self.task.get("kind") == "multiclass" and len(self.task.get("classes", ())) == 2

    @property
    def class_titles(self) -> dict[str, str]:
        """The classes with their titles, in order; empty where no hospital told its task."""
        names = [str(name) for name in self.task.get("classes", ())]
        titles = [str(title) for title in self.task.get("class_titles", names)]
        return dict(zip(names, titles, strict=False))


def to_json(report: Report) -> str:
    """Return the document that report.json holds."""
    return report.model_dump_json(by_alias=True, indent=1) + "\n"


def from_json(text: str) -> Report:
    """Read what `to_json` wrote.

    Raises:
        DataError: it is not a report of this version; the message names the first wrong place.
    """
    try:
        return Report.model_validate_json(text)
    except ValidationError as problem:
        first = problem.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the document"
        raise DataError(f"not a wardround.report/1: {where}: {first['msg']}; make it anew") from None


def read_report(folder: Path) -> Report:
    """Return the report of the run in `folder`.

    Raises:
        DataError: there is no report.json, or it is no whole report of this version; the message names the file.
    """
    source = RunFolder(folder).report
    try:
        return from_json(source.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        raise DataError(f"cannot read {source}: name the folder of a run that has a report") from None
    except DataError as problem:
        raise DataError(f"{source} is {problem}") from None


def build_json_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) that every report.json fulfils."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:wardround:report:1",
        **Report.model_json_schema(by_alias=True, mode="serialization"),
    }


if __name__ == "__main__":
    SCHEMA_FILE.write_text(json.dumps(build_json_schema(), indent=1) + "\n", encoding="utf-8")
