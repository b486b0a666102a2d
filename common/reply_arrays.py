"""Conversion between a reply and the named arrays that are sent with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np

from common.arrays import Weights, prefix_control, split_control
from common.errors import ProtocolError
from common.metrics.counts import Counts
from common.replies import (
    DomainShiftReply,
    FinalTestReply,
    GrowReply,
    LatentReply,
    Reply,
    ScalingReply,
    Sums,
    TrainReply,
    ValidateReply,
)
from common.reports import Report
from common.untrusted import clean_text

SomeReply = TypeVar("SomeReply", bound=Reply)

TABLE_PREFIX, SUM_PREFIX, NOISY_PREFIX = "table/", "sum/", "noisy/"
_PARTS = {"confusion": np.int64, "scores": np.int32, "loss": np.float64}
"""Parts that all counts have, and the type in which they are sent."""
_OPTIONAL_PARTS = ("utility", "gain", "time", "lead")
"""Parts of counts that only some tasks have; they are sent as float64."""


def name_arrays(reply: Reply) -> Weights:
    """Return a reply's arrays under the names that they are sent with."""
    if isinstance(reply, TrainReply):
        return reply.weights | prefix_control(reply.control)
    if isinstance(reply, ScalingReply | LatentReply | DomainShiftReply | GrowReply):
        return {f"{SUM_PREFIX}{name}": value for name, value in reply.sums.items()}
    if isinstance(reply, ValidateReply | FinalTestReply):
        noisy = {f"{NOISY_PREFIX}{name}": np.asarray(value, np.float64) for name, value in reply.noisy.items()}
        return _name_tables(reply.tables) | noisy
    return {}


def build_reply(wanted: type[SomeReply], site: str, report: Report, arrays: Weights) -> SomeReply:
    """Return a reply of the wanted type from its report and the arrays that came.

    Raises:
        ProtocolError: the arrays are not those of such a reply.
    """
    about: dict[str, Any] = {"site": site, "report": report}
    if issubclass(wanted, TrainReply):
        weights, control = split_control(arrays)
        return wanted(**about, weights=weights, control=control)
    if issubclass(wanted, ValidateReply | FinalTestReply):
        noisy = {name: value for name, value in arrays.items() if name.startswith(NOISY_PREFIX)}
        tables = {name: value for name, value in arrays.items() if name not in noisy}
        return wanted(**about, tables=_read_tables(tables), noisy=_read_sums(noisy, NOISY_PREFIX))
    if issubclass(wanted, ScalingReply | LatentReply | DomainShiftReply | GrowReply):
        return wanted(**about, sums=_read_sums(arrays, SUM_PREFIX))
    if arrays:
        raise ProtocolError(f"its {wanted.kind} reply holds arrays")
    return wanted(**about)


def _name_tables(tables: Mapping[str, Counts]) -> Weights:
    arrays: Weights = {}
    for name, counts in tables.items():
        for part, dtype in _PARTS.items():
            arrays[f"{TABLE_PREFIX}{name}/{part}"] = np.asarray(getattr(counts, part), dtype)
        for part in _OPTIONAL_PARTS:
            if (value := getattr(counts, part)).size:
                arrays[f"{TABLE_PREFIX}{name}/{part}"] = np.asarray(value, np.float64)
    return arrays


def _read_tables(arrays: Weights) -> dict[str, Counts]:
    parts: dict[str, Weights] = {}
    for key, value in arrays.items():
        name, _, part = key.removeprefix(TABLE_PREFIX).rpartition("/")
        dtype = _PARTS.get(part) or (np.float64 if part in _OPTIONAL_PARTS else None)
        if not key.startswith(TABLE_PREFIX) or not name or value.dtype != dtype:
            raise ProtocolError(f"its array {clean_text(key, 80)!r} is no part of a table of counts")
        parts.setdefault(name, {})[part] = value
    for name, table in parts.items():
        if missing := sorted(set(_PARTS) - set(table)):
            raise ProtocolError(f"its counts {clean_text(name, 80)!r} lack {missing[0]}")
    return {
        name: Counts(table["confusion"], table["scores"].astype(np.int64), table["loss"],
                     **{part: table[part] for part in _OPTIONAL_PARTS if part in table})
        for name, table in parts.items()
    }  # fmt: skip


def _read_sums(arrays: Weights, prefix: str) -> Sums:
    for key, value in arrays.items():
        if not key.startswith(prefix) or value.dtype != np.float64:
            raise ProtocolError(f"its array {clean_text(key, 80)!r} is no sum")
    return {key.removeprefix(prefix): value for key, value in arrays.items()}
