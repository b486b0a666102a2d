"""A federation whose evaluation is private, from the handshake to the figures, and odd noisy counts."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client import requests as work
from client.privacy.accounting import GaussianSteps, compute_epsilon, solve_noise
from client.site_context import SiteContext
from common.config import RunConfig
from common.errors import EngineError
from common.replies import FinalTestReply, Reply
from common.requests import Request
from server import app
from tests import tiny
from tests.server.phases.test_privacy import failing
from tests.wire import FakeGrid, Script, change_report

pytestmark = pytest.mark.usefixtures("waiting_clock")

DELTA = 1e-3
PARTS = (0,) * 5 + (1,) * 40 + (2,) * 60


@pytest.fixture(autouse=True)
def _sites(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two hospitals of people with one example each: exact figures are then those of people."""
    held = {
        name: tiny.site(name, seed, tiny.cohort(seed, len(PARTS), 1), parts=PARTS)
        for seed, name in enumerate(("north", "south"), 1)
    }
    monkeypatch.setattr("client.site.read_site", lambda context, config: held[str(context.site)])


def private(**more: Any) -> RunConfig:
    held = {"privacy__evaluation_epsilon": 1000.0, "privacy__delta": DELTA, "privacy__accountant": "rdp",
            "federation__rounds": 3, "evaluation__bins": 16, "federation__choose": "best"}  # fmt: skip
    return tiny.run_config(**{**held, **more})


def script(state: Path, site: str, change: Callable[[Any], Any] = lambda reply: reply, **policy: Any) -> Script:
    rules = tiny.policy(**{"max_delta": 0.01, "counts": "public", "min_cell_patients": 1,
                           "max_evaluation_epsilon": None, **policy})  # fmt: skip

    def answer(request: Request) -> Reply:
        return change(work.handle(SiteContext(rules, site=site, state=state), request))

    return failing(answer)


def lead(scripts: list[Script], config: RunConfig, out: Path) -> Any:
    app.run_federation(FakeGrid(scripts), config, out)
    return json.loads((out / "federated.json").read_text())


def both(state: Path, **policy: Any) -> list[Script]:
    return [script(state, site, **policy) for site in ("north", "south")]


def test_at_a_large_epsilon_a_federation_is_as_without_noise(tmp_path: Path) -> None:
    noisy = lead(both(tmp_path / "state"), private(), tmp_path / "noisy")
    exact = lead(both(tmp_path), private(privacy__evaluation_epsilon=None), tmp_path / "exact")
    assert noisy["status"] == exact["status"] == "complete"
    lines = [(tmp_path / name / "rounds.jsonl").read_text().splitlines() for name in ("noisy", "exact")]
    assert [json.loads(line)["weights"] for line in lines[0]] == [json.loads(line)["weights"] for line in lines[1]]
    for where in (("pooled", "all"), ("test", "all", "north"), ("test", "all", "south")):
        one, other = noisy, exact
        for key in where:
            one, other = one[key], other[key]
        assert (one["patients"], one["examples"]) == (other["patients"], other["examples"])
        for metric in ("accuracy", "macro_f1"):
            assert one[metric]["value"] == pytest.approx(other[metric]["value"], abs=0.05)
        assert one["noise"]["epsilon"] <= 1000
        assert other["noise"] is None
        assert one["accuracy"]["low"] < one["accuracy"]["value"] < one["accuracy"]["high"]
    assert exact["evaluation_privacy"] == {}


def test_a_private_run_keeps_no_counts_that_folds_would_merge(tmp_path: Path) -> None:
    lead(both(tmp_path / "state"), private(evaluation__keep_counts=True, federation__rounds=1), tmp_path / "run")
    assert not list((tmp_path / "run").glob("*counts*"))
    assert not list((tmp_path / "run").glob("*resamples*"))


def test_the_outcome_says_what_each_splits_patients_spent(tmp_path: Path) -> None:
    config = private(privacy__evaluation_epsilon=4.0)
    done = lead(both(tmp_path / "state"), config, tmp_path / "run")
    sigma = {"validation": solve_noise(4.0, DELTA, 1.0, 3, "rdp"), "test": solve_noise(4.0, DELTA, 1.0, 1, "rdp")}
    for split, releases in (("validation", 3), ("test", 1)):
        spent = done["evaluation_privacy"][split]["north"]
        assert spent["sigma"] == sigma[split]
        assert spent["epsilon_run"] == compute_epsilon([GaussianSteps(1.0, sigma[split], releases)], DELTA, "rdp")
    assert done["pooled"]["all"]["noise"]["epsilon"] == done["evaluation_privacy"]["test"]["north"]["epsilon_run"]
    again = lead(both(tmp_path / "state"), config, tmp_path / "again")
    total = again["evaluation_privacy"]["test"]["north"]
    assert total["epsilon"] == compute_epsilon([GaussianSteps(1.0, sigma["test"], 2)], DELTA, "rdp") > 4


