"""The wire: the only file that knows the keys of Flower's records.

A request goes from the server to a site, a reply comes back. Requests carry the whole configuration,
because a client may be a new process for every message. What returns from evaluation is counts, which the
server adds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict

from common import config as configuration
from common.config import RunConfig
from common.metrics import Counts

PROTOCOL = 1
"""Counts up when a request or reply changes; both ends must hold the same."""

Weights = dict[str, npt.NDArray[Any]]
Kind = Literal["hello", "train", "validate", "test"]

ARRAYS, CONFIG, METRICS, SITE = "arrays", "config", "metrics", "site"
EXAMPLES = "num-examples"
TABLE = "table/"
ALL, RESAMPLED, WITHOUT = "all", "/resampled", "without "
"""Names of tables: `all`, `without NAME`, and either with RESAMPLED behind it."""

MESSAGE_TYPES: dict[Kind, str] = {
    "hello": "query",
    "train": "train",
    "validate": "evaluate",
    "test": "evaluate.test",
}
ERROR_CODE = 100
"""The code of an error reply that a site wrote itself: its reason is JSON and holds no data."""


@dataclass(frozen=True)
class Request:
    """What the server asks of a site. `class_counts`: training examples of each class over all sites."""

    kind: Kind
    config: RunConfig
    round: int = 0
    weights: Weights = field(default_factory=dict)
    class_counts: tuple[int, ...] = ()


@dataclass(frozen=True)
class Reply:
    """What a site answers. `examples` weighs it; `report` is JSON-ready; `tables` are counts that add up."""

    site: str
    examples: int
    report: Mapping[str, Any]
    weights: Weights = field(default_factory=dict)
    loss: float = 0.0
    tables: Mapping[str, Counts] = field(default_factory=dict)


def request_config(config: RunConfig, round_: int, class_counts: tuple[int, ...] = ()) -> ConfigRecord:
    """Return the record that accompanies the weights; strategies may add keys of their own."""
    return ConfigRecord(
        {
            "protocol": PROTOCOL,
            "run": configuration.to_json(config),
            "round": round_,
            "class-counts": [int(n) for n in class_counts],
        }
    )


def pack_request(request: Request) -> RecordDict:
    """Return the content of a message."""
    content = RecordDict({CONFIG: request_config(request.config, request.round, request.class_counts)})
    if request.weights:
        content[ARRAYS] = pack_weights(request.weights)
    return content


def unpack_request(kind: Kind, content: RecordDict) -> Request:
    """Read a request.

    Raises:
        ValueError: the server speaks another protocol.
    """
    record = content.config_records[CONFIG]
    if record["protocol"] != PROTOCOL:
        raise ValueError(f"the server speaks protocol {record['protocol']!r}, this site {PROTOCOL}")
    arrays = content.array_records.get(ARRAYS)
    counts: Any = record["class-counts"]
    return Request(
        kind,
        configuration.from_json(str(record["run"])),
        int(str(record["round"])),
        unpack_weights(arrays) if arrays else {},
        tuple(int(n) for n in counts),
    )


def pack_reply(reply: Reply) -> RecordDict:
    """Return the content of an answer: at most one array record, one metric record, as strategies expect."""
    content = RecordDict(
        {
            METRICS: MetricRecord({EXAMPLES: reply.examples, "loss": float(reply.loss)}),
            SITE: ConfigRecord({"name": reply.site, "report": json.dumps(reply.report)}),
        }
    )
    arrays = dict(reply.weights)
    for name, counts in reply.tables.items():
        arrays[f"{TABLE}{name}/confusion"] = counts.confusion
        arrays[f"{TABLE}{name}/scores"] = counts.scores.astype(np.int32)
        arrays[f"{TABLE}{name}/loss"] = np.asarray(counts.loss)
    if arrays:
        content[ARRAYS] = pack_weights(arrays)
    return content


def unpack_reply(content: RecordDict) -> Reply:
    """Read an answer."""
    arrays = content.array_records.get(ARRAYS)
    weights = unpack_weights(arrays) if arrays else {}
    site = content.config_records[SITE]
    metrics: Any = content.metric_records[METRICS]
    return Reply(
        site=str(site["name"]),
        examples=int(metrics[EXAMPLES]),
        report=json.loads(str(site["report"])),
        loss=float(metrics["loss"]),
        tables=_tables(weights),
        weights={name: value for name, value in weights.items() if not name.startswith(TABLE)},
    )


def pack_weights(weights: Weights) -> ArrayRecord:
    """Return arrays as a record, in the order given."""
    # ascontiguousarray would turn a scalar into an array of one
    return ArrayRecord({name: Array(np.asarray(value, order="C")) for name, value in weights.items()})


def unpack_weights(record: ArrayRecord) -> Weights:
    """Return a record's arrays, in its order."""
    return {name: value.numpy() for name, value in record.items()}


def pack_error(site: str, kind: str, text: str) -> str:
    """Return the reason of an error reply: who, what kind, and a text without data."""
    return json.dumps({"site": site, "kind": kind, "text": text})


def unpack_error(code: int, reason: str | None) -> tuple[str, str]:
    """Return the site's name, if it told, and one line on why it failed; Flower's reasons cut to one."""
    if code == ERROR_CODE and reason:
        with suppress(ValueError, KeyError, TypeError):
            told = json.loads(reason)
            return str(told["site"]), str(told["text"])
    first = (reason or "no reason given").strip().splitlines()
    return "", f"transport error {code}: {first[0][:200] if first else ''}"


def _tables(arrays: Weights) -> dict[str, Counts]:
    end = "/confusion"
    names = [name[len(TABLE) : -len(end)] for name in arrays if name.startswith(TABLE) and name.endswith(end)]
    return {
        name: Counts(
            arrays[f"{TABLE}{name}/confusion"].astype(np.int64),
            arrays[f"{TABLE}{name}/scores"].astype(np.int64),
            arrays[f"{TABLE}{name}/loss"].astype(np.float64),
        )
        for name in names
    }
