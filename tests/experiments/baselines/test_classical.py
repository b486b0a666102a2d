"""scikit-learn's models against first-order conditions, plain computations and each other."""

from __future__ import annotations

import gc
import typing
import weakref
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit, softmax

from common.config import parse_config
from common.errors import ConfigError, SiteError
from common.metrics.counts import class_log_odds
from common.sections.evaluation import BaselinesConfig
from common.task import Task
from experiments.baselines import classical
from experiments.baselines.classical import ClassicalOptions, fit_classical
from sites.cohort import Cohort, Windows
from sites.ecg import features as ecg_features

EACH = pytest.mark.parametrize("name", classical.classical_names())


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classical, "TREES", 12)
    monkeypatch.setattr(classical, "ROUNDS", 15)


def cohort(
    features: np.ndarray, y: np.ndarray, classes: int = 2, x: np.ndarray | Windows | None = None, rate: float = 0.0
) -> Cohort:
    n = len(y)
    signal = np.zeros((n, 0, 0), np.float32) if x is None else x
    _, channels, samples = signal.shape
    what = Task(
        "t", "multilabel" if y.ndim == 2 else "multiclass", tuple("abcdef"[:classes]), ("",) * classes, channels,
        samples, rate, tuple(f"f{i}" for i in range(features.shape[1])), tuple(f"c{i}" for i in range(channels)),
        missing=True,
    )  # fmt: skip
    who = np.zeros(n, np.int64)
    return Cohort(what, signal, features.astype(np.float32), y, who, ("p",), ("p",), np.full(n, -1, np.int8))


def drawn(seed: int, n: int = 200, classes: int = 2, width: int = 4) -> Cohort:
    """Return a table whose classes lie along the first feature, the first class the commonest."""
    rng = np.random.default_rng(seed)
    features = rng.normal(3, 5, size=(n, width))
    edges = np.quantile(features[:, 0], np.linspace(0.5, 1, classes + 1)[1:-1]) if classes > 2 else [5.0]
    y = np.digitize(features[:, 0] + rng.normal(0, 2, n), edges)
    return cohort(features, y.astype(np.int64), classes)


def without_class(given: Cohort, gone: int) -> Cohort:
    return given.take(given.y != gone)


def test_names_are_what_a_configuration_may_ask_for() -> None:
    annotation = BaselinesConfig.model_fields["classical"].annotation
    (allowed, _) = typing.get_args(annotation)
    assert set(typing.get_args(allowed)) == set(classical.classical_names()) == set(classical.TITLES)
    assert parse_config({"baselines": {"classical": ["forest", "logreg"]}}).baselines.classical == ("forest", "logreg")
    with pytest.raises(ConfigError, match=r"classical\.0: Input should be 'logreg', 'forest', 'boosting' or"):
        parse_config({"baselines": {"classical": ["svm"]}})


def test_options_follow_the_loss_of_the_networks() -> None:
    assert ClassicalOptions.from_config(parse_config({"training": {"weight_power": 0.3}}), 3) == ClassicalOptions(
        0.3, 3
    )
    assert ClassicalOptions.from_config(parse_config({"training": {"loss": "cross_entropy"}}), 0) == ClassicalOptions(
        0.0, 1
    )


@EACH
@pytest.mark.parametrize("classes", [2, 4])
def test_every_model_learns_and_gives_logits(name: str, classes: int) -> None:
    train, test = drawn(1, 400, classes), drawn(2, 300, classes)
    logits = fit_classical(name, train, 1)(test)
    assert logits.shape == (300, classes)
    assert logits.dtype == np.float32
    assert np.isfinite(logits).all()
    np.testing.assert_allclose(np.exp(logits).sum(1), 1, atol=1e-3)
    assert (logits.argmax(1) == test.y).mean() > (test.y == 0).mean() + 0.1
    assert fit_classical(name, train, 1)(test.take(test.y > 9)).shape == (0, classes)


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_logistic_regression_is_at_its_minimum(power: float) -> None:
    # The gradient of sum w log loss + |coefficients|^2 / 2 over standardised inputs is zero, also to the intercept.
    train = drawn(3)
    logits = fit_classical("logreg", train, 1, ClassicalOptions(power))(train).astype(np.float64)
    z = (train.features - train.features.mean(0)) / train.features.std(0)
    design = np.column_stack([z, np.ones(len(z))])
    line, rest, *_ = np.linalg.lstsq(design, logits[:, 1] - logits[:, 0], rcond=None)
    assert rest[0] < 1e-3 * len(z)  # log odds are linear
    share = np.bincount(train.y) / len(train.y)
    weight = share**-power / (share * share**-power).sum()
    slope = design.T @ (weight[train.y] * (expit(design @ line) - train.y))
    np.testing.assert_allclose(slope + np.append(line[:-1], 0), 0, atol=0.02)
    assert abs(line[0]) > 1


