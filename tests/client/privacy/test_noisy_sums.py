"""Private sums over patients: against a slow loop, their sensitivity to one person, their cost."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.policy import SIMULATION_POLICY
from client.privacy import noisy_sums
from client.privacy.accounting import GaussianSteps, compute_epsilon, solve_noise
from client.privacy.charges import BudgetSpent
from client.privacy.ledger import Ledger, get_ledger_path
from client.privacy.units import group_rows_by_unit
from client.requests import handle
from client.site import Site
from client.site_context import SiteContext
from client.training.local_update import copy_weights
from common import models
from common.config import RunConfig, parse_config
from common.errors import ConfigError, SiteError
from common.noisy_scaling import NoisyMoments
from common.task import Task
from sites import datasets
from sites.cohort import Cohort, Windows
from tests import tiny
from tests.wire import build_request

VITALS = Task("vitals", "multiclass", ("quiet", "event"), ("q", "e"), 0, 0, 0.0, ("bp", "male", "lab"), (), True, True)
HOURS = Task(
    "h", "multiclass", ("no", "yes"), ("n", "y"), 2, 3, 0.0, ("age",), ("hr", "hr measured"), units=True, missing=True
)
BOUNDS = {"bp": [60, 200], "male": [0, 1], "lab": [-3, 5]}
RUN = "a" * 32


def vitals(seed: int, people: int = 9, task: Task = VITALS) -> Cohort:
    rng = np.random.default_rng(seed)
    owner = np.repeat(np.arange(people), rng.integers(1, 6, people))
    n = len(owner)
    values = np.stack([rng.normal(120, 40, n), rng.integers(0, 2, n), rng.normal(1, 3, n)], 1).astype(np.float32)
    if task.missing:
        values[rng.random((n, 3)) < 0.3] = np.nan
        values[owner == 2, 2] = np.nan
    names = tuple(f"{seed}-{i}" for i in range(people))
    persons = (names[1], *names[1:])  # the first two recordings are one person's
    split = np.full(n, -1, np.int8)
    y = rng.integers(0, 2, n)
    return Cohort(task, np.zeros((n, 0, 0), np.float32), values, y, owner, names, persons, split)


def slow(cohort: Cohort, level: str, limit: float) -> list[np.ndarray]:
    """Each unit's clipped vector, one at a time, from the definition."""
    ends = [(60, 200), (-3, 5)]
    persons = np.asarray(cohort.persons)[cohort.patient]
    groups = [[i] for i in range(len(persons))] if level == "record" else [
        np.flatnonzero(persons == name) for name in sorted(set(persons))
    ]  # fmt: skip
    result = []
    for rows in groups:
        observed, first, second = [], [], []
        for column, (low, high) in zip((0, 2), ends, strict=True):
            values = [float(v) for v in cohort.features[rows, column] if not math.isnan(v)]
            u = [(min(max(v, low), high) - low) / (high - low) * 2 - 1 for v in values]
            observed.append(0.25 if u else 0.0)
            first.append(sum(u) / len(u) if u else 0.0)
            second.append(sum(v * v for v in u) / len(u) if u else 0.0)
        whole = np.array([*(observed if cohort.task.missing else [0.25 * math.sqrt(2)]), *first, *second])
        norm = float(np.sqrt((whole**2).sum()))
        result.append(whole * min(1.0, limit / norm) if norm else whole)
    return result


