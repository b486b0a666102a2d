"""A hospital that demands private evaluation, with its own split and register, on SYNTHETIC rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.gate.audit_trail import open_audit_log
from client.policy import SitePolicy
from client.privacy.charges import BudgetSpent
from client.privacy.ledger import Ledger, get_ledger_path
from client.requests import handle
from client.site import load_site
from client.site_context import SiteContext
from client.training.local_update import copy_weights
from common import models
from common.config import load_config
from common.errors import SiteError
from common.requests import FinalTestRequest, HandshakeRequest, TrainRequest, ValidateRequest
from sites.datasets.heart_disease import simulate

CONFIG = Path(__file__).parents[3] / "experiments" / "heart_disease.yaml"
SETTINGS = ["data.options={}", "sites.split=patient", "evaluation.bins=16", "privacy.accountant=rdp",
            "federation.strategy={name: fedavg}"]  # fmt: skip
PRIVATE = [*SETTINGS, "privacy.evaluation_epsilon=4"]


@pytest.fixture
def context(tmp_path: Path) -> SiteContext:
    simulate.generate(tmp_path / "heart-disease", hospitals=1, patients=120, seed=3)
    policy = SitePolicy(evaluation="private", max_delta=1e-3)
    return SiteContext(policy, site="north", data=tmp_path / "heart-disease", state=tmp_path / "state")


def rows(context: SiteContext, split: str) -> list[Any]:
    assert context.state is not None
    return Ledger.read(get_ledger_path(context.state, "north", split)).rows()


def test_a_run_is_answered_with_noise_and_without_it_refused(context: SiteContext) -> None:
    with pytest.raises(SiteError, match="nothing is evaluated here without differential privacy"):
        handle(context, HandshakeRequest(load_config(CONFIG, SETTINGS)))
    config = load_config(CONFIG, PRIVATE)
    stated = handle(context, HandshakeRequest(config)).report
    assert None not in (stated.counts.test.deviation, stated.counts.validation.deviation)
    assert stated.excluded == {}
    site = load_site(context, config)
    sent = copy_weights(models.build_model(site.task, config.model, config.seed))
    about: dict[str, Any] = {"round": 1, "run_id": "a" * 32}
    trained = handle(context, TrainRequest(config, weights=sent, **about)).weights
    validated = handle(context, ValidateRequest(config, weights=trained, **about))
    tested = handle(context, FinalTestRequest(config, weights=trained, **about))
    for reply in (validated, tested):
        assert reply.tables == {}
        assert reply.report.privacy.epsilon_run <= 4
    assert tested.report.evaluations == {}
    groups = {name.rpartition("/")[0] for name in tested.noisy}
    assert groups == {"all", *(f"group sex={each}" for each in ("female", "male", "unknown")),
                      *(f"group age={each}" for each in ("under 40", "40 to under 65", "65 to under 80",
                                                         "80 and over", "unknown"))}  # fmt: skip
    assert not any(np.isclose(values, np.rint(values)).all() for values in tested.noisy.values())
    assert [row.run for row in rows(context, "test")] == ["counts", "a" * 32]
    assert [row.units for row in rows(context, "test")] == [site.test.people()] * 2
    moved = {name: value + np.float32(1e-3) for name, value in trained.items()}
    with pytest.raises(BudgetSpent):
        handle(context, FinalTestRequest(config, weights=moved, **about))
    assert len(rows(context, "test")) == 2
    charges = [charge for line in open_audit_log(context).read() for charge in line.charges]
    charged = [row for split in ("validation", "test") for row in rows(context, split)]
    assert sorted(charges) == sorted((row.number, row.epsilon_run, row.epsilon, row.delta) for row in charged)
    plain = replace(context, policy=SitePolicy(max_delta=1e-3))
    with pytest.raises(SiteError, match="were evaluated with differential privacy, which a run without it would undo"):
        handle(plain, HandshakeRequest(load_config(CONFIG, SETTINGS)))
    handle(
        replace(context, policy=SitePolicy(plain_after_private=True)), HandshakeRequest(load_config(CONFIG, SETTINGS))
    )


def test_another_epsilon_is_another_run(context: SiteContext) -> None:
    config = load_config(CONFIG, PRIVATE)
    site = load_site(context, config)
    sent = copy_weights(models.build_model(site.task, config.model, config.seed))
    request = TrainRequest(config, round=1, weights=sent, run_id="a" * 32)
    weights = handle(context, request).weights
    more = config.model_copy(update={"privacy": config.privacy.model_copy(update={"evaluation_epsilon": 4.2})})
    with pytest.raises(SiteError, match="a run keeps its configuration"):
        handle(context, FinalTestRequest(more, round=1, weights=weights, run_id="a" * 32))
    with pytest.raises(SiteError, match=r"above the 4\.5 allowed"):
        over = config.privacy.model_copy(update={"evaluation_epsilon": 4.6})
        handle(context, replace(request, config=config.model_copy(update={"privacy": over})))
