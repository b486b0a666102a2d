"""Anomaly detectors to compare autoencoders with: scikit-learn's, and two without a model.

`isolation_forest` (Liu, Ting, Zhou 2008, ICDM 413-422), `one_class_svm` (Schölkopf et al. 2001, Neural Comput
13(7):1443-1471), `lof` (local outlier factor, Breunig et al. 2000, SIGMOD 93-104) and `pca` (what leading components
do not reconstruct) learn from normal rows. Their inputs are hand-crafted features (as of classical models), samples,
or the latent values of the run's autoencoder; missing values are replaced with the median of the training rows, and
inputs are standardised.

`template` is not trained: its score is the energy of a beat minus its recording's median beat, divided by that median
beat's energy; for a strip, how much its beats differ from their median. `age_sex` is how much older a person is than
the median of normal training patients of the same sex: a baseline that does not use the signal.

All give log odds of the second class: 4 asinh of the score minus its quantile `1 - contamination` over the training
rows, in units of its interquartile range. This keeps the order of the scores, but is not a probability.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from client import input_scaling
from common.config import RunConfig
from common.errors import ConfigError, DataError, SiteError
from common.sections.anomaly_baselines import AnomalyConfig
from common.task import Task
from experiments import restore
from experiments.baselines import classical
from experiments.baselines.classical import Floats, MakeInputs, Predict
from sites.cohort import Cohort, Windows
from sites.ecg import features

Scores = npt.NDArray[np.float64]
RawScore = Callable[[Cohort], Scores]

TITLES = {
    "template": "difference from the recording's median beat, no model",
    "age_sex": "age and sex alone, no model",
    "isolation_forest": "isolation forest",
    "one_class_svm": "one-class SVM",
    "lof": "local outlier factor",
    "pca": "PCA reconstruction",
}
INPUT_TITLES = {"features": "hand-crafted features", "signal": "samples", "latent": "latent values"}
MODEL_FREE = ("template", "age_sex")
MIN_NORMAL_ROWS = 10
"""Smallest number of normal training rows."""
SCORE_STRETCH = 4.0
"""Factor that spreads scores over the range of the histogram bins (common/metrics/counts.py)."""
MAX_STANDARDISED = 10.0
"""Limit of standardised inputs, so that a single wrong value does not dominate."""


def list_variants(config: AnomalyConfig) -> list[tuple[str, str, str]]:
    """Return each detector's name, kind and input ("" for those without a model), in the configured order."""
    variants: list[tuple[str, str, str]] = []
    for kind in config.models:
        if kind in MODEL_FREE:
            variants.append((kind, kind, ""))
        else:
            variants += [(f"{kind}-{on}", kind, on) for on in config.inputs]
    return variants


def build_detector_title(kind: str, on: str) -> str:
    """Return the title of a detector in the report."""
    text = f"{TITLES[kind]} on {INPUT_TITLES[on]}" if on else TITLES[kind]
    return text if text[1:2].isupper() else text[0].upper() + text[1:]


def check_anomaly_baselines(config: RunConfig, task: Task) -> None:
    """Check before any training that a run can have the configured detectors.

    Raises:
        ConfigError: names the key and what it requires.
    """
    wanted = config.baselines.anomaly
    if not wanted.models:
        return
    if not (config.baselines.pooled or config.baselines.local):
        raise ConfigError(
            "baselines.anomaly.models: they are trained on the same patients as the networks: set pooled or local"
        )
    if not task.binary and not config.detecting:
        raise ConfigError(
            f"baselines.anomaly.models: {task.name} has {len(task.classes)} classes: choose a task with two (such as "
            "data.options.target=abnormal), or an autoencoder"
        )
    learned = any(kind not in MODEL_FREE for kind in wanted.models)
    if learned and "latent" in wanted.inputs and not config.detecting:
        raise ConfigError("baselines.anomaly.inputs: latent values need an autoencoder: set model.name to one")


def select_normal_rows(train: Cohort, config: RunConfig) -> Cohort:
    """Return the rows to learn from: all that an autoencoder run trains on, otherwise the normal ones."""
    return train if config.detecting else train.take(train.y == 0)


