"""A site's privacy budget: charges, policy, restarts, and configurations that privacy refuses."""

from __future__ import annotations

import doctest
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from client.policy import SIMULATION_POLICY
from client.privacy import budget
from client.privacy.accounting import Accountant as Method_
from client.privacy.accounting import GaussianSteps, compute_epsilon, solve_noise
from client.privacy.charges import BudgetSpent
from client.privacy.ledger import Ledger, get_ledger_path
from client.privacy.units import _digests
from client.requests import handle
from client.site import Site, load_site
from client.site_context import SiteContext
from client.training.local_update import copy_weights
from common import models
from common.config import RunConfig, parse_config
from common.errors import ConfigError, DataError, SiteError
from common.requests import Method
from tests import tiny
from tests.wire import build_request

RUN = "a" * 32
METHOD = Method()


@pytest.fixture
def sites(monkeypatch: pytest.MonkeyPatch) -> dict[str, Site]:
    result = {"north": tiny.site("north", 1, parts=(0,) * 8 + (2,)), "south": tiny.site("south", 2)}
    monkeypatch.setattr("client.site.read_site", lambda context, config: result[str(context.site)])
    return result


def private(**more: Any) -> RunConfig:
    held = {"privacy__epsilon": 8.0, "privacy__delta": 1e-3, "privacy__sampling": 0.5, "privacy__accountant": "rdp",
            "training__loss": "cross_entropy", "federation__choose": "last", "federation__rounds": 10}  # fmt: skip
    return tiny.run_config(**{**held, **more})


def here(state: Path, site: str = "north", **policy: Any) -> SiteContext:
    rules = tiny.policy(**{"max_delta": 0.01, "counts": "public", **policy})
    return SiteContext(rules, site=site, state=state)


def request_reply(config: RunConfig, number: int, run: str = RUN, kind: Any = "train", method: Method = METHOD) -> Any:
    weights = copy_weights(models.build_model(tiny.TASK, config.model, config.seed))
    return build_request(kind, config, number, weights, (1, 1, 1), run_id=run, method=method)


@pytest.mark.parametrize("how", ["rdp", pytest.param("prv", marks=pytest.mark.slow)])
def test_rounds_compose_as_in_one_accountant_across_a_restart(
    sites: dict[str, Site], tmp_path: Path, how: Method_
) -> None:
    config = private(privacy__accountant=how)
    sigma = solve_noise(8.0, 1e-3, 0.5, 20, how)
    reports = []
    for number in range(1, 11):
        if number == 5:  # another process: nothing of it is in memory
            _digests.clear()
            solve_noise.cache_clear()
            sites["north"] = tiny.site("north", 1, parts=(0,) * 8 + (2,))
        reports.append(handle(here(tmp_path), request_reply(config, number)).report.to_dict()["privacy"])
        expected = compute_epsilon([GaussianSteps(0.5, sigma, 2)] * number, 1e-3, how)
        assert reports[-1]["epsilon_run"] == reports[-1]["epsilon"] == expected
        assert (reports[-1]["sigma"], reports[-1]["steps"], reports[-1]["units"]) == (sigma, 2, 8)
    assert 7.9 < reports[-1]["epsilon"] <= 8.0
    with pytest.raises(BudgetSpent, match="privacy budget spent: round 11"):
        handle(here(tmp_path), request_reply(config, 11))
    # a second run on the same data adds up
    second = handle(here(tmp_path), request_reply(config, 1, "b" * 32)).report.to_dict()["privacy"]
    assert second["epsilon_run"] == compute_epsilon([GaussianSteps(0.5, sigma, 2)], 1e-3, how)
    assert second["epsilon"] == compute_epsilon([GaussianSteps(0.5, sigma, 22)], 1e-3, how)


