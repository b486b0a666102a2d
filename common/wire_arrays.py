"""Arrays as Flower's records hold them, bytes in NumPy's format (numpy.lib.format), written and read at little cost.

A message to a small model's site is mostly its arrays, of which NumPy's own functions cost tens of microseconds each.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import lru_cache
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt
from flwr.app import Array, ArrayRecord

from common.arrays import Weights
from common.untrusted import read_array


class MergedArray(Array):
    """An array of a reply while it is merged; it is never sent, because Flower names a sent object by its class."""

    def numpy(self) -> npt.NDArray[Any]:
        """Return the values."""
        return read_array(self.data)


def encode_array(value: npt.NDArray[Any]) -> Array:
    """Return an array as Flower's: of the same bytes as Flower writes, with its header kept for the next one."""
    values = np.asarray(value, order="C")  # ascontiguousarray would turn a scalar into an array of one
    header = _write_header(values.dtype, values.shape)
    return Array(str(values.dtype), values.shape, "numpy.ndarray", header + values.tobytes())


def prepare_merge(record: ArrayRecord) -> ArrayRecord:
    """Return the arrays of a reply in a form that Flower's strategies read quickly."""
    return ArrayRecord({k: MergedArray(v.dtype, v.shape, v.stype, v.data) for k, v in record.items()})


@lru_cache(maxsize=1024)
def _write_header(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    """Return the bytes before the values of a C-contiguous array."""
    buffer = BytesIO()
    about = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, about)
    return buffer.getvalue()


_read: dict[int, tuple[weakref.ref[ArrayRecord], tuple[tuple[str, Array], ...], Weights]] = {}
"""By identity, the records of requests that were read, their arrays, and what they hold."""


def read_once(record: ArrayRecord, read: Callable[[ArrayRecord], Weights]) -> Weights:
    """Return a record's arrays, read-only; read once where many sites of this process get the same record.

    Args:
        record: the record.
        read: checks and reads it.
    """
    key, parts = id(record), tuple(record.items())
    known = _read.get(key)
    if known is not None and known[0]() is record and _are_same(known[1], parts):
        return dict(known[2])
    arrays = read(record)
    for value in arrays.values():
        value.setflags(write=False)
    _read[key] = weakref.ref(record, lambda _: _read.pop(key, None)), parts, arrays
    return dict(arrays)


def _are_same(some: tuple[tuple[str, Array], ...], others: tuple[tuple[str, Array], ...]) -> bool:
    """Return whether two lists of named arrays hold the same objects."""
    pairs = zip(some, others, strict=False)
    return len(some) == len(others) and all(a[0] == b[0] and a[1] is b[1] for a, b in pairs)