class InputTables:
    """The functions that compute inputs of a cohort, each with a cache."""

    def __init__(self, config: RunConfig, folder: Path) -> None:
        self._config, self._folder = config, folder
        self._inputs_by_kind: dict[str, MakeInputs] = {}

    def table_for(self, on: str) -> MakeInputs:
        """Return the function that computes `features`, `signal` or `latent` inputs.

        Raises:
            SiteError: the run has no such inputs.
        """
        if on not in self._inputs_by_kind:
            made = (
                flatten_signals
                if on == "signal"
                else latent_inputs(self._config, self._folder)
                if on == "latent"
                else None
            )
            self._inputs_by_kind[on] = classical.cached_inputs(made)
        return self._inputs_by_kind[on]


def flatten_signals(cohort: Cohort) -> Floats:
    """Return the samples of each example `(examples, channels x samples)`; without a signal, its features."""
    if not cohort.task.channels:
        return cohort.features
    x = cohort.x.dense() if isinstance(cohort.x, Windows) else cohort.x
    return x.reshape(len(x), -1)


def latent_inputs(config: RunConfig, folder: Path) -> MakeInputs:
    """Return the function that computes latent values `(examples, latent)` with the federation's autoencoder.

    Raises:
        SiteError: hospitals scale their inputs or keep layers on their own, so that there are no common latent values.
    """
    if config.data.scaling == "site":
        raise SiteError("latent values: data.scaling=site scales each hospital's inputs differently")
    try:
        model, task = restore.model(folder)
    except DataError as error:  # the hospitals keep layers to themselves, so there are no common latent values
        raise SiteError(f"latent values: {error}") from None
    scaling = restore.load_scaling(folder)

    def table(cohort: Cohort) -> Floats:
        ready = input_scaling.apply_scaling(replace(cohort, task=task), scaling)
        parts = [np.zeros((0, 1), np.float32)] if not len(cohort.y) else []
        with torch.inference_mode():
            for start in range(0, len(cohort.y), 2048):
                rows = slice(start, start + 2048)
                x = ready.x[rows]
                given = torch.from_numpy(x.dense() if isinstance(x, Windows) else x)
                parts.append(model(given, torch.from_numpy(ready.features[rows])).latent.float().numpy())
        return np.concatenate(parts)

    return table


def fit_anomaly(
    kind: str, train: Cohort, seed: int, config: AnomalyConfig, table: MakeInputs | None = None, workers: int = 1
) -> Predict:
    """Fit a detector to normal rows; return a function that gives finite float32 logits `(examples, 2)` of a cohort.

    Args:
        kind: one of TITLES.
        train: normal rows.
        seed: the same seed gives the same detector.
        config: the detectors' options.
        table: computes the inputs of scikit-learn's detectors; None: hand-crafted features.
        workers: number of threads.

    Raises:
        ConfigError: no detector has that name.
        SiteError: there are too few normal rows, or the data lack what the detector uses.
    """
    if kind not in TITLES:
        raise ConfigError(f"no anomaly detector named {kind!r}: choose from {', '.join(sorted(TITLES))}")
    if len(train.y) < MIN_NORMAL_ROWS:
        raise SiteError(f"fewer than {MIN_NORMAL_ROWS} normal training examples at this site")
    if kind == "template":
        raw: RawScore = template_scores
    elif kind == "age_sex":
        raw = _age_sex(train)
    else:
        raw = _learned(kind, train, seed, config, table or classical.raw_inputs, workers)
    usual = raw(train)
    usual = usual[np.isfinite(usual)]
    if not len(usual):
        raise SiteError(f"{TITLES[kind]}: cannot be computed for this site's training examples")
    low, middle, high = np.quantile(usual, [0.25, 0.5, 0.75])
    start = np.quantile(usual, 1 - config.contamination)
    spread = float(high - low) or float(usual.std()) or 1.0

    def predict(cohort: Cohort) -> Floats:
        if not len(cohort.y):
            return np.zeros((0, 2), np.float32)
        values = raw(cohort)
        # What cannot be measured gets the median of the training rows: neither normal nor abnormal.
        score = SCORE_STRETCH * np.arcsinh((np.where(np.isnan(values), middle, values) - start) / spread)
        score = np.clip(score, -15.9, 15.9)
        return np.stack([np.zeros_like(score), score], axis=1).astype(np.float32)

    return predict


