"""Anomaly detection at a site: what it trains on, what it excludes, how it scores."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn import metrics as truth

from client import requests as work
from client.evaluation import anomaly_scores
from client.evaluation.evaluate import evaluate_site
from client.evaluation.predictions import build_predictor, predict_and_count
from client.privacy.unit_gradients import UnitGradients
from client.site import Site, load_scaled_site
from client.training.batches import load_tensors
from client.training.local_update import copy_weights
from client.training.losses import build_example_loss
from common import models
from common.errors import SiteError
from common.latent import LatentStatistics
from common.metrics.counts import LOGIT_RANGE
from common.sections.training import ModelConfig
from common.task import Task
from sites.anomaly_task import ABNORMAL, FLAT, to_anomaly_task
from sites.cohort import Cohort, Windows
from tests import tiny
from tests.client.evaluation.anomaly_runs import CONTEXT, opened, request_reply, run_config, trained
from tests.wire import build_request


def test_abnormal_training_examples_are_excluded_and_counted() -> None:
    plain = tiny.cohort(1, people=6, each=30)
    site, every = opened(run_config()), opened(run_config(detection__train_on="all"))
    train = plain.patient < 3
    assert site.train.class_counts() == (int((plain.y[train] == 0).sum()), 0)
    assert site.train.excluded == {ABNORMAL: int((plain.y[train] != 0).sum())}
    assert len(every.train.y) == train.sum()
    assert every.train.excluded == {}
    for part in ("validation", "test"):
        assert len(getattr(site, part).y) == len(getattr(every, part).y) == (30 if part == "validation" else 60)
    test = plain.y[plain.patient > 3]
    assert site.test.kinds is not None
    assert site.test.kinds.tolist() == [[y == 1, y == 2] for y in test]
    assert site.test.y.tolist() == [int(y > 0) for y in test]


def test_another_class_may_be_normal() -> None:
    plain = tiny.cohort(1, people=6, each=30)
    site = opened(run_config(detection__normal=["V", "F"]))
    assert site.task.against == ("N",)
    assert site.test.y.tolist() == [int(y == 0) for y in plain.y[plain.patient > 3]]


def test_normal_examples_may_have_several_labels() -> None:
    task = replace(tiny.TASK, kind="multilabel", classes=("NORM", "MI", "CD"))
    y = np.asarray([[1, 0, 0], [1, 1, 0], [0, 1, 1], [0, 0, 0]], np.int64)
    plain = replace(tiny.cohort(1, people=4, each=1), task=task, y=y)
    result = to_anomaly_task(plain, run_config())
    assert result.y.tolist() == [0, 1, 1, 0]
    assert result.kinds is not None
    assert result.kinds.astype(int).tolist() == [[0, 0], [1, 0], [1, 1], [0, 0]]


def test_a_flat_signal_is_excluded_and_counted() -> None:
    plain = tiny.cohort(1, people=6, each=30)
    x = np.asarray(plain.x).copy()
    x[:3], x[30:32], x[-1] = 0.0, 5.0, -2.5  # off; saturated
    site = opened(run_config(detection__train_on="all"), replace(plain, x=x))
    assert site.train.excluded == {FLAT: 6}
    assert len(site.train.y) == 85
    assert len(site.test.y) == 59


def test_a_flat_lead_among_others_stays() -> None:
    task = replace(tiny.TASK, channels=2, channel_names=("lead 1", "lead 1 minus median beat"))
    plain = tiny.cohort(1, people=6, each=30)
    x = np.concatenate([np.asarray(plain.x)] * 2, axis=1)
    x[0, 0] = 1.0  # all that was recorded: the median beat is of other beats
    result = to_anomaly_task(replace(plain, task=task, x=x), run_config(detection__train_on="all"))
    assert result.excluded == {FLAT: 1}
    two = replace(task, channel_names=("I", "II"))
    assert to_anomaly_task(replace(plain, task=two, x=x), run_config(detection__train_on="all")).excluded == {}


@pytest.mark.parametrize("shape", ["dense", "windows", "table"])
def test_examples_without_any_measurement_are_excluded(shape: str) -> None:
    channels, samples = (0, 0) if shape == "table" else (2, 3)
    task = Task("t", "multiclass", ("N", "V"), ("n", "v"), channels, samples, 0.1, ("a", "b"), ("p", "q")[:channels],
                missing=True)  # fmt: skip
    rows = np.ones((6, 2), np.float32)
    rows[1:4] = np.nan
    rows[2, 0] = 7.0
    features = np.full((6, 2), np.nan, np.float32)
    features[4, 1] = 1.0
    end, first = np.arange(6), np.asarray([0, 1, 1, 3, 3, 3])
    windows = Windows(rows, end, first, 3)
    x: Any = np.zeros((6, 0, 0), np.float32) if shape == "table" else windows if shape == "windows" else windows.dense()
    ids, split = tuple("abcdef"), np.full(6, -1, np.int8)
    result = Cohort(task, x, features, np.zeros(6, np.int64), np.arange(6), ids, ids, split)
    config = run_config(model={"name": "tabular_autoencoder"})
    remaining = to_anomaly_task(result, config).patient.tolist()
    if shape == "table":
        assert remaining == [4]
    else:
        dense = windows.dense()
        assert remaining == [i for i in range(6) if not np.isnan(dense[i]).all() or i == 4]
        assert 1 not in remaining
        assert 3 not in remaining


def test_results_agree_with_scikit_learn() -> None:
    run = run_config(evaluation__bins=4096)
    site = opened(run)
    model = trained(run, site)
    results = evaluate_site(build_predictor(model, run), site, run, True).results
    with torch.inference_mode():
        made = model.eval()(torch.tensor(site.test.x), torch.tensor(site.test.features))
    errors = (
        0.5 * ((made.signal - made.wanted) ** 2).mean((1, 2))
        + 0.5 * ((made.columns - made.wanted_columns) ** 2).mean(1)
    ).numpy()
    assert set(results) == {"all", "against V", "against F"}
    y = site.test.y
    assert site.test.kinds is not None
    for name, rows in (("all", y >= 0), ("against V", (y == 0) | site.test.kinds[:, 0])):
        result = results[name]
        assert result.auroc is not None
        assert result.auprc is not None
        assert result.auroc.value == pytest.approx(truth.roc_auc_score(y[rows], errors[rows]), abs=2e-3)
        assert result.auprc.value == pytest.approx(truth.average_precision_score(y[rows], errors[rows]), abs=1e-2)
        assert result.loss.value == pytest.approx(errors[y == 0].mean(), rel=1e-5)
        assert result.examples == rows.sum()


@pytest.mark.parametrize("value", [1e4, 1e15, 1e30, 3e38])
def test_a_score_is_never_nan(value: float) -> None:
    run = run_config()
    site = opened(run)
    x = np.asarray(site.test.x).copy()
    x[0], x[1, :, ::2], x[2, 0, 5] = value, -value, value
    broken = replace(site.test, x=x)
    scored = anomaly_scores.Detector(trained(run, site), run)(broken)
    odds = scored.logits[:, 1] - scored.logits[:, 0]
    assert np.isfinite(odds).all()
    assert np.isfinite(scored.losses).all()
    assert odds[:3].min() > np.quantile(odds[3:], 0.9)
    assert odds.max() <= LOGIT_RANGE
    assert np.isfinite(predict_and_count(lambda cohort: scored, broken, run).total.loss)


@pytest.mark.parametrize("score", ["reconstruction", "both"])
def test_a_missing_lead_is_scored_and_higher(score: str) -> None:
    task = replace(tiny.TASK, channels=2, channel_names=("I", "II"))
    plain = tiny.cohort(1, people=6, each=30)
    rng = np.random.default_rng(3)
    second = np.asarray(plain.x) + 2 + 0.1 * rng.normal(size=plain.x.shape).astype(np.float32)
    run = run_config(detection__score=score)
    site = opened(run, replace(plain, task=task, x=np.concatenate([np.asarray(plain.x), second], axis=1)))
    model = trained(run, site, 10)
    known = LatentStatistics.from_moments(anomaly_scores.Detector(model, run).moments(site.train))
    x = np.asarray(site.test.x).copy()
    x[:, 1] = 0.0  # what a reader gives where a recording lacks the lead
    whole, lacking = (
        anomaly_scores.Detector(model, run, known)(part).logits[:, 1] for part in (site.test, replace(site.test, x=x))
    )
    assert np.isfinite(lacking).all()
    normal = site.test.y == 0
    assert np.median(lacking[normal]) > np.median(whole[normal])


def test_a_broken_model_gives_no_score() -> None:
    run = run_config()
    site = opened(run)
    model = trained(run, site, 1)
    next(iter(model.parameters())).data[0] = torch.nan
    with pytest.raises(SiteError, match="a weight is not a finite number"):
        anomaly_scores.Detector(model, run)(site.test)


def test_a_site_where_all_are_abnormal_has_nothing_to_train_on(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = tiny.cohort(1, people=6, each=30)
    run = run_config()
    site = opened(run, replace(plain, y=np.ones_like(plain.y)))
    monkeypatch.setattr("client.site.read_site", lambda context, config: site)
    hello = work.handle(CONTEXT, build_request("handshake", run))
    assert hello.report.to_dict()["counts"]["train"] == {"patients": 0, "examples": 0, "classes": [0, 0]}
    assert hello.report.to_dict()["excluded"] == {ABNORMAL: 90}
    weights = copy_weights(models.build_model(site.task, run.model, run.seed))
    reply = work.handle(CONTEXT, build_request("test", run, 1, weights, threshold=0.0))
    result = reply.report.to_dict()["evaluations"]["all"]
    assert result["macro_auroc"]["value"] is None
    assert result["loss"]["value"] is None
    assert result["examples"] == 60


def test_missing_values_stay_missing_and_add_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    task = Task("t", "multiclass", ("N", "V"), ("n", "v"), 0, 0, 0.0, ("a", "b"), (), units=True, missing=True)
    rng = np.random.default_rng(1)
    features = rng.normal(100.0, 20.0, size=(40, 2)).astype(np.float32)
    features[::3, 1] = np.nan
    ids = tuple(str(i) for i in range(40))
    split = (np.arange(40) % 4 // 2).astype(np.int8) * 2
    nothing, y = np.zeros((40, 0, 0), np.float32), np.arange(40) % 5 // 4
    cohort = Cohort(task, nothing, features, y, np.arange(40), ids, ids, split)
    run = run_config(model={"name": "tabular_autoencoder"}, data__scaling="site")
    site = Site.from_cohort("north", to_anomaly_task(cohort, run), synthetic=True)
    monkeypatch.setattr("client.site.read_site", lambda context, config: site)
    ready = load_scaled_site(CONTEXT, run, b"")
    assert np.array_equal(np.isnan(ready.test.features), np.isnan(site.test.features))
    assert np.nanmax(np.abs(ready.test.features)) < 5
    assert np.isfinite(request_reply(run, "train").report.loss)
    assert np.isfinite(request_reply(run, "test").report.to_dict()["evaluations"]["all"]["loss"]["value"])


@pytest.mark.parametrize("options", [{}, {"variational": True}, {"denoise": 0.1}])
@pytest.mark.parametrize("name", ["autoencoder", "tabular_autoencoder"])
def test_gradients_of_units_are_those_of_a_backward_pass(name: str, options: dict[str, Any]) -> None:
    site = opened(run_config())
    built = {"widths": [4], "latent": 2, **options}
    model = models.build_model(site.task, ModelConfig(name=name, options=built), 1).eval()  # nothing is drawn
    loss, part = build_example_loss(site.task), site.train.take(np.arange(9))
    cut, features, y = load_tensors(part, torch.device("cpu"))

    def read(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return cut(rows), features[rows], y[rows]

    for units in ([np.asarray([i]) for i in range(9)], [np.arange(3), np.arange(3, 9)], [np.arange(9)]):
        slow = []
        for unit in units:
            model.zero_grad()
            x, columns, labels = read(torch.from_numpy(unit))
            loss(model(x, columns), x, columns, labels).mean().backward()  # type: ignore[no-untyped-call]
            slow.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
        result = UnitGradients(model, loss).each(units, read)
        torch.testing.assert_close(result, torch.stack(slow), rtol=1e-3, atol=1e-5)


def timed(cohort: Cohort) -> Cohort:
    """Return the cohort with examples 7 s apart in each recording, from 3 s on."""
    context = np.arange(len(cohort.y)) - np.searchsorted(cohort.patient, cohort.patient)
    return replace(cohort, seconds=3.0 + 7.0 * context)


def test_a_score_relative_to_the_recording_s_first_minutes() -> None:
    cohort = timed(tiny.cohort(1, people=6, each=30)).take(np.arange(10, 180))
    score = np.random.default_rng(2).normal(size=len(cohort.y))
    result = anomaly_scores.subtract_baseline(score, cohort, 1.5)
    for patient in range(6):
        rows = [i for i in range(len(score)) if cohort.patient[i] == patient]
        assert cohort.seconds is not None
        start = min(cohort.seconds[i] for i in rows)
        first = [score[i] for i in rows if cohort.seconds[i] <= start + 90]
        assert len(first) == 13
        for i in rows:
            assert result[i] == pytest.approx(score[i] - sum(first) / len(first))


def test_relative_scores_need_times(monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_config(detection__relative=True)
    monkeypatch.setattr("client.site.read_site", lambda context, config: opened(run))
    with pytest.raises(SiteError, match=r"detection\.relative: these data have no times"):
        work.handle(CONTEXT, build_request("handshake", run))
    site = opened(run, timed(tiny.cohort(1, people=6, each=30)))
    monkeypatch.setattr("client.site.read_site", lambda context, config: site)
    work.handle(CONTEXT, build_request("handshake", run))
    plain, own = (
        anomaly_scores.Detector(trained(run, site), config)(site.test).logits[:, 1] for config in (run_config(), run)
    )
    np.testing.assert_allclose(own, anomaly_scores.subtract_baseline(plain.astype(float), site.test, 5.0), atol=1e-5)
