"""Leaves of a forest with differential privacy: the parts of people, the noise, and what the ledger is charged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.policy import SIMULATION_POLICY
from client.privacy.charges import BudgetSpent
from client.privacy.ledger import Ledger, get_ledger_path
from client.privacy.noisy_leaf_sums import sum_clipped_parts
from client.requests import handle
from client.site import load_site
from client.site_context import SiteContext
from common.config import RunConfig, parse_config
from common.errors import ConfigError
from common.replies import GrowReply
from common.requests import GrowRequest
from common.scaling import Scaling
from common.tree_plan import draw_trees, plan_run
from tests.client.gate.stranger import make_config, make_hospital
from tests.client.training.test_leaf_sums import make_rows

RUN = "b" * 32


def make_run(**privacy: Any) -> RunConfig:
    options = {"trees": 9, "depth": 3, "bins": 16}
    wanted = {"statistics_share": 0.0, "delta": 1e-3, "noise": "seeded", **privacy}
    return make_config(
        model={"name": "forest", "options": options}, federation={"rounds": 3, "choose": "last"}, privacy=wanted,
        training={"loss": "cross_entropy"}, evaluation={"threshold": "likelier"},
    )  # fmt: skip


@pytest.fixture
def hospital(tmp_path: Path) -> SiteContext:
    return make_hospital(tmp_path, patients=150, seeded_noise=True, max_delta=1e-2, max_epsilon=1e3)


def ask(context: SiteContext, config: RunConfig, number: int = 1, run: str = RUN) -> GrowReply:
    task = load_site(context, config).task
    scaling = Scaling(np.zeros(len(task.features)), np.ones(len(task.features))).to_bytes()
    trees = draw_trees(plan_run(config, task))
    reply = handle(context, GrowRequest(config, number, weights=trees, scaling=scaling, run_id=run))
    assert isinstance(reply, GrowReply)
    return reply


def test_one_person_changes_the_sums_by_at_most_the_limit_and_nobody_below_it_is_clipped() -> None:
    rows, person = make_rows()
    first, second = rows.measure_norms(person, 40)
    norms = np.sqrt(first**2 + second**2)
    limit = float(np.median(norms))
    whole = np.concatenate([sums.ravel() for sums in sum_clipped_parts(rows, person, limit)])
    parts = []
    for one in range(40):
        alone = person == one
        exact = np.concatenate([sums.ravel() for sums in rows.sum_by_leaf(alone.astype(float))])
        parts.append(exact * min(1.0, limit / np.linalg.norm(exact)))
        assert np.linalg.norm(parts[-1]) <= limit * (1 + 1e-12)
    np.testing.assert_allclose(whole, np.sum(parts, axis=0), atol=1e-10)
    assert 0.4 < np.mean([np.linalg.norm(part) > limit * (1 - 1e-9) for part in parts]) < 0.6


def test_the_noise_is_sigma_times_the_clip_and_the_root_of_the_number_of_trees(hospital: SiteContext) -> None:
    loud, quiet = (ask(hospital, make_run(sigma=sigma, clip=2.0), run=f"{sigma:032.0f}") for sigma in (1e3, 1e-3 * 400))
    off = np.concatenate([(loud.sums[name] - quiet.sums[name]).ravel() for name in loud.sums])
    assert len(off) == 2 * 3 * 8
    assert 0.7 < off.std() / (1e3 * 2.0 * np.sqrt(3)) < 1.3


def test_each_round_is_one_step_of_everybody_and_the_ledgers_epsilon_is_googles(hospital: SiteContext) -> None:
    dp = pytest.importorskip("dp_accounting")
    config = make_run(sigma=4.0)
    for number in (1, 2, 3):
        spent = ask(hospital, config, number).report.privacy
        assert spent is not None
        theirs = dp.pld.PLDAccountant(value_discretization_interval=1e-4)
        theirs.compose(dp.SelfComposedDpEvent(dp.GaussianDpEvent(4.0), number))
        assert spent.epsilon_run == pytest.approx(theirs.get_epsilon(1e-3), rel=0.005)
    assert hospital.state is not None
    assert hospital.site is not None
    rows = [row for row in Ledger.read(get_ledger_path(hospital.state, hospital.site)).rows() if row.run == RUN]
    assert [(row.round, row.q, row.sigma, row.steps, row.private) for row in rows] == [
        (number, 1.0, 4.0, 1, False) for number in (1, 2, 3)
    ]


def test_a_run_that_names_its_epsilon_spends_no_more_and_a_further_round_is_refused(hospital: SiteContext) -> None:
    config = make_run(epsilon=2.0)
    spent = [ask(hospital, config, number).report.privacy for number in (1, 2, 3)]
    assert all(one is not None for one in spent)
    assert spent[-1].epsilon_run == pytest.approx(2.0, rel=2e-3)  # type: ignore[union-attr]
    assert spent[-1].epsilon_run <= 2.0  # type: ignore[union-attr]
    with pytest.raises(BudgetSpent):
        ask(hospital, config, 3)


def test_a_private_forest_has_standard_inputs_and_boosting_stays_refused() -> None:
    assert make_run(sigma=1.0).data.scaling == "standard"
    raw = {"privacy": {"epsilon": 3}, "federation": {"choose": "last"}, "training": {"loss": "cross_entropy"}}
    with pytest.raises(ConfigError, match=r"model\.name=forest with privacy"):
        parse_config(raw | {"model": {"name": "boosting"}})
    with pytest.raises(ConfigError, match=r"needs data\.scaling=standard"):
        parse_config(raw | {"model": {"name": "forest"}, "data": {"scaling": "bins"}})
    assert SIMULATION_POLICY.update_noise == 0
