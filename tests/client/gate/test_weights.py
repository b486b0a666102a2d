from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from client.gate.admission import check_model
from client.gate.register import Register
from client.gate.weights import (
    MAX_RUNS,
    check_first_weights,
    check_later_weights,
    digest_weights,
    get_update_path,
    keep_update,
    measure_learning,
)
from client.policy import SIMULATION_POLICY, SitePolicy
from client.site_context import SiteContext
from common import models
from common.errors import SiteError
from common.requests import TrainRequest
from tests import tiny

RUN = "a" * 32


@pytest.fixture
def register(tmp_path: Path) -> Register:
    return Register(tmp_path / "north" / "register.sqlite", "north")


def fresh(seed: int = 0) -> dict[str, np.ndarray]:
    config = tiny.run_config()
    built = models.build_model(tiny.TASK, config.model, seed)
    return {name: value.detach().numpy().copy() for name, value in built.state_dict().items()}


def test_first_weights_are_the_seeds_or_approved() -> None:
    config = tiny.run_config(seed=7)
    check_first_weights(SitePolicy(), config, tiny.TASK, fresh(7))
    crafted = fresh(7)
    name = next(iter(crafted))
    crafted[name].flat[0] += 0.01
    with pytest.raises(SiteError, match="must approve them first") as refused:
        check_first_weights(SitePolicy(), config, tiny.TASK, crafted)
    digest = digest_weights(crafted)
    assert digest in str(refused.value)
    check_first_weights(SitePolicy(approved_weights=(digest,)), config, tiny.TASK, crafted)
    check_first_weights(SIMULATION_POLICY, config, tiny.TASK, crafted)
    with pytest.raises(SiteError, match="must approve"):
        check_first_weights(SitePolicy(), config, tiny.TASK, {**fresh(7), "more": np.zeros(1)})
    nothing = {name: np.full_like(value, np.nan) for name, value in crafted.items()}
    with pytest.raises(SiteError, match="must approve"):
        check_first_weights(SitePolicy(), config, tiny.TASK, nothing)


def test_digests_differ_by_name_shape_and_value() -> None:
    one = {"a": np.zeros((2, 3), np.float32)}
    others = [{"b": one["a"]}, {"a": one["a"].reshape(3, 2)}, {"a": one["a"] + 1}, {"a": one["a"].astype(np.float64)}]
    assert len({digest_weights(each) for each in (one, *others)}) == 5
    assert digest_weights({"a": np.asfortranarray(one["a"])}) == digest_weights(one)


def test_later_weights_lie_near_the_last_update(register: Register) -> None:
    sent = {"w": np.zeros(4, np.float32)}
    update = {"w": np.full(4, 0.5, np.float32)}  # its length: 1
    keep_update(register, RUN, sent, update)
    policy = SitePolicy(max_weight_distance=3.0)
    check_later_weights(policy, register, RUN, {"w": np.full(4, 1.9, np.float32)})  # 2.8 away
    for far in (np.full(4, 2.1, np.float32), np.full(4, np.nan, np.float32), np.full(4, np.inf, np.float32)):
        with pytest.raises(SiteError, match="too far"):
            check_later_weights(policy, register, RUN, {"w": far})
    for other in ({"w": np.zeros(5, np.float32)}, {"v": np.zeros(4, np.float32)}, {}):
        with pytest.raises(SiteError, match="not of the model"):
            check_later_weights(policy, register, RUN, other)
    check_later_weights(SitePolicy(max_weight_distance=None), register, RUN, {})


def test_a_run_that_this_hospital_did_not_train_in_is_refused(register: Register) -> None:
    with pytest.raises(SiteError, match="has not trained in this run"):
        check_later_weights(SitePolicy(), register, RUN, {"w": np.zeros(4)})
    keep_update(register, RUN, {}, {"w": np.zeros(4, np.float32)})
    get_update_path(register, RUN).write_bytes(b"damaged")
    with pytest.raises(SiteError, match="cannot be read"):
        check_later_weights(SitePolicy(), register, RUN, {"w": np.zeros(4)})


def test_only_the_last_update_of_a_run_is_kept(register: Register) -> None:
    for number in range(12):
        keep_update(register, RUN, {"w": np.zeros(1, np.float32)}, {"w": np.full(1, number, np.float32)})
        check_later_weights(SitePolicy(max_weight_distance=1e-3), register, RUN, {"w": np.full(1, number, np.float32)})
    assert len(list(get_update_path(register, RUN).parent.iterdir())) == 1


def test_only_the_last_runs_are_kept(register: Register) -> None:
    for number in range(MAX_RUNS + 3):
        keep_update(register, f"{number:032x}", {}, {"w": np.zeros(1, np.float32)})
    assert len(list(get_update_path(register, RUN).parent.iterdir())) == MAX_RUNS


def test_a_round_that_is_asked_for_again_counts_again(register: Register) -> None:
    request = TrainRequest(tiny.run_config(seed=7), round=1, weights=fresh(7), run_id=RUN)
    site = tiny.site("north", 1)
    context = SiteContext(SitePolicy(max_rounds_per_run=2), site="north", data=register.path.parent)
    for _ in range(2):
        check_model(register, site, request, context)
    with pytest.raises(SiteError, match="at most 2 models in one run"):
        check_model(register, site, request, context)


def test_weights_that_only_shrink_make_no_long_update(register: Register) -> None:
    """A learning rate and a weight decay whose product is 1 made the first update as long as the weights."""
    sent = {"w": np.array([3.0, -4.0], np.float32), "b": np.array([1.0], np.float32)}
    policy = SitePolicy(max_weight_distance=25)
    keep_update(register, RUN, sent, {"w": np.zeros(2, np.float32), "b": np.array([1.1], np.float32)})
    near = {"w": np.zeros(2, np.float32), "b": np.array([3.0], np.float32)}  # 1.9 away, 25 times 0.1 is allowed
    check_later_weights(policy, register, RUN, near)
    with pytest.raises(SiteError, match="too far"):
        check_later_weights(policy, register, RUN, {**near, "b": np.array([4.0], np.float32)})


def test_growth_and_turns_count_in_full(register: Register) -> None:
    sent, turned = {"w": np.array([3.0, 0.0], np.float32)}, {"w": np.array([0.0, 2.0], np.float32)}
    assert measure_learning(turned, sent) == pytest.approx(2.0)
    assert measure_learning({"w": 1.5 * sent["w"]}, sent) == pytest.approx(1.5)
    assert measure_learning({"w": -sent["w"]}, sent) == pytest.approx(3.0)
    assert measure_learning({"w": 0.5 * sent["w"] + np.array([0, 0.25])}, sent) == pytest.approx(0.25)
