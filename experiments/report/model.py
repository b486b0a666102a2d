"""Report: what came out of a run, as one frozen document that can be stored, published and drawn again.

Everything that the page, the table and the terminal show is in here, so that report.json alone suffices to
rebuild them. `schema/report-1.json` is the published JSON Schema; `python -m experiments.report.model` writes
it anew.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, Field, ValidationError, model_validator

from common.errors import DataError
from common.evaluation import Evaluation, Figure, Frozen
from common.figures import Explanation, Recalibration

SCHEMA_FILE = Path(__file__).parent / "schema" / "report-1.json"
Split = Literal["train", "validation", "test"]
Level = Literal["synthetic", "leak", "not-private", "warning"]


class Run(Frozen):
    """Which run this was. `created`: ISO 8601 in UTC; `commit`: of the code that ran, where known."""

    id: str
    name: str
    title: str = ""
    created: str = ""
    status: Literal["complete", "interrupted", "failed"]
    error: str = ""
    seconds: float = 0.0
    engine: str = ""
    seed: int | None = None
    config: dict[str, Any] = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=dict)
    commit: str | None = None


class Notice(Frozen):
    """A sentence that must stand beside every figure."""

    level: Level
    text: str


class Data(Frozen):
    """What the data are, in the words of their publishers."""

    title: str = ""
    inputs: str = ""
    labels: str = ""
    sites: str = ""
    splits: str = ""
    source: str = ""
    citation: str = ""
    licence: str = ""
    synthetic: bool = False
    warning: str = ""


class SplitCounts(Frozen):
    """How much one split of one hospital holds; `classes`: examples of each class, None: suppressed.

    `suppressed`: the least patients that the hospital tells of, where the split has fewer.
    """

    patients: int
    examples: int
    classes: dict[str, int | None]
    suppressed: int | None = None


class Site(Frozen):
    """One hospital.

    `excluded`: what was left out, counted; `shift`: how a simulation made it differ, in words; `lost`: why it
    last gave no answer.
    """

    name: str
    counts: dict[Split, SplitCounts]
    excluded: dict[str, int] = Field(default_factory=dict)
    shift: dict[str, str] = Field(default_factory=dict)
    lost: str | None = None


class RoundFigures(Frozen):
    """A round's model on validation patients."""

    examples: int
    patients: int
    accuracy: float | None = None
    macro_f1: float | None = None
    macro_auroc: float | None = None
    macro_auprc: float | None = None
    auroc: float | None = None
    auprc: float | None = None
    loss: float | None = None
    utility: float | None = None
    threshold: float | None = None


class RoundSite(Frozen):
    """One hospital in one round. `train`: what its training told (examples, loss, steps, ...)."""

    train: dict[str, float | int | bool | str | None] | None = None
    validation: RoundFigures | None = None


class Round(Frozen):
    """One round. `validation`: over all hospitals' validation patients; `chosen`: the best round so far."""

    number: int
    seconds: float = 0.0
    weights: str = ""
    chosen: int = 0
    validation: RoundFigures | None = None
    sites: dict[str, RoundSite] = Field(default_factory=dict)
    lost: dict[str, str] = Field(default_factory=dict)


class Subset(Frozen):
    """A model's figures by hospital and over all hospitals' patients.

    `suppressed`: hospitals that tell none, for fewer than so many patients.
    """

    sites: dict[str, Evaluation] = Field(default_factory=dict)
    pooled: Evaluation | None = None
    suppressed: dict[str, int] = Field(default_factory=dict)


class Worst(Frozen):
    """The hospital where a model does worst, by one metric."""

    site: str
    metric: str
    value: float


class Difference(Frozen):
    """What the federated model has more of a figure than another `model` on a hospital's test patients.

    `site`: a hospital, or `(pooled)`. `figure`: with a paired interval, both models resampled together; `note`: why
    there is no interval.
    """

    model: str
    site: str
    metric: str
    patients: int
    figure: Figure
    note: str = ""


