"""What a stranger read out of updates, asked again: rare codes, crafted scalings and layers, kept layers, overflow."""

from __future__ import annotations

import secrets
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client import requests
from client.gate import plausible_scaling
from client.requests import handle
from client.site import load_site
from client.site_context import SiteContext
from common.errors import SiteError
from common.replies import TrainReply
from common.reports import TrainReport
from common.requests import FinalTestRequest, Method, TrainRequest, ValidateRequest
from common.scaling import RANK_BINS, Scaling
from tests.client.gate.stranger import PLAIN, ask_scaling, forget_data, make_config, make_hospital, seed_weights
from tests.client.gate.stranger import train_first as train

QUIET = {"evaluation__bins": 62, "evaluation__bootstrap": 0, "evaluation__recalibrate": []}


def give_one_person_a_code(context: SiteContext, config: Any, name: str) -> tuple[int, int]:
    """Let one person who trains alone have restecg=1; return the column and the person's outcome."""
    site = load_site(context, config)
    column = site.task.features.index(name)
    rare = site.train.features.copy()
    rare[:, column] = 0
    rare[5, column] = 1
    object.__setattr__(site.train, "features", rare)
    return column, int(site.train.y[5])


def test_an_honest_round_does_not_tell_the_outcome_of_one_who_has_a_rare_code(tmp_path: Path) -> None:
    context, config = (
        make_hospital(tmp_path, update_noise=0.0, record_noise=0.0, replaced_values=0.0),
        make_config(**PLAIN, data__scaling="standard"),
    )
    column, outcome = give_one_person_a_code(context, config, "restecg=1")
    scaling = ask_scaling(context)
    mean = 1 / len(load_site(context, config).train.y)
    centre, spread = scaling.centre.copy(), scaling.spread.copy()
    centre[column], spread[column] = mean, np.sqrt(mean * (1 - mean))
    update = train(context, config, Scaling(centre, spread))
    net = update["out.weight"][1, column] / mean / 0.5 * spread[column] + mean * update["out.bias"][1] / mean / 0.5
    assert abs(net - (2 * outcome - 1)) > 0.7  # the attack's estimate, which was within 0.2 of it
    assert abs(net) < 0.3


