"""Questions by which a coordinator read single patients, each refused or answered without them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.gate import admission
from client.gate.disclosure import ReleaseRules
from client.gate.register import Register, open_register
from client.gate.tables import resample_table
from client.gate.weights import keep_update
from client.policy import SIMULATION_POLICY, SitePolicy
from client.privacy.checks import check_planned_epsilon
from client.site_context import SiteContext
from common import models
from common.errors import SiteError
from common.metrics.counts import Counts, count_predictions
from common.requests import FinalTestRequest, LatentRequest, Method, TrainRequest, ValidateRequest
from tests import tiny

RUN = "a" * 32
PRIVATE: dict[str, Any] = {"training__loss": "cross_entropy", "federation__choose": "last"}
NOISE = [{"epsilon": 1000.0}, {"epsilon": None, "sigma": 0.01}, {"epsilon": None, "sigma": 0.4}]


def hospital(tmp_path: Path, **policy: Any) -> SiteContext:
    return SiteContext(SitePolicy(**policy), site="north", data=tmp_path, state=tmp_path / "state")


def first_weights(**config: Any) -> dict[str, np.ndarray]:
    run = tiny.run_config(**config)
    built = models.build_model(tiny.TASK, run.model, run.seed)
    return {name: value.detach().numpy().copy() for name, value in built.state_dict().items()}


def check(context: SiteContext, request: Any) -> None:
    admission.check_model(open_register(context), tiny.site("north", 1), request, context)


@pytest.mark.parametrize(
    ("settings", "proximal"),
    [({"training__lr": 1.0, "training__batch_size": 1, "training__weight_decay": 0.0}, 1.0),
     ({"training__lr": 1.0, "training__weight_decay": 1.0}, 0.0),
     ({"training__lr": 0.1, "training__weight_decay": 0.0}, 10.0)],
)  # fmt: skip
def test_training_that_forgets_all_but_its_last_batch_is_refused(
    tmp_path: Path, settings: dict[str, Any], proximal: float
) -> None:
    config = tiny.run_config(**settings)
    request = TrainRequest(config, round=1, weights=first_weights(), run_id=RUN, proximal=proximal)
    with pytest.raises(SiteError, match="forgets its first steps"):
        check(hospital(tmp_path), request)
    check(hospital(tmp_path), replace(request, config=tiny.run_config(), proximal=0.1, run_id="b" * 32))


def test_a_run_does_not_change_its_strategy_or_scaling(tmp_path: Path) -> None:
    """What one strategy keeps at the site (a personal model) is no other's to read (control variates)."""
    context = hospital(tmp_path)
    request = TrainRequest(tiny.run_config(), round=1, weights=first_weights(), run_id=RUN, method=Method(pull=1.0))
    check(context, request)
    for other in ({"method": Method(control=True)}, {"scaling": b"other"}, {"config": tiny.run_config(seed=5)}):
        with pytest.raises(SiteError, match="a run keeps its configuration, strategy and scaling"):
            check(context, replace(request, **other))


def test_every_kept_state_is_a_question(tmp_path: Path) -> None:
    """A personal model, or layers that stay here, were tested as often as there are rounds, and counted once.

    Where there is a personal model two models are tested with each question: it and the federated one.
    """
    context, weights = hospital(tmp_path, max_tested_models_per_run=4), first_weights()
    keep_update(open_register(context), RUN, weights, weights)
    request = FinalTestRequest(tiny.run_config(), 1, weights, method=Method(pull=1.0), run_id=RUN)
    for state in (1, 2, 1, 2):
        check(context, replace(request, state_round=state))
    with pytest.raises(SiteError, match="a test for at most 4 models"):
        check(context, replace(request, state_round=3))


def test_every_threshold_is_a_question(tmp_path: Path) -> None:
    context, weights = hospital(tmp_path, max_tested_models_per_run=2), first_weights()
    keep_update(open_register(context), RUN, weights, weights)
    request = FinalTestRequest(tiny.run_config(), round=1, weights=weights, run_id=RUN)
    for threshold in (0.1, 0.2, 0.1, 0.2):
        check(context, replace(request, threshold=threshold))
    with pytest.raises(SiteError, match="a test for at most 2 models"):
        check(context, replace(request, threshold=0.3))


