"""A private federation: the server's side of budgets, and the accountant over all rounds."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client import requests as work
from client.privacy.accounting import GaussianSteps, compute_epsilon, solve_noise
from client.privacy.ledger import Ledger, get_ledger_path
from client.site import load_site
from client.site_context import SiteContext
from common.config import RunConfig
from common.errors import ConfigError, EngineError
from common.replies import Reply
from common.requests import Request
from common.scaling import Scaling
from server import app
from tests import tiny
from tests.wire import FakeGrid, Script

pytestmark = pytest.mark.usefixtures("waiting_clock")


@pytest.fixture(autouse=True)
def _sites(monkeypatch: pytest.MonkeyPatch) -> Any:
    held = {"north": tiny.site("north", 1), "south": tiny.site("south", 2, parts=(0, 0, 0, 0, 0, 1, 2, 2))}
    monkeypatch.setattr("client.site.read_site", lambda context, config: held[str(context.site)])


def private(**more: Any) -> RunConfig:
    held = {"privacy__epsilon": 6.0, "privacy__delta": 1e-3, "privacy__sampling": 0.5, "privacy__accountant": "rdp",
            "training__loss": "cross_entropy", "federation__choose": "last", "federation__rounds": 10}  # fmt: skip
    return tiny.run_config(**{**held, **more})


def script(state: Path, site: str, **policy: Any) -> Script:
    def answer(request: Request) -> Reply:
        rules = tiny.policy(**{"max_delta": 0.01, "counts": "public", "min_cell_patients": 1, **policy})
        return work.handle(SiteContext(rules, site=site, state=state), request)

    return answer


def failing(inner: Script) -> Script:
    """Answer as FakeGrid's sites do in an engine: an error becomes an error reply."""
    from flwr.app import Error

    from common import messages
    from common.errors import WardroundError

    def answer(request: Request) -> Any:
        try:
            return inner(request)
        except WardroundError as error:
            return Error(code=messages.ERROR_CODE, reason=messages.pack_error("", type(error).__name__, str(error)))

    return answer


def lead(scripts: list[Script], config: RunConfig, out: Path) -> Any:
    app.run_federation(FakeGrid([failing(one) for one in scripts]), config, out)
    return json.loads((out / "federated.json").read_text())


