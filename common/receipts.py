"""The question which message a node received last, and its answer (server/receipts.py says what it is for).

A node answers it itself, without its worker, its site's data or its policy: the answer is the id of a message that the
same server sent.
"""

from __future__ import annotations

from flwr.app import ConfigRecord, RecordDict

from common.errors import ProtocolError

RECEIPT_TYPE = "query.receipt"
"""Flower's type of the question's message."""
_KEY, _LAST = "receipt", "last"
MAX_ID = 200
"""Most characters of a message's id."""


def pack_receipt(last: str) -> RecordDict:
    """Return the content of an answer, or of a question.

    Args:
        last: the id of the last message that the node received before the question; empty: none since it started.
    """
    return RecordDict({_KEY: ConfigRecord({_LAST: last})})


def read_receipt(content: RecordDict) -> str:
    """Return the message's id in an answer.

    Raises:
        ProtocolError: the content is no answer to this question.
    """
    record = content.get(_KEY)
    last = record.get(_LAST) if isinstance(record, ConfigRecord) else None
    if not isinstance(last, str) or len(last) > MAX_ID:
        raise ProtocolError("the message does not say which message was received last")
    return last
