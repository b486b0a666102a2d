"""Arrays of records: byte for byte what Flower writes, and one reading for many messages with the same record."""

from __future__ import annotations

import gc

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord

from common import messages, wire_arrays
from common.wire_arrays import encode_array, prepare_merge, read_once

VALUES = [
    np.arange(6, dtype=np.float32).reshape(2, 3),
    np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    np.array(3, np.int64),
    np.zeros((0, 4), np.float32),
    np.array([1.5, -0.0, 1e-40], np.float16),
    np.arange(12, dtype=np.uint8)[::2],
]


@pytest.mark.parametrize("value", VALUES)
def test_an_encoded_array_is_the_one_that_flower_writes(value: np.ndarray) -> None:
    own, flowers = encode_array(value), Array(np.asarray(value, order="C"))
    assert (own.dtype, own.shape, own.stype, own.data) == (flowers.dtype, flowers.shape, flowers.stype, flowers.data)
    assert type(own) is Array  # a sent object is named by its class


@pytest.mark.parametrize("value", VALUES)
def test_a_merged_array_has_the_values_that_flower_reads(value: np.ndarray) -> None:
    record = ArrayRecord({"a": Array(value)})
    merged, flowers = prepare_merge(record)["a"].numpy(), record["a"].numpy()
    np.testing.assert_array_equal(merged, flowers)
    assert merged.dtype == flowers.dtype
    assert merged.flags.writeable


def test_a_record_is_read_once_and_again_when_it_changes() -> None:
    record, calls = messages.pack_weights({"a": np.ones(2), "b": np.zeros(3)}), []

    def read(given: ArrayRecord) -> dict[str, np.ndarray]:
        calls.append(given)
        return messages.unpack_weights(given)

    first, second = read_once(record, read), read_once(record, read)
    assert len(calls) == 1
    assert first["a"] is second["a"]
    with pytest.raises(ValueError, match="read-only"):
        first["a"][0] = 5  # other sites have the same array
    record["a"] = encode_array(np.full(2, 7.0))
    assert read_once(record, read)["a"].tolist() == [7, 7]
    del record["b"]
    assert list(read_once(record, read)) == ["a"]
    assert len(calls) == 3
    equal = messages.pack_weights({"a": np.full(2, 7.0)})
    read_once(equal, read)
    assert len(calls) == 4
    calls.clear()
    del record, equal, first, second
    gc.collect()
    assert not wire_arrays._read