@EACH
def test_weights_make_the_rare_class_likelier(name: str) -> None:
    rng = np.random.default_rng(4)
    train = cohort(rng.normal(size=(300, 2)), (np.arange(300) % 10 == 0).astype(np.int64))
    requested = cohort(rng.normal(size=(500, 2)), np.zeros(500, np.int64))
    plain, balanced = (
        np.exp(fit_classical(name, train, 1, ClassicalOptions(power))(requested))[:, 1].mean() for power in (0.0, 1.0)
    )
    assert plain == pytest.approx(0.1, abs=0.04)
    assert balanced > plain + 0.12
    if name in ("logreg", "boosting"):  # the others fit these 300 rows of noise more closely
        assert balanced == pytest.approx(0.5, abs=0.15)


@EACH
def test_labels_are_learnt_one_by_one(name: str) -> None:
    one, other = drawn(5), drawn(6)
    y = np.stack([one.y, np.roll(one.y, 3), np.zeros_like(one.y)], axis=1)
    many = replace(cohort(one.features, y, 3), patient=one.patient)
    test = cohort(other.features, np.zeros((len(other.y), 3), np.int64), 3)
    logits = fit_classical(name, many, 7)(test)
    assert logits.shape == (200, 3)
    odds = (one.y == 0).sum() / (one.y == 1).sum()
    for k in (0, 1):
        # weight of presence odds**power, as in client.training.label_weights; the seeds differ by label
        alone = cohort(one.features, y[:, k])
        weight = {"logreg": np.where(y[:, k] == 1, odds**0.5, 1.0)}
        if name == "logreg":
            model = classical._fit(name, alone.features, alone.y, weight[name], 2, 0, 1)
            np.testing.assert_allclose(expit(logits[:, k]), model(other.features)[:, 1], atol=1e-5)
    hits = (logits[:, 0] > 0) == (other.y == 1)
    assert hits.mean() > 0.75
    np.testing.assert_allclose(expit(logits[:, 2]), 0.5 / 201, rtol=1e-4)  # nobody has the third label


@EACH
def test_missing_values_are_no_obstacle_and_a_hint(name: str) -> None:
    rng = np.random.default_rng(8)
    y = (np.arange(300) % 2).astype(np.int64)
    features = rng.normal(size=(300, 3))
    features[:, 0] = np.where((y == 1) & (rng.random(300) < 0.9), np.nan, features[:, 0])
    features[:, 2] = np.nan  # never measured
    logits = fit_classical(name, cohort(features, y), 1)(cohort(features, y))
    assert np.isfinite(logits).all()
    assert (logits.argmax(1) == y).mean() > 0.9
    nothing = cohort(np.full((2, 3), np.nan), y[:2])
    assert np.isfinite(fit_classical(name, cohort(features, y), 1)(nothing)).all()


@pytest.mark.parametrize("name", ["logreg", "forest"])
def test_what_fills_gaps_comes_from_training_rows(name: str) -> None:
    given = drawn(9)
    gaps = given.features.copy()
    gaps[::3, 1] = np.nan
    model = fit_classical(name, replace(given, features=gaps), 1)
    requested = drawn(10).features[:20]
    requested[:, 1] = np.nan
    filled = requested.copy()
    filled[:, 1] = np.nanmedian(gaps[:, 1])
    alone = model(cohort(requested[:1], given.y[:1]))
    np.testing.assert_allclose(alone, model(cohort(requested, given.y[:20]))[:1], rtol=1e-5)
    one, other = (model(cohort(values, given.y[:20])) for values in (requested, filled))
    if name == "forest":
        assert np.array_equal(one, other)
    else:  # the indicator of what is missing adds the same to all
        shift = (class_log_odds(one) - class_log_odds(other))[:, 1]
        assert np.ptp(shift) < 1e-4
        assert abs(shift[0]) > 1e-3


@EACH
def test_a_class_that_a_site_lacks_is_unlikely(name: str) -> None:
    train = without_class(drawn(11, 300, 4), 2)
    logits = fit_classical(name, train, 1)(drawn(12, 50, 4))
    np.testing.assert_allclose(logits[:, 2], np.log(classical.MIN_PROBABILITY), rtol=1e-6)
    np.testing.assert_allclose(softmax(logits, axis=1)[:, [0, 1, 3]].sum(1), 1, atol=1e-5)


@EACH
def test_one_class_alone_and_no_rows(name: str) -> None:
    train = drawn(13, 60, 3).take(drawn(13, 60, 3).y == 1)
    n = len(train.y)
    shares = np.exp(fit_classical(name, train, 1)(drawn(14, 5, 3)))
    np.testing.assert_allclose(shares, [[0.5 / (n + 1.5), (n + 0.5) / (n + 1.5), 0.5 / (n + 1.5)]] * 5, rtol=1e-5)
    with pytest.raises(SiteError, match="no training examples at this site"):
        fit_classical(name, train.take(train.y == 0), 1)


