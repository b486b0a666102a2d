from __future__ import annotations

import json
import re
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from flwr.app import ConfigRecord, RecordDict

from common import messages
from common.arrays import Weights
from common.config import RunConfig, parse_config
from common.errors import ProtocolError
from common.metrics.counts import count_predictions, empty_counts
from common.release import identify_release
from common.replies import HandshakeReply, TrainReply, ValidateReply
from common.reports import TrainReport, ValidateReport
from common.request_record import PROTOCOL
from common.requests import RequestKind
from tests.wire import SAMPLE_REPLIES, build_request, over_the_wire

WEIGHTS = {
    "conv.weight": np.arange(12, dtype=np.float32).reshape(3, 4).T,
    "scale": np.array(2.5, dtype=np.float32),
    "steps": np.array(7, dtype=np.int64),
    "none": np.zeros((0, 3), dtype=np.float32),
    "half": np.array([1, 2], dtype=np.float16),
}


def assert_same_arrays(one: Weights, other: Weights) -> None:
    assert list(one) == list(other)
    for name in one:
        assert one[name].shape == other[name].shape
        assert one[name].dtype == other[name].dtype
        np.testing.assert_array_equal(one[name], other[name])


@pytest.mark.parametrize("kind", list(messages.MESSAGE_TYPES))
def test_a_request_arrives_as_it_was_sent(kind: RequestKind) -> None:
    config = parse_config(
        {"seed": 3, "model": {"options": {"widths": [8, 16]}}, "evaluation": {"without": {"a": ["1"]}}}
    )
    sent = build_request(kind, config, 4, WEIGHTS, (100, 0, 3))
    got = messages.unpack_request(kind, over_the_wire(messages.pack_request(sent)))
    assert type(got) is type(sent)
    assert got.config == config
    for field in fields(sent):
        value = getattr(sent, field.name)
        if field.name in ("weights", "control"):
            assert_same_arrays(getattr(got, field.name), value)
        else:
            assert getattr(got, field.name) == value


@pytest.mark.parametrize("kind", list(messages.MESSAGE_TYPES))
def test_a_reply_of_each_kind_arrives_as_it_was_sent(kind: RequestKind) -> None:
    sent = SAMPLE_REPLIES[kind]
    got = messages.unpack_reply(type(sent), over_the_wire(messages.pack_reply(sent)))
    assert (type(got), got.site, got.report) == (type(sent), "north", sent.report)
    other = SAMPLE_REPLIES["train" if kind != "train" else "test"]
    with pytest.raises(ProtocolError, match=f"it answered another request than {other.kind}"):
        messages.unpack_reply(type(other), messages.pack_reply(sent))


def test_counts_arrive_as_they_were_sent() -> None:
    rng = np.random.default_rng(1)
    counts = count_predictions(rng.normal(size=(50, 3)), rng.integers(0, 3, 50), rng.integers(0, 4, 50), 4, 32)
    tables = {"all": counts.total(), "all/resampled": counts, "without some/one": counts.total()}
    sent = ValidateReply("north", ValidateReport(patients=4), tables=tables)
    got = messages.unpack_reply(ValidateReply, over_the_wire(messages.pack_reply(sent)))
    assert list(got.tables) == list(tables)
    for name, table in tables.items():
        for field in ("confusion", "scores", "loss"):
            want, have = getattr(table, field), getattr(got.tables[name], field)
            assert have.dtype == want.dtype
            assert have.shape == want.shape
            np.testing.assert_array_equal(have, want)


def test_a_reply_has_one_array_record_and_one_about_it() -> None:
    tables = {"all": empty_counts((2, 2), 16)}
    content = messages.pack_reply(ValidateReply("north", ValidateReport(patients=5), tables=tables))
    assert (len(content.array_records), len(content.config_records), len(content)) == (1, 1, 2)
    got = messages.unpack_reply(ValidateReply, over_the_wire(content))
    assert got.tables["all"].loss.shape == ()


def test_a_weight_that_is_named_like_a_table_stays_a_weight() -> None:
    sent = TrainReply("north", TrainReport(examples=1), weights={"table/all/confusion": np.zeros(2, np.float32)})
    got = messages.unpack_reply(TrainReply, over_the_wire(messages.pack_reply(sent)))
    assert list(got.weights) == ["table/all/confusion"]


def test_packing_changes_nothing_it_was_given() -> None:
    before = {name: value.copy() for name, value in WEIGHTS.items()}
    messages.pack_reply(TrainReply("north", TrainReport(examples=1), weights=WEIGHTS, control=WEIGHTS))
    assert_same_arrays(WEIGHTS, before)


def test_a_server_of_another_protocol_is_refused() -> None:
    content = messages.pack_request(build_request("train", RunConfig()))
    record = dict(content.config_records["config"])
    content["config"] = ConfigRecord(record | {"protocol": PROTOCOL + 1})
    with pytest.raises(ProtocolError, match=f"speaks protocol {PROTOCOL + 1} .*, this site {PROTOCOL} "):
        messages.unpack_request("train", content)