def template_scores(cohort: Cohort) -> Scores:
    """Return the log of each beat's relative energy of difference from its recording's median beat; NaN: unknown.

    Raises:
        SiteError: the data are neither beats nor strips of an ECG.
    """
    try:
        what = features.signal_kind(cohort.task)
    except DataError:
        raise SiteError("the difference from a median beat needs an ECG") from None
    assert not isinstance(cohort.x, Windows)  # hourly data are no ECG
    if what == "strip":
        sameness = features.feature_table(cohort)[:, features.feature_names(cohort.task).index("sameness")]
        return np.log(1.001 - sameness.astype(np.float64))
    relative = [i for i, name in enumerate(cohort.task.channel_names) if name.endswith(features.RELATIVE)]
    own = [i for i, name in enumerate(cohort.task.channel_names) if i not in relative]
    if relative:
        difference = cohort.x[:, relative].astype(np.float64)
        usual = cohort.x[:, own] - difference
    else:
        x, _ = features._window(cohort.x[:, own], what)
        usual = features._median_beats(cohort, what)[cohort.patient].astype(np.float64)
        difference = x - usual
    energy = ((usual - usual.mean(-1, keepdims=True)) ** 2).sum((1, 2))
    share = (difference**2).sum((1, 2)) / np.where(energy > 0, energy, np.nan)
    return np.asarray(np.log(share + 1e-6), dtype=np.float64)


def _age_sex(train: Cohort) -> RawScore:
    if train.age is None or not np.isfinite(train.age[np.unique(train.patient)]).any():
        raise SiteError("age and sex alone: these data have no ages")

    def people(cohort: Cohort) -> tuple[Scores, npt.NDArray[np.int64]]:
        age = np.full(len(cohort.patients), np.nan) if cohort.age is None else cohort.age.astype(np.float64)
        sex = np.full(len(cohort.patients), -1) if cohort.sex is None else cohort.sex.astype(np.int64)
        return age, sex

    age, sex = people(train)
    here = np.unique(train.patient)
    age, sex = age[here], sex[here]
    groups = {kind: age[sex == kind] for kind in set(sex.tolist())}
    usual = {kind: float(np.nanmedian(years)) for kind, years in groups.items() if np.isfinite(years).any()}
    every = float(np.nanmedian(age))

    def raw(cohort: Cohort) -> Scores:
        years, kinds = people(cohort)
        each = years - np.asarray([usual.get(int(kind), every) for kind in kinds])
        return np.asarray(each[cohort.patient], dtype=np.float64)

    return raw


def _learned(kind: str, train: Cohort, seed: int, config: AnomalyConfig, table: MakeInputs, workers: int) -> RawScore:
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer, StandardScaler

    ready = make_pipeline(
        SimpleImputer(strategy="median", keep_empty_features=True),
        StandardScaler(),
        FunctionTransformer(_within),
    )
    rng = np.random.default_rng(seed)
    rows = np.arange(len(train.y))
    if kind in ("one_class_svm", "lof") and len(rows) > config.most:
        rows = np.sort(rng.choice(rows, config.most, replace=False))
    x = np.asarray(table(train), dtype=np.float64)
    x[~np.isfinite(x)] = np.nan
    ready.fit(x)
    with classical.limit_threads(workers):
        score = _score(kind, ready.transform(x[rows]), seed % 2**32, config)

    def raw(cohort: Cohort) -> Scores:
        values = np.asarray(table(cohort), dtype=np.float64)
        values[~np.isfinite(values)] = np.nan
        with classical.limit_threads(workers):
            return np.asarray(score(ready.transform(values)), dtype=np.float64)

    return raw


def _within(x: Scores) -> Scores:
    return np.clip(x, -MAX_STANDARDISED, MAX_STANDARDISED)


def _score(kind: str, x: Scores, seed: int, config: AnomalyConfig) -> Callable[[Scores], Scores]:
    """Return a fitted detector's score, higher for the more abnormal."""
    from sklearn.decomposition import PCA
    from sklearn.ensemble import IsolationForest
    from sklearn.neighbors import LocalOutlierFactor
    from sklearn.svm import OneClassSVM

    if kind == "pca":
        most = min(x.shape)
        n_components: Any = config.components if config.components < 1 else min(int(config.components), most)
        pca = PCA(n_components, svd_solver="full" if config.components < 1 else "auto", random_state=seed).fit(x)
        return lambda new: np.log(((new - pca.inverse_transform(pca.transform(new))) ** 2).mean(1) + 1e-9)
    if kind == "isolation_forest":
        model: Any = IsolationForest(n_estimators=config.trees, max_samples=min(config.rows, len(x)), random_state=seed)
    elif kind == "lof":
        model = LocalOutlierFactor(n_neighbors=min(config.neighbours, len(x) - 1), novelty=True)
    else:
        model = OneClassSVM(nu=config.nu, gamma="scale")
    model.fit(x)
    return lambda new: -np.asarray(model.score_samples(new), dtype=np.float64)