def test_the_charge_is_written_before_the_first_step(
    sites: dict[str, Site], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("client.requests.train.train_privately", crash)
    with pytest.raises(KeyboardInterrupt):
        handle(here(tmp_path), request_reply(private(), 1))
    assert len(Ledger.read(get_ledger_path(tmp_path, "north")).rows()) == 1


def test_a_private_site_sends_no_loss_and_reports_its_spending(sites: dict[str, Site], tmp_path: Path) -> None:
    reply = handle(here(tmp_path), request_reply(private(), 1))
    assert reply.report.loss is None
    other = handle(here(tmp_path / "2"), request_reply(private(), 1))
    assert any(not np.array_equal(reply.weights[name], other.weights[name]) for name in reply.weights)


@pytest.mark.parametrize(
    ("policy", "more", "says"),
    [
        ({"private_only": True}, {"privacy__level": "none"}, "nothing trains here without"),
        ({"max_epsilon": 3.0}, {"privacy__level": "none"}, "nothing trains here without"),
        ({"max_epsilon": 3.0}, {}, "epsilon=8 is above the 3"),
        ({"max_delta": 1e-5}, {}, "delta=0.001 is above the 1e-05"),
        ({}, {"privacy__level": "record"}, "level=record is not allowed"),
        ({}, {"privacy__noise": "seeded"}, "NOT PRIVATE"),
        ({"max_delta": 0.5}, {"privacy__delta": 0.125}, "below 1 / 8 persons"),
    ],
)
@pytest.mark.parametrize("kind", ["handshake", "train", "scaling"])
def test_a_policy_refuses_before_anything_is_charged(
    sites: dict[str, Site], tmp_path: Path, policy: dict[str, Any], more: dict[str, Any], says: str, kind: str
) -> None:
    with pytest.raises(SiteError, match=says):
        handle(here(tmp_path, **policy), request_reply(private(**more), 1, kind=kind))
    assert not list(tmp_path.rglob("privacy.sqlite"))


def test_a_site_spends_no_more_than_its_policy_over_runs(sites: dict[str, Site], tmp_path: Path) -> None:
    config = private(privacy__epsilon=4.0)
    context = here(tmp_path, max_epsilon=4.5)
    done = 0
    with pytest.raises(BudgetSpent, match=r"of the site's 4\.5"):
        for run in ("a" * 32, "b" * 32):
            for number in range(1, 11):
                handle(context, request_reply(config, number, run))
                done += 1
    assert 10 <= done < 20
    assert budget.open_ledger(context, sites["north"]).total(1e-3, "rdp") <= 4.5


def test_strategies_and_inputs_that_privacy_refuses(sites: dict[str, Site], tmp_path: Path) -> None:
    with pytest.raises(SiteError, match="give --state"):
        handle(SiteContext(tiny.policy(max_delta=0.1), site="north"), request_reply(private(), 1))
    for method in (Method(control=True), Method(pull=0.1)):
        with pytest.raises((ConfigError, SiteError), match=r"fedavg|control variates"):
            handle(here(tmp_path), request_reply(private(), 1, method=method))
    sites["north"] = replace(sites["north"], task=replace(tiny.TASK, units=True))
    with pytest.raises(ConfigError, match="the input 'rr' has no public range"):
        handle(here(tmp_path), request_reply(private(), 1, kind="handshake"))
    assert not list(tmp_path.rglob("*.head"))


def test_other_data_and_damage_stop_the_handshake(sites: dict[str, Site], tmp_path: Path) -> None:
    context = here(tmp_path)
    handle(context, request_reply(private(), 1))
    sites["north"] = tiny.site("north", 7, parts=(0,) * 8 + (2,))
    with pytest.raises(DataError, match="belongs to other data"):
        handle(context, request_reply(private(), 1, kind="handshake"))
    get_ledger_path(tmp_path, "north").write_bytes(b"nonsense" * 1000)
    with pytest.raises(DataError, match="cannot be used"):
        handle(context, request_reply(private(), 1, kind="handshake"))


def test_another_split_of_the_same_people_is_the_same_data(sites: dict[str, Site], tmp_path: Path) -> None:
    handle(here(tmp_path), request_reply(private(), 1))
    sites["north"] = tiny.site("north", 1, parts=(2, *(0,) * 8))
    for kind in ("handshake", "train", "scaling"):
        with pytest.raises(SiteError, match="other patients would train here than in earlier private runs"):
            handle(here(tmp_path), request_reply(private(), 1, "b" * 32, kind))
    allowed = here(tmp_path, several_splits=True)
    assert handle(allowed, request_reply(private(), 1, "b" * 32)).report.to_dict()["privacy"]["epsilon"] > 0
    assert len(Ledger.read(get_ledger_path(tmp_path, "north")).rows()) == 2


def test_seeded_noise_repeats_and_is_marked(sites: dict[str, Site], tmp_path: Path) -> None:
    config = private(privacy__noise="seeded")
    one, other = (handle(here(tmp_path / name, seeded_noise=True), request_reply(config, 1)) for name in "ab")
    assert all(np.array_equal(one.weights[name], other.weights[name]) for name in one.weights)
    assert one.report.to_dict()["privacy"]["private"] is False
    assert config.not_private_notice.startswith("NOT PRIVATE")
    assert private().not_private_notice == ""


def test_a_run_without_privacy_needs_no_ledger(sites: dict[str, Site], tmp_path: Path) -> None:
    reply = handle(here(tmp_path), request_reply(tiny.run_config(), 1))
    assert reply.report.privacy is None
    assert not list(tmp_path.iterdir())


def test_a_hospitals_ledger_is_bound_to_its_folder(hospitals: Path, tmp_path: Path) -> None:
    run = parse_config({
        "name": "privacy", "sites": {"validation": 0.5},
        "model": {"options": {"widths": [4], "kernel": 3, "hidden": 4}},
        "training": {"device": "cpu", "loss": "cross_entropy"}, "federation": {"choose": "last"},
        "privacy": {"sigma": 2.0, "delta": 1e-3, "accountant": "rdp", "examples": 4},
    })  # fmt: skip
    context = SiteContext(tiny.policy(max_delta=0.01), site="north", data=hospitals / "north", state=tmp_path)
    result = handle(context, build_request("handshake", run))
    weights = copy_weights(models.build_model(load_site(context, run).task, run.model, run.seed))
    report = handle(context, build_request("train", run, 1, weights, run_id=RUN)).report.to_dict()["privacy"]
    assert report["steps"] == 20
    assert report["units"] == result.report.to_dict()["counts"]["train"]["patients"]
    south = replace(context, data=hospitals / "south")
    with pytest.raises(DataError, match="belongs to other data"):
        handle(south, build_request("handshake", run))


def test_models_that_mix_patients_are_refused() -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(3)

    for level in ("record", "patient"):
        with pytest.raises(ConfigError, match="BatchNorm1d, which mixes patients"):
            models.check_per_unit_gradients(Mixed(), level)
    assert SIMULATION_POLICY.privacy_levels == ("record", "patient", "hospital")


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"training__loss": "weighted"}, "training.loss=cross_entropy"),
        ({"federation__choose": "best"}, "federation.choose=last"),
        ({"training__patience": 1}, "training.patience=0"),
        ({"evaluation__threshold": "f1"}, "evaluation.threshold=likelier"),
        ({"data__scaling": "quantile"}, "data.scaling=standard or none"),
        ({"data__scaling": "site"}, "data.scaling=standard or none"),
        ({"sites__split": "beat-level"}, "split by patient"),
        ({"privacy__sigma": 1.0}, "one of privacy.epsilon and privacy.sigma"),
        ({"privacy__epsilon": None, "privacy__level": "record"}, "one of privacy.epsilon and privacy.sigma"),
        ({"privacy__epsilon": 0.0}, "privacy.epsilon"),
        ({"privacy__level": "hospital"}, "privacy.weight_total"),
        ({"privacy__level": "person"}, "privacy.level"),
        ({"privacy__delta": 0.0}, "privacy.delta"),
        ({"privacy__sigma": 0.0, "privacy__epsilon": None}, "privacy.sigma"),
    ],
)
def test_configurations_that_privacy_refuses(more: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        private(**more)


def test_privacy_is_off_by_default_and_else_per_patient() -> None:
    assert not tiny.run_config().privacy.on
    assert private().privacy.kind == "patient"
    assert private(privacy__level="none").privacy.on is False


def test_the_page_for_review_boards_says_what_the_program_does() -> None:
    page = Path(__file__).resolve().parents[3] / "docs" / "explanation" / "privacy.md"
    failed, tried = doctest.testfile(str(page), module_relative=False)
    assert (failed, tried > 5) == (0, True)
