"""Messages with two requests about the same weights: to validate them, and to train them. The answer has two halves.

A round's merged model is validated at the sites where the next round trains it, so both requests fit into one message
with one copy of the weights. Each half of the answer is a reply or the reason why there is none: a refusal of the one
does not lose the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy

from flwr.app import Array, ConfigRecord, Message, RecordDict

from common.arrays import CONTROL_PREFIX
from common.messages import ARRAYS_KEY, CONFIG_KEY, ERROR_CODE, pack_reply, replace_record, unpack_error
from common.replies import Reply
from common.request_record import VALIDATED_LATENT_KEY, VALIDATED_ROUND_KEY

VALIDATION_PREFIX = "validation-"
"""Start of the names of an answer's records that belong to the validation."""
ERROR_KEY, REASON_KEY = "error", "reason"
"""The record of a half that is no reply, and its only key."""
_OWN_KEYS = {"kind", "round", "latent", "server-round"}
"""Keys of a request to validate that the same model's request to train does not share."""


def join_requests(training: Message, validation: Message) -> Message | None:
    """Return a strategy's message to train that also asks for the validation; None: they do not go together.

    They do if both are to the same node and about the same weights, run and state.
    """
    train, validate = (dict(message.content.config_records[CONFIG_KEY]) for message in (training, validation))
    shared = set(validate) - _OWN_KEYS
    if training.metadata.dst_node_id != validation.metadata.dst_node_id or not shared <= set(train):
        return None
    if any(train[key] != validate[key] for key in shared) or _list_weights(training) != _list_weights(validation):
        return None
    train |= {VALIDATED_ROUND_KEY: validate["round"], VALIDATED_LATENT_KEY: validate["latent"]}
    return replace_record(training, CONFIG_KEY, ConfigRecord(train))


def pack_replies(training: Reply | str, validation: Reply | str) -> RecordDict:
    """Return the content of an answer to both requests.

    Args:
        training: the reply to the one, or the reason of its error (`common.messages.pack_error`).
        validation: the same of the other.
    """
    content = _pack_half(training)
    for name, record in _pack_half(validation).items():
        content[VALIDATION_PREFIX + name] = record
    return content


def split_answer(answer: Message) -> tuple[Message | str, Message | str]:
    """Return the answers to train and to validate, each as if it had come alone, or why there is none, in one line."""
    halves: tuple[RecordDict, RecordDict] = RecordDict(), RecordDict()
    for name, record in answer.content.items():
        halves[name.startswith(VALIDATION_PREFIX)][name.removeprefix(VALIDATION_PREFIX)] = record
    first, second = (_read_half(answer, half) for half in halves)
    return first, second


def _list_weights(message: Message) -> list[tuple[str, Array]]:
    """Return the model's arrays of a message, without control variates, which only training needs."""
    arrays: Mapping[str, Array] = message.content.array_records[ARRAYS_KEY]
    return [(name, array) for name, array in arrays.items() if not name.startswith(CONTROL_PREFIX)]


def _pack_half(reply: Reply | str) -> RecordDict:
    return RecordDict({ERROR_KEY: ConfigRecord({REASON_KEY: reply})}) if isinstance(reply, str) else pack_reply(reply)


def _read_half(answer: Message, content: RecordDict) -> Message | str:
    reason = content.config_records[ERROR_KEY].get(REASON_KEY) if ERROR_KEY in content.config_records else None
    if isinstance(reason, str):
        return unpack_error(ERROR_CODE, reason)[1]
    half = copy(answer)
    half.content = content
    return half
