"""What is used today, on the same test patients: age and sex alone, and scores such as APACHE or NEWS.

`age_sex` is a logistic regression on age, its square and sex of the training patients of all hospitals. A score is a
column of a table with the data, an input of the task, or points for bands of inputs. A probability is taken as it is;
points become one by a logistic regression on the training patients, which keeps their order. A score is fitted, tested
and compared with the federated model on those alone that have it (experiments/baselines/known_scores.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from client.site import Site
from common.config import RunConfig
from common.errors import DataError, SiteError
from common.sections.today import ScoreConfig
from experiments import restore
from experiments.baselines.classical import Floats, Predict
from experiments.baselines.evaluation import Baseline, evaluate_baseline, join_split, select_threshold
from experiments.baselines.known_scores import Known, evaluate_where_known, load_federated, select_known
from sites.cohort import Cohort

Scores = npt.NDArray[np.float64]
PREFIX = "today:"
"""Start of the names of these models."""
MAX_LOG_ODDS = 15.9


def list_rivals(
    config: RunConfig, out: Path, sites: Sequence[Site]
) -> Iterator[tuple[Baseline, Callable[[], dict[str, Any]]]]:
    """Yield what is used today, with the function that evaluates each; nothing but for a task of two classes."""
    today = config.baselines.today
    if not sites or not sites[0].task.binary or sites[0].task.anomaly:
        return
    members = [site for site in sites if site.name not in config.sites.external]

    def evaluate(baseline: Baseline, fit: Callable[[Cohort], Predict], known: Known | None = None) -> Any:
        tested = sites if known is None else [select_known(site, known) for site in sites]
        trained = [site for site in tested if site.name not in config.sites.external]
        predict = fit(join_split(trained, "train"))
        threshold = select_threshold(config, predict, join_split(trained, "validation"))
        about: dict[str, Any] = {
            "name": baseline.name,
            "title": baseline.title,
            "trained_at": None,
            "kind": "classical",
            "unknown": sum(len(all_.test.y) - len(own.test.y) for all_, own in zip(sites, tested, strict=True)),
        }
        if known is not None and about["unknown"] and not config.privacy.evaluation_on:
            about["where_known"] = _evaluate_federated(config, out, baseline.name, known, sites)
        return about | evaluate_baseline(config, out, baseline.name, sites[0].task, predict, threshold, tested)

    if today.age_sex:
        baseline = Baseline(f"{PREFIX}age_sex", "Age and sex alone", None, members)
        yield baseline, lambda baseline=baseline: evaluate(baseline, fit_age_sex)  # type: ignore[misc]
    for key, score in today.scores.items():
        baseline = Baseline(f"{PREFIX}{key}", score.title or key, None, members)

        def run(baseline: Baseline = baseline, score: ScoreConfig = score) -> dict[str, Any]:
            read = build_score(score, config)
            known = lambda cohort: ~np.isnan(read(cohort))  # noqa: E731
            result: dict[str, Any] = evaluate(baseline, lambda train: fit_score(score, read, train), known)
            return result

        yield baseline, run


def _evaluate_federated(
    config: RunConfig, out: Path, name: str, known: Known, sites: Sequence[Site]
) -> dict[str, Any] | None:
    """Return `evaluate_where_known` of the run's model; None if the folder does not hold it in full."""
    try:
        threshold = restore.load_outcome(out).get("threshold")
        return evaluate_where_known(config, out, name, known, sites, partial(load_federated, config, out), threshold)
    except DataError:
        return None


def fit_age_sex(train: Cohort) -> Predict:
    """Return a function that predicts from age and sex alone.

    Raises:
        SiteError: the data have neither, or the training patients have one outcome.
    """
    if _describe_people(train).shape[1] == 0:
        raise SiteError("age and sex alone: these data have neither")
    return _fit_logistic(_describe_people, train)


def _describe_people(cohort: Cohort) -> Scores:
    """Return age, its square, sex, and whether each is unknown, `(examples, columns)`; a cohort without has none."""
    columns = []
    if cohort.age is not None and np.isfinite(cohort.age).any():
        age = cohort.age.astype(np.float64)[cohort.patient] / 100
        columns += [np.nan_to_num(age), np.nan_to_num(age) ** 2, np.isnan(age).astype(float)]
    elif cohort.age is not None:
        columns += [np.zeros(len(cohort.y)), np.zeros(len(cohort.y)), np.ones(len(cohort.y))]
    if cohort.sex is not None:
        sex = cohort.sex[cohort.patient]
        columns += [(sex == 1).astype(float), (sex < 0).astype(float)]
    return np.stack(columns, 1) if columns else np.zeros((len(cohort.y), 0))


