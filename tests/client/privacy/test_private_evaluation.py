"""Private evaluation at a site: what one person changes, what it costs, who is charged, and what is refused."""

from __future__ import annotations

import math
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.evaluation.person_sums import compute_shares, select_groups
from client.gate.release import check_reply
from client.policy import SIMULATION_POLICY, SitePolicy
from client.privacy.accounting import GaussianSteps, compute_epsilon, solve_noise
from client.privacy.charges import BudgetSpent
from client.privacy.ledger import Ledger, get_ledger_path
from client.privacy.private_evaluation import join_weighted_sums
from client.requests import handle
from client.site import Site
from client.site_context import SiteContext
from client.training.local_update import copy_weights
from common import models
from common.config import RunConfig
from common.errors import ConfigError, SiteError
from common.metrics.noisy_counts import NORM_MARGIN
from common.private_evaluation import build_layout, read_noisy_counts
from common.replies import FinalTestReply, ValidateReply
from common.reports import FinalTestReport, ValidateReport
from tests import tiny
from tests.wire import build_request

DELTA = 1e-3


PARTS = (0,) * 6 + (1,) * 40 + (2,) * 60


@pytest.fixture
def sites(monkeypatch: pytest.MonkeyPatch) -> dict[str, Site]:
    result = {"north": tiny.site("north", 1, tiny.cohort(1, len(PARTS), 3), parts=PARTS)}
    monkeypatch.setattr("client.site.read_site", lambda context, config: result[str(context.site)])
    return result


def private(**more: Any) -> RunConfig:
    held = {"privacy__evaluation_epsilon": 4.0, "privacy__delta": DELTA, "privacy__accountant": "rdp",
            "federation__rounds": 3, "evaluation__bins": 16}  # fmt: skip
    return tiny.run_config(**{**held, **more})


def here(state: Path, **policy: Any) -> SiteContext:
    return SiteContext(tiny.policy(**{"max_delta": 0.01, "min_cell_patients": 1, **policy}), site="north", state=state)


def weights(config: RunConfig, shift: float = 0.0) -> dict[str, np.ndarray]:
    held = copy_weights(models.build_model(tiny.TASK, config.model, 1))
    return {name: value + np.float32(shift) for name, value in held.items()}


def build_test_request(
    config: RunConfig, kind: Any = "test", number: int = 1, run: str = "a" * 32, shift: float = 0.0
) -> Any:
    return build_request(kind, config, number, weights(config, shift), (1, 1, 1), run_id=run)


def rows(state: Path, split: str = "test") -> list[Any]:
    path = get_ledger_path(state, "north", split)
    return Ledger.read(path).rows() if path.is_file() else []


# what it costs


@pytest.mark.parametrize("releases", [1, 12])
@pytest.mark.parametrize("epsilon", [0.5, 4.0])
def test_releases_spend_what_googles_accountant_says(epsilon: float, releases: int) -> None:
    theirs = pytest.importorskip("dp_accounting")
    from dp_accounting import pld

    sigma = solve_noise(epsilon, 1e-5, 1.0, releases, "prv")
    event = theirs.SelfComposedDpEvent(theirs.GaussianDpEvent(sigma), releases)
    tight = pld.PLDAccountant(theirs.NeighboringRelation.ADD_OR_REMOVE_ONE).compose(event).get_epsilon(1e-5)
    assert tight == pytest.approx(epsilon, rel=0.006)
    assert compute_epsilon([GaussianSteps(1.0, sigma, releases)], 1e-5, "prv") <= epsilon


def test_the_noise_is_as_large_as_charged(sites: dict[str, Site], tmp_path: Path) -> None:
    config = private(privacy__evaluation_epsilon=1.0)
    layout = build_layout(config, tiny.TASK, "test", personal=False)
    model = models.build_model(tiny.TASK, config.model, 1)
    site = sites["north"]
    exact = compute_shares(model, site.test, config).sum_tables(select_groups(site.test, config))
    off: list[float] = []
    for position in range(6):
        reply = handle(here(tmp_path / str(position)), build_test_request(config))
        off += list(join_weighted_sums({name: reply.noisy[name] - exact[name] for name in exact}, layout))
    sigma = solve_noise(1.0, DELTA, 1.0, 1, "rdp")
    assert len(off) == 6 * (9 + 3 * 2 * 16)
    assert np.std(off) == pytest.approx(sigma * NORM_MARGIN, rel=0.08)
    assert np.mean(off) == pytest.approx(0, abs=4 * sigma / math.sqrt(len(off)))
    assert reply.report.privacy.sigma == sigma