@pytest.mark.parametrize("level", ["patient", "record"])
@pytest.mark.parametrize("missing", [True, False])
def test_sums_agree_with_a_slow_loop_and_one_unit_changes_them_by_the_clip(
    level: str, missing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(noisy_sums, "BLOCK_ROWS", 4)
    cohort = vitals(3, task=replace(VITALS, missing=missing))
    low, high = np.array([60.0, 0, -3]), np.array([200.0, 1, 5])
    for limit in (0.5, 100.0):
        expected = slow(cohort, level, limit)
        result = noisy_sums.sum_clipped_units(cohort, level, low, high, limit)
        np.testing.assert_allclose(result, np.sum(expected, axis=0), rtol=1e-6, atol=1e-9)
    units = group_rows_by_unit(cohort, level)
    assert any(np.linalg.norm(one) > 0.49 for one in slow(cohort, level, 0.5))
    whole = noisy_sums.sum_clipped_units(cohort, level, low, high, 0.5)
    for unit in units:
        rest = cohort.take(np.setdiff1d(np.arange(len(cohort.y)), unit))
        assert np.linalg.norm(whole - noisy_sums.sum_clipped_units(rest, level, low, high, 0.5)) <= 0.5 + 1e-9


def test_hours_of_windows_count_once_as_in_dense_signals() -> None:
    rng = np.random.default_rng(5)
    rows = rng.normal(80, 30, (11, 2)).astype(np.float32)
    rows[:, 1] = rng.random(11) < 0.6
    rows[rows[:, 1] == 0, 0] = np.nan
    windows = Windows(rows, np.arange(11), np.repeat([0, 4, 5], (4, 1, 6)), 3)
    age = rng.normal(60, 15, (11, 1)).astype(np.float32)
    names, owner = ("a", "b", "c"), np.repeat([0, 1, 2], (4, 1, 6))
    whole = Cohort(HOURS, windows, age, rng.integers(0, 2, 11), owner, names, names, np.full(11, -1, np.int8))
    low, high = np.array([18.0, 40, 0]), np.array([95.0, 140, 1])
    result = noisy_sums.sum_clipped_units(whole, "patient", low, high, 1e9)
    first = 0.0
    for person in range(3):
        hr = np.clip(rows[owner == person, 0], 40, 140)
        if not np.isnan(hr).all():
            first += float(np.nanmean((hr - 90) / 50))
    assert result[3] == pytest.approx(first, rel=1e-6)
    dense = replace(whole, x=windows.dense())
    held = noisy_sums.sum_clipped_units(dense, "record", low, high, 1e9)
    u = (np.clip(windows.dense()[:, 0], 40, 140) - 90) / 50
    observed = ~np.isnan(u).all(1)
    assert held[1] == pytest.approx(0.25 * observed.sum())
    assert held[3] == pytest.approx(np.nanmean(u[observed], 1).sum(), rel=1e-6)


# --- a site ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def sites(monkeypatch: pytest.MonkeyPatch) -> dict[str, Site]:
    result = {}
    for name, seed in (("north", 1), ("south", 2)):
        whole = vitals(seed, 30)
        split = np.where(whole.patient < 20, 0, 2).astype(np.int8)
        result[name] = Site.from_cohort(name, whole.with_split(split), synthetic=True)
    monkeypatch.setattr("client.site.read_site", lambda context, config: result[str(context.site)])
    return result


def private(**more: Any) -> RunConfig:
    held = {"model": {"name": "logreg"}, "privacy__epsilon": 4.0, "privacy__delta": 1e-3, "privacy__sampling": 0.5,
            "privacy__accountant": "rdp", "privacy__bounds": BOUNDS, "training__loss": "cross_entropy",
            "federation__choose": "last", "federation__rounds": 5}  # fmt: skip
    return tiny.run_config(**{**held, **more})


def here(state: Path, **policy: Any) -> SiteContext:
    return SiteContext(tiny.policy(**{"max_delta": 0.01, "counts": "public", **policy}), site="north", state=state)


def request_reply(config: RunConfig, number: int = 0, run: str = RUN) -> Any:
    if not number:
        return build_request("scaling", config, run_id=run)
    return build_request(
        "train", config, number, copy_weights(models.build_model(VITALS, config.model, 1)), (1, 1), run_id=run
    )


@pytest.mark.slow
@pytest.mark.parametrize("given", [{}, {"privacy__epsilon": None, "privacy__sigma": 2.0}])
def test_sums_and_steps_share_one_epsilon(sites: dict[str, Site], tmp_path: Path, given: dict[str, Any]) -> None:
    config = private(**given)
    reply = handle(here(tmp_path), request_reply(config))
    spent_report = reply.report.to_dict()["privacy"]
    assert (spent_report["q"], spent_report["steps"]) == (1.0, 1)
    row = Ledger.read(get_ledger_path(tmp_path, "north")).rows()[0]
    assert (row.round, row.spent, row.units) == (0, GaussianSteps(1.0, spent_report["sigma"], 1), 19)
    for number in range(1, 6):
        done = handle(here(tmp_path), request_reply(config, number)).report.to_dict()["privacy"]
    spent = [GaussianSteps(1.0, spent_report["sigma"], 1), GaussianSteps(0.5, done["sigma"], 10)]
    assert done["epsilon_run"] == done["epsilon"] == compute_epsilon(spent, 1e-3, "rdp")
    assert done["statistics"] == spent_report["sigma"]
    if given:
        alone = compute_epsilon([GaussianSteps(0.5, 2.0, 10)], 1e-3, "rdp")
        assert spent_report["epsilon"] == pytest.approx(alone / 9, rel=2e-3)
        return
    assert spent_report["epsilon"] == pytest.approx(0.4, rel=2e-3)
    assert 3.99 < done["epsilon"] <= 4.0
    assert done["sigma"] > solve_noise(4.0, 1e-3, 0.5, 10, "rdp")
    with pytest.raises(BudgetSpent, match="of the run's 4"):
        handle(here(tmp_path), request_reply(config))


@pytest.mark.slow
def test_the_noise_is_as_large_as_charged(sites: dict[str, Site], tmp_path: Path) -> None:
    low, high = np.array([60.0, 0, -3]), np.array([200.0, 1, 5])
    config, result = private(), []
    for i in range(60):
        reply = handle(here(tmp_path / str(i)), request_reply(config))
        noisy, sigma = (
            NoisyMoments.from_arrays(dict(reply.sums), reply.report.to_dict()["deviation"]),
            reply.report.to_dict()["privacy"]["sigma"],
        )
        result.append(np.concatenate([noisy.measured * 0.25, noisy.first, noisy.second]))
    exact = noisy_sums.sum_clipped_units(sites["north"].train, "patient", low, high, 0.6 * math.sqrt(2))
    deviation = sigma * 0.6 * math.sqrt(2)
    assert reply.report.to_dict()["deviation"] == pytest.approx(deviation)
    off = (np.asarray(result) - exact) / deviation
    assert off.std() == pytest.approx(1.0, abs=0.15)
    assert abs(off.mean()) < 0.2
    assert len({tuple(one) for one in result}) == 60


def test_with_a_share_of_zero_nothing_is_summed(sites: dict[str, Site], tmp_path: Path) -> None:
    reply = handle(here(tmp_path), request_reply(private(privacy__statistics_share=0.0)))
    assert not reply.sums["first"].any()
    assert reply.report.to_dict()["deviation"] == 0
    assert Ledger.read(get_ledger_path(tmp_path, "north")).rows() == []


def test_sums_that_would_overspend_are_refused(sites: dict[str, Site], tmp_path: Path) -> None:
    context = here(tmp_path, max_epsilon=4.0)
    for number in range(6):
        handle(context, request_reply(private(), number))
    with pytest.raises(BudgetSpent, match="of the site's 4"):
        handle(context, request_reply(private(), run="b" * 32))
    assert len(Ledger.read(get_ledger_path(tmp_path, "north")).rows()) == 6


def test_an_input_without_a_public_range_is_refused(sites: dict[str, Site], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"input 'lab' has no public range.*privacy\.bounds"):
        handle(here(tmp_path), request_reply(private(privacy__bounds={"bp": [60, 200], "m*": [0, 1]})))
    assert Ledger.read(get_ledger_path(tmp_path, "north")).rows() == []
    with pytest.raises(ConfigError, match="range of bp must be"):
        private(privacy__bounds={"bp": [5, 5]})


def test_unprotected_validation_needs_run_and_policy(sites: dict[str, Site], tmp_path: Path) -> None:
    open_ = private(privacy__validation="unprotected", federation__choose="best", evaluation__threshold="f1")
    assert "not protected" in open_.unprotected_notice
    assert private().unprotected_notice == ""
    with pytest.raises(SiteError, match=r"policy: privacy\.validation=unprotected"):
        handle(here(tmp_path), build_request("handshake", open_))
    assert not list(tmp_path.iterdir())
    handle(here(tmp_path, unprotected_validation=True), build_request("handshake", open_))
    assert SIMULATION_POLICY.unprotected_validation


@pytest.mark.parametrize(
    ("dataset", "options"),
    [
        ("heart_disease", {}), ("heart_disease", {"protocol": "explicit"}), ("sepsis", {}),
        ("sepsis", {"view": "hours"}), ("eicu", {}), ("eicu", {"view": "hours"}),
        ("eicu", {"encoding": "raw"}), ("eicu", {"encoding": "points"}),
    ],
)  # fmt: skip
def test_every_data_set_with_units_states_ranges(dataset: str, options: dict[str, Any]) -> None:
    run = parse_config({"data": {"dataset": dataset, "options": options}})
    module = __import__(f"sites.datasets.{dataset}", fromlist=["task"])
    task = module.task(module.Options(**options))
    assert task.units
    low, high = noisy_sums.get_public_ranges(task, run)
    assert len(low) == len(task.features) + task.channels
    assert (low < high).all()
    assert set(datasets.public_bounds(run)) >= set(task.features)
