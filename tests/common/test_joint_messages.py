"""Messages with two requests about the same weights, and answers with two halves."""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from flwr.app import ConfigRecord, Message, RecordDict

from common import messages
from common.errors import ProtocolError
from common.joint_messages import join_requests, pack_replies, split_answer
from common.packed_messages import pack_content, unpack_content
from common.replies import TrainReply, ValidateReply
from common.requests import TrainRequest, ValidateRequest
from tests import tiny
from tests.wire import SAMPLE_REPLIES, FakeGrid, build_request, over_the_wire

WEIGHTS = {"w": np.arange(6, dtype=np.float32), "b": np.ones(2, np.float32)}


def build_pair(**changes: Any) -> tuple[Message, Message]:
    """Return messages to train and to validate; `changes` are of the second."""
    FakeGrid([])
    config = tiny.run_config()
    fields = {"run_id": "ab", "state_round": 3, "needed_rounds": (1,)}
    train = build_request("train", config, 4, WEIGHTS, (5, 1), control={"w": np.ones(6)}, proximal=0.5, **fields)
    validate = build_request("validate", config, 3, WEIGHTS, **(fields | changes))
    return messages.build_messages(train, [7])[0], messages.build_messages(validate, [7])[0]


def same(one: Any, other: Any) -> bool:
    """Return whether two requests are equal, their arrays compared bit for bit."""
    for name in ("weights", "control"):
        first, second = getattr(one, name, {}), getattr(other, name, {})
        if {k: v.tobytes() for k, v in first.items()} != {k: v.tobytes() for k, v in second.items()}:
            return False
    bare = [replace(each, weights={}, **({"control": {}} if hasattr(each, "control") else {})) for each in (one, other)]
    return bool(bare[0] == bare[1])


def test_two_requests_arrive_as_they_would_have_come_alone() -> None:
    train, validate = build_pair(latent=b"xy")
    joint = join_requests(train, validate)
    assert joint is not None
    packed = over_the_wire(pack_content(joint.content))
    got = messages.unpack_request("train", unpack_content(packed))
    assert isinstance(got, TrainRequest)
    assert got.validation is not None
    alone = messages.unpack_request("train", train.content), messages.unpack_request("validate", validate.content)
    assert same(replace(got, validation=None), alone[0])
    assert same(got.validation, alone[1])
    assert isinstance(alone[1], ValidateRequest)
    assert (got.validation.latent, got.validation.round, got.round) == (b"xy", 3, 4)
    size = sum(len(array.data) for array in joint.content.array_records["arrays"].values())
    assert size == sum(len(array.data) for array in train.content.array_records["arrays"].values())


def test_what_is_not_about_the_same_weights_run_and_state_is_not_joined() -> None:
    for changes in ({"state_round": 2}, {"run_id": "cd"}, {"needed_rounds": ()}, {"scaling": b"z"}):
        assert join_requests(*build_pair(**changes)) is None, changes
    train, validate = build_pair()
    for weights in (WEIGHTS | {"b": np.zeros(2, np.float32)}, {"w": WEIGHTS["w"]}, dict(reversed(WEIGHTS.items()))):
        other = copy(validate)
        other.content = RecordDict({**validate.content, "arrays": messages.pack_weights(weights)})
        assert join_requests(train, other) is None
    assert join_requests(train, Message(validate.content, 8, "evaluate")) is None


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"validated-round": 3}, "lacks validated-latent"),
        ({"validated-latent": b""}, "lacks validated-round"),
        ({"validated-round": "3", "validated-latent": b""}, "wrong validated-round"),
        ({"validated-round": -1, "validated-latent": b""}, "wrong validated-round"),
        ({"validated-round": 3, "validated-latent": "x"}, "wrong validated-latent"),
    ],
)
def test_a_validation_that_is_not_whole_is_refused(change: dict[str, Any], why: str) -> None:
    train, _ = build_pair()
    content = RecordDict({**train.content})
    content["config"] = ConfigRecord({**train.content.config_records["config"], **change})
    with pytest.raises(ProtocolError, match=why):
        messages.unpack_request("train", content)


def test_only_a_request_to_train_has_a_validation_with_it() -> None:
    _, validate = build_pair()
    record = {**validate.content.config_records["config"], "validated-round": 3, "validated-latent": b""}
    content = RecordDict({**validate.content, "config": ConfigRecord(record)})
    with pytest.raises(ProtocolError, match="unknown validated-round"):
        messages.unpack_request("validate", content)


def answer(training: Any, validation: Any) -> tuple[Message | str, Message | str]:
    train, _ = build_pair()
    content = pack_replies(training, validation)
    return split_answer(Message(unpack_content(over_the_wire(pack_content(content))), reply_to=train))


def test_each_half_of_an_answer_is_a_reply_or_a_reason() -> None:
    trained, validated = SAMPLE_REPLIES["train"], SAMPLE_REPLIES["validate"]
    reason = messages.pack_error("north", "SiteError", "policy: too few people")
    first, second = answer(trained, validated)
    assert isinstance(first, Message)
    assert isinstance(second, Message)
    got = messages.unpack_reply(TrainReply, first.content)
    np.testing.assert_array_equal(got.weights["w"], trained.weights["w"])  # type: ignore[attr-defined]
    assert got.report == trained.report
    assert messages.unpack_reply(ValidateReply, second.content).report == validated.report
    assert first.metadata.src_node_id == second.metadata.src_node_id
    first, second = answer(reason, validated)
    assert first == "policy: too few people"
    assert isinstance(second, Message)
    first, second = answer(trained, reason)
    assert isinstance(first, Message)
    assert second == "policy: too few people"
    assert answer(reason, reason) == ("policy: too few people", "policy: too few people")


def test_a_reason_is_cut_to_one_clean_line() -> None:
    first, _ = answer("x" * 100_000, messages.pack_error("north", "SiteError", "a\nb"))
    assert isinstance(first, str)
    assert len(first) < 300
    _, second = answer(SAMPLE_REPLIES["train"], messages.pack_error("north", "SiteError", "\x1b[2Ja\nb"))
    assert second == "[2Ja"