def test_each_splits_people_are_charged_to_their_own_ledger(sites: dict[str, Site], tmp_path: Path) -> None:
    config, context = private(), here(tmp_path, counts="public")
    per_round, once = (solve_noise(4.0, DELTA, 1.0, count, "rdp") for count in (3, 1))
    for number in (1, 2, 3):
        spent = handle(context, build_test_request(config, "validate", number, shift=number / 10)).report.privacy
        assert spent.epsilon_run == compute_epsilon([GaussianSteps(1.0, per_round, number)], DELTA, "rdp") <= 4.0
    assert spent.epsilon_run > 3.9
    handle(context, build_test_request(config, number=3))
    assert [row.spent for row in rows(tmp_path, "validation")] == [GaussianSteps(1.0, per_round, 1)] * 3
    assert [row.spent for row in rows(tmp_path)] == [GaussianSteps(1.0, once, 1)]
    assert [(row.units, row.level, row.round) for row in rows(tmp_path)] == [(60, "patient", 3)]
    assert rows(tmp_path, "train") == []


@pytest.mark.slow
def test_a_private_run_may_train_privately_too_and_each_is_charged_for_itself(
    sites: dict[str, Site], tmp_path: Path
) -> None:
    config = private(privacy__epsilon=6.0, privacy__sampling=0.5, training__loss="cross_entropy",
                     federation__choose="best")  # fmt: skip
    context = here(tmp_path, counts="public")
    handle(context, build_test_request(config, "train"))
    handle(context, build_test_request(config, "validate"))
    assert [row.q for row in rows(tmp_path, "train")] == [0.5]
    assert [row.q for row in rows(tmp_path, "validation")] == [1.0]


def test_the_same_question_has_the_same_answer_at_no_cost(sites: dict[str, Site], tmp_path: Path) -> None:
    config, context = private(), here(tmp_path, counts="public")
    first, again = (handle(context, build_test_request(config)) for _ in range(2))
    for name, values in first.noisy.items():
        np.testing.assert_array_equal(values, again.noisy[name])
    assert first.report == again.report
    assert len(rows(tmp_path)) == 1


# what is refused


def test_a_spent_run_budget_ends_the_answers(sites: dict[str, Site], tmp_path: Path) -> None:
    config, context = private(), here(tmp_path, counts="public")
    handle(context, build_test_request(config))
    for question in ({"shift": 0.5}, {"number": 2}):
        with pytest.raises(BudgetSpent, match=r"privacy budget spent: .* of the run's 4 "):
            handle(context, build_test_request(config, **question))
    assert len(rows(tmp_path)) == 1


def test_a_spent_site_budget_ends_the_answers_to_all_runs(sites: dict[str, Site], tmp_path: Path) -> None:
    config, context = private(), here(tmp_path, counts="public", max_evaluation_epsilon=6.5)
    answered = 0
    with pytest.raises(BudgetSpent, match=r"of the site's 6.5 "):
        for number in range(9):
            handle(context, build_test_request(config, run=f"{number:032x}"))
            answered += 1
    assert answered == len(rows(tmp_path)) == 2
    assert rows(tmp_path)[-1].epsilon <= 6.5
    handle(context, build_test_request(config, "validate"))  # other people


