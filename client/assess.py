"""What a site's test patients say of a model: figures, and the tables of counts that may leave."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from torch import nn

from client import groups
from client.detection import Detector, Scored
from client.training import choose_device, predict
from common import calibration, evaluation, messages, metrics
from common.config import RunConfig, SubgroupsConfig
from common.errors import SiteError
from common.evaluation import Evaluation
from common.latent import Latent
from common.metrics import Counts
from common.seeds import rng_for
from sites.cohort import Cohort

if TYPE_CHECKING:
    from client.work import Site

Predicted = npt.NDArray[np.float32] | Scored
Predict = Callable[[Cohort], Predicted]
"""A model as evaluation sees it: from a cohort to logits `(examples, classes)`, or to anomaly scores."""


def predictor(model: nn.Module, config: RunConfig, latent: bytes = b"") -> Predict:
    """Return the predictions of a network, for cohorts that are scaled as its training was.

    Args:
        model: the network.
        config: the run.
        latent: of a model that reconstructs, what its score needs to know of latent space (common/latent.py).
    """
    if config.detecting:
        return Detector(model, config, Latent.from_bytes(latent) if latent else None)
    device = choose_device(config.training.device)
    return lambda cohort: predict(model, cohort, device)


@dataclass(frozen=True)
class Tally:
    """Counts of a cohort: of all, and of each person (`names`) with evaluation.COARSER score bins."""

    total: Counts
    people: Counts
    names: tuple[str, ...] = ()


def counted(model: Predict, cohort: Cohort, config: RunConfig, threshold: float | None = None) -> Tally:
    """Return the counts of a model's predictions.

    Raises:
        SiteError: a prediction is not a finite number.
    """
    return tallied(predicted(model, cohort), cohort, config, threshold)


def predicted(model: Predict, cohort: Cohort) -> Predicted:
    """Return a model's logits or scores, of no examples too."""
    return model(cohort) if len(cohort.y) else np.zeros((0, len(cohort.task.classes)), np.float32)


def tallied(
    scores: Predicted,
    cohort: Cohort,
    config: RunConfig,
    threshold: float | None = None,
    rows: npt.NDArray[np.bool_] | None = None,
    hidden: npt.NDArray[np.bool_] | None = None,
) -> Tally:
    """Return the counts of predictions, of some examples (`rows`) only.

    `hidden`: classes that must not be told; multilabel: theirs are zero (else `rows` holds none of their examples).

    Raises:
        SiteError: a prediction is not a finite number.
    """
    bins, task = config.evaluation.bins, cohort.task
    chosen = slice(None) if rows is None or rows.all() else rows
    truth = cohort.y[chosen]
    if len(truth) == 0:
        empty = metrics.zero(task.confusion_shape, bins, task.utility)
        coarse = empty.coarser(evaluation.COARSER)
        utility = coarse.utility[None] if task.utility else coarse.utility
        return Tally(empty, Counts(coarse.confusion[None], coarse.scores[None], coarse.loss[None], utility))
    people, owner = groups.people_of(cohort)
    if not isinstance(chosen, slice):
        people_, owner = np.unique(owner[chosen], return_inverse=True)
        people = [people[i] for i in people_]
    z = (scores.logits if isinstance(scores, Scored) else scores)[chosen]
    kept = slice(None) if hidden is None or truth.ndim == 1 or not hidden.any() else np.flatnonzero(~hidden)
    if not isinstance(kept, slice):
        z, truth = z[:, kept], truth[:, kept]
    given: dict[str, Any] = {"threshold": threshold, "worth": _part(cohort.utility, chosen) if task.utility else None}
    if task.anomaly:  # the loss is that of what is normal; a score that is no reconstruction error has none
        losses = scores.losses[chosen] if isinstance(scores, Scored) else np.full(len(truth), np.nan)
        given["losses"] = np.where(truth == 0, losses, 0.0)
    spent: dict[str, Any] = {"hours": _part(cohort.hours, chosen), "until": _part(cohort.until, chosen)}
    try:
        each = metrics.count(z, truth, owner, len(people), bins, coarse=evaluation.COARSER, **given, **spent)
        together = np.zeros(len(truth), np.int64)
        total = metrics.count(z, truth, together, 1, bins, **given).total()
    except ValueError as error:
        raise SiteError(f"the model's output is not usable: {error}") from None
    summed = each.total()
    total = replace(total, time=summed.time, lead=summed.lead)
    if not isinstance(kept, slice):
        total, each = (_widened(part, kept, len(task.classes)) for part in (total, each))
    return Tally(total, each, tuple(people))


