"""The wire: the only file that knows the keys of Flower's records.

A request goes from the server to a site, a reply comes back. Requests carry the whole configuration,
because a client may be a new process for every message. What returns from evaluation is counts, which the
server adds.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from copy import copy
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict

from common import config as configuration
from common.config import RunConfig
from common.metrics.counts import Counts

PROTOCOL = 3
"""Counts up when a request or reply changes; both ends must hold the same."""

Weights = dict[str, npt.NDArray[Any]]
RequestKind = Literal["hello", "statistics", "latent", "train", "validate", "test", "shift"]

ARRAYS_KEY, CONFIG_KEY, METRICS_KEY, SITE_KEY = "arrays", "config", "metrics", "site"
EXAMPLES_KEY, WEIGHT_KEY = "num-examples", "weight"
TABLE_PREFIX = "table/"
OPTIONAL_PARTS = ("utility", "gain", "time", "lead")
"""Parts of counts that only some tasks have."""
STATISTIC_PREFIX = "statistic/"
CONTROL_PREFIX = "control/"
MESSAGE_TYPES: dict[RequestKind, str] = {
    "hello": "query",
    "statistics": "query.statistics",
    "latent": "query.latent",
    "train": "train",
    "validate": "evaluate",
    "test": "evaluate.test",
    "shift": "query.shift",
}
PROXIMAL_KEY = "proximal-mu"
"""The key under which Flower's FedProx sends mu."""
BUDGET_SPENT = "privacy budget spent"
"""How a site's reason begins when a round would overspend its privacy budget."""
ERROR_CODE = 100
"""The code of an error reply that a site wrote itself: its reason is JSON and holds no data."""


@dataclass(frozen=True)
class Method:
    """What a strategy asks of the sites beside training the model that was sent.

    `local`: names of arrays that stay at the site; `control`: keep control variates (SCAFFOLD); `pull`: train a
    personal model too, held to the one that was sent by so much (Ditto).
    """

    local: tuple[str, ...] = ()
    control: bool = False
    pull: float | None = None

    @property
    def keeps_state(self) -> bool:
        """Whether a site must keep something from round to round."""
        return bool(self.local) or self.control or self.pull is not None


@dataclass(frozen=True)
class Request:
    """What the server asks of a site.

    `class_counts`: training examples of each class over all sites, and `total` of all of them; `scaling`: how
    inputs are scaled (common/scaling.py), or empty; `threshold`: log odds from which on to call the event. `latent`:
    where training examples lie in the model's latent space (common/latent.py), or empty.
    `proximal`: mu of FedProx; `control`: the server's control variates. `run_id` names the run in a site's state
    folder; `base` is the round whose state there belongs to `weights`, 0 for none yet, and `kept` that of the
    best round so far: no other is needed any more.
    """

    kind: RequestKind
    config: RunConfig
    round: int = 0
    weights: Weights = field(default_factory=dict)
    class_counts: tuple[int, ...] = ()
    total: int = 0
    scaling: bytes = b""
    threshold: float | None = None
    method: Method = Method()
    proximal: float = 0.0
    control: Weights = field(default_factory=dict)
    run_id: str = ""
    base: int = 0
    kept: int = 0
    latent: bytes = b""


@dataclass(frozen=True)
class Reply:
    """What a site answers.

    `report` is JSON-ready; `tables` are counts that add up; `weight` is what its update weighs, none: `examples`;
    `control` is the change of its control variates.
    """

    site: str
    examples: int
    report: Mapping[str, Any]
    weights: Weights = field(default_factory=dict)
    loss: float = 0.0
    tables: Mapping[str, Counts] = field(default_factory=dict)
    statistics: Weights = field(default_factory=dict)
    weight: float | None = None
    control: Weights = field(default_factory=dict)


def build_request_record(
    config: RunConfig,
    round_: int,
    class_counts: tuple[int, ...] = (),
    total: int = 0,
    scaling: bytes = b"",
    threshold: float | None = None,
    method: Method = Method(),
    run_id: str = "",
    latent: bytes = b"",
) -> ConfigRecord:
    """Return the record that accompanies the weights; strategies may add keys of their own."""
    record = ConfigRecord(
        {
            "protocol": PROTOCOL,
            "run": configuration.config_to_json(config),
            "round": round_,
            "class-counts": [int(n) for n in class_counts],
            "total": total,
            "scaling": scaling,
            "latent": latent,
            "local": list(method.local),
            "control": method.control,
            "run-id": run_id,
            "base": 0,
            "kept": 0,
        }
    )
    if threshold is not None:
        record["threshold"] = float(threshold)
    if method.pull is not None:
        record["pull"] = float(method.pull)
    return record


def pack_request(request: Request) -> RecordDict:
    """Return the content of a message."""
    record = build_request_record(
        request.config,
        request.round,
        request.class_counts,
        request.total,
        request.scaling,
        request.threshold,
        request.method,
        request.run_id,
        request.latent,
    )
    record["base"], record["kept"] = request.base, request.kept
    if request.proximal:
        record[PROXIMAL_KEY] = request.proximal
    content = RecordDict({CONFIG_KEY: record})
    if request.weights:
        content[ARRAYS_KEY] = pack_weights(request.weights | prefix_control(request.control))
    return content


def set_state_rounds(message: Message, base: int, kept: int) -> Message:
    """Return a message of a strategy that also says which rounds' state counts at the site it goes to."""
    record = ConfigRecord({**message.content.config_records[CONFIG_KEY], "base": base, "kept": kept})
    found = copy(message)
    found.content = RecordDict({**message.content, CONFIG_KEY: record})
    return found