class Gap(Frozen):
    """What lies between groups of patients of one attribute, at a hospital or `(pooled)`.

    `lowest`, `highest`: the groups with the least and the greatest value; `difference`, `ratio`: between them;
    `left_out`: groups of too few patients to compare.
    """

    attribute: str
    site: str
    metric: str
    overall: Figure
    lowest: str
    highest: str
    difference: Figure
    ratio: Figure
    left_out: tuple[str, ...] = ()


class ModelResult(Subset):
    """One model on test patients.

    `name`: federated, pooled, local:SITE, or another's; `without`: patients left out; `against`: normal examples and
    one abnormal class alone; `groups`: of patients (`sex=female`), by attribute, and `gaps` between them; `threshold`:
    the log odds from which on the event is called, chosen on validation patients, none: the likelier class;
    `recalibrated`: by method, its figures after each hospital recalibrated it on its validation patients;
    `recalibration`: by hospital.
    """

    name: str
    title: str
    kind: Literal["federated", "pooled", "local", "personal", "classical", "classical-local"]
    trained_at: str | None = None
    without: dict[str, Subset] = Field(default_factory=dict)
    against: dict[str, Subset] = Field(default_factory=dict)
    groups: dict[str, dict[str, Subset]] = Field(default_factory=dict)
    gaps: tuple[Gap, ...] = ()
    worst: Worst | None = None
    threshold: float | None = None
    recalibrated: dict[str, Subset] = Field(default_factory=dict)
    recalibration: dict[str, Recalibration] = Field(default_factory=dict)


class ColumnShift(Frozen):
    """A column of two hospitals: population stability index, KS, and the cells that a hospital suppressed."""

    name: str
    psi: float | None
    ks: float | None
    suppressed: int = 0


class PairShift(Frozen):
    """How far two hospitals' training patients lie apart (common/distance.py); `columns`: those farthest apart.

    `psi_large`: columns with a PSI over 0.25; `suppressed`: cells, over all columns.
    """

    one: str
    other: str
    label_distance: float | None
    label_association: float | None
    mmd: float | None
    lda_auroc: float | None
    psi_median: float | None
    psi_large: int
    columns: tuple[ColumnShift, ...] = ()
    suppressed: int = 0


class TwoSample(Frozen):
    """How well trees tell two hospitals' patients apart, in simulation (experiments/two_sample.py)."""

    one: str
    other: str
    auroc: Figure | None


class Shift(Frozen):
    """How far the hospitals lie apart; `shares`: of classes at each; `lost`: who was not compared, and why."""

    pairs: tuple[PairShift, ...]
    two_sample: tuple[TwoSample, ...] = ()
    shares: dict[str, tuple[float, ...]] = Field(default_factory=dict)
    columns: int = 0
    lost: dict[str, str] = Field(default_factory=dict)

    def exact(self, one: str, other: str) -> Figure | None:
        """Return how well trees tell two hospitals apart, if it was asked."""
        return next((item.auroc for item in self.two_sample if {item.one, item.other} == {one, other}), None)

    @property
    def hidden(self) -> int:
        """The cells that were suppressed."""
        return sum(item.suppressed for item in self.pairs)


class Overlay(Frozen):
    """One example beside what a model made of it, `(channels, samples)` each; `which`: best, median or worst."""

    kind: str = Field(alias="class")
    which: str
    error: float
    wanted: tuple[tuple[float, ...], ...]
    made: tuple[tuple[float, ...], ...]

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class LatentView(Frozen):
    """A hospital's test examples in the plane of most latent variance, as counts by class and cell.

    `cells`: along each axis; `reach`: standard deviations to either side; a cell's number is `cells * row + column`;
    `hidden`: examples in cells that hold too few people to be told.
    """

    cells: int
    reach: float
    counts: dict[str, dict[int, int]]
    hidden: dict[str, int] = Field(default_factory=dict)
    examples: tuple[Overlay, ...] = ()


