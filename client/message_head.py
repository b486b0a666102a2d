"""A message's description without its content, as bytes that outlast the process that received it."""

from __future__ import annotations

from flwr.app import Message
from flwr.app.message import remove_content_from_message
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.message_pb2 import Message as MessageProto


def write_head(head: Message) -> bytes:
    """Return a message's description as bytes, without content."""
    data: bytes = message_to_proto(remove_content_from_message(head)).SerializeToString()
    return data


def read_head(data: bytes) -> Message:
    """Return the description that `write_head` wrote."""
    return message_from_proto(MessageProto.FromString(data))
