"""What recalibration alone recovers at a site: fitted on its validation patients, evaluated on its test patients.

At a new hospital a model may rank patients as well as before and still alarm at the wrong score. Four methods leave the
model unchanged: another `threshold`; `platt`, logistic regression on the log odds (Platt 1999, Advances in Large Margin
Classifiers: 61-74, with his targets, which bound the slope on separable scores); one `temperature` for all classes (Guo
et al. 2017, ICML); `isotonic`, an increasing step function (Zadrozny and Elkan 2002, KDD). After the last three the
threshold is chosen again on the recalibrated validation scores, by the run's own rule.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit

from client.evaluation.evaluate import evaluate_site
from client.evaluation.predictions import Predictor, count_class_patients
from client.evaluation.predictions import count_predictions as count_scores
from client.gate.disclosure import ReleaseRules, round_intervals
from client.site import Site
from common.config import RunConfig
from common.metrics import resampling
from common.metrics.calibration import bin_centres
from common.metrics.counts import Counts, class_log_odds
from common.metrics.early_warning import Floats
from common.metrics.figures import FEW_PATIENTS, Evaluation, Figure, Recalibration, RecalibrationEffect
from common.metrics.intervals import ResampledFigures, paired_difference
from common.metrics.table_names import ALL_PATIENTS, RECALIBRATED_PREFIX, RESAMPLED_SUFFIX
from common.metrics.threshold_choice import choose_wanted_threshold
from common.sections.evaluation import SubgroupsConfig
from common.task import Task
from sites.cohort import Cohort

LogitMap = Callable[[Floats], Floats]
"""From logits `(examples, classes)` to recalibrated ones."""
FEW_VALIDATED = f"fewer than {FEW_PATIENTS} validation patients of each class"
LOG_TEMPERATURE_BOUNDS = (-5.0, 5.0)
"""Range in which the logarithm of a temperature is searched."""


def evaluate_recalibrations(
    model: Predictor,
    site: Site,
    config: RunConfig,
    shares: bool,
    threshold: float | None,
    minimum: int = 1,
    rules: ReleaseRules | None = None,
) -> tuple[dict[str, Evaluation], dict[str, Counts], Recalibration | None]:
    """Evaluate a model on a site's test patients after each method of `evaluation.recalibrate`.

    Args:
        model, site, config, shares, minimum, rules: as client.evaluation.evaluate.evaluate_site.
        threshold: of the model without recalibration.

    Returns:
        figures and counts by table, as `evaluate_site` gives them; and each method's threshold and paired differences
        to the model without recalibration, or the reason why there are none (None: no method applies).
    """
    wanted = [name for name in config.evaluation.recalibrate if _is_applicable(name, site.task, config)]
    if rules is not None:
        wanted = [name for name in wanted if rules.allows_fit(name, site.validation.people())]
        wanted = wanted if site.task.binary else []  # a table of several classes does not hold whole predictions
    if not wanted or not len(site.test.y):
        return {}, {}, None
    if reason := _explain_refusal(site.validation, config):
        return {}, {}, Recalibration(patients=site.validation.people(), reason=reason)
    plain = config.evaluation.model_copy(update={"without": {}, "subgroups": SubgroupsConfig()})
    config = config.model_copy(update={"evaluation": plain})
    validation, test = (np.asarray(model(part), dtype=np.float64) for part in (site.validation, site.test))

    def evaluate(change: LogitMap, at: float | None, prefix: str = "") -> tuple[Evaluation, dict[str, Counts]]:
        evaluated = evaluate_site(
            lambda cohort: change(validation if cohort is site.validation else test).astype(np.float32),
            site,
            config,
            True,
            at,
            curves=False,
            minimum=minimum,
            rules=rules,
            prefix=prefix,
        )
        return evaluated.results[ALL_PATIENTS], evaluated.tables

    def compute_figures(tables: dict[str, Counts]) -> ResampledFigures:
        return resampling.with_event_figures(
            site.task,
            resampling.compute_figures(
                site.task, tables[ALL_PATIENTS], tables[ALL_PATIENTS + RESAMPLED_SUFFIX], site.test.people()
            ),
        )

    before = compute_figures(evaluate(lambda z: z, threshold)[1])
    fitted_on = validation, site.validation.y
    if rules is not None:
        fitted_on = read_released_scores(validation, site.validation, config, rules)
        if min(np.bincount(fitted_on[1], minlength=2)) < FEW_PATIENTS:
            return {}, {}, Recalibration(patients=site.validation.people(), reason=FEW_VALIDATED)
    results: dict[str, Evaluation] = {}
    released: dict[str, Counts] = {}
    effects: dict[str, RecalibrationEffect] = {}
    for name in wanted:
        change = fit_recalibration(name, *fitted_on, site.task)
        at = _choose_threshold(change(validation), site.validation, config, rules) if site.task.binary else None
        results[RECALIBRATED_PREFIX + name], tables = evaluate(change, at, RECALIBRATED_PREFIX + name)
        released |= {
            RECALIBRATED_PREFIX + name + key.removeprefix(ALL_PATIENTS): tables[key]
            for key in tables
            if shares or key == ALL_PATIENTS
        }
        difference = _compute_differences(compute_figures(tables), before)
        effect = RecalibrationEffect(threshold=at, difference=difference)
        effects[name] = effect if rules is None else round_intervals(effect)
    return results, released, Recalibration(patients=site.validation.people(), methods=effects)


def read_released_scores(
    logits: Floats, validation: Cohort, config: RunConfig, rules: ReleaseRules
) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Return logits `(examples, 2)` and labels as the table of a site's validation patients that may leave holds them.

    What is fitted on them shows in the results on test patients: on exact scores it would reveal single people.
    """
    counted = count_scores(logits.astype(np.float32), validation, config)
    event = rules.coarsen_validation(counted.total, counted.people, counted.names).scores[1]
    centres = bin_centres(event.shape[-1])
    odds = np.concatenate([np.repeat(centres, side) for side in event])
    return _logits_from_odds(odds), np.repeat(np.arange(2), event.sum(1))


