"""The wire: with its neighbours for special messages, the only module that knows Flower's records.

A request goes from the server to a site, a reply comes back; their types are in common/requests.py and
common/replies.py. What returns from evaluation is counts, which the server adds. What arrives is checked here for size,
nesting, type and range before it becomes one of these types; the phases of the server check whether it fits the run.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from copy import copy
from typing import Any

import numpy.typing as npt
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from pydantic import ValidationError

from common.arrays import Weights, prefix_control, split_control
from common.errors import ProtocolError
from common.release import identify_release
from common.replies import Reply, TrainReply
from common.reply_arrays import SomeReply, build_reply, name_arrays
from common.request_record import (
    NEEDED_ROUNDS_KEY,
    PROTOCOL,
    STATE_ROUND_KEY,
    find_version_fault,
    from_record,
    to_record,
)
from common.requests import ModelRequest, Request, RequestKind, TrainRequest
from common.untrusted import check_array_bytes, check_json, check_text, clean_text, read_array
from common.wire_arrays import encode_array, prepare_merge, read_once

ARRAYS_KEY, CONFIG_KEY, METRICS_KEY, REPLY_KEY = "arrays", "config", "metrics", "reply"
EXAMPLES_KEY, WEIGHT_KEY = "num-examples", "weight"
MESSAGE_TYPES: dict[RequestKind, str] = {
    "handshake": "query",
    "scaling": "query.scaling",
    "train": "train",
    "validate": "evaluate",
    "latent": "query.latent",
    "test": "evaluate.test",
    "domain_shift": "query.domain_shift",
    "canary": "query.canary",
    "grow": "query.grow",
}
WAITS_FOR_APPROVAL = "waits for approval"
"""Start of the reason that a site gives when somebody at the hospital must approve the run first."""
ERROR_CODE = 100
"""The code of an error reply that a site wrote itself: its reason is JSON and holds no data."""
MAX_REASON = 10_000
"""Characters of an error's reason that are read."""
ARRAY_OVERHEAD = 1024
"""Bytes of an array beyond its values, at most: NumPy's header."""
_FOREIGN = "is not one of this federation's protocol"


def build_model_record(request: ModelRequest) -> ConfigRecord:
    """Return the record that a strategy sends with weights; the strategy adds its own keys."""
    return ConfigRecord(to_record(request))


def pack_request(request: Request) -> RecordDict:
    """Return the content of a message to a site."""
    content = RecordDict({CONFIG_KEY: ConfigRecord(to_record(request))})
    if isinstance(request, ModelRequest) and request.weights:
        control = request.control if isinstance(request, TrainRequest) else {}
        content[ARRAYS_KEY] = pack_weights(request.weights | prefix_control(control))
    return content


def build_messages(request: Request, nodes: Iterable[int]) -> list[Message]:
    """Return a message with the same request for each node."""
    content = pack_request(request)
    return [Message(content, node, MESSAGE_TYPES[request.kind]) for node in nodes]


def set_state_rounds(message: Message, state_round: int, needed_rounds: Iterable[int]) -> Message:
    """Return a strategy's message with the rounds whose state its site must use and keep."""
    record = ConfigRecord({**message.content.config_records[CONFIG_KEY]})
    record[STATE_ROUND_KEY], record[NEEDED_ROUNDS_KEY] = state_round, sorted(needed_rounds)
    return replace_record(message, CONFIG_KEY, record)


def unpack_request(kind: RequestKind, content: RecordDict) -> Request:
    """Return the request that a message holds.

    Raises:
        ProtocolError: the server speaks another protocol, or the message does not fit this one.
    """
    if CONFIG_KEY not in content.config_records or set(content) - {CONFIG_KEY, ARRAYS_KEY}:
        raise ProtocolError(f"the server's message {_FOREIGN}")
    record = content.array_records.get(ARRAYS_KEY)
    weights, control = split_control({} if record is None else read_once(record, _read_record))
    return from_record(kind, dict(content.config_records[CONFIG_KEY]), weights, control)


def pack_reply(reply: Reply) -> RecordDict:
    """Return the content of an answer: a record about it and at most one of arrays.

    Raises:
        ProtocolError: the site's name is not a valid name of a site.
    """
    about: dict[str, Any] = {
        "protocol": PROTOCOL,
        "release": identify_release(),
        "kind": reply.kind,
        "site": check_reply_site(reply.site),
        "report": reply.report.to_json(),
    }
    content = RecordDict({REPLY_KEY: ConfigRecord(about)})
    if arrays := name_arrays(reply):
        content[ARRAYS_KEY] = pack_weights(arrays)
    return content


def unpack_reply(wanted: type[SomeReply], content: RecordDict, max_bytes: int = sys.maxsize) -> SomeReply:
    """Return the reply that an answer holds.

    Args:
        wanted: its type.
        content: the answer.
        max_bytes: largest total size of its arrays, bytes.

    Raises:
        ProtocolError: the answer is of another version or kind, or does not fit the type.
    """
    if REPLY_KEY not in content.config_records or set(content) - {REPLY_KEY, ARRAYS_KEY}:
        raise ProtocolError(f"its answer {_FOREIGN}")
    about: dict[str, Any] = dict(content.config_records[REPLY_KEY])
    if fault := find_version_fault(about, "it", "this server"):
        raise ProtocolError(fault)
    if set(about) != {"protocol", "release", "kind", "site", "report"} or not isinstance(about["report"], str):
        raise ProtocolError(f"its answer {_FOREIGN}")
    if about["kind"] != wanted.kind:
        raise ProtocolError(f"it answered another request than {wanted.kind}")
    site = check_reply_site(about["site"])
    check_json(about["report"])
    try:
        report = wanted.report_type.model_validate_json(about["report"], strict=True)
    except ValidationError as error:
        raise ProtocolError(f"its {wanted.kind} report is wrong: {_describe_error(error)}") from None
    return build_reply(wanted, site, report, _read_arrays(content, max_bytes))


