"""Classical models to compare with networks: scikit-learn's and LightGBM, with hand-crafted features for ECGs.

`logreg` (logistic regression), `forest` (random forest), `boosting` (histogram gradient boosting) and `lightgbm` (Ke et
al. 2017, NeurIPS; the extra `trees`) take unscaled inputs: features as they are, NaN where not measured; for an ECG the
features of sites/ecg/features.py; for hourly data the last measured value, mean, minimum and maximum of each channel,
and the share of hours in which it was measured. Both kinds of boosting handle NaN themselves. For the others, missing
values are replaced with the median of the training rows; logistic regression also gets an indicator for each input with
missing training values, and standardised inputs. Classes are weighted as in the networks' loss (training.loss,
training.weight_power).

Settings are fixed, not tuned, so validation and test patients are not used.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from client.training.losses import compute_class_weights, compute_label_weights
from common.config import RunConfig
from common.errors import ConfigError, SiteError
from common.seeds import seed_for
from sites.cohort import Cohort, Windows
from sites.ecg import features

Floats = npt.NDArray[np.float32]
Predict = Callable[[Cohort], Floats]
MakeInputs = Callable[[Cohort], Floats]

TITLES = {
    "boosting": "gradient boosting",
    "forest": "random forest",
    "lightgbm": "LightGBM",
    "logreg": "logistic regression",
}
MIN_PROBABILITY = 1e-6
"""Distance of probabilities from 0 and 1, so that log odds are finite."""
TREES, TREE_ROWS, ROUNDS = 100, 50_000, 200
"""Trees of a forest, the largest number of rows drawn for a tree, and rounds of boosting."""
HOURLY_STATISTICS = ("last", "mean", "min", "max", "measured")
MIN_THREADED_VALUES = 2_000_000
"""Fewer input values are processed with one thread, because threads of boosting would mostly wait for each other."""
WINDOW_BLOCK = 1 << 24
"""Values of windows that are in memory at the same time."""
_one_at_a_time = threading.Lock()


@dataclass(frozen=True)
class ClassicalOptions:
    """Options of classical models.

    Attributes:
        weight_power: as training.weight_power; 0: equal weights.
        workers: number of threads.
    """

    weight_power: float = 0.5
    workers: int = 1

    @classmethod
    def from_config(cls, config: RunConfig, workers: int = 1) -> ClassicalOptions:
        """Return the options that weight classes as in a run's training."""
        training = config.training
        return cls(0.0 if training.loss == "cross_entropy" else training.weight_power, max(1, workers))


def classical_names() -> tuple[str, ...]:
    """Return the names of the classical models."""
    return tuple(TITLES)


def fit_classical(
    name: str, train: Cohort, seed: int, options: ClassicalOptions | None = None, table: MakeInputs | None = None
) -> Predict:
    """Train a classical model; return a function that gives logits `(examples, classes)`, float32, of any cohort.

    The softmax of the logits (for several labels the sigmoid) is the model's probability, limited by MIN_PROBABILITY.
    If the training rows have only one class, the model predicts the frequencies of the classes.

    Args:
        name: one of `classical_names()`.
        train: at least one example, with unscaled inputs.
        seed: the same seed gives the same model for any number of workers.
        options: class weights and threads.
        table: computes the inputs of a cohort; None: `raw_inputs`.

    Raises:
        ConfigError: no model has that name.
        SiteError: there is nothing to train on.
    """
    if name not in TITLES:
        raise ConfigError(f"no classical model named {name!r}: choose from {', '.join(classical_names())}")
    if not len(train.y):
        raise SiteError("no training examples at this site")
    options, table = options or ClassicalOptions(), table or raw_inputs
    classes, many = len(train.task.classes), train.task.kind == "multilabel"
    x = table(train)
    power, counts = options.weight_power, train.class_counts()
    workers = options.workers if x.size >= MIN_THREADED_VALUES else 1
    with limit_threads(workers):
        if many:
            present = compute_label_weights(counts, len(train.y), power).numpy()
            columns = [(train.y[:, k], np.where(train.y[:, k] == 1, present[k], 1.0), 2) for k in range(classes)]
        else:
            columns = [(train.y, compute_class_weights(counts, power).numpy()[train.y], classes)]
        models = [
            _fit(name, x, y, weight.astype(np.float64), count, seed_for(seed, name, k), workers)
            for k, (y, weight, count) in enumerate(columns)
        ]

    def predict(cohort: Cohort) -> Floats:
        if not len(cohort.y):
            return np.zeros((0, classes), dtype=np.float32)
        x = table(cohort)
        with limit_threads(options.workers if x.size >= MIN_THREADED_VALUES else 1):
            shares = [np.clip(model(x), MIN_PROBABILITY, 1 - MIN_PROBABILITY) for model in models]
        if many:
            return np.stack([np.log(share[:, 1]) - np.log(share[:, 0]) for share in shares], axis=1).astype(np.float32)
        return np.log(shares[0]).astype(np.float32)

    return predict


def cached_inputs(table: MakeInputs | None = None) -> MakeInputs:
    """Return `table`, or `raw_inputs`, with a cache: the inputs of a cohort are computed once while it exists."""
    tables: dict[int, Floats] = {}

    def remembered(cohort: Cohort) -> Floats:
        if id(cohort) not in tables:
            tables[id(cohort)] = (table or raw_inputs)(cohort)
            weakref.finalize(cohort, tables.pop, id(cohort), None)
        return tables[id(cohort)]

    return remembered