def _part(values: npt.NDArray[Any] | None, chosen: slice | npt.NDArray[np.bool_]) -> npt.NDArray[Any] | None:
    return None if values is None else values[chosen]


def _widened(counts: Counts, kept: npt.NDArray[np.int64], classes: int) -> Counts:
    """Return multilabel counts of some labels with zeros for the others."""
    confusion = np.zeros((*counts.confusion.shape[:-3], classes, 2, 2), np.int64)
    scores = np.zeros((*counts.scores.shape[:-3], classes, *counts.scores.shape[-2:]), np.int64)
    confusion[..., kept, :, :], scores[..., kept, :, :] = counts.confusion, counts.scores
    return replace(counts, confusion=confusion, scores=scores)


def class_patients(cohort: Cohort, rows: npt.NDArray[np.bool_] | None = None) -> list[int]:
    """Return for each class how many people have at least one example of it (among `rows`)."""
    _, owner = groups.people_of(cohort)
    has = cohort.y.astype(bool) if cohort.y.ndim == 2 else cohort.y[:, None] == np.arange(len(cohort.task.classes))
    if rows is not None:
        has = has & rows[:, None]
    return [len(np.unique(owner[has[:, c]])) for c in range(len(cohort.task.classes))]


def told(cohort: Cohort, minimum: int) -> groups.Cells:
    """Return what of a cohort may leave as one table.

    Raises:
        SiteError: nothing may, for it has fewer patients.
    """
    found = groups.cells(cohort, SubgroupsConfig(), minimum, messages.ALL, messages.GROUP)
    if found.suppressed:
        raise SiteError(f"policy: fewer than {minimum} patients, so no figures of them leave")
    return found


@dataclass(frozen=True)
class Assessment:
    """What may leave: figures and counts by table, and the tables that were suppressed, with the least patients."""

    results: dict[str, Evaluation]
    tables: dict[str, Counts]
    suppressed: dict[str, int]


