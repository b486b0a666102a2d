from __future__ import annotations

import json
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import DataError
from experiments.monitor import protocol
from experiments.monitor.protocol import Packet, open_datagram, read_binary, read_json, sign_datagram, write_binary


def packet(first: int | None = 500) -> Packet:
    samples = np.array([[0.01, -1.5], [np.nan, 2.0], [32.0, 0.0]], np.float32)
    return Packet("bed-7", 250.0, ("II", "V1"), first, samples)


def test_json_of_a_device_is_read() -> None:
    body = {"device_id": "bed-7", "samples": [[0.1, None], [0.2, 0.3]], "rate": 360, "leads": ["II", "V1"], "first": 9}
    (own,) = read_json(json.dumps(body).encode())
    assert (own.device, own.rate, own.leads, own.first) == ("bed-7", 360.0, ("II", "V1"), 9)
    np.testing.assert_array_equal(own.samples, np.array([[0.1, np.nan], [0.2, 0.3]], np.float32))
    (single,) = read_json(b'{"device_id": "a", "samples": [1, 2, 3]}')
    assert single.samples.shape == (3, 1)
    assert (single.rate, single.leads, single.first) == (250.0, ("lead 1",), None)


def test_the_binary_form_gives_back_what_was_written() -> None:
    own = read_binary(write_binary(packet()))
    assert (own.device, own.rate, own.leads, own.first) == ("bed-7", 250.0, ("II", "V1"), 500)
    np.testing.assert_allclose(own.samples, packet().samples, atol=5e-4)
    by_hand = struct.pack("<4sBBHffQ", b"WRM1", 1, 1, 2, 125.0, 0.5, 7) + b"x" + b"I".ljust(8, b"\0")
    read = read_binary(by_hand + struct.pack("<hh", 3, -32768))
    np.testing.assert_array_equal(read.samples, np.array([[1.5], [np.nan]], np.float32))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "no JSON"),
        (b"[]", "1 to 256 packets"),
        (b"[[[" * 100_000, "no JSON"),
        (b'{"device_id": "a b", "samples": [1]}', "device_id"),
        (b'{"device_id": "a", "samples": []}', "samples"),
        (b'{"device_id": "a", "samples": [[1], [1, 2]]}', "samples"),
        (b'{"device_id": "a", "samples": ["x"]}', "samples"),
        (b'{"device_id": "a", "samples": [1], "rate": 20}', "rate"),
        (b'{"device_id": "a", "samples": [1], "rate": true}', "rate"),
        (b'{"device_id": "a", "samples": [1], "first": -1}', "first"),
        (b'{"device_id": "a", "samples": [1], "leads": ["a", "b"]}', "leads"),
        (b'{"device_id": "a", "samples": [1], "leads": ["<b>"]}', "leads"),
        (b'{"device_id": "a", "samples": [1], "name": "Ada"}', "unknown key"),
    ],
)
def test_a_malformed_packet_is_refused_with_a_reason(body: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_json(body)


def test_impossible_values_count_as_missing() -> None:
    (own,) = read_json(b'{"device_id": "a", "samples": [1, 1e300, -1e30, NaN, Infinity]}')
    assert np.isnan(own.samples[:, 0]).tolist() == [False, True, True, True, True]


def test_datagrams_need_the_code_of_a_token() -> None:
    body = write_binary(packet())
    signed = sign_datagram(body, "secret-of-the-ward")
    assert open_datagram(signed, ("other-token-here", "secret-of-the-ward")) == body
    assert open_datagram(signed, ("other-token-here",)) is None
    assert open_datagram(signed[:-1] + bytes([signed[-1] ^ 1]), ("secret-of-the-ward",)) is None
    assert open_datagram(b"", ("secret-of-the-ward",)) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
KEYS = st.fixed_dictionaries({}, optional=dict.fromkeys(("device_id", "samples", "rate", "leads", "first"), JSON))


@settings(max_examples=400, deadline=None)
@given(KEYS | st.lists(KEYS, max_size=3) | JSON)
def test_odd_json_is_read_or_refused_and_nothing_else(content: object) -> None:
    try:
        packets = read_json(json.dumps(content).encode())
    except DataError:
        return
    assert all(own.samples.shape[1] == len(own.leads) for own in packets)


@settings(max_examples=400, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 60), st.booleans())
def test_odd_bytes_are_read_or_refused_and_nothing_else(noise: bytes, cut: int, damage: bool) -> None:
    body = bytearray(write_binary(packet()))
    if damage:
        body[cut % len(body) : cut % len(body) + len(noise)] = noise
    else:
        body = bytearray(protocol.MAGIC + noise)
    try:
        own = read_binary(bytes(body))
    except DataError:
        return
    assert 125 <= own.rate <= 1000
    assert not np.isinf(own.samples).any()
