"""What a site's test patients say of a model: figures, and the tables of counts that may leave."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from torch import nn

from client.detection import Detector, Scored
from client.training import choose_device, predict
from common import calibration, evaluation, messages, metrics
from common.config import RunConfig
from common.errors import SiteError
from common.evaluation import Evaluation
from common.metrics import Counts
from common.seeds import rng_for
from sites.cohort import Cohort

if TYPE_CHECKING:
    from client.work import Site

Predicted = npt.NDArray[np.float32] | Scored
Predict = Callable[[Cohort], Predicted]
"""A model as evaluation sees it: from a cohort to logits `(examples, classes)`, or to anomaly scores."""


def predictor(model: nn.Module, config: RunConfig) -> Predict:
    """Return the predictions of a network, for cohorts that are scaled as its training was."""
    if config.detecting:
        return Detector(model, config)
    device = choose_device(config.training.device)
    return lambda cohort: predict(model, cohort, device)


@dataclass(frozen=True)
class Tally:
    """Counts of a cohort: of all, and of each person with evaluation.COARSER score bins."""

    total: Counts
    people: Counts


def counted(model: Predict, cohort: Cohort, config: RunConfig, threshold: float | None = None) -> Tally:
    """Return the counts of a model's predictions.

    Raises:
        SiteError: a prediction is not a finite number.
    """
    return _tallied(model(cohort) if len(cohort.y) else None, cohort, config, threshold)


def _tallied(predicted: Predicted | None, cohort: Cohort, config: RunConfig, threshold: float | None) -> Tally:
    """Return the counts of predictions, which a cohort without examples does not need."""
    bins, task = config.evaluation.bins, cohort.task
    if predicted is None or len(cohort.y) == 0:
        empty = metrics.zero(task.confusion_shape, bins, task.utility)
        coarse = empty.coarser(evaluation.COARSER)
        utility = coarse.utility[None] if task.utility else coarse.utility
        return Tally(empty, Counts(coarse.confusion[None], coarse.scores[None], coarse.loss[None], utility))
    people = sorted({cohort.persons[i] for i in np.unique(cohort.patient)})
    of_person = {name: i for i, name in enumerate(people)}
    group = np.asarray([of_person.get(name, 0) for name in cohort.persons])[cohort.patient]
    given: dict[str, Any] = {"threshold": threshold, "worth": cohort.utility if task.utility else None}
    logits = predicted.logits if isinstance(predicted, Scored) else predicted
    if task.anomaly:  # the loss is that of what is normal; a score that is no reconstruction error has none
        losses = predicted.losses if isinstance(predicted, Scored) else np.full(len(cohort.y), np.nan)
        given["losses"] = np.where(cohort.y == 0, losses, 0.0)
    spent: dict[str, Any] = {"hours": cohort.hours, "until": cohort.until}
    try:
        each = metrics.count(logits, cohort.y, group, len(people), bins, coarse=evaluation.COARSER, **given, **spent)
        together = np.zeros(len(cohort.y), np.int64)
        total = metrics.count(logits, cohort.y, together, 1, bins, **given).total()
        summed = each.total()
        return Tally(replace(total, time=summed.time, lead=summed.lead), each)
    except ValueError as error:
        raise SiteError(f"the model's output is not usable: {error}") from None


def class_patients(cohort: Cohort) -> list[int]:
    """Return for each class how many people have at least one example of it."""
    person = np.asarray(cohort.persons, dtype=object)[cohort.patient] if len(cohort.y) else np.zeros(0, object)
    has = cohort.y.astype(bool) if cohort.y.ndim == 2 else cohort.y[:, None] == np.arange(len(cohort.task.classes))
    return [len(set(person[has[:, c]])) for c in range(len(cohort.task.classes))]


def _subsets(test: Cohort, without: Mapping[str, Sequence[str]]) -> dict[str, npt.NDArray[np.bool_]]:
    """Return which examples each table is about."""
    found = {messages.ALL: np.ones(len(test.y), np.bool_)}
    if test.kinds is not None and len(test.task.against) > 1:
        of_class = zip(test.task.against, test.kinds.T, strict=True)
        found |= {messages.AGAINST + name: (test.y == 0) | has for name, has in of_class}
    for name, left_out in without.items():
        gone = [i for i, patient in enumerate(test.patients) if patient in left_out]
        found[messages.WITHOUT + name] = ~np.isin(test.patient, gone)
    return found


def _chosen(predicted: Predicted, rows: npt.NDArray[np.bool_]) -> Predicted:
    return predicted.take(rows) if isinstance(predicted, Scored) else predicted[rows]


def assess(
    model: Predict,
    site: Site,
    config: RunConfig,
    shares: bool,
    threshold: float | None = None,
    curves: bool = True,
) -> tuple[dict[str, Evaluation], dict[str, Counts]]:
    """Evaluate on a site's test patients, with reliability diagrams and decision curves or without (`curves`).

    Returns:
        figures and tables of counts by name: of all test patients, of normal examples and each abnormal class alone
        and, if the site shares resamples, also the resampled counts and both again with the patients of
        `evaluation.without` left out.
    """
    results: dict[str, Evaluation] = {}
    tables: dict[str, Counts] = {}
    wanted = config.evaluation
    predicted = model(site.test) if len(site.test.y) else None
    for name, rows in _subsets(site.test, wanted.without if shares else {}).items():
        cohort = site.test if rows.all() else site.test.take(rows)
        tally = _tallied(None if predicted is None else _chosen(predicted, rows), cohort, config, threshold)
        drawn = evaluation.resample(tally.people, wanted.bootstrap, rng_for(config.seed, site.name, "bootstrap"))
        present = class_patients(cohort)
        results[name] = evaluation.summarise(
            site.task,
            tally.total,
            drawn,
            cohort.people(),
            present,
            threshold=threshold,
            operating=wanted.operating,
            curves=curves and name == messages.ALL,
            group_patients=calibration.people_in_groups(tally.people.scores),
        )
        tables[name] = tally.total
        if shares:
            tables[name + messages.RESAMPLED] = drawn
    return results, tables