def rounds(out: Path) -> list[Any]:
    return [json.loads(line) for line in (out / "rounds.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_a_federation_of_ten_rounds_spends_what_one_accountant_says(tmp_path: Path) -> None:
    state = tmp_path / "state"
    done = lead([script(state, "north"), script(state, "south")], private(), tmp_path / "run")
    assert (done["status"], done["chosen"]) == ("complete", 10)
    sigma = solve_noise(6.0, 1e-3, 0.5, 20, "rdp")
    for number, line in enumerate(rounds(tmp_path / "run"), 1):
        for site in ("north", "south"):
            reported = line["sites"][site]["train"]["privacy"]
            assert reported["epsilon"] == compute_epsilon([GaussianSteps(0.5, sigma, 2 * number)], 1e-3, "rdp")
    assert len(Ledger.read(get_ledger_path(state, "north")).rows()) == 10
    assert not any("loss" in item["train"] for line in rounds(tmp_path / "run") for item in line["sites"].values())
    again = lead([script(state, "north"), script(state, "south")], private(), tmp_path / "again")
    assert again["status"] == "complete"
    total = rounds(tmp_path / "again")[-1]["sites"]["north"]["train"]["privacy"]["epsilon"]
    assert total == compute_epsilon([GaussianSteps(0.5, sigma, 40)], 1e-3, "rdp") > 6


def spender(state: Path, most: float) -> list[Script]:
    return [script(state, "north", max_epsilon=most), script(state, "south")]


def test_a_site_whose_budget_is_spent_leaves_and_the_run_goes_on(tmp_path: Path) -> None:
    state = tmp_path / "state"
    lead(spender(state, 7.0), private(), tmp_path / "first")
    done = lead(spender(state, 7.0), private(), tmp_path / "second")
    assert done["status"] == "complete"
    result = rounds(tmp_path / "second")
    with_north = ["north" in line["sites"] for line in result]
    assert with_north[0]
    assert not with_north[-1]
    assert sorted(with_north, reverse=True) == with_north
    assert result[-1]["lost"]["north"].startswith("privacy budget spent: round 10")
    assert "south" in result[-1]["sites"]
    assert Ledger.read(get_ledger_path(state, "north")).total(1e-3, "rdp") <= 7.0
    assert done["lost"]["north"].startswith("round 10: privacy budget spent")


def test_a_run_may_ask_to_stop_instead(tmp_path: Path) -> None:
    state = tmp_path / "state"
    lead(spender(state, 7.0), private(), tmp_path / "first")
    with pytest.raises(EngineError, match=r"north: privacy budget spent.*on_budget=stop"):
        lead(spender(state, 7.0), private(privacy__on_budget="stop"), tmp_path / "second")


@pytest.mark.parametrize("strategy", ["scaffold", "ditto"])
def test_strategies_that_train_what_is_not_charged(tmp_path: Path, strategy: str) -> None:
    plain = {"training__optimizer": "sgd", "training__momentum": 0.0}
    config = private(federation__strategy={"name": strategy}, **plain)
    with pytest.raises(ConfigError, match=f"{strategy}.*privacy"):
        lead([script(tmp_path / "state", "north")], config, tmp_path / "run")
    assert Ledger.read(get_ledger_path(tmp_path / "state", "north")).rows() == []


def test_a_model_without_gradients_of_examples_ends_at_the_handshake(tmp_path: Path) -> None:
    config = private(model={"name": "lstm"}, privacy__level="record")
    with pytest.raises((ConfigError, EngineError), match=r"nn\.LSTM"):
        lead([script(tmp_path / "state", "north", privacy_levels=("record",))], config, tmp_path / "run")
    assert not list(tmp_path.rglob("privacy.sqlite"))


def with_units(monkeypatch: pytest.MonkeyPatch) -> None:
    held = {}
    for name, seed in (("north", 1), ("south", 2), ("west", 3)):
        whole = tiny.cohort(seed, people=12, each=4)
        far = replace(whole, task=replace(tiny.TASK, units=True), x=whole.x * 20 + 100, features=whole.features * 5)
        held[name] = tiny.site(name, seed, far, parts=(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 2))
    monkeypatch.setattr("client.site.read_site", lambda context, config: held[str(context.site)])


def test_inputs_with_units_are_scaled_by_noisy_sums_of_all_sites(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_units(monkeypatch)
    config = private(privacy__bounds={"lead": [0, 200], "rr": [-20, 20]}, federation__rounds=2,
                     privacy__epsilon=900.0, privacy__statistics_share=0.5)  # fmt: skip
    lead([script(tmp_path, "north"), script(tmp_path, "south")], config, tmp_path / "run")
    result = Scaling.from_bytes((tmp_path / "run" / "scaling.safetensors").read_bytes())
    sites = [load_site(SiteContext(tiny.policy(), site=name), config) for name in ("north", "south")]
    for j, values in enumerate(zip(*((s.train.features.ravel(), s.train.x.ravel()) for s in sites), strict=True)):
        every = np.concatenate(values)
        assert abs(result.centre[j] - every.mean()) < 0.3 * every.std()
        assert 0.7 < result.spread[j] / every.std() < 1.5
    for name in ("north", "south"):
        rows = Ledger.read(get_ledger_path(tmp_path, name)).rows()
        assert [row.round for row in rows] == [0, 1, 2]
        assert rows[-1].epsilon_run <= 900
        assert rows[-1].run == rows[0].run
    with pytest.raises(EngineError, match="different ranges"):
        one, other = script(tmp_path / "b", "north"), script(tmp_path / "b", "south")

        def wider(request: Request) -> Any:
            reply: Any = other(request)
            if request.kind == "scaling":
                return replace(reply, sums={**reply.sums, "high": reply.sums["high"] + 1})
            return reply

        lead([one, wider], config, tmp_path / "other")
    third = script(tmp_path / "b", "west")
    done = lead([one, wider, third], config, tmp_path / "three")
    assert done["lost"] == {"south": "scaling: it states other ranges of its inputs than most sites"}


def test_round_and_threshold_may_be_chosen_on_unprotected_patients(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = private(federation__choose="best", privacy__validation="unprotected", federation__rounds=3)
    both = [script(tmp_path, name, unprotected_validation=True) for name in ("north", "south")]
    done = lead(both, config, tmp_path / "run")
    lines = rounds(tmp_path / "run")
    values = [line["validation"]["macro_f1"] for line in lines]
    assert done["chosen"] == 1 + int(np.argmax(values))
    assert (
        len(Ledger.read(get_ledger_path(tmp_path, "north")).rows()) == 3
    )  # validation costs training patients nothing
