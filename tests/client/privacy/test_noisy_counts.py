"""Noisy training counts: their sensitivity to one person, their cost, and that they are released once."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.policy import SIMULATION_POLICY, SitePolicy
from client.privacy import budget, noisy_counts
from client.privacy.accounting import GaussianSteps, compute_epsilon, solve_noise
from client.privacy.charges import BudgetSpent
from client.privacy.ledger import Ledger, get_ledger_path
from client.privacy.units import digest_people, group_rows_by_unit
from client.requests import handle
from client.site import Site
from client.site_context import SiteContext
from client.training.local_update import copy_weights
from common import models
from common.config import RunConfig
from common.errors import SiteError
from sites.cohort import Cohort
from tests import tiny
from tests.wire import build_request

PEOPLE = 300


@pytest.fixture
def sites(monkeypatch: pytest.MonkeyPatch) -> dict[str, Site]:
    result = {"north": tiny.site("north", 1, tiny.cohort(1, PEOPLE + 9, 3), parts=(0,) * PEOPLE + (1,) * 4 + (2,) * 5)}
    monkeypatch.setattr("client.site.read_site", lambda context, config: result[str(context.site)])
    return result


def private(**more: Any) -> RunConfig:
    held = {"privacy__epsilon": 8.0, "privacy__delta": 1e-3, "privacy__sampling": 0.5, "privacy__accountant": "rdp",
            "training__loss": "cross_entropy", "federation__choose": "last"}  # fmt: skip
    return tiny.run_config(**{**held, **more})


def here(state: Path, **policy: Any) -> SiteContext:
    return SiteContext(SitePolicy(**{"max_delta": 0.01, "min_cell_patients": 1, **policy}), site="north", state=state)


def request_reply(config: RunConfig, kind: Any = "handshake", run: str = "a" * 32) -> Any:
    weights = copy_weights(models.build_model(tiny.TASK, config.model, 1))
    return build_request(kind, config, 1, weights, (1, 1, 1), run_id=run)


def test_noisy_counts_are_charged_once_and_stay_the_same(sites: dict[str, Site], tmp_path: Path) -> None:
    context, sigma = here(tmp_path), solve_noise(0.2, 1e-3, 1.0, 1, "rdp")
    first = handle(context, request_reply(private())).report.to_dict()
    assert first["noisy"] is True
    assert first["excluded"] == {}
    held = first["counts"]["train"]
    assert held["examples"] == held["patients"] == sum(held["classes"]) >= 1
    assert first["counts"]["test"] == sites["north"].test.summary()
    for _ in range(3):
        assert handle(context, request_reply(private())).report.to_dict()["counts"]["train"] == held
    rows = Ledger.read(get_ledger_path(tmp_path, "north")).rows()
    assert [(row.run, row.round, row.spent) for row in rows] == [("counts", 0, GaussianSteps(1.0, sigma, 1))]
    assert (
        rows[0].epsilon == compute_epsilon([GaussianSteps(1.0, sigma, 1)], 1e-3, "rdp") == pytest.approx(0.2, rel=2e-3)
    )
    reply = handle(context, request_reply(private(), "train"))
    assert reply.report.examples == reply.report.privacy.units == held["examples"]
    assert (
        Ledger.read(get_ledger_path(tmp_path, "north")).rows()[-1].units == PEOPLE
    )  # the ledger stays at the hospital
    # examples and privacy hold the noisy number, which may by accident be the true one
    sent = reply.report.model_copy(update={"examples": 0, "privacy": None, "seconds": 0.0})
    assert str(PEOPLE) not in str(sent.to_dict())


@pytest.mark.slow
def test_the_noise_is_as_large_as_charged(sites: dict[str, Site], tmp_path: Path) -> None:
    sigma, off = solve_noise(0.2, 1e-3, 1.0, 1, "rdp"), []
    for i in range(40):
        context = here(tmp_path / str(i))
        handle(context, request_reply(private()))
        remaining = budget.open_ledger(context, sites["north"]).read_text(
            f"counts/patient/{digest_people(sites['north'].train)}"
        )
        assert remaining is not None
        off.append(np.asarray(json.loads(remaining)) - noisy_counts.sum_unit_counts(sites["north"].train, "patient"))
    assert np.std(off) == pytest.approx(sigma * np.sqrt(2), rel=0.25)
    assert abs(np.mean(off)) < sigma * 0.5


@pytest.mark.parametrize("level", ["patient", "record"])
@pytest.mark.parametrize("kind", ["multiclass", "multilabel"])
def test_one_unit_changes_the_counts_by_at_most_sqrt_2(level: str, kind: Any) -> None:
    whole = tiny.cohort(2, people=6, each=9)
    if kind == "multilabel":
        y = np.random.default_rng(1).integers(0, 2, (54, 3))
        y[:9] = 1
        whole = replace(whole, task=replace(tiny.TASK, kind=kind), y=y)
    exact = noisy_counts.sum_unit_counts(whole, level)
    moved = []
    for unit in group_rows_by_unit(whole, level):
        rest: Cohort = whole.take(np.setdiff1d(np.arange(54), unit))
        moved.append(float(np.linalg.norm(exact - noisy_counts.sum_unit_counts(rest, level))))
    assert max(moved) <= np.sqrt(2) + 1e-9
    assert max(moved) > (1.4 if level == "record" or kind == "multilabel" else 1.1)
    assert exact[0] == (6 if level == "patient" else 54)


def test_counts_are_exact_if_public_and_in_simulations(sites: dict[str, Site], tmp_path: Path) -> None:
    reply = handle(here(tmp_path, counts="public"), request_reply(private()))
    assert reply.report.to_dict()["counts"]["train"] == sites["north"].train.summary()
    assert "noisy" not in reply.report.to_dict()
    assert Ledger.read(get_ledger_path(tmp_path, "north")).rows() == []
    assert SIMULATION_POLICY.counts == "public"
    without = handle(here(tmp_path), request_reply(tiny.run_config()))
    assert without.report.to_dict()["counts"]["train"]["patients"] == PEOPLE


def test_counts_that_would_overspend_are_refused(sites: dict[str, Site], tmp_path: Path) -> None:
    with pytest.raises(BudgetSpent, match=r"of the site's 0\.1"):
        handle(here(tmp_path, max_epsilon=0.1), request_reply(private(privacy__epsilon=0.05)))
    assert Ledger.read(get_ledger_path(tmp_path, "north")).rows() == []


def test_noisy_counts_are_never_below_the_policys_minimum(sites: dict[str, Site], tmp_path: Path) -> None:
    sites["north"] = tiny.site("north", 1)
    for i in range(6):
        held = handle(here(tmp_path / str(i), min_training_patients=3), request_reply(private())).report.to_dict()[
            "counts"
        ]["train"]
        assert held["patients"] >= 3


def test_refusals_do_not_reveal_the_number_of_patients(sites: dict[str, Site], tmp_path: Path) -> None:
    with pytest.raises(SiteError, match="below 1 / the patients here") as caught:
        handle(here(tmp_path, max_delta=0.5), request_reply(private(privacy__delta=0.3)))
    assert str(PEOPLE) not in str(caught.value)
