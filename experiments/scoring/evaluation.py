"""Evaluation of a run's saved model on the labelled data of a hospital that took no part, with a report.

The figures and their intervals are those of a run's final test, over all patients of the data. An example that the
model cannot score (its output is not a finite number, or nothing had been measured, so that `wardround score` gives it
no score) is not left out: it counts as the lowest score of these data, hence as no alarm, and the report says how many
there are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from client.evaluation.anomaly_scores import AnomalyScores
from client.evaluation.evaluate import evaluate_site
from client.evaluation.predictions import Predictions, compute_predictions
from client.input_scaling import resolve_scaling
from client.site import Site
from common.errors import DataError
from common.files import write_json
from common.metrics.figures import Evaluation
from common.provenance import installed_versions
from common.replies import FinalTestReply
from common.reports import FinalTestReport
from common.run_folder import RunFolder, Stopwatch, read_run, update_run, write_run_description
from experiments.scoring.score import ScoringModel
from experiments.scoring.training_overlap import find_overlap
from experiments.scoring.unusual_inputs import describe_unusual_inputs
from server.phases.test import combine_evaluations
from sites.anomaly_task import to_anomaly_task
from sites.cohort import SPLITS, Cohort
from sites.datasets import Source
from sites.outliers import clear_outliers
from sites.suspicions import note_suspicions
from sites.unlabelled.tables import read_unlabelled_tables

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class HospitalEvaluation:
    """A model's figures at one hospital.

    Attributes:
        cohort: the hospital's examples, all of them test examples.
        reply: figures and counts, as a site sends them in a run's final test.
        unscored: `(examples,)`, examples that the model gives no score.
    """

    cohort: Cohort
    reply: FinalTestReply
    unscored: Mask


def evaluate_model(model: ScoringModel, run_folder: Path, data: Path, out: Path, name: str) -> Path:
    """Evaluate a model on a folder of labelled data and write a report; return the report's folder.

    Args:
        model: the model.
        run_folder: the folder of the model's run.
        data: the hospital's folder, in the layout of the run's data set; where it holds several hospitals, each gets
            figures of its own, and all together.
        out: the folder to write to: report.json, report.html and what else a run's report has.
        name: the hospital's name in the report, where the data name none.

    Raises:
        DataError: the data cannot be read or hold nobody, or `out` is the folder of a run.
    """
    from experiments.runs.run import write_run_report

    if RunFolder(out).events.exists():
        raise DataError(f"{out} is the folder of a run: choose another with --out")
    stopwatch = Stopwatch()
    source = model.source(data)
    scaled = resolve_scaling(model.config.data, model.task) != "none"
    cohorts = _read_hospitals(source, name, scaled=scaled)
    about = read_run(run_folder)
    notices = [*_keep_notices(model, about), *_run_notices(model, about)]
    if overlap := find_overlap(model.config, model.name, cohorts.values()):
        notices.append(overlap)
    notices += [{"level": "warning", "text": text} for text in describe_unusual_inputs(cohorts, model.scaling)]
    hospitals = {site: _evaluate_hospital(model, site, source, cohort) for site, cohort in cohorts.items()}
    replies = {site: item.reply for site, item in hospitals.items()}
    by_table, pooled = combine_evaluations(model.task, replies)
    out.mkdir(parents=True, exist_ok=True)
    title = f"{about.get('title') or model.run}, {model.name} model, evaluated at {', '.join(hospitals)}"
    write_run_description(model.config, out, asdict(source.card), [*notices, *_unscored_notices(hospitals)])
    update_run(out, id=model.run, title=title[:200])
    write_json(RunFolder(out).outcome, _describe_outcome(model, hospitals, by_table, pooled, stopwatch.seconds()))
    write_run_report(out, status="complete", seconds=stopwatch.seconds())
    return out


def _read_hospitals(source: Source, name: str, *, scaled: bool) -> dict[str, Cohort]:
    """Return the examples of each hospital in a folder, of one under `name`, with the same checks as for training.

    Args:
        source: the data.
        name: the name of a hospital that the data name none for.
        scaled: whether the model's inputs are scaled, so that training took no outliers.

    Raises:
        ConfigError: the folder's own description differs from the run's.
    """
    if (source.folder / getattr(source.module, "FILE_NAME", "")).is_file():
        source.module.check_site_folder(source.folder, source.options)
    patients = source.patients()
    if not patients:
        raise DataError(f"no patients in {source.folder}")
    sites = {item.site for item in patients}
    ids: dict[str, list[str]] = {}
    for item in patients:
        ids.setdefault(item.site if item.site and len(sites) > 1 else name, []).append(item.id)
    bounds = source.bounds()
    cohorts: dict[str, Cohort] = {}
    for site, members in sorted(ids.items()):
        cohort = source.read(sorted(members))
        if scaled:
            cohort = clear_outliers(cohort, bounds)
        cohorts[site] = note_suspicions(cohort, bounds, source.event_share)
    return cohorts


def _evaluate_hospital(model: ScoringModel, name: str, source: Source, cohort: Cohort) -> HospitalEvaluation:
    cohort = cohort.with_split(np.full(len(cohort.y), SPLITS.index("test"), np.int8))
    if model.config.detecting:  # its task leaves out examples without a measured value, and counts them
        cohort = to_anomaly_task(cohort, model.config)
        unmeasured = np.zeros(len(cohort.y), bool)
    else:
        unmeasured = find_unscored(source, cohort)
    raw = Site.from_cohort(name, cohort, cohort.synthetic)
    site = replace(raw, test=model.scale(cohort))
    predictions = compute_predictions(model.predict, site.test)
    logits = np.asarray(predictions, dtype=np.float64)
    unscored: Mask = unmeasured | ~np.isfinite(logits).all(1)
    filled = fill_unscored(predictions, unscored, model)
    evaluation = model.config.evaluation.model_copy(update={"without": {}, "recalibrate": ()})
    config = model.config.model_copy(update={"evaluation": evaluation})
    result = evaluate_site(lambda _: filled, site, config, True, model.threshold, raw=raw)
    return HospitalEvaluation(
        cohort, FinalTestReply(name, FinalTestReport(evaluations=result.results), result.tables), unscored
    )


def find_unscored(source: Source, cohort: Cohort) -> Mask:
    """Return which labelled examples `wardround score` cannot score, because nothing has been measured yet.

    Raises:
        DataError: the rows to score are of other patients than the labelled ones.
    """
    unscored = np.zeros(len(cohort.y), bool)
    if not hasattr(source.module, "unlabelled_rows"):
        return unscored
    scored: Counter[str] = Counter()
    for rows in read_unlabelled_tables(source):
        scored.update(str(record) for record in rows.columns["record"])
    names = [str(name) for name in cohort.patients]
    if scored and not scored.keys() & set(names):
        raise DataError(f"{source.folder}: the rows to score and the labelled ones name patients differently")
    for patient, name in enumerate(names):
        patient_rows = np.flatnonzero(cohort.patient == patient)
        unscored[patient_rows[: max(0, len(patient_rows) - scored[name])]] = True
    return unscored


def fill_unscored(predictions: Predictions, unscored: Mask, model: ScoringModel) -> Predictions:
    """Return predictions in which examples without a score have the lowest one, below the threshold.

    Of more than two classes such an example gets equal logits, which decide for the first class; of several labels
    the lowest logit of each label.
    """
    if not unscored.any():
        return predictions
    logits = np.array(predictions, dtype=np.float32)
    known = logits[~unscored]
    if model.task.kind == "multilabel":
        lowest = known.min(0) if len(known) else np.zeros(logits.shape[1])
        logits[unscored] = np.minimum(lowest, -1.0)
    elif logits.shape[1] == 2:
        limit = 0.0 if model.threshold is None else model.threshold
        odds = known[:, 1] - known[:, 0]
        logits[unscored] = 0.0, min(float(odds.min()) if len(odds) else 0.0, limit - 1.0)
    else:
        logits[unscored] = 0.0
    if isinstance(predictions, AnomalyScores):
        return AnomalyScores(logits, np.where(unscored, 0.0, predictions.losses))
    return logits


def _keep_notices(model: ScoringModel, about: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the notices of the model's run, and one where it was trained on generated data."""
    notices = [dict(item) for item in about.get("notices", ())]
    if model.synthetic and not any(item.get("level") == "synthetic" for item in notices):
        text = "The model was trained on generated data. No figure says anything about real patients."
        notices.insert(0, {"level": "synthetic", "text": text})
    return notices


