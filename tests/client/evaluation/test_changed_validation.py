"""Validation patients' outcomes: what is counted and chosen on at a hospital are replaced ones, the same each time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.evaluation import recalibration
from client.evaluation.changed_validation import change_validation, describe_replaced
from client.evaluation.evaluate import choose_own_threshold
from client.evaluation.predictions import build_predictor, compute_predictions, count_predictions
from client.gate.changed_records import change_records
from client.gate.corrected_counts import correct_counts, mix_classes
from client.gate.register import open_register
from client.requests import evaluate, handle
from client.requests.loaded_model import load_model
from client.site import load_site
from client.site_context import SiteContext
from common.config import RunConfig
from common.metrics.table_names import ALL_PATIENTS
from common.replies import FinalTestReply, ValidateReply
from common.requests import FinalTestRequest, ValidateRequest
from experiments.studies.many_questions import attack_by_questions
from tests.client.gate.stranger import PLAIN, ask_scaling, make_config, make_hospital, train_first

RUN = "b" * 32
EXACT: dict[str, Any] = {
    "min_cell_patients": 1, "round_counts_to": 1, "count_noise": 0.0, "precise_questions": None, "max_bins": 4096,
}  # fmt: skip
"""A policy that lets exact counts leave, so that only replaced outcomes protect them."""


def make_request(context: SiteContext, config: RunConfig) -> ValidateRequest:
    scaling = ask_scaling(context)
    weights = train_first(context, config, scaling, RUN)
    return ValidateRequest(config, round=1, weights=weights, scaling=scaling.to_bytes(), run_id=RUN)


def test_answers_are_counts_of_replaced_outcomes_corrected_for_it(tmp_path: Path) -> None:
    context = make_hospital(tmp_path, patients=600, **EXACT)
    config = make_config(**PLAIN, evaluation={"bins": 62, "bootstrap": 0, "recalibrate": []})
    request = make_request(context, config)
    loaded = load_model(context, request)
    own, secret = loaded.site.validation, open_register(context).read_secret()
    seen = replace(own, y=change_records(load_site(context, config).validation, secret, 0.0, 0.15, inputs=False).y)
    assert 0 < (seen.y != own.y).sum() < len(own.y) / 2
    logits = compute_predictions(build_predictor(loaded.model, config, bounded=True), own)
    reply = handle(context, request)
    assert isinstance(reply, ValidateReply)
    wanted = correct_counts(count_predictions(logits, seen, config).total, mix_classes(2, 0.15))
    assert (reply.tables[ALL_PATIENTS].confusion == wanted.confusion).all()
    assert (reply.tables[ALL_PATIENTS].scores == wanted.scores).all()
    assert reply.report.patients == own.people()


def test_a_hospital_may_count_the_patients_own_outcomes_and_a_simulation_does(tmp_path: Path) -> None:
    config = make_config(**PLAIN)
    for number, (policy, wanted) in enumerate([({}, 0.15), ({"replaced_values": 0.0}, 0.0)]):
        context = make_hospital(tmp_path / str(number), patients=600, **policy)
        changed = change_validation(context, config, load_site(context, config))
        assert (changed.mixing is not None) == bool(wanted)
        assert (changed.cohort.y != load_site(context, config).validation.y).any() == bool(wanted)


def test_private_evaluation_counts_the_patients_own_outcomes(tmp_path: Path) -> None:
    """Its noise is charged to a ledger that lasts over runs."""
    context = make_hospital(tmp_path)
    config = make_config(**PLAIN, privacy={"evaluation_epsilon": 2.0})
    assert change_validation(context, config, load_site(context, config)).mixing is None


def test_two_class_anomalies_have_the_replaced_outcomes_of_their_classes(tmp_path: Path) -> None:
    context = make_hospital(tmp_path, patients=600)
    plain, detecting = make_config(), make_config(model__name="dense_autoencoder")
    first = change_validation(context, plain, load_site(context, plain))
    second = change_validation(context, detecting, load_site(context, detecting))
    assert second.mixing is not None
    assert first.mixing is not None
    assert second.mixing == pytest.approx(first.mixing)
    assert (first.cohort.y == second.cohort.y).all()
    assert (second.cohort.y != load_site(context, detecting).validation.y).any()


def test_what_a_site_chooses_itself_is_chosen_on_replaced_outcomes(tmp_path: Path, monkeypatch: Any) -> None:
    """The threshold and the recalibration leave with the results, and so must not depend on true outcomes."""
    context = make_hospital(tmp_path, patients=600, **EXACT)
    evaluation = {"bins": 62, "bootstrap": 0, "recalibrate": ["threshold", "temperature"], "threshold": "youden"}
    config = make_config(**PLAIN, evaluation=evaluation)
    request = make_request(context, config)
    fitted: list[tuple[np.ndarray, np.ndarray]] = []
    fit = recalibration.fit_recalibration

    def record(name: str, logits: np.ndarray, truth: np.ndarray, *rest: Any) -> Any:
        fitted.append((logits, truth))
        return fit(name, logits, truth, *rest)

    monkeypatch.setattr(recalibration, "fit_recalibration", record)
    test = FinalTestRequest(
        config, round=1, weights=request.weights, scaling=request.scaling, run_id=RUN, threshold=0.0
    )
    reply = handle(context, test)
    assert isinstance(reply, FinalTestReply)
    loaded = load_model(context, request)
    changed = change_validation(context, config, loaded.site)
    predict = build_predictor(loaded.model, config, bounded=True)
    logits = np.asarray(predict(changed.cohort), np.float64)
    rules = evaluate.read_rules(context, test, "test", loaded, changed.mixing)
    assert rules is not None
    odds, truth = recalibration.read_released_scores(logits, changed.cohort, config, rules)
    assert len(fitted) == 2
    for seen in fitted:
        assert np.array_equal(seen[0], odds)
        assert np.array_equal(seen[1], truth)
    own = recalibration.read_released_scores(logits, loaded.site.validation, config, replace(rules, mixing=None))
    assert not (np.array_equal(own[0], odds) and np.array_equal(own[1], truth))
    assert choose_own_threshold(predict, changed.cohort, config, rules) is not None
    assert describe_replaced(0.15) in reply.report.evaluations[ALL_PATIENTS].notes


@pytest.mark.slow
def test_no_number_of_questions_gives_more_than_replaced_outcomes(tmp_path: Path) -> None:
    """Many precise answers give the counted outcomes, and those are the patients' own with probability .85."""
    right = {}
    for share in (0.0, 0.15):
        policy = {"precise_questions": None, "replaced_values": share}
        people = recovered = 0
        for number in range(4):
            context = make_hospital(tmp_path / f"{share} {number}", patients=150, **policy)
            (item,) = attack_by_questions(context, [400], np.random.default_rng(number))
            people, recovered = people + item.people, recovered + item.right
        right[share] = recovered / people
    assert right[0.0] > 0.92  # .975 of 120 people
    assert right[0.15] < 0.93  # .85 on average, over 80 people
