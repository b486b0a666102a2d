"""Report: the results of a run, as one frozen document that can be stored, published and rendered again.

Everything that the page, the table and the terminal show is in here, so report.json alone suffices to rebuild them.
`schema/report-2.json` is the published JSON Schema; `python -m experiments.report.document.report` regenerates it.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, Field, ValidationError, model_validator

from common.errors import DataError
from common.files import LONG_JSON
from common.metrics.drivers import Coefficients
from common.metrics.explanations import Explanation
from common.metrics.figures import FrozenModel
from common.old_names import FORMAT, replace_old_names
from common.run_folder import RunFolder
from experiments.report.document.latent import LatentView
from experiments.report.document.privacy import AuditResult, EvaluationPrivacy, PrivacySpent
from experiments.report.document.results import ModelDifference, ModelResult, WorstSite
from experiments.report.document.run import Data, Level, Notice, Round, Run, Site
from experiments.report.document.shift import LeftOutSite, Shift, TransferResult

SCHEMA_FILE = Path(__file__).parents[1] / "schema" / f"report-{FORMAT}.json"
SCHEMA = f"wardround.report/{FORMAT}"


class Report(FrozenModel):
    """A run's report; it cannot be created for synthetic data or repeatable noise without the notice that says so.

    Attributes:
        format: version of this document.
        run: the run's identity, settings and outcome.
        notices: sentences that accompany every result.
        data: what the data are.
        task: what is predicted, from what (common/task.py).
        sites: the hospitals.
        rounds: the completed rounds.
        planned_rounds: number of rounds requested; with `federation.patience` the most there could be.
        chosen_round: the round whose model was selected; None before the first validation.
        metric: the run's own metric, which selects the round and names the worst hospital.
        models: the models on test patients.
        differences: the federated model minus each other model.
        privacy: privacy spent by training at each hospital.
        evaluation_privacy: privacy spent by evaluation at each hospital; empty: results come from exact counts.
        views: latent space of each hospital, of an autoencoder.
        audit: the result of a privacy audit of this run.
        external: hospitals used for external validation only.
        shift: differences between the hospitals' data.
        transfers: local models tested at other hospitals.
        explanations: attributions of the inputs at each hospital.
        coefficients: the coefficients of a linear model; None for other models.
        gains: by input, by how much the splits of boosted trees lowered the training loss.
        left_out: results of leaving each hospital out in turn.
        left_out_worst: the hospital with the worst result when left out.
        lost: by hospital, why it last did not respond.
        partial: by hospital, what it missed of the run, and why.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    format: Literal["wardround.report/2"] = Field("wardround.report/2", alias="schema")
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
    evaluation_privacy: tuple[EvaluationPrivacy, ...] = ()
    views: dict[str, LatentView] = Field(default_factory=dict)
    audit: AuditResult | None = None
    external: tuple[str, ...] = ()
    shift: Shift | None = None
    transfers: tuple[TransferResult, ...] = ()
    explanations: dict[str, Explanation] = Field(default_factory=dict)
    coefficients: Coefficients | None = None
    gains: dict[str, float] = Field(default_factory=dict)
    left_out: tuple[LeftOutSite, ...] = ()
    left_out_worst: WorstSite | None = None
    lost: dict[str, str] = Field(default_factory=dict)
    partial: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _require_notices(self) -> Report:
        if self.data.synthetic and not self.has("synthetic"):
            raise ValueError("synthetic data need a notice of level synthetic")
        private = [item.private for item in self.privacy] + [item.private for item in self.evaluation_privacy]
        if not all(private) and not self.has("not-private"):
            raise ValueError("noise of a known seed needs a notice of level not-private")
        return self

    def __repr__(self) -> str:
        """Return one line: in full a report has hundreds of thousands of characters."""
        fields = "sites, models, notices, rounds and more as attributes"
        return f"<Report {self.run.id}: {self.run.status}, {len(self.sites)} hospitals; {fields}>"

    def __str__(self) -> str:
        return repr(self)

    def has(self, level: Level) -> bool:
        """Return whether there is a notice of this level."""
        return any(notice.level == level for notice in self.notices)

    def model(self, name: str) -> ModelResult | None:
        """Return the model of that name; None if it was not evaluated."""
        return next((model for model in self.models if model.name == name), None)

    @property
    def stopped_early(self) -> bool:
        """Whether the run trained fewer rounds than it could, because validation no longer improved."""
        patience = self.run.config.get("federation", {}).get("patience") or 0
        done = self.rounds[-1].number if self.rounds else 0
        waited = done - (self.chosen_round or 0) >= patience > 0
        return waited and done < self.planned_rounds

    @property
    def federated(self) -> ModelResult | None:
        """The federated model; None if it was not evaluated."""
        return self.model("federated")

    @property
    def locals(self) -> tuple[ModelResult, ...]:
        """The models that were trained at one hospital alone."""
        return tuple(model for model in self.models if model.kind == "local")

    @property
    def detecting(self) -> bool:
        """Whether the task is anomaly detection."""
        return bool(self.task.get("anomaly"))

    @property
    def binary(self) -> bool:
        """Whether the task is to predict one event or its absence."""
        return self.task.get("kind") == "multiclass" and len(self.task.get("classes", ())) == 2

    @property
    def class_titles(self) -> dict[str, str]:
        """The title of each class, in order; empty if no hospital reported its task."""
        names = [str(name) for name in self.task.get("classes", ())]
        titles = [str(title) for title in self.task.get("class_titles", names)]
        return dict(zip(names, titles, strict=False))


def to_json(report: Report) -> str:
    """Return the report as the text of report.json."""
    text = report.model_dump_json(by_alias=True, indent=1)
    if len(text) > LONG_JSON:
        text = report.model_dump_json(by_alias=True)
    return text + "\n"


def from_json(text: str) -> Report:
    """Return the report in the text of report.json.

    Raises:
        DataError: it is no report of this version or an earlier one; the message names the first field that is wrong.
    """
    try:
        return Report.model_validate_json(_upgrade(text))
    except ValidationError as problem:
        first = problem.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the document"
        raise DataError(f"not a {SCHEMA}: {where}: {first['msg']}; build it again") from None


def _upgrade(text: str) -> str:
    """Return report.json as this version writes it, from the text of this or an earlier version."""
    stated = re.match(r'\s*\{\s*"schema":\s*"wardround\.report/(\d+)"', text)
    version = int(stated[1]) if stated else FORMAT
    if version >= FORMAT:
        return text
    try:
        content = json.loads(text)
    except ValueError:
        return text  # its fault is found, and named, where the report is validated
    return json.dumps({**replace_old_names("report", content, version), "schema": SCHEMA})


def read_report(folder: Path) -> Report:
    """Return the report in a run's folder.

    Raises:
        DataError: there is no report.json, or it is none of this or an earlier version; the message names the file.
    """
    source = RunFolder(folder).report
    try:
        return from_json(source.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        raise DataError(f"cannot read {source}: give the folder of a run that has a report") from None
    except DataError as problem:
        raise DataError(f"{source} is {problem}") from None


def build_json_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of report.json."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:wardround:report:{FORMAT}",
        **Report.model_json_schema(by_alias=True, mode="serialization"),
    }


if __name__ == "__main__":
    SCHEMA_FILE.write_text(json.dumps(build_json_schema(), indent=1) + "\n", encoding="utf-8")