@pytest.mark.slow
def test_rounds_of_private_training_are_chosen_on_noisy_counts(tmp_path: Path) -> None:
    config = private(privacy__evaluation_epsilon=4.0, privacy__epsilon=6.0, privacy__sampling=0.5,
                     training__loss="cross_entropy")  # fmt: skip
    done = lead(both(tmp_path / "state"), config, tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "rounds.jsonl").read_text().splitlines()]
    values = [line["validation"]["macro_f1"] for line in lines]
    assert done["chosen"] == 1 + int(np.argmax(values))
    assert all("loss" not in line["validation"] or line["validation"]["loss"] is None for line in lines)


def test_a_site_whose_test_patients_budget_is_spent_is_lost_by_name(tmp_path: Path) -> None:
    state = tmp_path / "state"
    scripts = [script(state, "north", max_evaluation_epsilon=6.0), script(state, "south")]
    config = private(privacy__evaluation_epsilon=4.0, federation__choose="last")
    assert set(lead(scripts, config, tmp_path / "first")["test"]["all"]) == {"north", "south"}
    done = lead(scripts, config, tmp_path / "second")
    assert set(done["test"]["all"]) == {"south"}
    assert done["lost"]["north"].startswith("final evaluation: privacy budget spent")


def test_groups_are_counted_with_noise_too(tmp_path: Path) -> None:
    config = private(evaluation__subgroups={"columns": {"rr": [0.5, 1.5]}}, federation__choose="last")
    done = lead(both(tmp_path / "state"), config, tmp_path / "run")
    bands = ["under 0.5", "0.5 to under 1.5", "1.5 and over", "unknown"]
    assert set(done["test"]) == {"all", *(f"group rr={band}" for band in bands)}
    patients = [done["test"][f"group rr={band}"]["north"]["patients"] for band in bands]
    assert sum(patients) == pytest.approx(60, abs=3)
    assert patients[-1] == 0  # nobody; the table leaves all the same


def test_each_personal_model_is_counted_in_the_same_release(tmp_path: Path) -> None:
    config = private(federation__strategy={"name": "ditto"}, federation__choose="last")
    done = lead(both(tmp_path / "state"), config, tmp_path / "run")
    assert set(done["test"]) == {"all", "personal"}
    assert done["evaluation_privacy"]["test"]["north"]["epsilon_run"] <= 1000


def break_sums(change: Callable[[dict[str, np.ndarray]], None]) -> Callable[[Any], Any]:
    def changed(reply: Any) -> Any:
        if not isinstance(reply, FinalTestReply):
            return reply
        sums = {name: np.array(values) for name, values in reply.noisy.items()}
        change(sums)
        return replace(reply, noisy=sums)

    return changed


def drop(sums: dict[str, np.ndarray]) -> None:
    del sums["all/scores"]


def rename(sums: dict[str, np.ndarray]) -> None:
    sums["group sex=male/scores"] = sums["all/scores"]


def reshape(sums: dict[str, np.ndarray]) -> None:
    sums["all/confusion"] = np.zeros((2, 2))


def enlarge(sums: dict[str, np.ndarray]) -> None:
    sums["all/confusion"] += 1e6


def hide(sums: dict[str, np.ndarray]) -> None:
    sums["all/confusion"] += np.array([[3e6, -3e6, 0]] * 3)


def spoil(sums: dict[str, np.ndarray]) -> None:
    sums["all/scores"][0, 0, 0] = np.nan


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (break_sums(drop), "no complete counts"),
        (break_sums(rename), "none that this run asks for"),
        (break_sums(reshape), "do not fit the task"),
        (break_sums(enlarge), "of more people than the 60 that it stated"),
        (break_sums(hide), "of more people than the 60 that it stated"),
        (break_sums(spoil), "not a finite number|finite"),
        (lambda r: change_report(r, privacy=None) if isinstance(r, FinalTestReply) else r, "does not state what"),
    ],
)
def test_a_site_that_sends_odd_noisy_counts_is_lost_by_name(
    tmp_path: Path, change: Callable[[Any], Any], why: str
) -> None:
    scripts = [script(tmp_path, "north"), script(tmp_path, "south", change)]
    done = lead(scripts, private(federation__rounds=1, federation__choose="last"), tmp_path / "run")
    assert set(done["test"]["all"]) == {"north"}
    assert re.search(why, done["lost"]["south"]), done["lost"]


@pytest.mark.parametrize("wanted", [private(federation__rounds=1), tiny.run_config(evaluation__bins=16)])
def test_the_kind_of_counts_is_the_runs_to_say(tmp_path: Path, wanted: RunConfig) -> None:
    """Exact counts in a private run, and noisy ones in another, are no answer."""
    other = tiny.run_config(evaluation__bins=16) if wanted.privacy.evaluation_on else private(federation__rounds=1)

    def answer(request: Request) -> Reply:
        rules = tiny.policy(
            counts="public", max_delta=0.01, min_cell_patients=1, max_evaluation_epsilon=None, plain_after_private=True
        )
        wrong = replace(request, config=other) if request.kind == "test" else request
        return work.handle(SiteContext(rules, site="south", state=tmp_path), wrong)

    with pytest.raises(EngineError, match=r"final evaluation: none of 1 sites answered \(south: it sent "):
        lead([failing(answer)], wanted, tmp_path / "run")