def fit_recalibration(name: str, logits: Floats, truth: npt.NDArray[np.int64], task: Task) -> LogitMap:
    """Return a recalibration fitted on logits `(examples, classes)` and their labels."""
    if name == "threshold":
        return lambda z: z
    if name == "temperature":
        scale = np.exp(-_fit_log_temperature(logits, truth, task))
        return lambda z: z * scale
    event = class_log_odds(logits)[:, 1]
    if name == "platt":
        slope, intercept = fit_platt(event, truth)
        return lambda z: _logits_from_odds(slope * class_log_odds(z)[:, 1] + intercept)
    from sklearn.isotonic import IsotonicRegression

    steps = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip").fit(event, truth)
    margin = 0.5 / (len(truth) + 1)  # a step on n examples cannot estimate a probability of 0
    return lambda z: _logits_from_odds(logit(np.clip(steps.predict(class_log_odds(z)[:, 1]), margin, 1 - margin)))


def fit_platt(odds: Floats, truth: npt.NDArray[np.int64]) -> tuple[float, float]:
    """Return slope and intercept of the logistic regression of the event on log odds `(examples,)`.

    Platt's targets: (n+ + 1) / (n+ + 2) for events, 1 / (n- + 2) for others.
    """
    events = int(truth.sum())
    target = np.where(truth == 1, (events + 1) / (events + 2), 1 / (len(truth) - events + 2))
    centre, spread = float(odds.mean()), float(odds.std()) or 1.0
    x = (odds - centre) / spread

    def loss(w: Floats) -> tuple[float, Floats]:
        z = w[0] * x + w[1]
        gap = (expit(z) - target) / len(x)
        return float((np.logaddexp(0.0, z) - target * z).mean()), np.array([gap @ x, gap.sum()])

    from scipy import optimize

    w = optimize.minimize(loss, np.array([1.0, 0.0]), jac=True, method="BFGS", options={"gtol": 1e-8}).x
    return float(w[0] / spread), float(w[1] - w[0] * centre / spread)


def _fit_log_temperature(logits: Floats, truth: npt.NDArray[np.int64], task: Task) -> float:
    """Return the logarithm of the temperature that minimises the negative log likelihood."""
    rows = np.arange(len(truth))

    def loss(log: float) -> float:
        z = logits * np.exp(-log)
        if task.kind == "multilabel":
            return float((np.logaddexp(0.0, z) - truth * z).mean())
        top = z.max(1)
        return float((top + np.log(np.exp(z - top[:, None]).sum(1)) - z[rows, truth]).mean())

    from scipy import optimize

    return float(
        optimize.minimize_scalar(loss, bounds=LOG_TEMPERATURE_BOUNDS, method="bounded", options={"xatol": 1e-6}).x
    )


def _logits_from_odds(event: Floats) -> Floats:
    """Return logits `(examples, 2)` with the given log odds of the event."""
    return np.stack([np.zeros_like(event), event], axis=1)


def _is_applicable(name: str, task: Task, config: RunConfig) -> bool:
    """Return whether a method makes sense for a task and its threshold rule."""
    if name == "threshold":
        return task.binary and config.evaluation.threshold != "likelier"
    return task.probabilistic and (task.binary or name == "temperature")


def _explain_refusal(validation: Cohort, config: RunConfig) -> str:
    """Return why nothing can be fitted on a site's validation patients, or an empty string."""
    if config.privacy.on:
        return "training is private, and recalibration would use validation patients without privacy"
    rarer = (
        min(count_class_patients(validation)) if validation.task.binary and len(validation.y) else validation.people()
    )
    if rarer < FEW_PATIENTS:
        return FEW_VALIDATED if validation.task.binary else FEW_VALIDATED.removesuffix(" of each class")
    return ""


def _choose_threshold(
    logits: Floats, validation: Cohort, config: RunConfig, rules: ReleaseRules | None
) -> float | None:
    """Return the threshold that the run's rule chooses on validation logits, or None for the likelier class.

    At a hospital it is chosen on counts as they may leave, because it leaves: on exact counts it is a patient's score.
    """
    if config.evaluation.threshold == "likelier":
        return None
    counted = count_scores(logits.astype(np.float32), validation, config)
    total = counted.total
    if rules is not None:
        total = rules.coarsen_validation(total, counted.people, counted.names)
    return choose_wanted_threshold(total, config.evaluation)


def _compute_differences(after: ResampledFigures, before: ResampledFigures) -> dict[str, Figure]:
    """Return the paired difference of each scalar figure, after minus before."""
    names = [name for name, value in before.values.items() if np.ndim(value) == 0 and name in after.values]
    return {name: paired_difference(after, before, name) for name in names}