def test_every_round_that_trains_counts(tmp_path: Path) -> None:
    context = hospital(tmp_path, max_rounds_per_run=2)
    request = TrainRequest(tiny.run_config(), round=1, weights=first_weights(), run_id=RUN)
    check(context, request)
    check(context, request)
    with pytest.raises(SiteError, match="training for at most 2 models"):
        check(context, request)


def test_latent_sums_are_the_hospitals_to_allow(tmp_path: Path) -> None:
    context, weights = hospital(tmp_path), first_weights()
    keep_update(open_register(context), RUN, weights, weights)
    request = LatentRequest(tiny.run_config(), round=1, weights=weights, run_id=RUN)
    with pytest.raises(SiteError, match="latent sums are this hospital's to allow"):
        check(context, request)
    check(hospital(tmp_path, allowed_settings=("detection.latent",)), request)


@pytest.mark.parametrize("kind", [FinalTestRequest, ValidateRequest])
def test_a_run_that_never_trained_here_is_not_evaluated_privately_either(tmp_path: Path, kind: type) -> None:
    config = tiny.run_config(**PRIVATE, privacy={"epsilon": 1.0, "delta": 1e-5, "sampling": 0.5})
    with pytest.raises(SiteError, match="has not trained in this run"):
        check(hospital(tmp_path), kind(config, round=1, weights=first_weights(), run_id=RUN))


@pytest.mark.parametrize(
    "privacy", [{"epsilon": 1000.0}, {"epsilon": None, "sigma": 0.01}, {"epsilon": None, "sigma": 0.4}]
)
def test_a_private_run_that_promises_nothing_is_refused(tmp_path: Path, privacy: dict[str, Any]) -> None:
    config = tiny.run_config(**PRIVATE, privacy={"delta": 1e-5, "sampling": 1.0, **privacy})
    for policy in ({}, {"private_only": True}):
        with pytest.raises(SiteError, match=r"above the 8 allowed here|protects nobody"):
            check_planned_epsilon(hospital(tmp_path, **policy), config)
    check_planned_epsilon(SiteContext(SIMULATION_POLICY), config)


def table(scores: np.ndarray) -> tuple[Counts, Counts]:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, len(scores))
    by_person = count_predictions(
        np.stack([np.zeros(len(scores)), scores], 1), truth, np.arange(len(scores)), len(scores), 62
    )
    return by_person.total(), by_person


def test_intervals_are_drawn_from_what_leaves(tmp_path: Path) -> None:
    """A bound that moves when one person crosses a threshold would tell that person's outcome."""
    scores = np.random.default_rng(1).normal(0, 2, 120)
    moved = scores.copy()
    moved[np.abs(moved).argmin()] *= -1  # one person crosses
    rules = ReleaseRules.from_register(
        SitePolicy(), Register(tmp_path / "r" / "register.sqlite", "north"), "heart", RUN
    )
    total, people = table(scores)
    released = rules.coarsen(total, people, [str(i) for i in range(120)])
    drawn = [rules.resample(released, table(each)[1], 50, 3) for each in (scores, moved)]
    assert (drawn[0].confusion == drawn[1].confusion).all()


def test_resampled_rows_keep_their_sums_and_spread() -> None:
    total, _ = table(np.random.default_rng(2).normal(0, 2, 200))
    drawn = resample_table(total, 4000, np.random.default_rng(0))
    assert (drawn.confusion.sum(-1) == total.confusion.sum(-1)).all()
    share = total.confusion / total.confusion.sum(-1, keepdims=True)
    expected = np.sqrt(share * (1 - share) * total.confusion.sum(-1, keepdims=True))
    assert drawn.confusion.std(0) == pytest.approx(expected, rel=0.06)