@pytest.mark.parametrize("release", ["0.0.9+0123456789ab", "", None, 5])
def test_another_release_is_refused_at_both_ends_and_both_are_named(release: Any) -> None:
    other = release if isinstance(release, str) and release else "unknown"
    ours = re.escape(identify_release())
    both = rf"runs release {re.escape(other)}, (this site|this server) {ours}: install the same"
    request = messages.pack_request(build_request("handshake", RunConfig()))
    reply = messages.pack_reply(SAMPLE_REPLIES["handshake"])
    for content, key in ((request, messages.CONFIG_KEY), (reply, messages.REPLY_KEY)):
        record = dict(content.config_records[key])
        del record["release"]
        content[key] = ConfigRecord(record if release is None else record | {"release": release})
    with pytest.raises(ProtocolError, match=f"the server {both}"):
        messages.unpack_request("handshake", request)
    with pytest.raises(ProtocolError, match=f"it {both}"):
        messages.unpack_reply(HandshakeReply, reply)


def test_another_protocol_is_named_with_both_releases() -> None:
    content = messages.pack_reply(SAMPLE_REPLIES["handshake"])
    content[messages.REPLY_KEY] = ConfigRecord(
        dict(content.config_records[messages.REPLY_KEY]) | {"protocol": 4, "release": "0.0.9+0123456789ab"}
    )
    ours = re.escape(f"this server {PROTOCOL} (release {identify_release()})")
    with pytest.raises(ProtocolError, match=rf"it speaks protocol 4 \(release 0.0.9\+0123456789ab\), {ours}"):
        messages.unpack_reply(HandshakeReply, content)


def test_a_configuration_that_this_version_does_not_know_is_refused() -> None:
    content = messages.pack_request(build_request("train", RunConfig()))
    record = dict(content.config_records["config"])
    run = json.loads(str(record["run"])) | {"newer": 1}
    content["config"] = ConfigRecord(record | {"run": json.dumps(run)})
    with pytest.raises(ProtocolError, match="unknown key newer"):
        messages.unpack_request("train", content)


def test_an_error_names_its_site() -> None:
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


@pytest.mark.parametrize("name", ["A", "north-2", "St. Mary's [east]", "Zürich", "1"])
def test_a_name_that_a_data_set_gives_a_hospital_may_name_a_site(name: str) -> None:
    assert messages.check_reply_site(name) == name


@pytest.mark.parametrize("name", ["", "../x", "a/b", "a\tb", "a\nb", "<b>", "a" * 61, " a", None])
def test_a_name_that_is_a_path_or_markup_names_no_site(name: object) -> None:
    with pytest.raises(ProtocolError, match="cannot name a site"):
        messages.check_reply_site(name)


def test_an_errors_text_is_cut_and_cleaned() -> None:
    reason = messages.pack_error('=cmd|"/C calc"!A0', "SiteError", "\x1b[2Jno data\nTraceback " + "x" * 9000)
    assert messages.unpack_error(messages.ERROR_CODE, reason) == ("", "[2Jno data")
    _, text = messages.unpack_error(messages.ERROR_CODE, messages.pack_error("north", "SiteError", "y" * 9000))
    assert text == "y" * 500
    assert messages.unpack_error(3, "\x1b]0;owned\x07" * 9)[1].isprintable()


def test_a_reply_of_a_site_that_has_no_usable_name_is_not_sent() -> None:
    with pytest.raises(ProtocolError, match="its name '=A' cannot name a site"):
        messages.pack_reply(TrainReply("=A", TrainReport(examples=1)))


@pytest.mark.parametrize("kind", list(messages.MESSAGE_TYPES))
@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda record: record.pop("run"), "lacks run"),
        (lambda record: record.update(extra=1), "holds an unknown extra"),
        (lambda record: record.update(run=5), "holds a wrong run"),
        (lambda record: record.update({"server-round": -1}), "holds a wrong server-round"),
        (lambda record: record.update(kind="other"), "its content is not"),
        (lambda record: record.update(protocol=3), "speaks protocol 3 .*, this site"),
        (lambda record: record.pop("protocol"), "speaks protocol None .*, this site"),
        (lambda record: record.update(run="[1]"), "holds no keys and values"),
    ],
)
def test_a_request_that_does_not_fit_is_refused_in_one_line(kind: RequestKind, change: Any, why: str) -> None:
    content = messages.pack_request(build_request(kind, RunConfig(), 1))
    record = dict(content.config_records["config"])
    change(record)
    content["config"] = ConfigRecord(record)
    with pytest.raises(ProtocolError, match=why) as caught:
        messages.unpack_request(kind, content)
    assert len(str(caught.value).splitlines()) == 1


def test_a_foreign_message_is_refused() -> None:
    for content in (RecordDict(), RecordDict({"other": ConfigRecord({"a": 1})})):
        with pytest.raises(ProtocolError, match="is not one of this federation's protocol"):
            messages.unpack_request("train", content)
