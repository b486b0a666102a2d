"""Scoring: a run's saved model on recordings or rows that need no label, one after another.

A model gives logits for a cohort (`client.evaluation.predictions.Predictor`), and so does everything else that can be
scored: of a task of
two classes their difference is the log odds of the event, and a detector of the abnormal gives there its log anomaly
score. What cannot be scored is told with its reason; what is scored is a finite number.
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
from client.evaluation.anomaly_scores import AnomalyScores as Anomalies
from client.evaluation.predictions import Predictor, build_predictor
from client.policy import SIMULATION_POLICY
from client.site import load_site
from client.site_context import SiteContext
from common import config as configuration
from common import run_folder
from common.config import RunConfig
from common.errors import DataError, UsageError
from common.metrics.counts import class_log_odds
from common.scaling import Scaling
from common.task import Task
from experiments import restore
from sites import datasets
from sites.cohort import Cohort
from sites.datasets import Source
from sites.unlabelled import recordings, tables
from sites.unlabelled.recordings import BeatSource
from sites.unlabelled_rows import Exclusion, ScorableRows

Floats = npt.NDArray[np.float64]
CountCallback = Callable[[int, int], None]
NOT_FINITE = "the model's output is not a finite number"


@dataclass(frozen=True)
class ScoringModel:
    """A run's model, ready to score.

    `threshold`: log odds of the event, none: the likelier class; `synthetic`: it was trained on generated data.
    """

    run: str
    name: str
    config: RunConfig
    task: Task
    predict: Predictor
    scaling: Scaling | None = None
    threshold: float | None = None
    synthetic: bool = False

    def source(self, folder: Path) -> Source:
        """Return a folder as a data set of the run's kind.

        Raises:
            DataError: the program makes other inputs of recordings than it did when the model was trained.
        """
        found = datasets.open_source(self.config, folder)
        now = found.task()
        for part in ("channels", "samples", "rate_hz", "features", "channel_names", "units", "missing"):
            if getattr(now, part) != getattr(self.task, part):
                raise DataError(
                    f"run {self.run}: its model was trained on other inputs than this version makes of "
                    f"{found.card.name} ({part}): train again"
                )
        return found


@dataclass(frozen=True)
class Scored:
    """What a model says of some rows.

    `odds`: log odds of each class against the rest, `(rows, classes)`, finite, of a detector the log anomaly score and
    its opposite; `probability`: of the same shape, of a detector meaningless; `predicted`: class names, of several
    labels joined by `+`, of a detector without a threshold "".
    """

    rows: ScorableRows
    odds: Floats
    probability: Floats
    predicted: npt.NDArray[Any]


@dataclass
class Tally:
    """What was done: records, rows, rows of each class, and rows left out by reason (of whole records: `records`)."""

    records: int = 0
    rows: int = 0
    classes: Counter[str] = field(default_factory=Counter)
    left: Counter[str] = field(default_factory=Counter)
    without: Counter[str] = field(default_factory=Counter)
    beats: Counter[str] = field(default_factory=Counter)

    def add(self, found: Scored) -> None:
        """Count some rows and what was left out beside them."""
        here = found.rows.columns.get("record")
        self.records += len(set(here)) if here is not None else int(len(found.predicted) > 0)
        self.rows += len(found.predicted)
        self.classes.update(found.predicted.tolist())
        for item in found.rows.exclusions:
            self.leave(item)
        if found.rows.rate and not len(found.predicted):
            self.without["every window was left out"] += 1
        elif "beats" in found.rows.about:
            self.beats[found.rows.about["beats"]] += 1

    def leave(self, item: Exclusion) -> None:
        """Count what was left out."""
        if item.rows:
            self.left[item.reason] += item.rows
        else:
            self.without[item.reason] += 1


def open_model(folder: Path, name: str = "federated", site: str | None = None) -> ScoringModel:
    """Return a run's model.

    Args:
        folder: the run's folder.
        name: "federated", "pooled", "local:SITE", or "personal" (Ditto's, of `site`).
        site: the hospital whose own layers or scaling count, where the run has such.

    Raises:
        DataError: the folder is no run, holds no such model, or the model is not whole.
    """
    about = run_folder.read_run(folder)
    base = "federated" if name == "personal" else name
    model, task = restore.model(folder, base)
    config = configuration.load_config(folder / "config.yaml")
    outcome = restore.load_outcome(folder, base)
    if own := restore.load_site_weights(folder, model, config, name, site):
        model.load_state_dict({**model.state_dict(), **own})
    scaling = restore.load_scaling(folder, base)
    if input_scaling.resolve_scaling(config.data, task) == "site":
        where = site or (base.partition(":")[2] if base.startswith("local:") else None)
        scaling = _own_scaling(config, where)
    synthetic = bool(about.get("data", {}).get("synthetic")) or restore.has_synthetic_data(folder)
    return ScoringModel(
        about.get("id", folder.name),
        name,
        config,
        task,
        build_predictor(model, config, restore.load_latent(folder, base)),
        scaling,
        outcome.get("threshold"),
        synthetic,
    )


def _own_scaling(config: RunConfig, site: str | None) -> Scaling | None:
    """Return the scaling that a hospital of a simulated run makes of its own training patients."""
    if site is None:
        raise UsageError("data.scaling=site: each hospital scales by its own patients: say which with --site NAME")
    dealt = sorted(datasets.assign_hospitals(datasets.open_source(config, None), config)[0])
    if site not in dealt:
        raise UsageError(f"--site {site}: the run's hospitals are {', '.join(dealt)}")
    place = SiteContext(SIMULATION_POLICY, index=dealt.index(site), count=len(dealt))
    return input_scaling.fit_scaling([load_site(place, config).train], "site")


def score_rows(model: ScoringModel, rows: ScorableRows) -> Scored:
    """Score some rows; one whose score is not a finite number is left out."""
    found = model.predict(input_scaling.apply_scaling(_posed(rows.cohort, model.task), model.scaling))
    logits = np.asarray(found.logits if isinstance(found, Anomalies) else found, dtype=np.float64)
    good: npt.NDArray[np.bool_] = np.asarray(np.isfinite(logits).all(1))
    if not good.all():
        record = rows.columns.get("record", np.repeat(np.asarray(rows.cohort.patients[:1]), len(good)))
        lost = [Exclusion(str(name), NOT_FINITE, rows=1) for name in record[~good]]
        columns = {name: column[good] for name, column in rows.columns.items()}
        rows = ScorableRows(rows.cohort.take(good), columns, (*rows.exclusions, *lost), rows.rate, rows.about)
        logits = logits[good]
    classes = np.asarray(model.task.classes, dtype=object)
    if model.task.kind == "multilabel":
        odds = logits
        said = np.asarray(["+".join(classes[row > 0]) for row in odds], dtype=object)
    else:
        odds = class_log_odds(logits)
        classes = classes if model.threshold is not None or not model.task.anomaly else np.asarray(["", ""], object)
        above = None if model.threshold is None else (odds[:, 1] >= model.threshold).astype(np.int64)
        said = classes[logits.argmax(1) if above is None else above] if len(logits) else np.zeros(0, object)
    return Scored(rows, odds, 1 / (1 + np.exp(-np.clip(odds, -700, 700))), said)


def _posed(cohort: Cohort, task: Task) -> Cohort:
    """Return a cohort with the model's task: that of a detector differs from the data set's in its classes."""
    if not task.anomaly:
        return cohort
    return replace(cohort, task=task, y=np.zeros(len(cohort.y), np.int64), utility=None)


def score_records(
    model: ScoringModel, folder: Path, where: BeatSource, annotator: str, tell: CountCallback
) -> Iterator[Scored | Exclusion]:
    """Yield the scores of each recording of a folder, or why it has none; or those of the rows of its tables.

    Raises:
        UsageError: there is nothing to score, or not in the form of the run's data.
    """
    source = model.source(folder)
    if not model.task.channels or model.task.rate_hz < 1:
        done = 0
        for rows in tables.read_unlabelled_tables(source):
            yield score_rows(model, rows)
            done += len(rows.cohort.y)
            tell(done, 0)
        return
    form = recordings.input_form(source)
    names = recordings.find_recordings(folder)
    for i, name in enumerate(names):
        try:
            found: Scored | Exclusion = score_rows(model, recordings.read_rows(folder, name, form, where, annotator))
        except DataError as error:
            found = Exclusion(name, str(error))
        yield found
        tell(i + 1, len(names))


def synthetic_notice(model: ScoringModel, synthetic: bool) -> str:
    """Return what must stand beside every score, or nothing; `synthetic`: the recordings are generated."""
    if model.synthetic and synthetic:
        return "SYNTHETIC: the model was trained on generated data, and the data scored are generated"
    if model.synthetic:
        return "SYNTHETIC: the model was trained on generated data: no score says anything about a patient"
    return "SYNTHETIC: the data scored are generated" if synthetic else ""


def to_json(values: dict[str, Any]) -> str:
    """Return JSON with an end of line."""
    return json.dumps(values, indent=1) + "\n"
