"""A federation of autoencoders against plain loops, and what its server makes of the sites' counts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from sklearn import metrics as truth
from sklearn.covariance import OAS

from client.evaluation import anomaly_scores
from client.site import Site
from client.training.local_update import copy_weights
from common import models
from common.config import RunConfig
from common.errors import ConfigError
from common.latent import LatentStatistics
from common.seeds import seed_for
from experiments.engines import local
from server import strategies
from sites import anomaly_task
from tests import tiny

LR, BATCH = 0.05, 12
OPTIONS: dict[str, dict[str, Any]] = {
    "autoencoder": {"widths": [4], "kernel": 3, "latent": 2},
    "tabular_autoencoder": {"widths": [4], "latent": 1, "hide": 0.0},
}


def run_config(name: str = "autoencoder", **sections: Any) -> RunConfig:
    given: dict[str, Any] = {
        "model": {"name": name, "options": OPTIONS[name]},
        "training": {"batch_size": BATCH, "optimizer": "sgd", "momentum": 0.0, "lr": LR, "weight_decay": 0.0,
                     "schedule": "constant", "clip_norm": 1e9, "device": "cpu"},
        "federation__rounds": 2,
        "federation__workers": 1,
        "evaluation__bins": 4096,
        "evaluation__keep_counts": True,
    }  # fmt: skip
    return tiny.run_config(**(given | sections))


@pytest.fixture
def sites(monkeypatch: pytest.MonkeyPatch) -> list[Site]:
    """Five sites of different sizes, each with validation and test patients."""
    result = []
    for i, (people, each) in enumerate(((6, 20), (8, 9), (7, 15), (6, 12), (9, 10))):
        whole = tiny.cohort(i, people=people, each=each)
        split = np.asarray((1, 2, 2, *[0] * (people - 3)), np.int8)[whole.patient]
        prepared = anomaly_task.to_anomaly_task(whole.with_split(split), run_config())
        result.append(Site.from_cohort(f"site-{i}", prepared, synthetic=True))
    monkeypatch.setattr("client.site.read_site", lambda context, config: result[context.index])
    return result


def outcome(out: Path) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((out / "federated.json").read_text())
    assert (result["status"], result["lost"]) == ("complete", {})
    return result


def network(run: RunConfig, site: Site, weights: dict[str, np.ndarray]) -> torch.nn.Module:
    model = models.build_model(site.task, run.model, 0)
    model.load_state_dict({name: torch.tensor(value.astype(np.float32)) for name, value in weights.items()})
    return model


def errors(model: torch.nn.Module, x: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
    """Mean squared errors, half of the signal and half of the features where there are both."""
    made = model(x, features)
    parts = [((made.columns - features) ** 2).mean(1)]
    if made.signal is not None:
        parts.append(((made.signal - x) ** 2).mean((1, 2)))
    return torch.stack(parts).mean(0)


@pytest.mark.parametrize("name", ["autoencoder", "tabular_autoencoder"])
def test_federated_averaging_of_autoencoders(sites: list[Site], tmp_path: Path, name: str) -> None:
    run, few = run_config(name), sites[:2]
    local.run_local(run, tmp_path, 2)
    weights = {
        k: v.astype(float) for k, v in copy_weights(models.build_model(few[0].task, run.model, run.seed)).items()
    }
    first = weights
    for number in (1, 2):
        trained = []
        for site in few:
            model = network(run, site, weights).train()
            generator = torch.Generator().manual_seed(
                seed_for(seed_for(run.seed, site.name, number, "train"), "shuffle")
            )
            order = torch.randperm(len(site.train.y), generator=generator)
            for start in range(0, len(order), BATCH):
                rows = order[start : start + BATCH]
                loss = errors(model, torch.tensor(site.train.x)[rows], torch.tensor(site.train.features)[rows]).mean()
                gradients = torch.autograd.grad(loss, list(model.parameters()))
                with torch.no_grad():
                    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
                        parameter -= LR * gradient
            trained.append({key: value.double().numpy() for key, value in model.state_dict().items()})
        share = [len(site.train.y) / sum(len(s.train.y) for s in few) for site in few]
        weights = {key: share[0] * trained[0][key] + share[1] * trained[1][key] for key in weights}
    result = load_file(tmp_path / "model.safetensors")
    assert outcome(tmp_path)["chosen"] == 2
    assert max(float(np.abs(weights[key] - first[key]).max()) for key in weights) > 0.01
    for key, value in weights.items():
        np.testing.assert_allclose(result[key], value, rtol=2e-4, atol=2e-6, err_msg=key)


def scores(run: RunConfig, site: Site, part: str, out: Path) -> np.ndarray:
    cohort = getattr(site, part)
    model = network(run, site, dict(load_file(out / "model.safetensors"))).eval()
    with torch.inference_mode():
        return errors(model, torch.tensor(cohort.x), torch.tensor(cohort.features)).double().numpy()


def test_pooled_figures_are_those_of_all_examples_together(sites: list[Site], tmp_path: Path) -> None:
    run, few = run_config(evaluation__false_alarms=0.1), sites[:3]
    local.run_local(run, tmp_path, 3)
    result = outcome(tmp_path)
    each = np.concatenate([scores(run, site, "test", tmp_path) for site in few])
    y = np.concatenate([site.test.y for site in few])
    fusion = np.concatenate([site.test.kinds[:, 1] for site in few if site.test.kinds is not None])
    assert set(result["pooled"]) == {"all", "against V", "against F"}
    for name, rows in (("all", y >= 0), ("against F", (y == 0) | fusion)):
        pooled = result["pooled"][name]
        assert pooled["classes"]["abnormal"]["auroc"]["value"] == pytest.approx(
            truth.roc_auc_score(y[rows], each[rows]), abs=2e-3
        )
        assert pooled["loss"]["value"] == pytest.approx(each[y == 0].mean(), rel=1e-5)
        assert pooled["loss"]["low"] < pooled["loss"]["value"] < pooled["loss"]["high"]
    checked = np.concatenate([scores(run, site, "validation", tmp_path)[site.validation.y == 0] for site in few])
    edge = np.exp(result["threshold"])
    assert (checked >= edge).mean() <= 0.1 < (checked >= edge * np.exp(-32 / 4096)).mean()
    called = (each >= edge).astype(int)
    np.testing.assert_array_equal(result["pooled"]["all"]["confusion"], truth.confusion_matrix(y, called))
    assert result["pooled"]["all"]["threshold"] == result["threshold"]


def test_the_round_is_chosen_by_the_error_of_normal_validation_examples(sites: list[Site], tmp_path: Path) -> None:
    run = run_config(federation__rounds=4, training__lr=0.3)  # steps so large that a later round may be worse
    local.run_local(run, tmp_path, 3)
    lines = [json.loads(line) for line in (tmp_path / "rounds.jsonl").read_text().splitlines()]
    losses = [line["validation"]["loss"] for line in lines]
    assert int(np.argmin(losses)) != 3
    assert outcome(tmp_path)["chosen"] == 1 + int(np.argmin(losses))
    checked = [scores(run, site, "validation", tmp_path)[site.validation.y == 0] for site in sites[:3]]
    assert min(losses) == pytest.approx(np.concatenate(checked).mean(), rel=1e-5)


@pytest.mark.parametrize("strategy", strategies.list_strategies())
def test_every_strategy_trains_an_autoencoder(sites: list[Site], tmp_path: Path, strategy: str) -> None:
    options: dict[str, Any] = {"fedper": {"layers": ["out.*"]}}.get(strategy, {})
    run = run_config(federation__strategy={"name": strategy, "options": options}, evaluation__bootstrap=0)
    local.run_local(run, tmp_path, 5)
    result = outcome(tmp_path)
    before = models.build_model(sites[0].task, run.model, run.seed).state_dict()
    after = load_file(tmp_path / "model.safetensors")
    assert any(not np.array_equal(after[name], value.numpy()) for name, value in before.items())
    assert result["pooled"]["all"]["loss"]["value"] > 0


def test_a_private_federation_of_autoencoders(sites: list[Site], tmp_path: Path) -> None:
    private = {"sigma": 1.0, "delta": 0.01, "clip": 1.0, "sampling": 0.5, "noise": "seeded"}
    run = run_config(privacy=private, federation__choose="last", training__lr=0.01)
    local.run_local(run, tmp_path, 3)
    result = outcome(tmp_path)
    assert result["threshold"] is None
    assert result["pooled"]["all"]["loss"]["value"] > 0
    lines = [json.loads(line) for line in (tmp_path / "rounds.jsonl").read_text().splitlines()]
    assert all(item["train"]["privacy"]["epsilon"] > 0 for line in lines for item in line["sites"].values())


@pytest.mark.parametrize("score", ["latent", "both"])
def test_latent_statistics_are_those_of_all_sites_training_examples(
    sites: list[Site], tmp_path: Path, score: str
) -> None:
    run, few = run_config(detection__score=score), sites[:3]
    local.run_local(run, tmp_path, 3)
    result = outcome(tmp_path)
    detector = anomaly_scores.Detector(network(run, few[0], dict(load_file(tmp_path / "model.safetensors"))), run)
    each = [detector.measure(site.train) for site in few]
    z = np.concatenate([latent for _, latent in each])
    known = LatentStatistics.from_bytes((tmp_path / "latent.safetensors").read_bytes())
    np.testing.assert_allclose(known.mean, z.mean(0), rtol=1e-6)
    np.testing.assert_allclose(known.covariance, OAS().fit(z).covariance_, rtol=1e-4, atol=1e-6)
    assert known.error == pytest.approx(np.concatenate([errors for errors, _ in each]).mean(), rel=1e-6)
    final = anomaly_scores.Detector(detector.model, run, known)
    scored = np.concatenate([final(site.test).logits[:, 1] for site in few])
    y = np.concatenate([site.test.y for site in few])
    pooled = result["pooled"]["all"]
    assert pooled["classes"]["abnormal"]["auroc"]["value"] == pytest.approx(truth.roc_auc_score(y, scored), abs=2e-3)
    normal = np.concatenate([final(site.validation).logits[site.validation.y == 0, 1] for site in few])
    assert (normal >= result["threshold"]).mean() <= 0.05 < (normal >= result["threshold"] - 32 / 4096).mean()
    assert set(result["views"]) == {site.name for site in few}
    reported = sum(
        sum(view["counts"]["normal"].values()) + view["hidden"]["normal"] for view in result["views"].values()
    )
    assert reported == (y == 0).sum()


def test_personal_models_have_no_shared_latent_space(sites: list[Site], tmp_path: Path) -> None:
    run = run_config(detection__score="both", federation__strategy={"name": "ditto"})
    with pytest.raises(ConfigError, match=r"federation\.strategy=ditto: .* use detection\.score=reconstruction"):
        local.run_local(run, tmp_path, 2)
