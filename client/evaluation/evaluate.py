"""A model's results on a site's test patients: figures, and the tables of counts that may leave."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from client.evaluation import small_groups
from client.evaluation.anomaly_scores import AnomalyScores
from client.evaluation.predictions import (
    Predictions,
    Predictor,
    compute_predictions,
    count_class_patients,
    count_predictions,
    predict_and_count,
)
from client.gate.disclosure import ReleaseRules, round_intervals
from client.gate.register import TOO_FEW
from client.gate.tables import is_single
from client.site import Site
from common.config import RunConfig
from common.errors import SiteError
from common.metrics import calibration, evaluation, merged_scores
from common.metrics.counts import Counts
from common.metrics.figures import Evaluation
from common.metrics.table_names import AGAINST_PREFIX, ALL_PATIENTS, GROUP_PREFIX, RESAMPLED_SUFFIX, WITHOUT_PREFIX
from common.metrics.threshold_choice import choose_wanted_threshold
from common.sections.evaluation import SubgroupsConfig
from common.seeds import rng_for, seed_for
from sites.cohort import Cohort


def require_releasable(cohort: Cohort, minimum: int) -> small_groups.ReleasableTables:
    """Return which examples and classes of a cohort's table of all examples may leave.

    Raises:
        SiteError: the cohort has fewer than `minimum` patients.
    """
    releasable = small_groups.select_releasable_tables(cohort, SubgroupsConfig(), minimum, ALL_PATIENTS, GROUP_PREFIX)
    if releasable.suppressed:
        raise SiteError(TOO_FEW)
    return releasable


@dataclass(frozen=True)
class SiteEvaluation:
    """The results of an evaluation that may leave the site.

    Attributes:
        results: figures by table.
        tables: counts by table; if resamples may leave, those of a table are under its name and RESAMPLED_SUFFIX.
        suppressed: suppressed tables, with the fewest patients that they would need.
    """

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
    rules: ReleaseRules | None = None,
    prefix: str = "",
) -> SiteEvaluation:
    """Evaluate a model on a site's test patients.

    Args:
        model: gives predictions.
        site: with its inputs scaled as the model takes them.
        config: the run.
        shares: whether resampled counts may leave, and figures without the patients of `evaluation.without`.
        threshold: log odds at or above which the event is predicted; default: the likelier class.
        curves: whether to compute reliability diagrams and decision curves (of all test patients).
        minimum: fewest patients of a table, a group or a class.
        raw: the site with its inputs unscaled, whose columns define the groups; default: `site`.
        rules: what may leave a hospital, and at what grain; default: everything, as in a simulation.
        prefix: of the names of these tables in the answer; the counts of other tables have other errors.
    """
    wanted, cohort = config.evaluation, site.test
    if site.task.anomaly and config.detection.threshold == "site" and site.validation.people() >= minimum:
        own = choose_own_threshold(model, site.validation, config, rules)
        threshold = threshold if own is None else own
    scores = compute_predictions(model, cohort)
    evaluated = SiteEvaluation({}, {}, {})
    releasable = small_groups.select_releasable_tables(
        (raw or site).test, wanted.subgroups, minimum, ALL_PATIENTS, GROUP_PREFIX
    )
    evaluated.suppressed.update(dict.fromkeys(releasable.suppressed, minimum))
    masks, hidden, owner = dict(releasable.rows), dict(releasable.classes), small_groups.index_people(cohort)[1]
    named = shares and (rules is None or rules.allows("evaluation.without"))
    for name, left_out in wanted.without.items() if named and ALL_PATIENTS in masks else ():
        left_out_rows = [i for i, patient in enumerate(cohort.patients) if patient in left_out]
        away = np.isin(cohort.patient, left_out_rows) & masks[ALL_PATIENTS]
        if any(0 < people < minimum for people in (*count_class_patients(cohort, away), len(np.unique(owner[away])))):
            evaluated.suppressed[WITHOUT_PREFIX + name] = minimum
            continue
        masks[WITHOUT_PREFIX + name] = masks[ALL_PATIENTS] & ~away
        hidden[WITHOUT_PREFIX + name] = hidden[ALL_PATIENTS]
    for name, rows in _select_against(cohort, masks[ALL_PATIENTS], minimum).items() if ALL_PATIENTS in masks else ():
        if rows is None:
            evaluated.suppressed[AGAINST_PREFIX + name] = minimum
        else:
            masks[AGAINST_PREFIX + name], hidden[AGAINST_PREFIX + name] = rows, hidden[ALL_PATIENTS]
    if rules is not None:
        _suppress_differences(rules, masks, evaluated.suppressed, cohort, minimum)
    everyone: tuple[str, ...] = ()
    weights = np.zeros((0, 0))
    seed = config.seed if rules is None else rules.bootstrap_seed
    merged = np.zeros(len(site.task.classes), np.bool_)
    for name, rows in masks.items():
        counted = count_predictions(scores, cohort, config, threshold, rows, hidden[name])
        if name == ALL_PATIENTS and (rules is None or rules.exact):
            merged = _find_merged_classes(scores, cohort, rows, hidden[name], counted.total)
        if name.startswith(GROUP_PREFIX):  # they come after the table of all, whose resampled patients they share
            own_weights = weights[:, np.searchsorted(everyone, counted.names)] if counted.names else weights[:, :1]
            drawn = counted.people.resample(own_weights)
        else:
            everyone = counted.names
            weights = evaluation.draw_bootstrap_weights(
                len(counted.people.confusion), wanted.bootstrap, rng_for(seed, site.name, "bootstrap")
            )
            drawn = counted.people.resample(weights)
        total = (
            counted.total
            if rules is None
            else rules.coarsen(counted.total, counted.people, counted.names, prefix + name)
        )
        one_class = cohort.y.ndim == 1
        people = count_class_patients(cohort, rows) if one_class else _count_label_patients(cohort, rows, hidden[name])
        groups = calibration.count_patients_in_groups(counted.people.scores)
        number = len(counted.names)
        if rules is not None and name != ALL_PATIENTS:
            number = rules.round_people([number])[0]
        if rules is not None and not rules.policy.share_resamples:
            own_seed = seed_for(seed, site.name, name, str(total.confusion.tolist()))
            drawn = rules.resample(total, counted.people, wanted.bootstrap, own_seed)
        notes: list[str] = []
        few = rules is not None and not rules.exact and is_single(counted.people)
        if rules is not None and few:
            merged = np.asarray(merged_scores.find_few_classes(total.scores, rules.growth) & ~hidden[name])
            notes = merged_scores.describe_few(site.task.classes, total.scores, rules.growth)
        if rules is not None and not rules.exact:
            notes = merged_scores.describe_ties(site.task.classes, total.scores, merged if few else None) + notes
        item = evaluation.build_evaluation(
            site.task,
            total,
            drawn,
            number,
            people if rules is None else rules.round_people(people),
            notes,
            threshold=threshold,
            operating=wanted.operating,
            curves=curves and name == ALL_PATIENTS,
            group_patients=groups if rules is None or groups is None else rules.hide_groups(groups),
            merged=merged,
            few=few,
        )
        if rules is not None:
            item = round_intervals(item)
        suppressed = {c: minimum for c, away in zip(site.task.classes, hidden[name], strict=True) if away}
        evaluated.results[name] = item.model_copy(update={"suppressed": suppressed}) if suppressed else item
        evaluated.tables[name] = total
        if shares:
            evaluated.tables[name + RESAMPLED_SUFFIX] = drawn
    return evaluated


def _find_merged_classes(
    scores: Predictions,
    cohort: Cohort,
    rows: npt.NDArray[np.bool_],
    hidden: npt.NDArray[np.bool_],
    total: Counts,
) -> npt.NDArray[np.bool_]:
    """Return the classes, but for suppressed ones, whose scores the score bins merge."""
    logits = np.asarray(scores.logits if isinstance(scores, AnomalyScores) else scores)
    merged = merged_scores.find_merged_classes(logits[rows], cohort.y[rows], total.scores)
    return np.asarray(merged & ~hidden)


def _suppress_differences(
    rules: ReleaseRules,
    masks: dict[str, npt.NDArray[np.bool_]],
    suppressed: dict[str, int],
    cohort: Cohort,
    minimum: int,
) -> None:
    """Suppress the tables whose people differ from those of an earlier answer by too few."""
    groups = {
        name: sorted({cohort.persons[int(i)] for i in np.unique(cohort.patient[rows])}) for name, rows in masks.items()
    }
    for name, allowed in rules.may_release(groups).items():
        if not allowed:
            del masks[name]
            suppressed[name] = minimum


def choose_own_threshold(
    model: Predictor, validation: Cohort, config: RunConfig, rules: ReleaseRules | None = None
) -> float | None:
    """Return the threshold chosen on a site's own validation patients, or None if it has none to choose on.

    With `rules` it is chosen on counts as they may leave, because it leaves.
    """
    wanted = config.evaluation
    if wanted.threshold == "likelier" or not len(validation.y):
        return None
    counted = predict_and_count(model, validation, config)
    total = counted.total if rules is None else rules.coarsen_validation(counted.total, counted.people, counted.names)
    return choose_wanted_threshold(total, wanted)


def _count_label_patients(cohort: Cohort, rows: npt.NDArray[np.bool_], hidden: npt.NDArray[np.bool_]) -> list[int]:
    """Return the number of persons with each label among `rows`, 0 for suppressed labels."""
    return [0 if away else n for n, away in zip(count_class_patients(cohort, rows), hidden, strict=True)]


def _select_against(
    cohort: Cohort, reported: npt.NDArray[np.bool_], minimum: int
) -> dict[str, npt.NDArray[np.bool_] | None]:
    """Return the normal examples and those of one abnormal class, by class; None where that class is suppressed."""
    if cohort.kinds is None or len(cohort.task.against) < 2:
        return {}
    abnormal = {
        name: reported & (cohort.y == 1) & has for name, has in zip(cohort.task.against, cohort.kinds.T, strict=True)
    }

    def people(rows: npt.NDArray[np.bool_]) -> int:
        return count_class_patients(cohort, rows)[1]

    reported_names = sorted(
        (name for name, rows in abnormal.items() if not 0 < people(rows) < minimum), key=lambda n: people(abnormal[n])
    )
    rest = reported & (cohort.y == 1)
    while reported_names and 0 < people(rest & ~np.any([abnormal[name] for name in reported_names], axis=0)) < minimum:
        reported_names.pop(0)
    return {
        name: reported & ((cohort.y == 0) | rows) if name in reported_names else None for name, rows in abnormal.items()
    }