def raw_inputs(cohort: Cohort) -> Floats:
    """Return the inputs `(examples, inputs)` of an ECG, a table or hourly data; NaN where not measured.

    Raises:
        DataError: there are no hand-crafted features for this kind of ECG.
    """
    task = cohort.task
    if not task.channels:
        return cohort.features
    signal_inputs = features.feature_table(cohort) if task.rate_hz >= 1 else _hours(cohort)
    return np.concatenate([signal_inputs, cohort.features], axis=1)


def _hours(cohort: Cohort) -> Floats:
    """Return the HOURLY_STATISTICS of each channel, `(examples, statistics x channels)`."""
    n, channels, samples = cohort.x.shape
    kinds = HOURLY_STATISTICS if cohort.task.missing else HOURLY_STATISTICS[:-1]
    out = np.empty((n, len(kinds), channels), dtype=np.float32)
    block = max(1, WINDOW_BLOCK // max(1, channels * samples))
    for start in range(0, n, block):
        rows = slice(start, start + block)
        part = cohort.x[rows]
        x = part.dense() if isinstance(part, Windows) else part
        here = ~np.isnan(x)
        count = here.sum(-1)
        none = count == 0
        last = samples - 1 - here[..., ::-1].argmax(-1)
        columns = {
            "last": np.take_along_axis(x, last[..., None], -1)[..., 0],
            "mean": np.where(here, x, 0).sum(-1) / np.maximum(count, 1),
            "min": np.where(here, x, np.inf).min(-1),
            "max": np.where(here, x, -np.inf).max(-1),
        }
        for k, kind in enumerate(kinds):
            out[rows, k] = count / samples if kind == "measured" else np.where(none, np.nan, columns[kind])
    return out.reshape(n, -1)


def _fit(
    name: str,
    x: Floats,
    y: npt.NDArray[np.int64],
    weight: npt.NDArray[np.float64],
    classes: int,
    seed: int,
    workers: int,
) -> Callable[[Floats], npt.NDArray[np.float64]]:
    """Return a function that gives probabilities `(examples, classes)`, 0 for classes absent from the training rows."""
    there = np.unique(y)
    if len(there) == 1:
        share = (np.bincount(y, minlength=classes) + 0.5) / (len(y) + 0.5 * classes)
        return lambda rows: np.tile(share, (len(rows), 1))
    empty = np.isnan(x).all(0)
    if empty.any():  # scikit-learn 1.9 cannot bin an input without values
        x = np.where(empty, np.float32(0), x)
    model = _build_model(name, len(y), seed % 2**32, workers)
    step = {"sample_weight": weight} if name in ("boosting", "lightgbm") else {f"{name}__sample_weight": weight}
    model.fit(x, y, **step)
    if name == "forest":  # with threads, the trees' votes would be added in the order in which they finish
        model.named_steps["forest"].set_params(n_jobs=1)

    def predict(rows: Floats) -> npt.NDArray[np.float64]:
        out = np.zeros((len(rows), classes))
        out[:, there] = model.predict_proba(rows)
        return out

    return predict


def _build_model(name: str, rows: int, seed: int, workers: int) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    if name == "boosting":
        return HistGradientBoostingClassifier(
            learning_rate=0.06,
            max_iter=ROUNDS,
            min_samples_leaf=max(5, min(20, rows // 10)),
            l2_regularization=1.0,
            early_stopping=False,  # it would hold out random rows, not patients
            random_state=seed,
        )
    if name == "lightgbm":
        return _build_lightgbm(rows, seed, workers)
    if name == "forest":
        drawn = TREE_ROWS if rows > TREE_ROWS else None
        forest = RandomForestClassifier(TREES, min_samples_leaf=3, max_samples=drawn, n_jobs=workers, random_state=seed)
        return Pipeline([("fill", SimpleImputer(strategy="median")), ("forest", forest)])
    fill = SimpleImputer(strategy="median", add_indicator=True)
    return Pipeline([("fill", fill), ("scale", StandardScaler()), ("logreg", LogisticRegression(max_iter=2000))])


def _build_lightgbm(rows: int, seed: int, workers: int) -> Any:
    """Return LightGBM's classifier.

    Raises:
        SiteError: it is not installed.
    """
    try:
        from lightgbm import LGBMClassifier
    except ImportError:
        raise SiteError("baselines.classical: lightgbm is not installed: pip install 'wardround[trees]'") from None
    return LGBMClassifier(
        n_estimators=300,
        learning_rate=0.05,
        num_leaves=31,
        min_child_samples=max(5, min(20, rows // 10)),
        reg_lambda=1.0,
        subsample=0.8,
        subsample_freq=1,
        colsample_bytree=0.5,
        random_state=seed % 2**31,
        n_jobs=workers,
        deterministic=True,
        force_row_wise=True,
        verbosity=-1,
    )


@contextmanager
def limit_threads(count: int) -> Iterator[None]:
    """Limit the threads of numerical libraries; one model at a time, because the limit applies to the whole process."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    with _one_at_a_time, threadpool_limits(count):
        yield
