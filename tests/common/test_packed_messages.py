"""Packed messages: the same records and arrays after unpacking, in few objects, and no crash over what is malformed."""

from __future__ import annotations

import json

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects

from common import messages, packed_messages
from common.errors import ProtocolError
from common.packed_messages import is_packed, pack_content, unpack_content
from common.requests import TrainRequest
from tests import tiny

WEIGHTS = {
    "conv.weight": np.linspace(-1, 1, 24, dtype=np.float32).reshape(2, 3, 4),
    "scale": np.float32(np.nan),
    "steps": np.array([1, 2, 3], np.int64),
    "none": np.zeros((0, 4), np.float64),
}


def content() -> RecordDict:
    request = TrainRequest(tiny.run_config(), 3, dict(WEIGHTS), scaling=b"\x00\xff", run_id="0" * 32, total=7)
    return messages.pack_request(request)


def test_what_is_packed_comes_back_byte_for_byte() -> None:
    before = content()
    packed = pack_content(before)
    assert is_packed(packed)
    assert not is_packed(before)
    after = unpack_content(packed)
    assert list(after) == list(before)
    assert after.object_id == before.object_id  # a digest of every key, type and byte


def test_a_message_has_three_objects_however_many_arrays() -> None:
    before, after = (len(get_all_nested_objects(each)) for each in (content(), pack_content(content())))
    assert after == 2  # and the message itself
    assert before > 2 * len(WEIGHTS)


def test_large_arrays_are_cut_into_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed_messages, "PIECE_BYTES", 100)
    packed = pack_content(content())
    sizes = [len(record["bytes"]) for record in packed.config_records.values()]  # type: ignore[arg-type]
    assert len(sizes) > 3
    assert max(sizes) == 100
    assert unpack_content(packed).object_id == content().object_id


def test_the_bytes_are_those_of_the_arrays_and_little_more() -> None:
    weights = {"w": np.ones(100_000, np.float32)}
    request = TrainRequest(tiny.run_config(), 1, dict(weights), run_id="0" * 32)
    objects = get_all_nested_objects(pack_content(messages.pack_request(request)))
    assert sum(len(item.deflate()) for item in objects.values()) < 1.02 * weights["w"].nbytes


def test_records_of_another_kind_are_refused() -> None:
    with pytest.raises(ProtocolError, match="cannot be packed"):
        pack_content(RecordDict({"metrics": MetricRecord({"x": 1})}))


def layout_of(packed: RecordDict) -> dict[str, list[list[object]] | None]:
    found: dict[str, list[list[object]] | None] = json.loads(str(packed.config_records["packed"]["layout"]))
    return found


@pytest.mark.parametrize(
    "spoil",
    [
        lambda head, layout: head.pop("layout"),
        lambda head, layout: head.__setitem__("layout", "[" * 100_000),
        lambda head, layout: head.__setitem__("layout", "[1]"),
        lambda head, layout: head.__setitem__("bytes", "text"),
        lambda head, layout: head.__setitem__("bytes", head["bytes"] + b"x"),
        lambda head, layout: head.__setitem__("bytes", head["bytes"][:-1]),
        lambda head, layout: layout["arrays"][0].__setitem__(4, -1),
        lambda head, layout: layout["arrays"][0].__setitem__(4, 1 << 40),
        lambda head, layout: layout["arrays"][0].__setitem__(4, "9"),
        lambda head, layout: layout["arrays"][0].__setitem__(2, 5),
        lambda head, layout: layout["arrays"].append([1]),
    ],
)
def test_what_does_not_fit_is_one_error(spoil: object) -> None:
    packed = pack_content(content())
    layout, head = layout_of(packed), packed.config_records["packed"]
    before = dict(head), json.dumps(layout)
    spoil(head, layout)  # type: ignore[operator]
    if json.dumps(layout) != before[1]:
        head["layout"] = json.dumps(layout)
    with pytest.raises(ProtocolError, match="does not fit its layout"):
        unpack_content(packed)


def test_a_hostile_layout_names_records_that_the_protocol_refuses() -> None:
    packed = RecordDict({"packed": ConfigRecord({"layout": '{"evil":null}', "bytes": b"", "evil/x": 1})})
    with pytest.raises(ProtocolError, match="not one of this federation's protocol"):
        messages.unpack_request("train", unpack_content(packed))


def test_an_empty_array_record_stays() -> None:
    before = RecordDict({"arrays": ArrayRecord()})
    assert unpack_content(pack_content(before)).object_id == before.object_id
