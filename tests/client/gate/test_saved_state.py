"""Answers that depend on what a hospital keeps of a run: each state is a question of its own, with its own errors."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.gate.disclosure import ReleaseRules
from client.gate.register import open_register
from client.gate.register_file import draw_error
from client.policy import SitePolicy
from client.requests import handle
from client.requests.loaded_model import load_model
from client.site import load_site
from client.site_context import SiteContext
from client.training.state_files import StateFiles
from common.arrays import Weights
from common.config import RunConfig
from common.errors import SiteError
from common.metrics.table_names import ALL_PATIENTS
from common.replies import FinalTestReply, ValidateReply
from common.requests import FinalTestRequest, Method, TrainRequest, ValidateRequest
from common.scaling import Scaling
from tests.client.gate.stranger import (
    PLAIN,
    ask_scaling,
    data_file,
    forget_data,
    make_config,
    make_hospital,
    seed_weights,
)

LOCAL = Method(local=("out.bias",))
RUN = "c" * 32


class Attacker:
    """A coordinator that has a hospital's own intercept trained as often as it likes, and asks about one model."""

    def __init__(self, context: SiteContext, config: RunConfig, run: str = RUN) -> None:
        self.context, self.config, self.run = context, config, run
        self.scaling: Scaling = ask_scaling(context)
        self.first = seed_weights(config, load_site(context, config))
        self.model: Weights = {name: np.zeros_like(value) for name, value in self.first.items()}
        self.model["out.weight"][1] = 50.0  # nobody's score is near the threshold

    def train(self, *class_counts: int) -> float:
        """Have the first round trained (again), from the state that it left; return the hospital's own intercept."""
        done = StateFiles.for_run(self.context, str(self.context.site), self.run)
        state_round = int(done.read(1) is not None)
        handle(self.context, TrainRequest(**self._about(self.first, state_round), class_counts=class_counts))
        arrays = done.read(1)
        assert arrays is not None
        return float(arrays["out.bias"][1] - arrays["out.bias"][0])

    def ask(self, kind: type[FinalTestRequest | ValidateRequest]) -> Any:
        """Ask about the one model with the intercept that the hospital has now."""
        reply = handle(self.context, kind(**self._about(self.model, 1)))
        assert isinstance(reply, FinalTestReply | ValidateReply)
        return reply.tables[ALL_PATIENTS].confusion.tolist()

    def _about(self, weights: Weights, state_round: int) -> dict[str, Any]:
        return {"config": self.config, "round": 1, "weights": weights, "scaling": self.scaling.to_bytes(),
                "run_id": self.run, "method": LOCAL, "state_round": state_round}  # fmt: skip


def attack(tmp_path: Path, run: str = RUN, **policy: Any) -> Attacker:
    context = make_hospital(tmp_path, max_weight_distance=None, **policy)
    asked = {
        "training__loss": "weighted",
        "training__weight_power": 1.0,
        "data__scaling": "standard",
        "evaluation__bootstrap": 0,
        "evaluation__bins": 62,
        "federation__strategy": {"name": "fedper"},
    }
    return Attacker(context, make_config(**(PLAIN | asked)), run)


def count_asked(context: SiteContext, kind: str) -> int:
    return open_register(context).summary()["questions"].get(kind, 0)


@pytest.mark.parametrize(("kind", "name"), [(FinalTestRequest, "a test"), (ValidateRequest, "validation")])
def test_a_round_that_is_trained_again_is_another_question(
    tmp_path: Path, kind: type[FinalTestRequest | ValidateRequest], name: str
) -> None:
    """The intercept moved past one person at a time, and only the counts of groups with that person changed.

    Each answer was then free, and the row of the matrix that changed was the person's outcome. Here nobody moves, so
    answers with the same errors would be equal.
    """
    attacker = attack(tmp_path)
    moved, answers = [], []
    for counts in ((1, 1), (1, 9), (9, 1)):
        moved.append(attacker.train(*counts))
        answers += [attacker.ask(kind), attacker.ask(kind)]
    assert len(set(moved)) == 3
    assert count_asked(attacker.context, name) == 3
    assert answers[0] == answers[1]  # the same state is the same question
    assert answers[0] != answers[2] != answers[4] != answers[0]


def test_states_of_a_round_are_counted_like_models(tmp_path: Path) -> None:
    attacker = attack(tmp_path)
    for _ in range(3):
        attacker.train(1, 9)
        attacker.ask(FinalTestRequest)
    attacker.train(1, 9)
    with pytest.raises(SiteError, match="a test for at most 3 models in one run"):
        attacker.ask(FinalTestRequest)


def test_the_same_round_of_another_run_is_another_question(tmp_path: Path) -> None:
    """Two runs of one configuration keep two states of the same round."""
    answers = []
    for run, counts in ((RUN, (1, 9)), ("d" * 32, (9, 1))):
        attacker = attack(tmp_path, run)
        attacker.train(*counts)
        answers.append(attacker.ask(FinalTestRequest))
    assert answers[0] != answers[1]


def test_a_state_that_changes_while_it_is_asked_about_is_not_answered(tmp_path: Path, monkeypatch: Any) -> None:
    """Two messages at the same time: one is admitted, the other trains the round again, and the first is answered."""
    attacker = attack(tmp_path)
    attacker.train(1, 1)

    def train_before(context: SiteContext, request: Any) -> Any:
        if isinstance(request, FinalTestRequest):
            attacker.train(9, 1)
        return load_model(context, request)

    monkeypatch.setattr("client.requests.evaluate.load_model", train_before)
    with pytest.raises(SiteError, match="has changed since the request came"):
        attacker.ask(FinalTestRequest)


def test_a_question_about_more_people_is_another_question(tmp_path: Path) -> None:
    """A cell of one narrow group would say the same before and after unless a newcomer is in it."""
    context = make_hospital(tmp_path, patients=160)
    whole = data_file(context).read_text().splitlines(keepends=True)
    data_file(context).write_text("".join(whole[:110]))
    attacker = attack(tmp_path)
    attacker.train(1, 1)
    before = attacker.ask(FinalTestRequest)
    data_file(context).write_text("".join(whole))
    forget_data()
    people = load_site(context, attacker.config).test.people()
    assert attacker.ask(FinalTestRequest) != before
    assert people > 40
    assert count_asked(context, "a test") == 2


def test_one_draw_is_not_answered_in_two_sizes() -> None:
    """A hospital that sets another `count_noise` would answer a question again with the same error, twice as large."""
    secret, groups = secrets.token_bytes(32), [str(number).encode() for number in range(4000)]
    small, large = (np.array([draw_error(secret, group, size) for group in groups]) for size in (50.0, 100.0))
    assert large.std() == pytest.approx(100, rel=0.05)
    assert abs(np.corrcoef(small, large)[0, 1]) < 0.08  # independent: within 5 deviations of 1 / 63


def test_another_count_noise_gives_another_answer_to_the_same_question(tmp_path: Path) -> None:
    register, names = open_register(make_hospital(tmp_path)), [str(number) for number in range(400)]
    groups = np.random.default_rng(0).random((200, 400)) < 0.5

    def answer(noise: float) -> np.ndarray[Any, Any]:
        rules = ReleaseRules.from_register(SitePolicy(count_noise=noise), register, "heart_disease", RUN, question="q")
        return np.asarray(rules.answer_sizes(names, groups, "confusion") - groups.sum(1))

    one, two = answer(2.0), answer(4.0)
    exact = 2 * (groups.sum(1) + one) - (groups.sum(1) + two)  # what a coordinator computed
    assert (np.abs(exact - groups.sum(1)) <= 1).mean() < 0.4
