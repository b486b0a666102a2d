"""Attacks by settings that once gave a patient's row, an outcome or a budget; under the open policy most still do."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.policy import SIMULATION_POLICY
from client.requests import handle
from client.site import load_site
from client.site_context import SiteContext
from common.config import RunConfig
from common.errors import SiteError
from common.requests import (
    DomainShiftRequest,
    FinalTestRequest,
    HandshakeRequest,
    LatentRequest,
    Request,
    ScalingRequest,
    TrainRequest,
    ValidateRequest,
)
from tests.client.gate.stranger import PLAIN, make_config, make_hospital, seed_weights, train_first

OPEN = SIMULATION_POLICY.model_dump()
PRIVATE: dict[str, Any] = {
    "privacy": {"delta": 1e-5, "sampling": 1.0, "accountant": "rdp"},
    "training__loss": "cross_entropy",
    "federation__choose": "last",
}


def about_model(kind: type, context: SiteContext, config: RunConfig) -> Request:
    weights = seed_weights(config, load_site(context, make_config()))
    request: Request = kind(config, round=1, weights=weights, run_id=secrets.token_hex(16))
    return request


REQUESTS: dict[str, Callable[[SiteContext, RunConfig], Request]] = {
    "handshake": lambda context, config: HandshakeRequest(config),
    "scaling": lambda context, config: ScalingRequest(config, run_id=secrets.token_hex(16)),
    "domain_shift": lambda context, config: DomainShiftRequest(config),
    "train": lambda context, config: about_model(TrainRequest, context, config),
    "validate": lambda context, config: about_model(ValidateRequest, context, config),
    "test": lambda context, config: about_model(FinalTestRequest, context, config),
    "latent": lambda context, config: about_model(LatentRequest, context, config),
}
CHOOSES_PEOPLE = {
    "sites.limit": {"sites__limit": 1},
    "sites.label_share": {"sites__label_share": 0.5},
    "sites.draw": {"sites__draw": 3},
    "sites.split": {"sites__split": "beat-level"},
}


@pytest.mark.parametrize("key", CHOOSES_PEOPLE)
@pytest.mark.parametrize("kind", REQUESTS)
def test_no_request_chooses_its_people(tmp_path: Path, kind: str, key: str) -> None:
    """`sites.limit=1` gave one patient's values and class, by sums, update, latent sums and handshake alike."""
    context = make_hospital(tmp_path)
    request = REQUESTS[kind](context, make_config(**CHOOSES_PEOPLE[key]))
    with pytest.raises(SiteError, match=rf"{key} is this hospital's to allow"):
        handle(context, request)


@pytest.mark.parametrize("limits", [(51, 50), (6, 5)])
def test_a_difference_of_two_sums_is_no_row(tmp_path: Path, limits: tuple[int, int]) -> None:
    """Where a hospital allows the limit, its own split still decides who is summed."""

    def difference(context: SiteContext) -> np.ndarray:
        asked = [ScalingRequest(make_config(sites__limit=n), run_id=secrets.token_hex(16)) for n in limits]
        larger, smaller = (handle(context, request).sums["total"] for request in asked)
        return np.asarray(larger - smaller)

    allowed = make_hospital(tmp_path / "allowed", allowed_settings=("sites.limit",))
    assert not difference(allowed).any()
    before = make_hospital(tmp_path / "open", **OPEN)
    rows = load_site(before, make_config()).train.features
    assert np.isclose(rows, difference(before)).all(1).any()


def test_a_crafted_start_is_refused_by_settings_alone(tmp_path: Path) -> None:
    """With `federation.start` and a learning rate of 1e-12 an unchanged server had a crafted model tested."""
    context = make_hospital(tmp_path)
    config = make_config(**{**PLAIN, "training__lr": 1e-12}, evaluation={"bins": 62, "bootstrap": 0})
    weights = seed_weights(config, load_site(context, config))
    weights["out.weight"][1] = 0.5
    run = secrets.token_hex(16)
    with pytest.raises(SiteError, match="the first weights are not those of the run's seed"):
        handle(context, TrainRequest(config, round=1, weights=weights, run_id=run))
    with pytest.raises(SiteError, match="has not trained in this run"):
        handle(context, FinalTestRequest(config, round=1, weights=weights, run_id=run))
    own = train_first(context, config, run=run)  # moves by 1e-12, so nothing else may be tested
    assert max(float(np.abs(own[name]).max()) for name in own) < 1e-6
    with pytest.raises(SiteError, match="too far from this hospital's last update"):
        handle(context, FinalTestRequest(config, round=1, weights=weights, run_id=run))