def assess(
    model: Predict,
    site: Site,
    config: RunConfig,
    shares: bool,
    threshold: float | None = None,
    curves: bool = True,
    minimum: int = 1,
    raw: Site | None = None,
) -> Assessment:
    """Evaluate on a site's test patients.

    Args:
        model: gives logits.
        site: as the model takes its inputs.
        config: the run.
        shares: whether resampled counts may leave, and figures without the patients of `evaluation.without`.
        threshold: log odds from which on to call the event.
        curves: whether to give reliability diagrams and decision curves (of all test patients).
        minimum: patients that a table, a group or a class needs.
        raw: the site with its inputs unscaled, by which groups are told apart; none: `site`.
    """
    wanted, cohort = config.evaluation, site.test
    if site.task.anomaly and config.detection.threshold == "site" and site.validation.people() >= minimum:
        own = own_threshold(model, site.validation, config)
        threshold = threshold if own is None else own
    scores = predicted(model, cohort)
    found = Assessment({}, {}, {})
    may = groups.cells((raw or site).test, wanted.subgroups, minimum, messages.ALL, messages.GROUP)
    found.suppressed.update(dict.fromkeys(may.suppressed, minimum))
    masks, hidden, owner = dict(may.rows), dict(may.classes), groups.people_of(cohort)[1]
    for name, left_out in wanted.without.items() if shares and messages.ALL in masks else ():
        gone = [i for i, patient in enumerate(cohort.patients) if patient in left_out]
        away = np.isin(cohort.patient, gone) & masks[messages.ALL]
        if any(0 < people < minimum for people in (*class_patients(cohort, away), len(np.unique(owner[away])))):
            found.suppressed[messages.WITHOUT + name] = minimum
            continue
        masks[messages.WITHOUT + name] = masks[messages.ALL] & ~away
        hidden[messages.WITHOUT + name] = hidden[messages.ALL]
    for name, rows in _against(cohort, masks[messages.ALL], minimum).items() if messages.ALL in masks else ():
        if rows is None:
            found.suppressed[messages.AGAINST + name] = minimum
        else:
            masks[messages.AGAINST + name], hidden[messages.AGAINST + name] = rows, hidden[messages.ALL]
    everyone: tuple[str, ...] = ()
    weights = np.zeros((0, 0))
    for name, rows in masks.items():
        tally = tallied(scores, cohort, config, threshold, rows, hidden[name])
        if name.startswith(messages.GROUP):  # they follow the table of all, whose draws of patients they share
            drawn_as_often = weights[:, np.searchsorted(everyone, tally.names)] if tally.names else weights[:, :1]
            drawn = tally.people.resample(drawn_as_often)
        else:
            everyone = tally.names
            weights = evaluation.bootstrap_weights(
                len(tally.people.confusion), wanted.bootstrap, rng_for(config.seed, site.name, "bootstrap")
            )
            drawn = tally.people.resample(weights)
        item = evaluation.summarise(
            site.task,
            tally.total,
            drawn,
            len(tally.names),
            class_patients(cohort, rows) if cohort.y.ndim == 1 else _labelled(cohort, rows, hidden[name]),
            threshold=threshold,
            operating=wanted.operating,
            curves=curves and name == messages.ALL,
            group_patients=calibration.people_in_groups(tally.people.scores),
        )
        less = {c: minimum for c, away in zip(site.task.classes, hidden[name], strict=True) if away}
        found.results[name] = item.model_copy(update={"suppressed": less}) if less else item
        found.tables[name] = tally.total
        if shares:
            found.tables[name + messages.RESAMPLED] = drawn
    return found


def own_threshold(model: Predict, validation: Cohort, config: RunConfig) -> float | None:
    """Return the threshold that a site's own validation patients give, None where it has none that could."""
    wanted = config.evaluation
    if wanted.threshold == "likelier" or not len(validation.y):
        return None
    return metrics.threshold(counted(model, validation, config).total, wanted.threshold, wanted.false_alarms)


def _labelled(cohort: Cohort, rows: npt.NDArray[np.bool_], hidden: npt.NDArray[np.bool_]) -> list[int]:
    return [0 if away else n for n, away in zip(class_patients(cohort, rows), hidden, strict=True)]


def _against(cohort: Cohort, told: npt.NDArray[np.bool_], minimum: int) -> dict[str, npt.NDArray[np.bool_] | None]:
    """Return the examples of what is normal and of one abnormal class, by class; None where they must not be told."""
    if cohort.kinds is None or len(cohort.task.against) < 2:
        return {}
    abnormal = {
        name: told & (cohort.y == 1) & has for name, has in zip(cohort.task.against, cohort.kinds.T, strict=True)
    }

    def people(rows: npt.NDArray[np.bool_]) -> int:
        return class_patients(cohort, rows)[1]

    shown = sorted(
        (name for name, rows in abnormal.items() if not 0 < people(rows) < minimum), key=lambda n: people(abnormal[n])
    )
    rest = told & (cohort.y == 1)
    while shown and 0 < people(rest & ~np.any([abnormal[name] for name in shown], axis=0)) < minimum:
        shown.pop(0)
    return {name: told & ((cohort.y == 0) | rows) if name in shown else None for name, rows in abnormal.items()}