class Travel(Frozen):
    """A model of one hospital at another, and why it does worse there, if it does (experiments/travel.py).

    `family`: which kind of model; `ranking`, `decision`: the two figures, which `home` (where it was trained),
    `away` (here), `mended` (here with a threshold of the hospital's own, made by `mend`) and `own` (this hospital's
    own model here) give; `lost`: away minus own, of the ranking; `gap`: likewise of the decision; `won`: mended minus
    away, of the decision.
    """

    family: str
    trained: str
    tested: str
    ranking: str
    decision: str
    mend: str = ""
    home: dict[str, Figure] | None = None
    away: dict[str, Figure]
    mended: dict[str, Figure] | None = None
    own: dict[str, Figure]
    lost: Figure
    gap: Figure
    won: Figure | None = None
    cause: Literal["ranking", "threshold", "both", "neither", "unknown"]
    verdict: str


class LeftOut(Frozen):
    """A hospital that was left out in turn: figures on its test patients of the model that trained there too
    (`internal`) and of the one that did not (`external`), and how much more the latter has, with paired intervals;
    `travel`: why, where the model that trained there too stands for the hospital's own.
    """

    site: str
    internal: Evaluation | None = None
    external: Evaluation | None = None
    difference: dict[str, Figure] = Field(default_factory=dict)
    travel: Travel | None = None


class Privacy(Frozen):
    """What one hospital's training spent of its patients' privacy, by its own ledger.

    `epsilon_run`, `epsilon`: of this run, and of all runs on the hospital's data, at `delta`; `units`: people (level
    patient) or examples (level record) that trained; `q`: chance of a unit to take part in a step; `sigma`: noise in
    norms of `clip`; `steps`: of this run; `private`: false where the noise can be repeated and taken away;
    `statistics`: noise of sums over patients that were charged before the first round, in norms of a unit's vector;
    `noise_at`: who adds the noise (level hospital).
    """

    site: str
    level: Literal["record", "patient", "hospital"]
    unit: str
    units: int
    epsilon_run: float
    epsilon: float
    delta: float
    q: float
    sigma: float
    clip: float
    steps: int
    accountant: Literal["rdp", "prv"]
    private: bool
    statistics: float | None = None
    noise_at: Literal["site", "server"] = "site"


class Audited(Frozen):
    """What an attack on the run's private training, repeated with canaries, proved (experiments/audit.py).

    `claimed`: epsilon of the training's steps, at most; `attack`, `seen`: lower bounds, by guesses and by the noise and
    weight measured, with `confidence`; `passed`: whether the claim is above both.
    """

    site: str
    unit: str
    canaries: int
    confidence: float
    delta: float
    claimed: float
    attack: float
    seen: float
    passed: bool


class Report(Frozen):
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
    differences: tuple[Difference, ...] = ()
    privacy: tuple[Privacy, ...] = ()
    views: dict[str, LatentView] = Field(default_factory=dict)
    audit: Audited | None = None
    external: tuple[str, ...] = ()
    shift: Shift | None = None
    travel: tuple[Travel, ...] = ()
    explanations: dict[str, Explanation] = Field(default_factory=dict)
    left_out: tuple[LeftOut, ...] = ()
    left_out_worst: Worst | None = None
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


def read(folder: Path) -> Report:
    """Return the report of the run in `folder`.

    Raises:
        DataError: there is no report.json, or it is no whole report of this version; the message names the file.
    """
    source = folder / "report.json"
    try:
        return from_json(source.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        raise DataError(f"cannot read {source}: name the folder of a run that has a report") from None
    except DataError as problem:
        raise DataError(f"{source} is {problem}") from None


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) that every report.json fulfils."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:wardround:report:1",
        **Report.model_json_schema(by_alias=True, mode="serialization"),
    }


if __name__ == "__main__":
    SCHEMA_FILE.write_text(json.dumps(json_schema(), indent=1) + "\n", encoding="utf-8")
