"""What a site's test patients say of a model: figures, and the tables of counts that may leave."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from torch import nn

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

Predict = Callable[[Cohort], npt.NDArray[np.float32]]
"""A model as evaluation sees it: from a cohort to logits `(examples, classes)`."""


def predictor(model: nn.Module, config: RunConfig) -> Predict:
    """Return the predictions of a network, for cohorts that are scaled as its training was."""
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
    bins, task = config.evaluation.bins, cohort.task
    if len(cohort.y) == 0:
        empty = metrics.zero(task.confusion_shape, bins, task.utility)
        coarse = empty.coarser(evaluation.COARSER)
        utility = coarse.utility[None] if task.utility else coarse.utility
        return Tally(empty, Counts(coarse.confusion[None], coarse.scores[None], coarse.loss[None], utility))
    logits = model(cohort)
    people = sorted({cohort.persons[i] for i in np.unique(cohort.patient)})
    of_person = {name: i for i, name in enumerate(people)}
    group = np.asarray([of_person.get(name, 0) for name in cohort.persons])[cohort.patient]
    given: dict[str, Any] = {"threshold": threshold, "worth": cohort.utility if task.utility else None}
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
        figures and tables of counts by name: of all test patients and, if the site shares resamples, also the
        resampled counts and both again with the patients of `evaluation.without` left out.
    """
    results: dict[str, Evaluation] = {}
    tables: dict[str, Counts] = {}
    subsets: dict[str, Sequence[str]] = {messages.ALL: ()}
    if shares:
        subsets |= {messages.WITHOUT + name: left_out for name, left_out in config.evaluation.without.items()}
    wanted = config.evaluation
    for name, left_out in subsets.items():
        gone = [i for i, patient in enumerate(site.test.patients) if patient in left_out]
        cohort = site.test.take(~np.isin(site.test.patient, gone)) if gone else site.test
        tally = counted(model, cohort, config, threshold)
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
