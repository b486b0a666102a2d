"""The channel between a hospital's SuperNode and its worker, and what is sent over it: bytes, never pickled objects.

A message is a header in JSON and the serialised objects of one Flower message. The SuperNode does not open them; the
worker does. The channel is a socket pair that only these two processes hold.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Literal

from common.errors import EngineError

MAX_HEADER = 64 << 20
"""Bytes of a header, which lists the objects and may hold an object tree."""
MAX_OBJECT = 2 << 30
"""Bytes of one object; Flower cuts arrays into pieces of 5 MiB."""

ParcelKind = Literal["settings", "ready", "alive", "request", "reply"]


@dataclass(frozen=True)
class Parcel:
    """One message over the channel.

    Attributes:
        kind: `settings` and `request` go to the worker, `ready`, `alive` and `reply` come from it.
        fields: small values; bytes are in hexadecimal digits.
        objects: Flower's serialised objects by id.
    """

    kind: ParcelKind
    fields: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    objects: Mapping[str, bytes] = field(default_factory=dict)


class ChannelClosed(EngineError):
    """The other process has ended, or sent what does not belong on this channel."""


def send_parcel(channel: Connection, parcel: Parcel) -> None:
    """Send a parcel.

    Raises:
        ChannelClosed: the other process has ended.
    """
    header = {"kind": parcel.kind, "fields": dict(parcel.fields), "objects": list(parcel.objects)}
    try:
        channel.send_bytes(json.dumps(header).encode())
        for content in parcel.objects.values():
            channel.send_bytes(content)
    except OSError as error:
        raise ChannelClosed(f"the other process has ended ({error.strerror or error})") from None


def receive_parcel(channel: Connection) -> Parcel:
    """Return the next parcel, waiting for it.

    Raises:
        ChannelClosed: the other process has ended, or sent something else.
    """
    try:
        header = json.loads(channel.recv_bytes(MAX_HEADER))
        objects = {str(name): channel.recv_bytes(MAX_OBJECT) for name in header["objects"]}
        return Parcel(header["kind"], header["fields"], objects)
    except (EOFError, OSError):
        raise ChannelClosed("the other process has ended") from None
    except (ValueError, KeyError, TypeError):
        raise ChannelClosed("the other process sent what is no message of this channel") from None
