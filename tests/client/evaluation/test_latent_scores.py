"""Anomaly scores in latent space, the latent view, and what of both may leave."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.distance import mahalanobis
from sklearn.covariance import OAS

from client import requests as work
from client.evaluation import anomaly_scores, latent_view
from client.policy import SIMULATION_POLICY
from client.training.local_update import copy_weights
from client.training.losses import build_example_loss
from common import models
from common.errors import SiteError
from common.latent import LatentStatistics, latent_moment_shapes
from common.sections.training import ModelConfig
from tests import tiny
from tests.client.evaluation.anomaly_runs import CONTEXT, opened, request_reply, run_config, trained
from tests.wire import build_request


@pytest.mark.parametrize("score", ["latent", "both"])
def test_latent_scores(score: str) -> None:
    run = run_config(detection__score=score)
    site = opened(run)
    model = trained(run, site)
    plain = anomaly_scores.Detector(model, run)
    known = LatentStatistics.from_moments(plain.moments(site.train))
    errors, latent = plain.measure(site.test)
    z = plain.measure(site.train)[1]
    away = [mahalanobis(row, z.mean(0), np.linalg.inv(known.covariance)) ** 2 / 2 for row in latent]
    np.testing.assert_allclose(known.covariance, OAS().fit(z).covariance_, rtol=1e-5)
    mean = plain.measure(site.train)[0].mean()
    expected = np.log(away) if score == "latent" else np.log((errors / mean + away) / 2)
    result = anomaly_scores.Detector(model, run, known)(site.test)
    np.testing.assert_allclose(result.logits[:, 1], expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(result.losses, errors)  # what the model reconstructs does not change with the score
    broken = replace(site.test, x=np.full_like(np.asarray(site.test.x), 3e38))
    assert np.isfinite(anomaly_scores.Detector(model, run, known)(broken).logits).all()


def test_a_site_s_own_threshold(monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_config(detection__threshold="site", evaluation__false_alarms=0.2)
    site = opened(run)
    monkeypatch.setattr("client.site.read_site", lambda context, config: site)
    model = models.build_model(site.task, run.model, run.seed)
    detector = anomaly_scores.Detector(model, run)
    scores = detector(site.validation).logits[site.validation.y == 0, 1]
    result = request_reply(run, "test", threshold=3.0).report.to_dict()["evaluations"]["all"]["threshold"]
    assert (scores >= result).mean() <= 0.2 < (scores >= result - 32 / run.evaluation.bins).mean()
    assert request_reply(run_config(), "test", threshold=3.0).report.to_dict()["evaluations"]["all"]["threshold"] == 3.0
    alone = replace(site, validation=site.validation.take(site.validation.y == 1))
    monkeypatch.setattr("client.site.read_site", lambda context, config: alone)
    assert request_reply(run, "test", threshold=0.0).report.to_dict()["evaluations"]["all"]["threshold"] == 0.0


def test_latent_sums_may_not_leave_while_training_is_private(monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_config()
    site = opened(run)
    monkeypatch.setattr("client.site.read_site", lambda context, config: site)
    sums = request_reply(run, "latent").sums
    assert sums["count"].tolist() == [len(site.train.y)]
    assert {name: value.shape for name, value in sums.items()} == latent_moment_shapes(2)
    strict = replace(CONTEXT, policy=SIMULATION_POLICY.model_copy(update={"min_training_patients": 4}))
    weights = copy_weights(models.build_model(site.task, run.model, run.seed))
    with pytest.raises(SiteError, match="too few people"):
        work.handle(strict, build_request("latent", run, 1, weights))
    private = run_config(privacy={"sigma": 1.0, "delta": 0.01}, federation__choose="last")
    with pytest.raises(SiteError, match="privacy"):
        request_reply(private, "latent")


@pytest.mark.parametrize("minimum", [1, 2, 3])
def test_the_latent_view_suppresses_cells_of_few_people(minimum: int) -> None:
    run = run_config()
    site = opened(run)
    detector = anomaly_scores.Detector(trained(run, site), run)
    known = LatentStatistics.from_moments(detector.moments(site.train))
    policy = SIMULATION_POLICY.model_copy(update={"min_cell_patients": minimum})
    view = latent_view.build_latent_view(detector, site, policy, known.to_bytes())
    plane = known.plane(detector.measure(site.test)[1])
    assert set(view.counts) == {"normal", "V", "F"}
    assert site.test.kinds is not None
    for name, rows in (("normal", site.test.y == 0), ("V", site.test.kinds[:, 0]), ("F", site.test.kinds[:, 1])):
        cells: dict[int, list[int]] = {}
        for i in np.flatnonzero(rows):
            column, row = (min(max(int((value + 4) * 3), 0), 23) for value in plane[i])
            cells.setdefault(24 * row + column, []).append(int(site.test.patient[i]))
        reported = {cell: len(held) for cell, held in cells.items() if len(set(held)) >= minimum}
        assert view.counts[name] == reported
        assert view.hidden[name] == rows.sum() - sum(reported.values())
    assert (minimum > 2) == (not any(view.counts.values()))  # two people are tested


def test_single_examples_leave_only_if_generated_or_allowed_by_policy() -> None:
    run = run_config()
    generated = opened(run)
    real = replace(generated, synthetic=False)
    detector = anomaly_scores.Detector(trained(run, generated), run)
    latent = LatentStatistics.from_moments(detector.moments(generated.train)).to_bytes()
    assert latent_view.build_latent_view(detector, real, SIMULATION_POLICY, latent).examples is None
    assert latent_view.build_latent_view(detector, real, tiny.policy(), latent).examples is None
    allowed = latent_view.build_latent_view(detector, real, tiny.policy(share_examples=True), latent).examples
    printed = latent_view.build_latent_view(detector, generated, tiny.policy(), latent).examples
    assert printed is not None
    assert printed == allowed
    errors = detector.measure(generated.test)[0]
    normal = np.sort(errors[generated.test.y == 0])
    wanted = {"best": normal[0], "median": normal[len(normal) // 2], "worst": normal[-1]}
    for item in printed[:3]:
        assert item.kind == "normal"
        row = int(np.argmin(np.abs(errors - wanted[item.which])))
        assert item.error == pytest.approx(errors[row], rel=1e-3)
        np.testing.assert_allclose(item.wanted, np.asarray(generated.test.x)[row], atol=1e-4)
        made = detector.model(
            torch.tensor(generated.test.x[[row]]), torch.tensor(generated.test.features[[row]])
        ).signal
        np.testing.assert_allclose(item.made, made[0].detach(), atol=1e-3)


@pytest.mark.parametrize("name", ["autoencoder", "tabular_autoencoder"])
def test_a_variational_model_is_penalised_by_its_divergence(name: str) -> None:
    site = opened(run_config())
    options = {"widths": [4], "latent": 2, "variational": True, "beta": 0.3}
    model = models.build_model(site.task, ModelConfig(name=name, options=options), 1)
    x, features = torch.tensor(site.test.x), torch.tensor(site.test.features)
    observed: dict[str, torch.Tensor] = {}
    for part in ("latent", "spread"):
        model.get_submodule(part).register_forward_hook(
            lambda module, given, made, at=part: observed.update({at: made})
        )
    result = model.eval()(x, features)
    law = torch.distributions.Normal(observed["latent"], (0.5 * observed["spread"]).exp())
    kl = torch.distributions.kl_divergence(law, torch.distributions.Normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(result.penalty, 0.3 * kl, rtol=1e-4, atol=1e-6)
    loss = build_example_loss(site.task)(result, x, features, torch.tensor(site.test.y))
    torch.testing.assert_close(loss, models.reconstruction_error_function(site.task)(result) + result.penalty)
    drawn = [model.train()(x, features) for _ in range(2)]
    assert not torch.equal(*((one.signal if one.signal is not None else one.columns) for one in drawn))
    torch.testing.assert_close(drawn[0].latent, result.latent if name == "autoencoder" else drawn[0].latent)