def build_score(score: ScoreConfig, config: RunConfig) -> Callable[[Cohort], Scores]:
    """Return a function that reads a score of each example, NaN where it is not known.

    Raises:
        SiteError: the table cannot be read, or a column is missing.
    """
    if score.file is not None:
        return _read_table(score, Path(config.data.path or ".") / score.file)

    def compute(cohort: Cohort) -> Scores:
        names = list(cohort.task.features)
        wanted = [score.column] if score.column is not None else list(score.points)
        if missing := [name for name in wanted if name not in names]:
            raise SiteError(f"baselines.today: no input {missing[0]}: the task has {', '.join(names[:8])}")
        values = {name: cohort.features[:, names.index(name)].astype(np.float64) for name in wanted}
        if score.column is not None:
            return values[score.column]
        total = np.zeros(len(cohort.y))
        for name, bands in score.points.items():
            at = np.searchsorted(bands.edges, values[name], side="right")
            total += np.where(np.isnan(values[name]), bands.missing, np.asarray(bands.points)[at])
        return total

    return compute


def _read_table(score: ScoreConfig, path: Path) -> Callable[[Cohort], Scores]:
    import pandas as pd

    columns = [score.id, str(score.column), *score.where]
    try:
        table = pd.read_csv(path, dtype=str, usecols=lambda name: name in columns)
    except (OSError, ValueError, UnicodeDecodeError):
        raise SiteError(f"baselines.today: cannot read {path} as a CSV table") from None
    if missing := [name for name in columns if name not in table.columns]:
        raise SiteError(f"baselines.today: {path.name} has no column {missing[0]}")
    for name, text in score.where.items():
        table = table[table[name] == text]
    if table[score.id].str.strip().duplicated().any():
        raise SiteError(f"baselines.today: {path.name} has two rows of one {score.id}: keep one, or choose by `where`")
    values = pd.to_numeric(table[str(score.column)], errors="coerce").replace([np.inf, -np.inf], np.nan)
    if score.scale == "probability":
        values = values.where((values >= 0) & (values <= 1))
    by_name = dict(zip(table[score.id].str.strip(), values, strict=True))

    def look_up(cohort: Cohort) -> Scores:
        each = np.array([by_name.get(name, np.nan) for name in cohort.patients], np.float64)
        return each[cohort.patient]

    return look_up


def fit_score(score: ScoreConfig, read: Callable[[Cohort], Scores], train: Cohort) -> Predict:
    """Return a function that predicts from a score alone, for those who have it.

    Args:
        score: what the score is.
        read: reads it.
        train: training examples for which it is known.

    Raises:
        SiteError: no training patient has the score, or they have one outcome.
    """
    if np.isnan(read(train)).all():
        raise SiteError("baselines.today: no training patient has this score: check the names in the column id")
    if score.scale == "points":
        return _fit_logistic(lambda cohort: read(cohort)[:, None], train)

    def predict(cohort: Cohort) -> Floats:
        share = np.clip(read(cohort), 1e-6, 1 - 1e-6)
        return _to_logits(np.log(share / (1 - share)))

    return predict


def _fit_logistic(table: Callable[[Cohort], Scores], train: Cohort) -> Predict:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if len(np.unique(train.y)) < 2:
        raise SiteError("baselines.today: the training patients have one outcome only")
    model = make_pipeline(StandardScaler(), LogisticRegression(C=1e4, max_iter=5000))
    model.fit(table(train), train.y)

    def predict(cohort: Cohort) -> Floats:
        return _to_logits(model.decision_function(table(cohort)) if len(cohort.y) else np.zeros(0))

    return predict


def _to_logits(log_odds: Scores) -> Floats:
    limited = np.clip(log_odds, -MAX_LOG_ODDS, MAX_LOG_ODDS)
    return np.stack([np.zeros_like(limited), limited], 1).astype(np.float32)
