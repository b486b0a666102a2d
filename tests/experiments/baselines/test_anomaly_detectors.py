"""Detectors of the abnormal against scikit-learn used by hand, plain computations, and cases worked out by hand."""

from __future__ import annotations

import json
import typing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import LocalOutlierFactor
from sklearn.preprocessing import StandardScaler
from sklearn.svm import OneClassSVM

from client.policy import SIMULATION_POLICY
from client.site import load_site
from client.site_context import SiteContext
from common.config import parse_config
from common.errors import ConfigError, SiteError
from common.scaling import Scaling
from common.sections.anomaly_baselines import AnomalyConfig, DetectorInput, DetectorKind
from common.seeds import seed_for
from common.task import Task
from experiments.baselines import anomaly_detectors
from experiments.baselines.anomaly_detectors import fit_anomaly
from experiments.baselines.classical import Predict
from experiments.cli import run_progress
from experiments.runs import run
from sites.cohort import Cohort, join_cohorts
from sites.ecg import beats

LEARNED = pytest.mark.parametrize("kind", ["isolation_forest", "one_class_svm", "lof", "pca"])
CONFIG = AnomalyConfig(trees=40, components=2, nu=0.2, neighbours=7)
TASK = Task("t", "multiclass", ("normal", "abnormal"), ("", ""), 0, 0, 0.0, tuple("abcd"), (), missing=True)


def table(features: np.ndarray, y: np.ndarray | None = None, **more: object) -> Cohort:
    n = len(features)
    y = np.zeros(n, np.int64) if y is None else y
    who = tuple(f"p{i}" for i in range(n))
    return Cohort(
        TASK, np.zeros((n, 0, 0), np.float32), features.astype(np.float32), y, np.arange(n), who, who,
        np.full(n, -1, np.int8), **more,  # type: ignore[arg-type]
    )  # fmt: skip


def drawn(seed: int, n: int = 300) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 2)) @ rng.normal(size=(2, 4)) * 3 + rng.normal(0, 0.3, (n, 4)) + 5


def odds(predict: Predict, cohort: Cohort) -> np.ndarray:
    logits = predict(cohort)
    assert logits.shape == (len(cohort.y), 2)
    assert logits.dtype == np.float32
    assert np.isfinite(logits).all()
    return np.asarray(logits[:, 1] - logits[:, 0], dtype=np.float64)


def by_hand(kind: str, x: np.ndarray, new: np.ndarray, seed: int) -> np.ndarray:
    scale = StandardScaler().fit(x)
    x, new = scale.transform(x), scale.transform(new)
    if kind == "pca":
        model = PCA(2, random_state=seed).fit(x)
        result = np.log(((new - model.inverse_transform(model.transform(new))) ** 2).mean(1) + 1e-9)
        return np.asarray(result)
    made = {
        "isolation_forest": lambda: IsolationForest(n_estimators=40, max_samples=256, random_state=seed),
        "one_class_svm": lambda: OneClassSVM(nu=0.2, gamma="scale"),
        "lof": lambda: LocalOutlierFactor(n_neighbors=7, novelty=True),
    }[kind]()
    return -np.asarray(made.fit(x).score_samples(new))


@LEARNED
def test_scores_are_scikit_learn_s(kind: str) -> None:
    x, new = drawn(1).astype(np.float32).astype(float), drawn(2, 90).astype(np.float32).astype(float)
    result = odds(fit_anomaly(kind, table(x), 5, CONFIG), table(new))
    usual, raw = by_hand(kind, x, x, 5), by_hand(kind, x, new, 5)
    start, spread = np.quantile(usual, 0.95), np.subtract(*np.quantile(usual, [0.75, 0.25]))
    np.testing.assert_allclose(result, 4 * np.arcsinh((raw - start) / spread), rtol=1e-4, atol=1e-4)


@LEARNED
def test_what_is_far_from_normal_is_abnormal(kind: str) -> None:
    rng = np.random.default_rng(4)
    new = np.concatenate([drawn(1)[:100] + rng.normal(0, 0.01, (100, 4)), rng.normal(5, 12, (100, 4))])
    result = odds(fit_anomaly(kind, table(drawn(1)), 1, CONFIG), table(new))
    assert roc_auc_score(np.repeat([0, 1], 100), result) > 0.85


@LEARNED
@pytest.mark.parametrize("share", [0.05, 0.3])
def test_contamination_is_the_share_of_training_rows_called_abnormal(kind: str, share: float) -> None:
    train = table(drawn(3))
    config = CONFIG.model_copy(update={"contamination": share})
    result = odds(fit_anomaly(kind, train, 1, config), train)
    assert (result > 0).mean() == pytest.approx(share, abs=0.01)


