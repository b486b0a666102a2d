"""Conversion between a request and the plain values by key that a record of a message holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from common.arrays import Weights
from common.config import config_from_json, config_to_json
from common.errors import ConfigError, ProtocolError
from common.release import identify_release
from common.requests import (
    CanaryRequest,
    DomainShiftRequest,
    FinalTestRequest,
    GrowRequest,
    HandshakeRequest,
    LatentRequest,
    Method,
    ModelRequest,
    Request,
    RequestKind,
    ScalingRequest,
    TrainRequest,
    ValidateRequest,
)
from common.untrusted import clean_text

PROTOCOL = 12
"""Version of requests and replies, raised with each change; server and sites must have the same."""

PROXIMAL_KEY = "proximal-mu"
"""The key under which Flower's FedProx sends mu."""
STATE_ROUND_KEY, NEEDED_ROUNDS_KEY = "state-round", "needed-rounds"
VALIDATED_ROUND_KEY, VALIDATED_LATENT_KEY = "validated-round", "validated-latent"
"""The keys of a request to train whose weights are also to be validated: the round they are of, and its `latent`."""

_MODEL_FIELDS: dict[str, type] = {
    "round": int,
    "scaling": bytes,
    "local": list,
    "control": bool,
    "run-id": str,
    STATE_ROUND_KEY: int,
    NEEDED_ROUNDS_KEY: list,
}
_FIELDS: dict[RequestKind, dict[str, type]] = {
    "handshake": {"run-id": str},
    "scaling": {"base": bytes, "run-id": str},
    "domain_shift": {"base": bytes, "run-id": str},
    "train": {**_MODEL_FIELDS, "class-counts": list, "total": int},
    "grow": {**_MODEL_FIELDS, "depth": int, "class-counts": list, "total": int},
    "validate": {**_MODEL_FIELDS, "latent": bytes},
    "latent": _MODEL_FIELDS,
    "test": {**_MODEL_FIELDS, "latent": bytes},
    "canary": _MODEL_FIELDS,
}
_OPTIONAL_FIELDS: dict[str, type] = {"pull": float, PROXIMAL_KEY: float, "threshold": float, "server-round": int}
"""Fields that may be absent; the last is Flower's own."""
_VALIDATION_FIELDS: dict[str, type] = {VALIDATED_ROUND_KEY: int, VALIDATED_LATENT_KEY: bytes}
"""Fields that a request to train has both, or neither."""


def to_record(request: Request) -> dict[str, Any]:
    """Return the values of a request's record; its arrays are sent in another record."""
    record: dict[str, Any] = {
        "protocol": PROTOCOL,
        "release": identify_release(),
        "kind": request.kind,
        "run": config_to_json(request.config),
    }
    if isinstance(request, ScalingRequest | DomainShiftRequest):
        record["base"] = request.base
    if isinstance(request, HandshakeRequest | ScalingRequest | DomainShiftRequest):
        record["run-id"] = request.run_id
    if isinstance(request, ModelRequest):
        record |= {
            "round": request.round,
            "scaling": request.scaling,
            "local": list(request.method.local),
            "control": request.method.control,
            "run-id": request.run_id,
            STATE_ROUND_KEY: request.state_round,
            NEEDED_ROUNDS_KEY: [int(number) for number in request.needed_rounds],
        }
        if request.method.pull is not None:
            record["pull"] = float(request.method.pull)
    if isinstance(request, TrainRequest | GrowRequest):
        record |= {"class-counts": [int(n) for n in request.class_counts], "total": request.total}
    if isinstance(request, GrowRequest):
        record["depth"] = int(request.depth)
    if isinstance(request, TrainRequest | CanaryRequest) and request.proximal:
        record[PROXIMAL_KEY] = float(request.proximal)
    if isinstance(request, TrainRequest) and request.validation is not None:
        record[VALIDATED_ROUND_KEY] = request.validation.round
        record[VALIDATED_LATENT_KEY] = request.validation.latent
    if isinstance(request, ValidateRequest | FinalTestRequest):
        record["latent"] = request.latent
    if isinstance(request, FinalTestRequest) and request.threshold is not None:
        record["threshold"] = float(request.threshold)
    return record