def test_a_wrong_name_lists_the_right_ones() -> None:
    with pytest.raises(ConfigError, match="no classical model named 'svm': choose from boosting, forest, lightgbm"):
        fit_classical("svm", drawn(1), 1)


@EACH
def test_the_seed_alone_decides(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classical, "ROUNDS", 1)  # threads that wait for busy cores are slow
    monkeypatch.setattr(classical, "MIN_THREADED_VALUES", 0)
    train, test = drawn(15, 60), drawn(16, 50)
    first, again, threads = (
        fit_classical(name, train, 5, ClassicalOptions(workers=workers))(test) for workers in (1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert np.array_equal(first, threads)
    if name == "forest":
        assert not np.array_equal(first, fit_classical(name, train, 6)(test))


def test_few_values_are_worked_on_by_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    requested: list[int] = []
    real = classical.limit_threads
    monkeypatch.setattr(classical, "limit_threads", lambda count: requested.append(count) or real(1))
    train = drawn(20, 60)
    for minimum in (train.features.size, train.features.size + 1):
        monkeypatch.setattr(classical, "MIN_THREADED_VALUES", minimum)
        fit_classical("logreg", train, 1, ClassicalOptions(workers=3))(train)
    assert requested == [3, 3, 1, 1]


def test_a_tree_of_many_rows_draws_some(monkeypatch: pytest.MonkeyPatch) -> None:
    assert classical._build_model("forest", 50_001, 1, 1).named_steps["forest"].max_samples == 50_000
    assert classical._build_model("forest", 50_000, 1, 1).named_steps["forest"].max_samples is None


def hour(values: Sequence[float], missing: bool = True) -> list[float]:
    """Return last, mean, min, max and share measured of one channel, value by value."""
    observed = [value for value in values if not np.isnan(value)]
    result = [observed[-1], sum(observed) / len(observed), min(observed), max(observed)] if observed else [np.nan] * 4
    return result + [len(observed) / len(values)] * missing


@pytest.mark.parametrize("block", [1, 1 << 24])
def test_hours_are_summed_up(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classical, "WINDOW_BLOCK", block)
    rng = np.random.default_rng(17)
    x = np.where(rng.random((6, 3, 5)) < 0.5, np.nan, rng.normal(size=(6, 3, 5))).astype(np.float32)
    x[2, 1] = np.nan
    y = np.zeros(6, np.int64)
    static = rng.normal(size=(6, 2)).astype(np.float32)
    given = cohort(static, y, x=x, rate=1 / 3600)
    wanted = np.array([np.transpose([hour(channel) for channel in example]).ravel() for example in x])
    result = classical.raw_inputs(given)
    np.testing.assert_allclose(result, np.concatenate([wanted, static], axis=1), rtol=1e-5)
    whole = replace(given, x=np.nan_to_num(x), task=replace(given.task, missing=False))
    wanted = np.array([np.transpose([hour(c, False) for c in example]).ravel() for example in np.nan_to_num(x)])
    np.testing.assert_allclose(classical.raw_inputs(whole)[:, :-2], wanted, rtol=1e-5, atol=1e-7)


def test_windows_are_summed_up_as_what_they_show() -> None:
    rows = np.arange(20, dtype=np.float32).reshape(10, 2)
    windows = Windows(rows, np.array([1, 9, 6]), np.array([0, 4, 4]), 4)
    y = np.zeros(3, np.int64)
    sparse, dense = (cohort(np.zeros((3, 0)), y, x=x, rate=1 / 3600) for x in (windows, windows.dense()))
    assert np.array_equal(classical.raw_inputs(sparse), classical.raw_inputs(dense))
    assert classical.raw_inputs(sparse)[0].tolist() == [2, 3, 1, 2, 0, 1, 2, 3, 0.5, 0.5]


def test_an_ecg_is_seen_by_its_features() -> None:
    rng = np.random.default_rng(18)
    given = cohort(
        rng.normal(size=(8, 2)), np.zeros(8, np.int64), x=rng.normal(size=(8, 1, 96)).astype(np.float32), rate=125
    )
    result = classical.raw_inputs(given)
    assert np.array_equal(result[:, :-2], ecg_features.feature_table(given))
    assert np.array_equal(result[:, -2:], given.features)


def test_a_table_is_seen_as_it_is_and_inputs_are_made_once() -> None:
    given, made = drawn(19), []
    assert classical.raw_inputs(given) is given.features

    def table(what: Cohort) -> np.ndarray:
        made.append(what)
        return what.features

    remembered = classical.cached_inputs(table)
    for name in classical.classical_names():
        model = fit_classical(name, given, 1, table=remembered)
        assert np.array_equal(model(given), fit_classical(name, given, 1)(given))
    assert [id(item) for item in made] == [id(given)]
    made.clear()
    for _ in range(3):  # each in the place of the one before, perhaps, but another
        other = replace(given, features=given.features + 1)
        assert remembered(other) is other.features
        reference = weakref.ref(other.features)
        del other
        made.clear()
        gc.collect()
        assert reference() is None
