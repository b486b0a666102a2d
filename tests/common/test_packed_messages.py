"""Packed messages: the same records and arrays after unpacking, in few objects, and no crash over what is malformed."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects

from common import messages, packed_messages
from common.errors import ProtocolError
from common.packed_messages import is_packed, pack_content, unpack_content
from common.requests import TrainRequest, ValidateRequest
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


def test_a_message_has_four_objects_however_many_arrays() -> None:
    before, after = (len(get_all_nested_objects(each)) for each in (content(), pack_content(content())))
    assert after == 3  # and the message itself
    assert before > 2 * len(WEIGHTS)


def test_large_arrays_are_cut_into_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed_messages, "WORTHWHILE", 0.0)
    monkeypatch.setattr(packed_messages, "PIECE_BYTES", 100)
    packed = pack_content(content())
    sizes = [len(record["bytes"]) for name, record in packed.config_records.items() if name != "packed"]  # type: ignore[arg-type]
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


def set_about(head: ConfigRecord, about: bytes) -> None:
    head["about"], head["about-size"] = zlib.compress(about), len(about)


def read_about(packed: RecordDict) -> Any:
    return json.loads(zlib.decompress(packed.config_records["packed"]["about"]))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "about",
    [
        *(b"[" * 100_000, b"[1]", b"[{}]", b"\xff", b"[1,2]", b'[{"a":null},3]'),
        *(b'[{"arrays":[[1]]},{}]', b'[{"a":{}},{}]', b'[{"a":{"keys":["x"]}},{}]'),
    ],
)
def test_a_malformed_description_is_one_error(about: bytes) -> None:
    packed = pack_content(content())
    set_about(packed.config_records["packed"], about)
    with pytest.raises(ProtocolError, match="does not fit its layout"):
        unpack_content(packed)


@pytest.mark.parametrize("change", [{"about": "text"}, {"about": b"x"}, {"about-size": 1}, {"about-size": 1 << 40}])
def test_a_description_that_cannot_be_expanded_is_one_error(change: dict[str, Any]) -> None:
    packed = pack_content(content())
    packed.config_records["packed"].update(change)
    with pytest.raises(ProtocolError, match="does not fit its layout"):
        unpack_content(packed)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda arrays: arrays.pop(),
        lambda arrays: arrays[0].__setitem__(4, -1),
        lambda arrays: arrays[0].__setitem__(4, 1 << 40),
        lambda arrays: arrays[0].__setitem__(4, "9"),
        lambda arrays: arrays[0].__setitem__(2, 5),
        lambda arrays: arrays.append([1]),
    ],
)
def test_a_layout_that_does_not_fit_is_one_error(spoil: Callable[[list[Any]], None]) -> None:
    packed = pack_content(content())
    layout, texts = read_about(packed)
    spoil(layout["arrays"])
    set_about(packed.config_records["packed"], json.dumps([layout, texts]).encode())
    with pytest.raises(ProtocolError, match="does not fit its layout"):
        unpack_content(packed)


@pytest.mark.parametrize("piece", ["text", b"", b"x" * 10_000, None])
def test_pieces_that_do_not_fit_are_one_error(piece: str | bytes | None) -> None:
    packed = pack_content(content())
    if piece is None:
        del packed["packed-0"]
    else:
        packed.config_records["packed-0"]["bytes"] = piece
    with pytest.raises(ProtocolError, match="does not fit its layout"):
        unpack_content(packed)


def test_the_same_weights_are_the_same_object_in_training_and_validation() -> None:
    weights = {"w": np.arange(5, dtype=np.float32)}
    kinds = TrainRequest(tiny.run_config(), 4, dict(weights)), ValidateRequest(tiny.run_config(), 3, dict(weights))
    one, other = (pack_content(messages.pack_request(request))["packed-0"].object_id for request in kinds)
    assert one == other


def counts_content(value: int = 0) -> RecordDict:
    weights = {"counts": np.full(10_000, value, np.int64)}
    return messages.pack_request(TrainRequest(tiny.run_config(), 1, dict(weights), run_id="0" * 32))


def test_counts_are_compressed_and_weights_are_not() -> None:
    packed = pack_content(counts_content())
    assert len(packed.config_records["packed-0"]["bytes"]) < 1000  # type: ignore[arg-type]
    assert unpack_content(packed).object_id == counts_content().object_id
    noise = np.random.default_rng(1).normal(size=10_000).astype(np.float32)
    request = TrainRequest(tiny.run_config(), 1, {"w": noise}, run_id="0" * 32)
    assert pack_content(messages.pack_request(request)).config_records["packed"]["expanded"] == 0


@pytest.mark.parametrize("size", [1, 80_127, 80_129, 1 << 40, -1, "80128", None])
def test_a_false_size_of_compressed_arrays_is_one_error(size: object) -> None:
    packed = pack_content(counts_content())
    head = packed.config_records["packed"]
    assert head["expanded"] == 80_128
    if size is None:
        del head["expanded"]
    else:
        head["expanded"] = size  # type: ignore[assignment]
    with pytest.raises(ProtocolError, match="does not fit its layout"):
        unpack_content(packed)


@pytest.mark.parametrize("change", [lambda blob: blob[:-4], lambda blob: blob + b"x", lambda blob: b"junk" + blob])
def test_damaged_compressed_arrays_are_one_error(change: Callable[[bytes], bytes]) -> None:
    packed = pack_content(counts_content())
    piece = packed.config_records["packed-0"]
    piece["bytes"] = change(piece["bytes"])  # type: ignore[arg-type]
    with pytest.raises(ProtocolError, match="does not fit its layout"):
        unpack_content(packed)


def test_a_hostile_layout_names_records_that_the_protocol_refuses() -> None:
    head = ConfigRecord({"expanded": 0, "evil/x": 1})
    set_about(head, b'[{"evil":{"keys":["x"]}},{}]')
    with pytest.raises(ProtocolError, match="not one of this federation's protocol"):
        messages.unpack_request("train", unpack_content(RecordDict({"packed": head})))


def test_an_empty_array_record_stays() -> None:
    before = RecordDict({"arrays": ArrayRecord()})
    assert unpack_content(pack_content(before)).object_id == before.object_id