def _run_notices(model: ScoringModel, about: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return a notice where the run did not end well, or another release of this program made it."""
    texts = []
    if (status := str(about.get("status"))) != "complete" or model.status not in ("", "complete"):
        ended = status if status != "complete" else model.status
        texts.append(f"The model's run is not complete ({ended}): its model is that of the last round that was chosen.")
    made, here = (about.get("versions") or {}).get("wardround"), installed_versions().get("wardround")
    if made and made != here:
        texts.append(
            f"The model's run is of release {made} and this evaluation of {here}, which may compute inputs differently."
        )
    return [{"level": "warning", "text": text} for text in texts]


def _unscored_notices(hospitals: Mapping[str, HospitalEvaluation]) -> list[dict[str, str]]:
    """Return a notice for each hospital that has examples without a score."""
    notices = []
    for site, item in hospitals.items():
        if not (count := int(item.unscored.sum())):
            continue
        owner = item.cohort.patient
        some = np.unique(owner[item.unscored])
        none = np.setdiff1d(some, np.unique(owner[~item.unscored]))
        text = (
            f"{site}: {count:,} of {len(owner):,} examples have no score, because nothing had been measured or the "
            f"model's output is not a number ({len(some):,} of {len(item.cohort.patients):,} patients; "
            f"{len(none):,} without any score). They are counted in, as the lowest score and so as no alarm."
        )
        notices.append({"level": "warning", "text": text})
    return notices


def _describe_outcome(
    model: ScoringModel,
    hospitals: Mapping[str, HospitalEvaluation],
    by_table: Mapping[str, Mapping[str, Evaluation]],
    pooled: Mapping[str, Evaluation],
    seconds: float,
) -> dict[str, Any]:
    """Return what federated.json holds after an evaluation."""
    sites = {
        site: {
            "task": model.task.to_dict(),
            "fingerprint": model.task.fingerprint(),
            "synthetic": item.cohort.synthetic,
            "split": "patient",
            "warning": "",
            "excluded": dict(item.cohort.excluded),
            "counts": {"test": item.cohort.summary()},
        }
        for site, item in hospitals.items()
    }
    return {
        "status": "complete",
        "error": "",
        "seconds": seconds,
        "task": model.task.to_dict(),
        "sites": sites,
        "chosen": None,
        "threshold": model.threshold,
        "lost": {},
        "test": {name: {site: item.model_dump() for site, item in part.items()} for name, part in by_table.items()},
        "pooled": {name: item.model_dump() for name, item in pooled.items()},
    }