def test_a_rare_code_may_have_any_spread_because_nobody_has_it_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sums that were sent have the code of nobody, so the agreed spread is 1, however little it varies here."""
    monkeypatch.setattr(plausible_scaling, "MAX_RATIO", 5.0)  # what 20 is where 400 people train
    context, config = make_hospital(tmp_path), make_config(**PLAIN, data__scaling="standard")
    column, _ = give_one_person_a_code(context, config, "restecg=1")
    scaling = ask_scaling(context)
    assert (scaling.centre[column], scaling.spread[column]) == (0.0, 1.0)
    train(context, config, scaling)
    narrow = scaling.spread.copy()
    narrow[column] = 1e-3
    # nobody's record has the code any more, so that a narrow spread brings nothing out
    update = train(context, config, Scaling(scaling.centre, narrow))
    start = seed_weights(config, load_site(context, config))
    assert np.array_equal(update["out.weight"][:, column], start["out.weight"][:, column])


def test_a_rank_table_that_shows_one_value_alone_is_refused(tmp_path: Path) -> None:
    context, config = make_hospital(tmp_path), make_config(**PLAIN)
    ranks = np.zeros((13, RANK_BINS), np.float32)
    ranks[3, 700] = 1.0
    with pytest.raises(SiteError, match="the scaling that came"):
        train(context, config, Scaling(np.full(13, 100.0), np.full(13, 20.0), ranks))
    for kind in ("standard", "quantile"):
        with pytest.raises(SiteError, match="the scaling that came"):
            train(context, make_config(**PLAIN, data__scaling=kind), Scaling(np.zeros(13), np.full(13, 20.0), ranks))


@pytest.mark.parametrize("centre", [np.nan, 1e30])
def test_a_scaling_by_which_an_input_overflows_is_refused_before_it_meets_data(tmp_path: Path, centre: float) -> None:
    context, config = make_hospital(tmp_path), make_config(**PLAIN, data__scaling="standard")
    scaling = ask_scaling(context)
    moved = scaling.centre.copy()
    moved[3] = centre
    with pytest.raises(SiteError, match="the scaling that came"):
        train(context, config, Scaling(moved, scaling.spread))


def test_a_layers_column_that_one_person_feeds_is_not_sent(tmp_path: Path) -> None:
    """Hidden units that are active for the person with the highest cholesterol alone, times each of its inputs."""
    context = make_hospital(tmp_path, start_weights="any")
    config = make_config(**PLAIN, model={"name": "mlp", "options": {"widths": [32], "norm": False, "dropout": 0.0}})
    site = load_site(context, config)
    chol = site.train.features[:, site.task.features.index("chol")]
    first, second = np.sort(chol)[::-1][:2]
    weights = {name: np.zeros_like(value) for name, value in seed_weights(config, site).items()}
    into, bias = (next(n for n in weights if n.startswith("body") and n.endswith(end)) for end in ("weight", "bias"))
    weights[bias][:] = -1.0
    for unit in range(13):
        weights[into][unit, site.task.features.index("chol")] = 100.0
        weights[into][unit, unit] += 0.01
        weights[bias][unit] = -100.0 * (first + second) / 2
    update = handle(context, TrainRequest(config, round=1, weights=weights, run_id="a" * 32)).weights
    assert (update["out.weight"] == 0).all()
    assert (update["out.bias"] != 0).all()  # all people together are sent


def test_kept_layers_are_not_replaced_by_the_servers(tmp_path: Path) -> None:
    context, config, run = make_hospital(tmp_path), make_config(**PLAIN, **QUIET), "a" * 32
    weights = seed_weights(config, load_site(context, config))
    method = Method(local=tuple(weights))
    handle(context, TrainRequest(config, round=1, weights=weights, run_id=run, method=method))
    crafted = {name: np.full_like(value, 100.0) for name, value in weights.items()}
    for kind in (TrainRequest, ValidateRequest, FinalTestRequest):
        with pytest.raises(SiteError, match="keeps layers of this run"):
            handle(context, kind(config, round=2, weights=crafted, run_id=run, method=method))
        with pytest.raises(SiteError, match="too far from this hospital's last update"):
            handle(context, kind(config, round=2, weights=crafted, run_id=run, method=method, state_round=1))


@pytest.mark.parametrize("value", [np.nan, np.inf, 3e38, -2e6])
def test_weights_that_could_overflow_are_refused(tmp_path: Path, value: float) -> None:
    context, config = make_hospital(tmp_path, start_weights="any"), make_config(**PLAIN)
    weights = seed_weights(config, load_site(context, config))
    weights["out.weight"][0, 0] = value
    with pytest.raises(SiteError, match="policy: a weight is not a number"):
        handle(context, TrainRequest(config, round=1, weights=weights, run_id="a" * 32))
    request = TrainRequest(config, round=1, weights=seed_weights(config, load_site(context, config)), run_id="a" * 32)
    for other in ({"proximal": value}, {"class_counts": (1, 10**15)}, {"control": weights},
                  {"weights": {"out.weight": np.zeros((2, 13)), "out.bias": np.zeros(2)}}):  # fmt: skip
        with pytest.raises(SiteError, match=r"policy: (a weight|a number)"):
            handle(context, replace(request, **other))


def test_overflow_for_one_validation_patient_is_answered_as_without(tmp_path: Path) -> None:
    """A refusal would say that somebody has the value."""
    context = make_hospital(tmp_path, start_weights="any", max_weight_distance=None)
    config = make_config(**PLAIN, **QUIET, model={"name": "mlp", "options": {"widths": [4] * 8, "norm": False}})
    weights = seed_weights(config, load_site(context, config))
    crafted = {name: np.full_like(value, 1e6) for name, value in weights.items()}
    reply = handle(context, ValidateRequest(config, round=1, weights=crafted, run_id="a" * 32))
    assert set(reply.tables) == {"all"}


def test_training_that_overflows_is_answered_with_one_text_and_three_times_in_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, config = make_hospital(tmp_path), make_config(**PLAIN)
    handlers = {**requests.HANDLERS, TrainRequest: lambda *_: bad}
    bad = TrainReply("north", TrainReport(examples=1), weights={"out.bias": np.asarray([np.nan, 0.0])})
    monkeypatch.setattr(requests, "HANDLERS", handlers)
    for _ in range(3):
        with pytest.raises(SiteError, match=r"^policy: training gave numbers that are not finite: lower training.lr$"):
            train(context, config, run="a" * 32)
    with pytest.raises(SiteError, match="3 times in this run"):
        train(context, config, run="a" * 32)
    with pytest.raises(SiteError, match=r"lower training.lr$"):
        train(context, config, run="b" * 32)


@pytest.mark.slow
def test_a_run_without_privacy_after_a_private_one_is_refused(tmp_path: Path) -> None:
    forget_data()
    context = make_hospital(tmp_path)
    private = make_config(
        **{**PLAIN, "privacy": {"epsilon": 2.0, "delta": 1e-6, "sampling": 0.5}, "federation__choose": "last"},
        data__scaling="none",
        federation__rounds=2,
    )
    plain = make_config(**PLAIN, data__scaling="none")
    train(context, plain)
    train(context, private)
    with pytest.raises(SiteError, match="which a run without it would undo"):
        train(context, plain)
    train(context, private, run=secrets.token_hex(16))
    train(make_hospital(tmp_path, plain_after_private=True), plain)
