"""What a site's test patients say of a model: figures, and the tables of counts that may leave."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from client.evaluation import small_groups
from client.evaluation.predictions import (
    Predictor,
    compute_predictions,
    count_class_patients,
    count_predictions,
    predict_and_count,
)
from common.config import RunConfig
from common.errors import SiteError
from common.metrics import calibration, counts, evaluation
from common.metrics.counts import Counts
from common.metrics.figures import Evaluation
from common.metrics.table_names import AGAINST_PREFIX, ALL_PATIENTS, GROUP_PREFIX, RESAMPLED_SUFFIX, WITHOUT_PREFIX
from common.sections.evaluation import SubgroupsConfig
from common.seeds import rng_for
from sites.cohort import Cohort

if TYPE_CHECKING:
    from client.site import Site


def require_releasable(cohort: Cohort, minimum: int) -> small_groups.ReleasableTables:
    """Return what of a cohort may leave as one table.

    Raises:
        SiteError: nothing may, for it has fewer patients.
    """
    found = small_groups.select_releasable_tables(cohort, SubgroupsConfig(), minimum, ALL_PATIENTS, GROUP_PREFIX)
    if found.suppressed:
        raise SiteError(f"policy: fewer than {minimum} patients, so no figures of them leave")
    return found


@dataclass(frozen=True)
class SiteEvaluation:
    """What may leave: figures and counts by table, and the tables that were suppressed, with the least patients."""

    results: dict[str, Evaluation]
    tables: dict[str, Counts]
    suppressed: dict[str, int]


def evaluate_site(
    model: Predictor,
    site: Site,
    config: RunConfig,
    shares: bool,
    threshold: float | None = None,
    curves: bool = True,
    minimum: int = 1,
    raw: Site | None = None,
) -> SiteEvaluation:
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
        own = choose_own_threshold(model, site.validation, config)
        threshold = threshold if own is None else own
    scores = compute_predictions(model, cohort)
    found = SiteEvaluation({}, {}, {})
    may = small_groups.select_releasable_tables(
        (raw or site).test, wanted.subgroups, minimum, ALL_PATIENTS, GROUP_PREFIX
    )
    found.suppressed.update(dict.fromkeys(may.suppressed, minimum))
    masks, hidden, owner = dict(may.rows), dict(may.classes), small_groups.index_people(cohort)[1]
    for name, left_out in wanted.without.items() if shares and ALL_PATIENTS in masks else ():
        gone = [i for i, patient in enumerate(cohort.patients) if patient in left_out]
        away = np.isin(cohort.patient, gone) & masks[ALL_PATIENTS]
        if any(0 < people < minimum for people in (*count_class_patients(cohort, away), len(np.unique(owner[away])))):
            found.suppressed[WITHOUT_PREFIX + name] = minimum
            continue
        masks[WITHOUT_PREFIX + name] = masks[ALL_PATIENTS] & ~away
        hidden[WITHOUT_PREFIX + name] = hidden[ALL_PATIENTS]
    for name, rows in _against(cohort, masks[ALL_PATIENTS], minimum).items() if ALL_PATIENTS in masks else ():
        if rows is None:
            found.suppressed[AGAINST_PREFIX + name] = minimum
        else:
            masks[AGAINST_PREFIX + name], hidden[AGAINST_PREFIX + name] = rows, hidden[ALL_PATIENTS]
    everyone: tuple[str, ...] = ()
    weights = np.zeros((0, 0))
    for name, rows in masks.items():
        tally = count_predictions(scores, cohort, config, threshold, rows, hidden[name])
        if name.startswith(GROUP_PREFIX):  # they follow the table of all, whose draws of patients they share
            drawn_as_often = weights[:, np.searchsorted(everyone, tally.names)] if tally.names else weights[:, :1]
            drawn = tally.people.resample(drawn_as_often)
        else:
            everyone = tally.names
            weights = evaluation.draw_bootstrap_weights(
                len(tally.people.confusion), wanted.bootstrap, rng_for(config.seed, site.name, "bootstrap")
            )
            drawn = tally.people.resample(weights)
        item = evaluation.build_evaluation(
            site.task,
            tally.total,
            drawn,
            len(tally.names),
            count_class_patients(cohort, rows) if cohort.y.ndim == 1 else _labelled(cohort, rows, hidden[name]),
            threshold=threshold,
            operating=wanted.operating,
            curves=curves and name == ALL_PATIENTS,
            group_patients=calibration.count_patients_in_groups(tally.people.scores),
        )
        less = {c: minimum for c, away in zip(site.task.classes, hidden[name], strict=True) if away}
        found.results[name] = item.model_copy(update={"suppressed": less}) if less else item
        found.tables[name] = tally.total
        if shares:
            found.tables[name + RESAMPLED_SUFFIX] = drawn
    return found


def choose_own_threshold(model: Predictor, validation: Cohort, config: RunConfig) -> float | None:
    """Return the threshold that a site's own validation patients give, None where it has none that could."""
    wanted = config.evaluation
    if wanted.threshold == "likelier" or not len(validation.y):
        return None
    return counts.choose_threshold(
        predict_and_count(model, validation, config).total, wanted.threshold, wanted.false_alarms
    )


def _labelled(cohort: Cohort, rows: npt.NDArray[np.bool_], hidden: npt.NDArray[np.bool_]) -> list[int]:
    return [0 if away else n for n, away in zip(count_class_patients(cohort, rows), hidden, strict=True)]


def _against(cohort: Cohort, told: npt.NDArray[np.bool_], minimum: int) -> dict[str, npt.NDArray[np.bool_] | None]:
    """Return the examples of what is normal and of one abnormal class, by class; None where they must not be told."""
    if cohort.kinds is None or len(cohort.task.against) < 2:
        return {}
    abnormal = {
        name: told & (cohort.y == 1) & has for name, has in zip(cohort.task.against, cohort.kinds.T, strict=True)
    }

    def people(rows: npt.NDArray[np.bool_]) -> int:
        return count_class_patients(cohort, rows)[1]

    shown = sorted(
        (name for name, rows in abnormal.items() if not 0 < people(rows) < minimum), key=lambda n: people(abnormal[n])
    )
    rest = told & (cohort.y == 1)
    while shown and 0 < people(rest & ~np.any([abnormal[name] for name in shown], axis=0)) < minimum:
        shown.pop(0)
    return {name: told & ((cohort.y == 0) | rows) if name in shown else None for name, rows in abnormal.items()}
