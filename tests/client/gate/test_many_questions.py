"""Errors of counts that grow with the number of questions, so that many questions do not average them away."""

from __future__ import annotations

import math
import time
from pathlib import Path

import numpy as np
import pytest

from client.gate.questions import find_error_growth
from client.gate.register import MONTH_SECONDS, Register
from client.policy import SIMULATION_POLICY, SitePolicy
from client.requests import handle
from common.metrics.table_names import ALL_PATIENTS
from common.replies import FinalTestReply, ValidateReply
from common.requests import FinalTestRequest, ValidateRequest
from experiments.studies.many_questions import attack_by_questions
from tests.client.gate.stranger import PLAIN, ask_scaling, load_site, make_config, make_hospital, train_first

RUN = "a" * 32
NETWORK = {"name": "mlp", "options": {"widths": [8], "norm": False, "dropout": 0.0}}


def test_many_answers_are_worth_a_bounded_number_of_precise_ones() -> None:
    policy = SitePolicy(precise_questions=10)
    worth = sum(find_error_growth(policy, number) ** -2 for number in range(1, 1001))
    assert worth == pytest.approx(10 * (1 + math.log(1000 / 10)), rel=0.02)
    assert find_error_growth(SIMULATION_POLICY, 1000) == 1


def test_a_question_keeps_its_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register = Register(tmp_path / "r" / "register.sqlite", "north")
    now = time.time()
    for number in range(5):
        monkeypatch.setattr(time, "time", lambda number=number: now + number)
        register.ask(RUN, "validation", f"v{number}", None, None)
        register.ask(RUN, "a test", f"t{number}", None, None)
    register.ask(RUN, "validation", "v1", None, None)  # again: not counted
    assert [register.count_questions(RUN, "validation", f"v{n}") for n in range(5)] == [1, 2, 3, 4, 5]
    monkeypatch.setattr(time, "time", lambda: now + MONTH_SECONDS + 2.5)
    register.ask(RUN, "validation", "late", None, None)
    assert register.count_questions(RUN, "validation", "late") == 3  # v3, v4 and itself
    assert register.count_questions(RUN, "validation", "v4") == 5


@pytest.mark.slow
def test_later_answers_have_larger_errors_and_the_report_says_so(tmp_path: Path) -> None:
    evaluation = {"bins": 62, "bootstrap": 0, "recalibrate": []}
    config = make_config(**PLAIN, model=NETWORK, evaluation=evaluation)
    errors = {}
    for precise in (1, 40):
        context = make_hospital(tmp_path / str(precise), patients=300, precise_questions=precise, replaced_values=0.0)
        scaling, site = ask_scaling(context), load_site(context, config)
        weights = train_first(context, config, scaling, RUN)
        truth = np.bincount(site.validation.y, minlength=2)
        answers = []
        for number in range(40):
            changed = {name: value + number * 1e-6 for name, value in weights.items()}
            request = ValidateRequest(config, round=1, weights=changed, scaling=scaling.to_bytes(), run_id=RUN)
            reply, again = handle(context, request), handle(context, request)
            assert isinstance(reply, ValidateReply)
            assert isinstance(again, ValidateReply)
            assert (reply.tables[ALL_PATIENTS].confusion == again.tables[ALL_PATIENTS].confusion).all()
            answers.append(reply.tables[ALL_PATIENTS].confusion.sum(-1) - truth)
        errors[precise] = np.sqrt(np.mean(np.square(answers[20:])))
        notes = []
        for number in range(2):
            changed = {name: value + number * 1e-6 for name, value in weights.items()}
            test = FinalTestRequest(config, round=1, weights=changed, scaling=scaling.to_bytes(), run_id=RUN)
            tested = handle(context, test)
            assert isinstance(tested, FinalTestReply)
            notes.append(any("off by about" in note for note in tested.report.evaluations[ALL_PATIENTS].notes))
        assert notes == [False, precise == 1]
    assert errors[1] > 3 * errors[40]  # sqrt(30) times as large on average


@pytest.mark.slow
def test_outcomes_are_recovered_if_errors_do_not_grow(tmp_path: Path) -> None:
    right = {}
    for precise in (None, 10):
        context = make_hospital(tmp_path / str(precise), patients=150, precise_questions=precise, replaced_values=0.0)
        (item,) = attack_by_questions(context, [1000], np.random.default_rng(0))
        right[precise] = item.right / item.people
        assert item.people >= 20
    assert right[None] > 0.95
    assert right[10] < right[None] - 0.05
