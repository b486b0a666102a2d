"""Scoring of recordings and rows without labels by a run's saved model, one record after another.

A model gives logits for a cohort (`client.evaluation.predictions.Predictor`). For two classes their difference is the
log odds of the event; an anomaly detector gives its log anomaly score in that place. Whatever cannot be scored is
reported with a reason; every score is a finite number.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from client import input_scaling
from client.evaluation.anomaly_scores import AnomalyScores
from client.evaluation.predictions import Predictor, build_predictor
from client.evaluation.tree_attribution import TreeExplainer, attribute_true_class
from common import run_folder
from common.config import RunConfig, load_config
from common.detection import to_detection_task
from common.errors import DataError, UsageError
from common.metrics.counts import class_log_odds
from common.run_folder import RunFolder
from common.scaling import Scaling
from common.task import Task
from common.trees import grows_trees
from experiments import restore
from experiments.runs.model_files import check_model_files
from experiments.scoring.rhythm import RhythmTally
from experiments.scoring.unusual_inputs import count_unusual_inputs
from sites import datasets
from sites.cohort import Cohort
from sites.datasets import Source
from sites.unlabelled import recordings, tables
from sites.unlabelled.recordings import BeatSource
from sites.unlabelled_rows import Exclusion, ScorableRows

Floats = npt.NDArray[np.float64]
CountCallback = Callable[[int, int], None]
"""Called with the number of records done and their total, which is 0 if it is not known."""
NOT_FINITE = "the model's output is not a finite number"


@dataclass(frozen=True)
class ScoringModel:
    """A run's model, ready to score.

    Attributes:
        run: the run's id.
        name: "federated", "pooled", "local:SITE" or "personal".
        config: the run's configuration.
        task: what the model predicts, from which inputs.
        predict: gives logits of a scaled cohort.
        scaling: how inputs are scaled; None: not at all.
        threshold: log odds at or above which the event is predicted; None: the likelier class is.
        synthetic: whether the model was trained on generated data.
        status: how the federation that trained the model ended, in federated.json's words; "": not stated.
        explainer: computes Shapley values of trees; None: none are wanted.
    """

    run: str
    name: str
    config: RunConfig
    task: Task
    predict: Predictor
    scaling: Scaling | None = None
    threshold: float | None = None
    synthetic: bool = False
    status: str = ""
    explainer: TreeExplainer | None = None

    def source(self, folder: Path) -> Source:
        """Return a folder as a data set of the run's kind.

        Raises:
            DataError: this version of the program makes other inputs of recordings than the model was trained on.
        """
        source = datasets.open_source(self.config, folder)
        now = source.task()
        if self.config.detecting:
            now = to_detection_task(now, self.config.detection)
        for part in ("channels", "samples", "rate_hz", "features", "channel_names", "units", "missing"):
            if getattr(now, part) != getattr(self.task, part):
                raise DataError(
                    f"run {self.run}: its model was trained on other inputs than this version makes of "
                    f"{source.card.name} ({part}): train again"
                )
        for part in ("kind", "classes", "utility", "anomaly", "against"):
            if getattr(now, part) != getattr(self.task, part):
                raise DataError(
                    f"run {self.run}: its federated.json names other classes than its config.yaml makes of "
                    f"{source.card.name} ({part}): restore both files, or train again"
                )
        return source

    def scale(self, cohort: Cohort) -> Cohort:
        """Return a cohort with its inputs as the model takes them."""
        return input_scaling.apply_scaling(cohort, self.scaling)


@dataclass(frozen=True)
class Scored:
    """A model's scores of some rows.

    Attributes:
        rows: the rows that were scored, and those that were not.
        odds: `(rows, classes)`, log odds of each class against the rest, finite; of a detector the logarithm of the
            anomaly score and its negative.
        probability: `(rows, classes)`; of a detector meaningless.
        predicted: `(rows,)`, class names; several labels are joined by `+`; of a detector without a threshold "".
        effects: `(rows, features)`, Shapley values of the inputs for the log odds of the event or, of more classes, for
            the logit of the likeliest one; None: not wanted.
    """

    rows: ScorableRows
    odds: Floats
    probability: Floats
    predicted: npt.NDArray[Any]
    effects: Floats | None = None


@dataclass
class Tally:
    """Counts of what was scored and what was not.

    Attributes:
        records: records with a score.
        rows: rows with a score.
        classes: rows by predicted class.
        left: rows without a score, by reason.
        without: records without any score, by reason.
        beats: records by how their beats were located.
        cleared: implausible cells that were read as not measured, by column and limits.
        suspicions: what looks wrong but may be right, by reason.
        rhythm: beats by rhythm.
    """

    records: int = 0
    rows: int = 0
    classes: Counter[str] = field(default_factory=Counter)
    left: Counter[str] = field(default_factory=Counter)
    without: Counter[str] = field(default_factory=Counter)
    beats: Counter[str] = field(default_factory=Counter)
    cleared: Counter[str] = field(default_factory=Counter)
    suspicions: Counter[str] = field(default_factory=Counter)
    rhythm: RhythmTally = field(default_factory=RhythmTally)

    def add(self, scored: Scored) -> None:
        """Count scored and excluded rows."""
        records = scored.rows.columns.get("record")
        self.records += len(set(records)) if records is not None else int(len(scored.predicted) > 0)
        self.rows += len(scored.predicted)
        self.classes.update(scored.predicted.tolist())
        self.cleared.update(scored.rows.cleared)
        self.suspicions.update(scored.rows.suspicions)
        self.rhythm.add(dict(scored.rows.columns), scored.predicted)
        for item in scored.rows.exclusions:
            self.add_exclusion(item)
        if scored.rows.rate and not len(scored.predicted):
            self.without["every window was left out"] += 1
        elif "beats" in scored.rows.about:
            self.beats[scored.rows.about["beats"]] += 1

    def add_exclusion(self, item: Exclusion) -> None:
        """Count rows, or a record, without a score."""
        if item.rows:
            self.left[item.reason] += item.rows
        else:
            self.without[item.reason] += 1


def open_model(
    folder: Path, name: str = "federated", site: str | None = None, *, explained: bool = False
) -> ScoringModel:
    """Return a run's model, ready to score.

    Args:
        folder: the run's folder.
        name: "federated", "pooled", "local:SITE", or "personal" (Ditto's model of the hospital `site`).
        site: the hospital whose own layers or scaling complete the model, where the run has such.
        explained: whether to compute Shapley values of the inputs.

    Raises:
        DataError: the folder is no run, or holds no such model, or not all of it.
        SiteError: Shapley values are wanted, and LightGBM is not installed.
        UsageError: each hospital has its own scaling, and `site` names none; or Shapley values are wanted of another
            model than trees.
    """
    about = run_folder.read_run(folder)
    base = "federated" if name == "personal" else name
    check_model_files(folder, about, base)
    model, task = restore.model(folder, name, site)
    config = load_config(RunFolder(folder).config)
    scaling = restore.load_scaling(folder, base)
    kind = input_scaling.resolve_scaling(config.data, task)
    if scaling is None and kind not in ("none", "site"):
        raise DataError(
            f"{RunFolder(folder).scaling(base)} is missing: inputs of this model are scaled by it; restore the file"
        )
    if kind == "site":
        scaling = _fit_own_scaling(config, site or (base.partition(":")[2] if base.startswith("local:") else None))
    if explained and (not grows_trees(config.model.name) or scaling is None or task.kind == "multilabel"):
        raise UsageError(
            f"--factors: {folder.name} is no model of trees for classes, and only those have Shapley values"
        )
    return ScoringModel(
        run=about.get("id", folder.name),
        name=name,
        config=config,
        task=task,
        predict=build_predictor(model, config, restore.load_latent(folder, base)),
        scaling=scaling,
        threshold=restore.load_outcome(folder, base).get("threshold"),
        status=str(restore.load_outcome(folder).get("status", "")),
        synthetic=bool(about.get("data", {}).get("synthetic")) or restore.has_synthetic_data(folder),
        explainer=TreeExplainer(model, task, scaling) if explained and scaling is not None else None,
    )


def _fit_own_scaling(config: RunConfig, site: str | None) -> Scaling | None:
    """Return the scaling that a hospital of a simulated run fits to its own training patients."""
    if site is None:
        raise UsageError("data.scaling=site: each hospital scales by its own patients: name one with --site NAME")
    from client.policy import SIMULATION_POLICY
    from client.site import load_site
    from client.site_context import SiteContext

    names = sorted(datasets.assign_hospitals(datasets.open_source(config, None), config)[0])
    if site not in names:
        raise UsageError(f"--site {site}: the run's hospitals are {', '.join(names)}")
    context = SiteContext(SIMULATION_POLICY, index=names.index(site), count=len(names))
    return input_scaling.fit_scaling([load_site(context, config).train], "site")


def score_rows(model: ScoringModel, rows: ScorableRows) -> Scored:
    """Score some rows; rows whose score is not a finite number are excluded with that reason."""
    scaled = model.scale(_set_task(rows.cohort, model.task))
    output = model.predict(scaled)
    logits = np.asarray(output.logits if isinstance(output, AnomalyScores) else output, dtype=np.float64)
    finite: npt.NDArray[np.bool_] = np.asarray(np.isfinite(logits).all(1))
    if not finite.all():
        record = rows.columns.get("record", np.repeat(np.asarray(rows.cohort.patients[:1]), len(finite)))
        excluded = [Exclusion(str(name), NOT_FINITE, rows=1) for name in record[~finite]]
        columns = {name: column[finite] for name, column in rows.columns.items()}
        exclusions = (*rows.exclusions, *excluded)
        rows = replace(rows, cohort=rows.cohort.take(finite), columns=columns, exclusions=exclusions)
        logits, scaled = logits[finite], scaled.take(finite)
    odds, predicted = _decide(model, logits)
    effects = None
    if model.explainer is not None:
        likeliest = np.ones(len(logits), np.int64) if model.task.binary else logits.argmax(1)
        effects = attribute_true_class(model.explainer, scaled.features, likeliest)
    return Scored(rows, odds, 1 / (1 + np.exp(-np.clip(odds, -700, 700))), predicted, effects)


def _decide(model: ScoringModel, logits: Floats) -> tuple[Floats, npt.NDArray[Any]]:
    """Return log odds `(rows, classes)` and the predicted class names `(rows,)`."""
    classes = np.asarray(model.task.classes, dtype=object)
    if model.task.kind == "multilabel":
        return logits, np.asarray(["+".join(classes[row > 0]) for row in logits], dtype=object)
    odds = class_log_odds(logits)
    if model.task.anomaly and model.threshold is None:
        classes = np.asarray(["", ""], object)
    if not len(logits):
        return odds, np.zeros(0, object)
    chosen = logits.argmax(1) if model.threshold is None else (odds[:, 1] >= model.threshold).astype(np.int64)
    return odds, classes[chosen]


def _set_task(cohort: Cohort, task: Task) -> Cohort:
    """Return a cohort with the model's task; a detector's differs from the data set's in its classes."""
    if not task.anomaly:
        return cohort
    return replace(cohort, task=task, y=np.zeros(len(cohort.y), np.int64), utility=None)


def score_records(
    model: ScoringModel, folder: Path, where: BeatSource, annotator: str, on_record: CountCallback
) -> Iterator[Scored | Exclusion]:
    """Yield the scores of each recording of a folder, or why it has none; or the scores of the rows of its tables.

    Args:
        model: the model.
        folder: recordings, or tables of the run's data set.
        where: how beats are located.
        annotator: suffix of reference annotations.
        on_record: called after each record.

    Raises:
        UsageError: there is nothing to score, or not in the form of the run's data.
    """
    source = model.source(folder)
    if not model.task.channels or model.task.rate_hz < 1:
        done = 0
        for rows in tables.read_unlabelled_tables(source):
            unusual = count_unusual_inputs(rows.cohort, model.scaling)
            yield score_rows(model, replace(rows, suspicions={**rows.suspicions, **unusual}))
            done += len(rows.cohort.y)
            on_record(done, 0)
        return
    form = recordings.input_form(source)
    names = recordings.find_recordings(folder)
    for i, name in enumerate(names):
        try:
            item: Scored | Exclusion = score_rows(model, recordings.read_rows(folder, name, form, where, annotator))
        except DataError as error:
            item = Exclusion(name, str(error))
        except Exception as error:  # of one recording: the others are still scored; its text may quote the data
            item = Exclusion(
                name, f"{name} cannot be read ({type(error).__name__}): check it with `wardround data verify`"
            )
        yield item
        on_record(i + 1, len(names))


def synthetic_notice(model: ScoringModel, synthetic: bool) -> str:
    """Return the notice that must accompany every score, or ""; `synthetic`: the scored data are generated."""
    if model.synthetic and synthetic:
        return "SYNTHETIC: the model was trained on generated data, and the data scored are generated"
    if model.synthetic:
        return "SYNTHETIC: the model was trained on generated data: no score says anything about a patient"
    return "SYNTHETIC: the data scored are generated" if synthetic else ""


def to_json(values: dict[str, Any]) -> str:
    """Return indented JSON with a final newline."""
    return json.dumps(values, indent=1) + "\n"