def test_simultaneous_requests_do_not_slip_past_the_budget(sites: dict[str, Site], tmp_path: Path) -> None:
    config, context = private(), here(tmp_path, counts="public")
    handle(context, build_test_request(config, "validate", 1))  # what is built once is there
    done: list[str] = []
    together = threading.Barrier(8)

    def requested(number: int) -> None:
        together.wait()
        try:
            handle(context, build_test_request(config, "validate", 2, shift=number / 100))
            done.append("answered")
        except BudgetSpent:
            done.append("refused")

    threads = [threading.Thread(target=requested, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == ["answered"] * 2 + ["refused"] * 6
    assert len(rows(tmp_path, "validation")) == 3
    assert rows(tmp_path, "validation")[-1].epsilon_run <= 4.0


def test_a_hospital_may_demand_private_evaluation(sites: dict[str, Site], tmp_path: Path) -> None:
    context = here(tmp_path, evaluation="private", counts="public")
    for kind in ("handshake", "validate", "test"):
        with pytest.raises(SiteError, match=r"nothing is evaluated here without .*privacy\.evaluation_epsilon"):
            handle(context, build_test_request(tiny.run_config(), kind))
        handle(context, build_test_request(private(), kind))


@pytest.mark.parametrize(
    ("config", "policy", "why"),
    [
        ({"privacy__evaluation_epsilon": 9.0}, {}, "evaluation_epsilon=9 is above the 4.5 allowed here"),
        ({"privacy__delta": 0.5}, {}, "delta=0.5 is above the 0.01 allowed"),
        ({"privacy__delta": 0.02}, {"max_delta": 0.5}, "must be below 1 / the test patients here"),
        ({"privacy__noise": "seeded"}, {}, "NOT PRIVATE"),
    ],
)
def test_what_the_policy_does_not_allow(
    sites: dict[str, Site], tmp_path: Path, config: dict[str, Any], policy: dict[str, Any], why: str
) -> None:
    for kind in ("handshake", "test"):
        with pytest.raises(SiteError, match=why):
            handle(here(tmp_path, **policy), build_test_request(private(**config), kind))
    assert rows(tmp_path) == []


def test_other_people_than_in_earlier_private_runs_are_refused(sites: dict[str, Site], tmp_path: Path) -> None:
    handle(here(tmp_path), build_test_request(private()))
    moved = tuple(2 if part == 1 else 1 if part == 2 else part for part in PARTS)
    sites["north"] = tiny.site("north", 1, tiny.cohort(1, len(PARTS), 3), parts=moved)
    with pytest.raises(SiteError, match="other people are in the test split"):
        handle(here(tmp_path), build_test_request(private(), "handshake"))
    handle(here(tmp_path, several_splits=True), build_test_request(private(), "handshake"))


@pytest.mark.parametrize(
    "wrong",
    [{"training__patience": 2}, {"evaluation__explain": "occlusion"}, {"evaluation__without": {"a": ["b"]}},
     {"evaluation__metric": "loss"}, {"evaluation__metric": "utility"}, {"privacy__validation": "unprotected"},
     {"sites__split": "beat-level"}],
)  # fmt: skip
def test_settings_that_use_these_patients_otherwise_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"privacy\.evaluation_epsilon needs"):
        private(**wrong)
    private()


def test_the_numbers_of_people_are_noisy_and_charged_once(sites: dict[str, Site], tmp_path: Path) -> None:
    context, north = here(tmp_path), sites["north"]
    sites["north"] = replace(north, train=replace(north.train, excluded={"too short": 7}))
    first, again = (handle(context, build_test_request(private(), "handshake")).report for _ in range(2))
    assert first.counts == again.counts
    held = first.counts.test
    sigma = solve_noise(0.2, DELTA, 1.0, 1, "rdp")
    assert held.deviation == pytest.approx(sigma * math.sqrt(2) * NORM_MARGIN)
    assert held.examples == held.patients == sum(count or 0 for count in held.classes)
    assert first.excluded == {}
    for split in ("validation", "test"):
        assert [(row.run, row.spent) for row in rows(tmp_path, split)] == [("counts", GaussianSteps(1.0, sigma, 1))]
    reply = handle(context, build_test_request(private(), "validate"))
    assert reply.report.patients == first.counts.validation.patients
    public = handle(here(tmp_path / "public", counts="public"), build_test_request(private(), "handshake")).report
    assert (public.counts.test.patients, public.counts.test.deviation) == (60, None)
    assert public.excluded == {"too short": 7}


def test_exact_results_do_not_pass_the_gate_of_a_hospital_that_demands_noise(tmp_path: Path) -> None:
    context = SiteContext(SitePolicy(evaluation="private"), site="north", data=tmp_path, state=tmp_path)
    test, validate = build_test_request(private()), build_test_request(private(), "validate")
    with pytest.raises(SiteError, match="exact results"):
        check_reply(context, test, FinalTestReply("north", FinalTestReport(evaluations={})))
    with pytest.raises(SiteError, match="exact results"):
        check_reply(context, validate, ValidateReply("north", ValidateReport(patients=5)))
    open_ = replace(context, policy=SitePolicy())
    with pytest.raises(SiteError, match="exact results"):  # the run asks for it
        check_reply(open_, validate, ValidateReply("north", ValidateReport(patients=5)))


def test_a_large_epsilon_gives_the_exact_counts_where_each_person_has_one_example(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    parts = (0,) * 4 + (2,) * 50
    held = tiny.site("north", 1, tiny.cohort(1, len(parts), 1), parts=parts)
    monkeypatch.setattr("client.site.read_site", lambda context, config: held)
    config = private(privacy__evaluation_epsilon=1000.0)
    context = SiteContext(SIMULATION_POLICY, site="north", state=tmp_path)
    noisy = handle(context, build_test_request(config))
    layout = build_layout(config, tiny.TASK, "test", personal=False)
    counts = read_noisy_counts(noisy.noisy, layout, noisy.report.privacy.sigma)["all"].to_counts(tiny.TASK, None)
    plain = tiny.run_config(evaluation__bins=16)
    exact = handle(context, build_test_request(plain)).tables["all"]
    np.testing.assert_allclose(counts.confusion / 1000, exact.confusion, atol=0.25)
    np.testing.assert_allclose(counts.scores / 1000, exact.scores, atol=0.25)
