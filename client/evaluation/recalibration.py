"""What recalibration alone wins back at a site: fitted on its validation patients, judged on its test patients.

A model that comes from elsewhere may rank patients as well as ever and still alarm at the wrong score. Four mends
leave the model alone: another `threshold`; Platt's logistic regression on the log odds (1999, Advances in Large Margin
Classifiers: 61-74, with his targets, that no separable score runs away); one `temperature` for all classes (Guo et al.
2017, ICML); a rising step function, `isotonic` (Zadrozny and Elkan 2002, KDD). After the last three the threshold is
chosen anew on the recalibrated validation scores, by the run's own rule.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy import optimize
from scipy.special import expit, logit

from client.evaluation import evaluate as assessment
from client.evaluation.predictions import Predictor, count_class_patients
from common.config import RunConfig
from common.metrics import counts as metrics
from common.metrics import resampling
from common.metrics.counts import Counts
from common.metrics.early_warning import Floats
from common.metrics.figures import FEW_PATIENTS, Evaluation, Figure
from common.metrics.intervals import ResampledFigures, paired_difference
from common.metrics.table_names import ALL_PATIENTS, RECALIBRATED_PREFIX, RESAMPLED_SUFFIX
from common.sections.evaluation import SubgroupsConfig
from common.task import Task
from sites.cohort import Cohort

if TYPE_CHECKING:
    from client.site import Site

LogitMap = Callable[[Floats], Floats]
"""From logits `(examples, classes)` to recalibrated ones."""
LOG_TEMPERATURE_BOUNDS = (-5.0, 5.0)
"""The log of a temperature is sought here."""


def evaluate_recalibrations(
    model: Predictor, site: Site, config: RunConfig, shares: bool, threshold: float | None, minimum: int = 1
) -> tuple[dict[str, Evaluation], dict[str, Counts], dict[str, Any]]:
    """Judge a model on a site's test patients after each of `evaluation.recalibrate`.

    Returns:
        figures and tables by name, as `client.evaluation.evaluate.evaluate_site` gives them, and for the report:
        the validation patients, each mend's threshold and paired differences to the model as it came, or why there
        are none.
    """
    wanted = [name for name in config.evaluation.recalibrate if _applies(name, site.task, config)]
    told: dict[str, Any] = {"patients": site.validation.people(), "methods": {}, "reason": ""}
    if not wanted or not len(site.test.y):
        return {}, {}, {}
    if reason := _cannot(site.validation, config):
        return {}, {}, told | {"reason": reason}
    plain = config.evaluation.model_copy(update={"without": {}, "subgroups": SubgroupsConfig()})
    config = config.model_copy(update={"evaluation": plain})
    held, tested = (np.asarray(model(part), dtype=np.float64) for part in (site.validation, site.test))

    def judged(change: LogitMap, at: float | None) -> tuple[Evaluation, dict[str, Counts]]:
        found = assessment.evaluate_site(
            lambda _: change(tested).astype(np.float32), site, config, True, at, curves=False, minimum=minimum
        )
        return found.results[ALL_PATIENTS], found.tables

    def figures(tables: dict[str, Counts]) -> ResampledFigures:
        return resampling.with_event_figures(
            site.task,
            resampling.compute_figures(
                site.task, tables[ALL_PATIENTS], tables[ALL_PATIENTS + RESAMPLED_SUFFIX], site.test.people()
            ),
        )

    before = figures(judged(lambda z: z, threshold)[1])
    results: dict[str, Evaluation] = {}
    found: dict[str, Counts] = {}
    for name in wanted:
        change = fit_recalibration(name, held, site.validation.y, site.task)
        at = _threshold(change(held), site.validation, config) if site.task.binary else None
        results[RECALIBRATED_PREFIX + name], tables = judged(change, at)
        found |= {
            RECALIBRATED_PREFIX + name + key.removeprefix(ALL_PATIENTS): tables[key]
            for key in tables
            if shares or key == ALL_PATIENTS
        }
        told["methods"][name] = {"threshold": at, "difference": _differences(figures(tables), before)}
    return results, found, told


def fit_recalibration(name: str, logits: Floats, truth: npt.NDArray[np.int64], task: Task) -> LogitMap:
    """Return a mend fitted on logits `(examples, classes)` and their labels."""
    if name == "threshold":
        return lambda z: z
    if name == "temperature":
        scale = np.exp(-_temperature(logits, truth, task))
        return lambda z: z * scale
    event = metrics.class_log_odds(logits)[:, 1]
    if name == "platt":
        slope, intercept = fit_platt(event, truth)
        return lambda z: _of_odds(slope * metrics.class_log_odds(z)[:, 1] + intercept)
    from sklearn.isotonic import IsotonicRegression

    steps = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip").fit(event, truth)
    least = 0.5 / (len(truth) + 1)  # a step on n examples cannot say that the chance is nothing
    return lambda z: _of_odds(logit(np.clip(steps.predict(metrics.class_log_odds(z)[:, 1]), least, 1 - least)))


def fit_platt(odds: Floats, truth: npt.NDArray[np.int64]) -> tuple[float, float]:
    """Return slope and intercept of the logistic regression of the event on log odds `(examples,)`.

    Targets are Platt's: (n+ + 1) / (n+ + 2) of an event, 1 / (n- + 2) of none.
    """
    events = int(truth.sum())
    target = np.where(truth == 1, (events + 1) / (events + 2), 1 / (len(truth) - events + 2))
    centre, spread = float(odds.mean()), float(odds.std()) or 1.0
    x = (odds - centre) / spread

    def loss(w: Floats) -> tuple[float, Floats]:
        z = w[0] * x + w[1]
        gap = (expit(z) - target) / len(x)
        return float((np.logaddexp(0.0, z) - target * z).mean()), np.array([gap @ x, gap.sum()])

    w = optimize.minimize(loss, np.array([1.0, 0.0]), jac=True, method="BFGS", options={"gtol": 1e-8}).x
    return float(w[0] / spread), float(w[1] - w[0] * centre / spread)


def _temperature(logits: Floats, truth: npt.NDArray[np.int64], task: Task) -> float:
    """Return the log of the temperature of least negative log likelihood."""
    rows = np.arange(len(truth))

    def loss(log: float) -> float:
        z = logits * np.exp(-log)
        if task.kind == "multilabel":
            return float((np.logaddexp(0.0, z) - truth * z).mean())
        top = z.max(1)
        return float((top + np.log(np.exp(z - top[:, None]).sum(1)) - z[rows, truth]).mean())

    return float(
        optimize.minimize_scalar(loss, bounds=LOG_TEMPERATURE_BOUNDS, method="bounded", options={"xatol": 1e-6}).x
    )


def _of_odds(event: Floats) -> Floats:
    """Return logits of two classes whose log odds these are."""
    return np.stack([np.zeros_like(event), event], axis=1)


def _applies(name: str, task: Task, config: RunConfig) -> bool:
    if name == "threshold":
        return task.binary and config.evaluation.threshold != "likelier"
    return task.probabilistic and (task.binary or name == "temperature")


def _cannot(validation: Cohort, config: RunConfig) -> str:
    """Return why nothing may or can be fitted on a site's validation patients, or nothing."""
    if config.privacy.on:
        return "training is private, and a mend would use patients whom no epsilon counts"
    least = (
        min(count_class_patients(validation)) if validation.task.binary and len(validation.y) else validation.people()
    )
    if least < FEW_PATIENTS:
        each = " of each class" if validation.task.binary else ""
        return f"fewer than {FEW_PATIENTS} validation patients{each}"
    return ""


def _threshold(logits: Floats, validation: Cohort, config: RunConfig) -> float | None:
    rule, task = config.evaluation.threshold, validation.task
    if rule == "likelier":
        return None
    worth = validation.utility if task.utility else None
    together = np.zeros(len(logits), np.int64)
    counts = metrics.count_predictions(logits, validation.y, together, 1, config.evaluation.bins, worth=worth)
    return metrics.choose_threshold(counts.total(), rule)


def _differences(after: ResampledFigures, before: ResampledFigures) -> dict[str, Any]:
    """Return how much more each plain figure is after than before."""
    names = [name for name, value in before.values.items() if np.ndim(value) == 0 and name in after.values]
    shared: dict[str, Figure] = {name: paired_difference(after, before, name) for name in names}
    return {name: item.model_dump() for name, item in shared.items()}