def unpack_request(kind: RequestKind, content: RecordDict) -> Request:
    """Read a request.

    Raises:
        ValueError: the server speaks another protocol.
    """
    record = content.config_records[CONFIG_KEY]
    if record["protocol"] != PROTOCOL:
        raise ValueError(f"the server speaks protocol {record['protocol']!r}, this site {PROTOCOL}")
    arrays = content.array_records.get(ARRAYS_KEY)
    weights, control = split_control(unpack_weights(arrays) if arrays else {})
    counts: Any = record["class-counts"]
    local: Any = record["local"]
    return Request(
        kind,
        configuration.config_from_json(str(record["run"])),
        int(str(record["round"])),
        weights,
        tuple(int(n) for n in counts),
        int(str(record["total"])),
        scaling if isinstance(scaling := record["scaling"], bytes) else b"",
        float(str(record["threshold"])) if "threshold" in record else None,
        Method(
            tuple(str(name) for name in local),
            bool(record["control"]),
            float(str(record["pull"])) if "pull" in record else None,
        ),
        float(str(record.get(PROXIMAL_KEY, 0.0))),
        control,
        str(record["run-id"]),
        int(str(record["base"])),
        int(str(record["kept"])),
        latent if isinstance(latent := record["latent"], bytes) else b"",
    )


def pack_reply(reply: Reply) -> RecordDict:
    """Return the content of an answer: at most one array record, one metric record, as strategies expect."""
    weight = reply.examples if reply.weight is None else reply.weight
    content = RecordDict(
        {
            METRICS_KEY: MetricRecord(
                {EXAMPLES_KEY: reply.examples, "loss": float(reply.loss), WEIGHT_KEY: float(weight)}
            ),
            SITE_KEY: ConfigRecord({"name": reply.site, "report": json.dumps(reply.report)}),
        }
    )
    arrays = reply.weights | prefix_control(reply.control)
    for name, counts in reply.tables.items():
        arrays[f"{TABLE_PREFIX}{name}/confusion"] = counts.confusion
        arrays[f"{TABLE_PREFIX}{name}/scores"] = counts.scores.astype(np.int32)
        arrays[f"{TABLE_PREFIX}{name}/loss"] = np.asarray(counts.loss)
        for part in OPTIONAL_PARTS:
            if (value := getattr(counts, part)).size:
                arrays[f"{TABLE_PREFIX}{name}/{part}"] = value
    arrays |= {f"{STATISTIC_PREFIX}{name}": value for name, value in reply.statistics.items()}
    if arrays:
        content[ARRAYS_KEY] = pack_weights(arrays)
    return content


def unpack_reply(content: RecordDict) -> Reply:
    """Read an answer."""
    arrays = content.array_records.get(ARRAYS_KEY)
    weights, control = split_control(unpack_weights(arrays) if arrays else {})
    site = content.config_records[SITE_KEY]
    metrics: Any = content.metric_records[METRICS_KEY]
    return Reply(
        site=str(site["name"]),
        examples=int(metrics[EXAMPLES_KEY]),
        report=json.loads(str(site["report"])),
        loss=float(metrics["loss"]),
        tables=_tables(weights),
        weights={
            name: value for name, value in weights.items() if not name.startswith((TABLE_PREFIX, STATISTIC_PREFIX))
        },
        statistics={
            name[len(STATISTIC_PREFIX) :]: value for name, value in weights.items() if name.startswith(STATISTIC_PREFIX)
        },
        weight=read_weight(content),
        control=control,
    )


def read_weight(content: RecordDict) -> float:
    """Return what a reply's update weighs."""
    found: Any = content.metric_records[METRICS_KEY][WEIGHT_KEY]
    return float(found)


def map_arrays(message: Message, change: Callable[[npt.NDArray[Any]], npt.NDArray[Any]]) -> Message:
    """Return a reply with each of its arrays changed."""
    arrays = unpack_weights(message.content.array_records[ARRAYS_KEY])
    changed = pack_weights({name: change(value) for name, value in arrays.items()})
    found = copy(message)
    found.content = RecordDict({**message.content, ARRAYS_KEY: changed})
    return found


def prefix_control(control: Weights) -> Weights:
    """Return control variates under the names by which they travel beside weights."""
    return {CONTROL_PREFIX + name: value for name, value in control.items()}


def split_control(arrays: Weights) -> tuple[Weights, Weights]:
    """Return weights and control variates, the latter under their parameters' names."""
    weights = {name: value for name, value in arrays.items() if not name.startswith(CONTROL_PREFIX)}
    return weights, {name[len(CONTROL_PREFIX) :]: arrays[name] for name in arrays if name.startswith(CONTROL_PREFIX)}


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
    names = [
        name[len(TABLE_PREFIX) : -len(end)] for name in arrays if name.startswith(TABLE_PREFIX) and name.endswith(end)
    ]
    return {
        name: Counts(
            arrays[f"{TABLE_PREFIX}{name}/confusion"].astype(np.int64),
            arrays[f"{TABLE_PREFIX}{name}/scores"].astype(np.int64),
            arrays[f"{TABLE_PREFIX}{name}/loss"].astype(np.float64),
            **{
                part: arrays.get(f"{TABLE_PREFIX}{name}/{part}", np.zeros(0)).astype(np.float64)
                for part in OPTIONAL_PARTS
            },
        )
        for name in names
    }