def read_reply_site(content: RecordDict) -> str:
    """Return the name that a site gives itself in an answer that may otherwise be malformed; empty: no valid name."""
    with suppress(KeyError, ProtocolError):
        return check_reply_site(content.config_records[REPLY_KEY]["site"])
    return ""


REPLY_SITE = re.compile(r"[^\W_][\w .,'()\[\]&+-]{0,59}")
"""A site's name in a reply: also those that data sets give their hospitals, such as A or St. Mary's."""


def check_reply_site(name: object) -> str:
    """Return the name that a site gives itself.

    Raises:
        ProtocolError: it is not a valid name of a site.
    """
    if not isinstance(name, str) or not REPLY_SITE.fullmatch(name):
        safe_name = clean_text(str(name), 60)
        raise ProtocolError(
            f"its name {safe_name!r} cannot name a site: use up to 60 letters, digits, spaces and .,'()[]&+_-"
        )
    return name


def set_weight(message: Message, examples: int, weight: float, site: str | None = None) -> Message:
    """Return a train reply with the weight by which Flower's strategies merge it: the server's own numbers.

    Args:
        message: the reply.
        examples: the site's training examples.
        weight: its weight.
        site: the name by which the server knows the site, whatever it calls itself in the reply; None: as it does.
    """
    metrics = MetricRecord({EXAMPLES_KEY: examples, WEIGHT_KEY: float(weight)})
    content = {**message.content, METRICS_KEY: metrics}
    if ARRAYS_KEY in content:
        content[ARRAYS_KEY] = prepare_merge(message.content.array_records[ARRAYS_KEY])
    if site is not None and message.content.config_records[REPLY_KEY]["site"] != site:
        record = ConfigRecord({**message.content.config_records[REPLY_KEY]})
        record["site"] = check_reply_site(site)
        content[REPLY_KEY] = record
    changed = copy(message)
    changed.content = RecordDict(content)
    return changed


def read_weight(content: RecordDict) -> float:
    """Return the aggregation weight that `set_weight` wrote into a reply."""
    weight: Any = content.metric_records[METRICS_KEY][WEIGHT_KEY]
    return float(weight)


def read_update(content: RecordDict) -> TrainReply:
    """Unpack a training reply into which `set_weight` wrote its aggregation weight."""
    return unpack_reply(TrainReply, RecordDict({name: content[name] for name in content if name != METRICS_KEY}))


def map_arrays(message: Message, change: Callable[[npt.NDArray[Any]], npt.NDArray[Any]]) -> Message:
    """Return a copy of a reply with `change` applied to each of its arrays."""
    arrays = unpack_weights(message.content.array_records[ARRAYS_KEY])
    return replace_record(message, ARRAYS_KEY, pack_weights({name: change(arrays[name]) for name in arrays}))


def pack_weights(weights: Mapping[str, npt.NDArray[Any]]) -> ArrayRecord:
    """Return arrays as a record, in the order given."""
    return ArrayRecord({name: encode_array(value) for name, value in weights.items()})


def unpack_weights(record: ArrayRecord) -> Weights:
    """Return a record's arrays, in its order."""
    return {name: read_array(value.data) for name, value in record.items()}


def pack_error(site: str, kind: str, text: str) -> str:
    """Return the reason of an error reply: who, what kind of error, and a text without data."""
    return json.dumps({"site": site, "kind": kind, "text": text})


def unpack_error(code: int, reason: str | None) -> tuple[str, str]:
    """Return the site's name, if it stated one, and why it failed, in one line; Flower's longer reasons are cut."""
    reason = (reason or "no reason given")[:MAX_REASON]
    if code == ERROR_CODE:
        with suppress(ValueError, KeyError, TypeError, RecursionError):
            stated = json.loads(reason)
            site = stated["site"]
            named = isinstance(site, str) and REPLY_SITE.fullmatch(site) is not None
            return site if named else "", clean_text(str(stated["text"]))
    return "", f"transport error {code}: {clean_text(reason, 200)}"


def _read_arrays(content: RecordDict, max_bytes: int = sys.maxsize) -> Weights:
    record = content.array_records.get(ARRAYS_KEY)
    return {} if record is None else _read_record(record, max_bytes)


def _read_record(record: ArrayRecord, max_bytes: int = sys.maxsize) -> Weights:
    size = sum(len(item.data) for item in record.values())
    if size > max_bytes:
        raise ProtocolError(f"its arrays have {size} bytes, at most {max_bytes} are expected")
    for name, item in record.items():
        check_text(name, "an array's name")
        if item.stype != "numpy.ndarray":
            raise ProtocolError(f"array {clean_text(name, 80)!r} is not in NumPy's format")
        check_array_bytes(name, item.shape, item.data)
    return unpack_weights(record)


def replace_record(message: Message, key: str, record: ArrayRecord | ConfigRecord | MetricRecord) -> Message:
    """Return a copy of a message with one record replaced."""
    changed = copy(message)
    changed.content = RecordDict({**message.content, key: record})
    return changed


def _describe_error(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return clean_text(f"{where}: {first['msg']}" if where else first["msg"], 300)