def from_record(kind: RequestKind, record: Mapping[str, Any], weights: Weights, control: Weights) -> Request:
    """Return the request that a record and its arrays hold.

    Raises:
        ProtocolError: the server speaks another protocol, or the record does not fit this one.
    """
    _check_record(kind, record)
    try:
        config = config_from_json(record["run"])
    except ConfigError as error:
        raise ProtocolError(clean_text(str(error))) from None
    if kind == "handshake":
        return HandshakeRequest(config, record["run-id"])
    if kind == "scaling":
        return ScalingRequest(config, record["base"], record["run-id"])
    if kind == "domain_shift":
        return DomainShiftRequest(config, record["base"], record["run-id"])
    about: dict[str, Any] = {
        "config": config,
        "round": record["round"],
        "weights": weights,
        "scaling": record["scaling"],
        "method": Method(tuple(record["local"]), record["control"], record.get("pull")),
        "run_id": record["run-id"],
        "state_round": record[STATE_ROUND_KEY],
        "needed_rounds": tuple(record[NEEDED_ROUNDS_KEY]),
    }
    if kind == "train":
        counts, mu = tuple(record["class-counts"]), record.get(PROXIMAL_KEY, 0.0)
        validation: ValidateRequest | None = None
        if VALIDATED_ROUND_KEY in record:
            own_fields = {"round": record[VALIDATED_ROUND_KEY], "latent": record[VALIDATED_LATENT_KEY]}
            validation = ValidateRequest(**(about | own_fields))
        return TrainRequest(
            **about, class_counts=counts, total=record["total"], proximal=mu, control=control, validation=validation
        )
    if kind == "grow":
        counts = tuple(record["class-counts"])
        return GrowRequest(**about, depth=record["depth"], class_counts=counts, total=record["total"])
    if kind == "canary":
        return CanaryRequest(**about, proximal=record.get(PROXIMAL_KEY, 0.0))
    if kind == "validate":
        return ValidateRequest(**about, latent=record["latent"])
    if kind == "test":
        return FinalTestRequest(**about, latent=record["latent"], threshold=record.get("threshold"))
    return LatentRequest(**about)


def find_version_fault(record: Mapping[str, Any], other: str, own: str) -> str:
    """Return why a record of another protocol or release cannot be used, naming both ends' versions, or "".

    Args:
        record: the record that was received.
        other: the sender, for the text, such as "the server".
        own: the receiver, in the same way.
    """
    protocol, release, here = record.get("protocol"), record.get("release"), identify_release()
    stated = clean_text(release, 60) if isinstance(release, str) and release else "unknown"
    if type(protocol) is not int or protocol != PROTOCOL:
        quoted = clean_text(repr(protocol), 40)
        return (
            f"{other} speaks protocol {quoted} (release {stated}), {own} {PROTOCOL} (release {here}): install the same "
            "release at both ends"
        )
    if release != here:
        return f"{other} runs release {stated}, {own} {here}: install the same release at both ends"
    return ""


def _check_record(kind: RequestKind, record: Mapping[str, Any]) -> None:
    if fault := find_version_fault(record, "the server", "this site"):
        raise ProtocolError(fault)
    if record.get("kind") != kind:
        raise ProtocolError(f"the message's type is that of a {kind} request, its content is not")
    wanted: dict[str, type] = {"protocol": int, "release": str, "kind": str, "run": str, **_FIELDS[kind]}
    if kind == "train" and set(_VALIDATION_FIELDS) & set(record):
        wanted |= _VALIDATION_FIELDS
    if missing := sorted(set(wanted) - set(record)):
        raise ProtocolError(f"the {kind} request lacks {missing[0]}")
    for name, value in record.items():
        expected = wanted.get(name, _OPTIONAL_FIELDS.get(name))
        if expected is None:
            raise ProtocolError(f"the {kind} request holds an unknown {clean_text(name, 40)}")
        if type(value) is not expected or (isinstance(value, int) and value < 0):
            raise ProtocolError(f"the {kind} request holds a wrong {clean_text(name, 40)}")
    if any(type(name) is not str for name in record.get("local", ())):
        raise ProtocolError(f"the {kind} request holds a wrong local")
    for name in ("class-counts", NEEDED_ROUNDS_KEY):
        if any(type(count) is not int or count < 0 for count in record.get(name, ())):
            raise ProtocolError(f"the {kind} request holds a wrong {name}")