@LEARNED
def test_missing_values_get_the_training_median(kind: str) -> None:
    x, new = drawn(1), drawn(2, 40)
    x[::5, 1], filled = np.nan, new.copy()
    new[:, 1], filled[:, 1] = np.nan, np.nanmedian(x[:, 1])
    given = table(new)
    predict = fit_anomaly(kind, table(x), 1, CONFIG)
    np.testing.assert_allclose(odds(predict, given), odds(predict, table(filled)), rtol=1e-3, atol=1e-3)
    nothing = odds(predict, table(np.full((3, 4), np.nan)))
    assert np.ptp(nothing) < 1e-6
    empty = x.copy()
    empty[:, 2] = np.nan  # never measured
    assert np.isfinite(odds(fit_anomaly(kind, table(empty), 1, CONFIG), table(filled))).all()


@LEARNED
def test_the_seed_alone_decides_and_no_more_rows_than_asked_for_are_learnt_from(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, new = table(drawn(1)), table(drawn(2, 50))
    config = CONFIG.model_copy(update={"most": 60})
    one, again, other = (odds(fit_anomaly(kind, train, seed, config), new) for seed in (1, 1, 2))
    assert np.array_equal(one, again)
    if kind != "pca":
        assert not np.array_equal(one, other)
    observed: list[int] = []
    real = anomaly_detectors._score
    monkeypatch.setattr(anomaly_detectors, "_score", lambda k, x, s, c: (observed.append(len(x)), real(k, x, s, c))[1])
    fit_anomaly(kind, train, 1, config)
    assert observed == [60 if kind in ("one_class_svm", "lof") else 300]


def test_order_survives_scores_of_any_size() -> None:
    usual = np.random.default_rng(1).normal(size=200)
    far = np.concatenate([usual, [1e3, 1e5, 1e30]])
    train = table(np.stack([usual, usual, usual, usual], axis=1), age=usual.astype(np.float32))
    requested = replace(table(np.zeros((203, 4))), age=far.astype(np.float32))
    result = odds(fit_anomaly("age_sex", train, 1, CONFIG), requested)
    assert spearmanr(result[:200], usual).statistic == pytest.approx(1)
    assert result.max() <= 16
    assert result[200] > result[:200].max()


def test_age_is_held_against_normal_people_of_the_same_sex() -> None:
    age = np.asarray([30, 40, 50, 60, 70, 80, 20, 20, 20, 20], np.float32)
    sex = np.asarray([0, 0, 0, 1, 1, 1, -1, -1, -1, -1], np.int8)
    train = table(np.zeros((10, 4)), age=age, sex=sex)
    raw = anomaly_detectors._age_sex(train)
    requested = table(np.zeros((5, 4)), age=np.asarray([50, 50, 50, np.nan, 75], np.float32),
                  sex=np.asarray([0, 1, -1, 0, 1], np.int8))  # fmt: skip
    np.testing.assert_allclose(raw(requested), [10, -20, 30, np.nan, 5])
    result = odds(fit_anomaly("age_sex", train, 1, CONFIG), requested)
    assert result[0] > result[4] > result[1]
    rows = replace(requested, patient=np.asarray([0, 0, 0, 0, 1]))
    assert raw(rows).tolist() == [10, 10, 10, 10, -20]


def test_an_unknown_age_scores_as_the_median_of_normal_people() -> None:
    train = table(np.zeros((21, 4)), age=np.arange(40, 61, dtype=np.float32))
    requested = replace(table(np.zeros((2, 4))), age=np.asarray([np.nan, 50], np.float32))
    unknown, median = odds(fit_anomaly("age_sex", train, 1, CONFIG), requested)
    assert unknown == median == pytest.approx(4 * np.arcsinh((0 - 9) / 10), rel=1e-5)


def test_age_counts_normal_people_who_have_examples() -> None:
    train = table(np.zeros((40, 4)), age=np.asarray([40] * 12 + [99] * 28, np.float32))
    assert anomaly_detectors._age_sex(train.take(np.arange(12)))(train)[-1] == 59
    for age in (None, np.full(40, np.nan, np.float32)):
        with pytest.raises(SiteError, match="these data have no ages"):
            fit_anomaly("age_sex", replace(train, age=age), 1, CONFIG)


def ecg(relative: bool, kachuee: bool = False) -> Cohort:
    """Return 40 beats of two recordings, the last of each unlike its others."""
    samples = beats.KACHUEE_SAMPLES if kachuee else beats.SAMPLES
    rng = np.random.default_rng(2)
    shape = np.exp(-0.5 * ((np.arange(samples) - (60 if kachuee else beats.BEFORE)) / 3) ** 2)
    x = (np.repeat([1.0, 3.0], 20)[:, None] * shape + rng.normal(0, 0.001, (40, samples)))[:, None]
    x[[19, 39], 0] += [[0.5], [1.5]] * np.roll(shape, 20)
    usual = np.stack([np.median(x[:20], axis=0), np.median(x[20:], axis=0)]).repeat(20, axis=0)
    names = ("II", "II minus median beat") if relative else ("II",)
    task = Task("t", "multiclass", ("normal", "abnormal"), ("", ""), len(names), samples, beats.RATE, (), names)
    x = np.concatenate([x, x - usual], axis=1) if relative else x
    who = np.repeat([0, 1], 20)
    y = (np.arange(40) % 20 == 19).astype(np.int64)
    none = np.zeros((40, 0), np.float32)
    return Cohort(task, x.astype(np.float32), none, y, who, ("a", "b"), ("a", "b"), np.full(40, -1, np.int8))


@pytest.mark.parametrize("relative", [True, False])
def test_the_template_is_the_share_of_energy_that_differs(relative: bool) -> None:
    cohort = ecg(relative)
    result = np.exp(anomaly_detectors.template_scores(cohort))
    for row in (0, 19, 25, 39):
        beat = cohort.x[row, 0].astype(float)
        usual = np.median(cohort.x[:20, 0] if row < 20 else cohort.x[20:, 0], axis=0).astype(float)
        share = ((beat - usual) ** 2).sum() / ((usual - usual.mean()) ** 2).sum()
        assert result[row] == pytest.approx(share + 1e-6, rel=1e-3)
    assert result[19] == pytest.approx(result[39], rel=0.05)  # the same change, of a heart three times as loud
    predict = fit_anomaly("template", anomaly_detectors.select_normal_rows(cohort, parse_config({})), 1, CONFIG)
    assert roc_auc_score(cohort.y, odds(predict, cohort)) == 1


def test_the_template_of_strips_and_of_what_is_no_ecg() -> None:
    rate, n = 100, 1000
    time = np.arange(n)
    even = sum(np.exp(-0.5 * ((time - at) / 2) ** 2) for at in range(60, n - 60, 80))
    odd = even + sum(np.exp(-0.5 * ((time - at) / 9) ** 2) * (-1) ** (at // 80) for at in range(75, n - 60, 80))
    x = np.stack([even, odd, np.zeros(n)])[:, None].astype(np.float32)
    x[:2] += np.random.default_rng(1).normal(0, 0.01, (2, 1, n)).astype(np.float32)
    task = Task("t", "multiclass", ("normal", "abnormal"), ("", ""), 1, n, float(rate), (), ("II",))
    who = tuple("abc")
    strips = Cohort(
        task, x, np.zeros((3, 0), np.float32), np.zeros(3, np.int64), np.arange(3), who, who, np.full(3, -1, np.int8)
    )
    regular, irregular, flat = anomaly_detectors.template_scores(strips)
    assert irregular > regular + 1
    assert np.isnan(flat)
    with pytest.raises(SiteError, match="needs an ECG"):
        fit_anomaly("template", table(drawn(1)), 1, CONFIG)


def test_what_is_learnt_from() -> None:
    y = (np.arange(30) % 3 == 0).astype(np.int64)
    train = table(drawn(1, 30), y)
    assert anomaly_detectors.select_normal_rows(train, parse_config({})).y.tolist() == [0] * 20
    assert anomaly_detectors.select_normal_rows(train, parse_config({"model": {"name": "autoencoder"}})) is train
    with pytest.raises(SiteError, match="fewer than 10 normal training examples"):
        fit_anomaly("pca", train.take(np.arange(9)), 1, CONFIG)
    with pytest.raises(ConfigError, match="no anomaly detector named 'svm': choose from age_sex, isolation_"):
        fit_anomaly("svm", train, 1, CONFIG)
    assert fit_anomaly("pca", train, 1, CONFIG)(train.take(y > 5)).shape == (0, 2)


def test_names_and_what_a_configuration_may_ask_for() -> None:
    assert set(typing.get_args(DetectorKind)) == set(anomaly_detectors.TITLES)
    assert set(typing.get_args(DetectorInput)) == set(anomaly_detectors.INPUT_TITLES)
    config = AnomalyConfig(models=("template", "lof"), inputs=("features", "signal"))
    assert anomaly_detectors.list_variants(config) == [
        ("template", "template", ""), ("lof-features", "lof", "features"), ("lof-signal", "lof", "signal")
    ]  # fmt: skip
    assert anomaly_detectors.build_detector_title("pca", "signal") == "PCA reconstruction on samples"
    assert anomaly_detectors.build_detector_title("lof", "features") == "Local outlier factor on hand-crafted features"


def test_what_a_run_cannot_have_is_refused_first() -> None:
    four = replace(TASK, classes=tuple("NSVF"), class_titles=("",) * 4)
    wanted = {"baselines": {"anomaly": {"models": ["lof"]}}}
    anomaly_detectors.check_anomaly_baselines(parse_config({}), four)
    anomaly_detectors.check_anomaly_baselines(parse_config(wanted), TASK)
    with pytest.raises(ConfigError, match=r"baselines\.anomaly\.models: t has 4 classes"):
        anomaly_detectors.check_anomaly_baselines(parse_config(wanted), four)
    with pytest.raises(ConfigError, match="trained on the same patients as the networks: set pooled or local"):
        anomaly_detectors.check_anomaly_baselines(
            parse_config(wanted, ["baselines.pooled=false", "baselines.local=false"]), TASK
        )
    with pytest.raises(ConfigError, match="latent values need an autoencoder"):
        anomaly_detectors.check_anomaly_baselines(parse_config(wanted, ["baselines.anomaly.inputs=[latent]"]), TASK)
    anomaly_detectors.check_anomaly_baselines(
        parse_config(wanted, ["baselines.anomaly.inputs=[latent]", "model.name=autoencoder"]), four
    )


@pytest.mark.slow
def test_a_run_tests_them_with_its_networks(tmp_path: Path) -> None:
    raw = {
        "data": {"dataset": "heart_disease", "options": {"simulated": True, "hospitals": 2, "patients": 60}},
        "model": {"name": "logreg"},
        "federation": {"rounds": 1, "workers": 1},
        "evaluation": {"bootstrap": 20},
        "baselines": {
            "pooled": True,
            "local": True,
            "anomaly": {
                "models": ["age_sex", "template", "isolation_forest", "pca"],
                "inputs": ["features", "signal"],
                "trees": 5,
            },
        },
    }
    folder = run.run_experiment(parse_config(raw), tmp_path, run_progress.QuietPrinter())
    result = json.loads((folder / "baselines.json").read_text())
    models = {item["name"]: item for item in result["models"]}
    made = {"isolation_forest-features", "isolation_forest-signal", "pca-features", "pca-signal"}
    sites = {item["trained_at"] for item in models.values()} - {None}
    assert {name.partition(":")[0] for name in models} >= made
    assert len([name for name in models if name.startswith("pca-signal:")]) == 1 + len(sites) == 3
    assert [name for name in models if name.startswith("age_sex")] == ["age_sex:pooled"]
    assert result["failed"] == {"template:pooled": "the difference from a median beat needs an ECG"}
    config = parse_config(raw)
    opened = [load_site(SiteContext(SIMULATION_POLICY, index=i, count=2), config) for i in range(2)]
    train, test = (join_cohorts([getattr(site, part) for site in opened]) for part in ("train", "test"))
    seed = seed_for(config.seed, "pca-features:pooled")
    score = odds(fit_anomaly("pca", train.take(train.y == 0), seed, config.baselines.anomaly), test)
    reported = models["pca-features:pooled"]["pooled"]["all"]["classes"]["disease"]["auroc"]
    assert reported["value"] == pytest.approx(roc_auc_score(test.y, score), abs=0.005)
    assert reported["low"] < reported["value"] < reported["high"]
    page = (folder / "report.html").read_text()
    assert "PCA reconstruction on samples, pooled" in page


def test_latent_values_are_those_of_the_run_s_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Doubling(torch.nn.Module):
        def forward(self, x: torch.Tensor, features: torch.Tensor) -> SimpleNamespace:
            return SimpleNamespace(latent=2 * features)

    scaling = Scaling(np.full(4, 5.0), np.full(4, 10.0))
    monkeypatch.setattr(anomaly_detectors.restore, "model", lambda folder: (Doubling(), TASK))
    monkeypatch.setattr(anomaly_detectors.restore, "load_scaling", lambda folder: scaling)
    cohort = table(drawn(1, 30))
    result = anomaly_detectors.InputTables(parse_config({}), tmp_path).table_for("latent")(cohort)
    np.testing.assert_allclose(result, (cohort.features - 5) / 5, rtol=1e-5)
    with pytest.raises(SiteError, match=r"data\.scaling=site"):
        anomaly_detectors.InputTables(parse_config({"data": {"scaling": "site"}}), tmp_path).table_for("latent")
