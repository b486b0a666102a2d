from __future__ import annotations

import json

import numpy as np
import pytest
from flwr.app import ConfigRecord, RecordDict

from common import messages
from common.config import RunConfig, parse_config
from common.errors import ConfigError
from common.messages import Reply, Request
from common.metrics import counts as metrics

WEIGHTS = {
    "conv.weight": np.arange(12, dtype=np.float32).reshape(3, 4).T,
    "scale": np.array(2.5, dtype=np.float32),
    "steps": np.array(7, dtype=np.int64),
    "none": np.zeros((0, 3), dtype=np.float32),
    "half": np.array([1, 2], dtype=np.float16),
}


def over_the_wire(content: RecordDict) -> RecordDict:
    """Send records as Flower does."""
    from flwr.common.serde import recorddict_from_proto, recorddict_to_proto

    return recorddict_from_proto(recorddict_to_proto(content))


def assert_same_arrays(one: messages.Weights, other: messages.Weights) -> None:
    assert list(one) == list(other)
    for name in one:
        assert one[name].shape == other[name].shape
        assert one[name].dtype == other[name].dtype
        np.testing.assert_array_equal(one[name], other[name])


@pytest.mark.parametrize("kind", ["hello", "train", "validate", "test"])
def test_a_request_arrives_as_it_was_sent(kind: messages.RequestKind) -> None:
    config = parse_config(
        {"seed": 3, "model": {"options": {"widths": [8, 16]}}, "evaluation": {"without": {"a": ["1"]}}}
    )
    sent = Request(kind, config, 4, WEIGHTS, (100, 0, 3))
    got = messages.unpack_request(kind, over_the_wire(messages.pack_request(sent)))
    assert (got.kind, got.config, got.round, got.class_counts) == (kind, config, 4, (100, 0, 3))
    assert_same_arrays(got.weights, WEIGHTS)


def test_a_request_without_weights_or_counts_arrives_so() -> None:
    got = messages.unpack_request("hello", over_the_wire(messages.pack_request(Request("hello", RunConfig()))))
    assert (got.weights, got.class_counts, got.round) == ({}, (), 0)


def test_a_reply_arrives_as_it_was_sent() -> None:
    rng = np.random.default_rng(1)
    counts = metrics.count_predictions(rng.normal(size=(50, 3)), rng.integers(0, 3, 50), rng.integers(0, 4, 50), 4, 32)
    tables = {"all": counts.total(), "all/resampled": counts, "without some/one": counts.total()}
    report = {"patients": 4, "loss": [0.5, None], "wörter": {"a": True}}
    sent = Reply("north", 50, report, WEIGHTS, 0.25, tables)
    got = messages.unpack_reply(over_the_wire(messages.pack_reply(sent)))
    assert (got.site, got.examples, got.report, got.loss) == ("north", 50, report, 0.25)
    assert_same_arrays(got.weights, WEIGHTS)
    assert list(got.tables) == list(tables)
    for name, table in tables.items():
        for field in ("confusion", "scores", "loss"):
            want, have = getattr(table, field), getattr(got.tables[name], field)
            assert have.dtype == want.dtype
            assert have.shape == want.shape
            np.testing.assert_array_equal(have, want)


def test_a_reply_of_counts_alone_has_one_array_record_and_no_weights() -> None:
    content = messages.pack_reply(Reply("north", 5, {}, tables={"all": metrics.empty_counts((2, 2), 16)}))
    assert len(content.array_records) == len(content.metric_records) == 1
    got = messages.unpack_reply(over_the_wire(content))
    assert got.weights == {}
    assert got.tables["all"].loss.shape == ()


def test_a_weight_that_is_named_like_a_table_stays_a_weight() -> None:
    sent = Reply("north", 1, {}, {"head/confusion": np.zeros(2, np.float32)})
    got = messages.unpack_reply(over_the_wire(messages.pack_reply(sent)))
    assert list(got.weights) == ["head/confusion"]
    assert got.tables == {}


def test_packing_changes_nothing_it_was_given() -> None:
    before = {name: value.copy() for name, value in WEIGHTS.items()}
    messages.pack_reply(Reply("north", 1, {}, WEIGHTS, tables={"all": metrics.empty_counts((2, 2), 16)}))
    assert_same_arrays(WEIGHTS, before)


def test_a_server_of_another_protocol_is_refused() -> None:
    content = messages.pack_request(Request("train", RunConfig()))
    record = dict(content.config_records["config"])
    content["config"] = ConfigRecord(record | {"protocol": messages.PROTOCOL + 1})
    with pytest.raises(ValueError, match=f"speaks protocol {messages.PROTOCOL + 1}, this site {messages.PROTOCOL}"):
        messages.unpack_request("train", content)


def test_a_configuration_that_this_version_does_not_know_is_refused() -> None:
    content = messages.pack_request(Request("train", RunConfig()))
    record = dict(content.config_records["config"])
    run = json.loads(str(record["run"])) | {"newer": 1}
    content["config"] = ConfigRecord(record | {"run": json.dumps(run)})
    with pytest.raises(ConfigError, match="unknown key newer"):
        messages.unpack_request("train", content)


def test_an_error_is_told_with_its_site() -> None:
    reason = messages.pack_error("north", "DataError", 'no "file"')
    assert messages.unpack_error(messages.ERROR_CODE, reason) == ("north", 'no "file"')


@pytest.mark.parametrize(
    ("code", "reason", "text"),
    [
        (2, "first line\nTraceback: 1.23", "transport error 2: first line"),
        (3, None, "transport error 3: no reason given"),
        (3, "", "transport error 3: no reason given"),
        (3, "  \n", "transport error 3: "),
        (4, "x" * 500, "transport error 4: " + "x" * 200),
        (messages.ERROR_CODE, "not JSON", f"transport error {messages.ERROR_CODE}: not JSON"),
        (messages.ERROR_CODE, "[1]", f"transport error {messages.ERROR_CODE}: [1]"),
        (messages.ERROR_CODE, "{}", f"transport error {messages.ERROR_CODE}: {{}}"),
    ],
)
def test_any_other_error_is_its_first_line(code: int, reason: str | None, text: str) -> None:
    assert messages.unpack_error(code, reason) == ("", text)