def test_nobody_who_trains_is_tested_whatever_seed_and_share_are_asked_for(tmp_path: Path) -> None:
    """After a private run another seed and `sites.test=0.99` had 225 of the 227 who trained tested."""

    def sides(context: SiteContext) -> tuple[set[str], set[str]]:
        first, second = make_config(seed=1), make_config(seed=2, sites__test=0.99, sites__split="patient")
        return set(load_site(context, first).train.people_names), set(load_site(context, second).test.people_names)

    trained, tested = sides(make_hospital(tmp_path / "own"))
    assert trained
    assert tested
    assert not trained & tested
    trained, tested = sides(make_hospital(tmp_path / "open", **OPEN))
    assert len(trained & tested) > len(trained) / 2


@pytest.mark.parametrize(
    ("noise", "why"),
    [
        ({"sigma": 1e-6, "clip": 1000.0}, "so little noise protects nobody"),
        ({"sigma": 0.31}, "above the 8 allowed here"),
        ({"epsilon": 1000.0}, "above the 8 allowed here"),
    ],
)
@pytest.mark.parametrize("kind", ["handshake", "train"])
def test_a_promise_of_a_huge_epsilon_is_none(tmp_path: Path, kind: str, noise: dict[str, float], why: str) -> None:
    """`private_only` without `max_epsilon` accepted an epsilon of 1e11, named by its noise."""
    settings = {**PRIVATE, "privacy": {**PRIVATE["privacy"], "epsilon": noise.get("epsilon"), **noise}}
    context = make_hospital(tmp_path, private_only=True)
    with pytest.raises(SiteError, match=why):
        handle(context, REQUESTS[kind](context, make_config(**settings)))


def test_a_handshake_without_training_pins_nothing(tmp_path: Path) -> None:
    """Whoever asked first, with a seed of their choice, once decided for good who trains privately."""
    context = make_hospital(tmp_path, min_training_patients=20, counts="public")
    private = {**PRIVATE, "privacy": {**PRIVATE["privacy"], "epsilon": 7.0}, "training__batch_size": 4096}
    for seed in (1, 2):
        handle(context, HandshakeRequest(make_config(**private, seed=seed, sites__test=0.5, sites__split="patient")))
    request = REQUESTS["train"](context, make_config(**private, seed=3))
    assert handle(context, request).report.privacy.epsilon <= 7.0


@pytest.mark.parametrize("edges", [[241.5], [242.5]])
def test_groups_are_not_cut_between_two_patients(tmp_path: Path, edges: list[float]) -> None:
    """Edges of 241.5 and 242.5 of two runs gave the outcome of the one patient between them."""
    context = make_hospital(tmp_path)
    config = make_config(evaluation={"bins": 62, "bootstrap": 0, "subgroups": {"columns": {"chol": edges}}})
    with pytest.raises(SiteError, match=r"evaluation\.subgroups\.columns is this hospital's to allow"):
        handle(context, REQUESTS["test"](context, config))


def test_crafted_models_are_answered_for_a_limited_number_of_times(tmp_path: Path) -> None:
    context = make_hospital(tmp_path)
    config = make_config(**PLAIN, evaluation={"bins": 62, "bootstrap": 0, "recalibrate": []})
    run = secrets.token_hex(16)
    own = train_first(context, config, run=run)
    models = [{name: value * (1 + number / 10) for name, value in own.items()} for number in range(4)]
    for weights in models[:3]:
        handle(context, FinalTestRequest(config, round=1, weights=weights, run_id=run))
    with pytest.raises(SiteError, match="a test for at most 3 models in one run"):
        handle(context, FinalTestRequest(config, round=1, weights=models[3], run_id=run))
