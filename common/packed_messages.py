"""Messages as one record, as they travel between a server and its hospitals.

Flower moves every record and, twice, every array of a message by HTTP requests of their own, at every hop: a model of
twenty arrays takes some ninety requests a message, at ten milliseconds of the server's time each. Packed, a message
takes three, and one more for every further 4 MiB. What is packed is only joined: records and arrays are the same, byte
for byte, after unpacking, and the checks of common/messages.py apply to them as ever.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise

from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

from common.errors import ProtocolError

PACKED_KEY = "packed"
"""The record that holds the message; further pieces of arrays are in `packed-1` and so on."""
PIECE_BYTES = 4 << 20
"""Most bytes of arrays in one record; a reverse proxy may limit the size of a request."""
_LAYOUT, _BYTES, _SEPARATOR = "layout", "bytes", "/"


def is_packed(content: RecordDict) -> bool:
    """Return whether a message's content has been packed."""
    return PACKED_KEY in content


def pack_content(content: RecordDict) -> RecordDict:
    """Return a message's content as one record, with further ones where its arrays are large.

    Raises:
        ProtocolError: it holds records that no message of this protocol has.
    """
    layout: dict[str, list[list[object]] | None] = {}
    head = ConfigRecord()
    blobs: list[bytes] = []
    for name, record in content.items():
        if isinstance(record, ArrayRecord):
            layout[name] = [
                [key, item.dtype, list(item.shape), item.stype, len(item.data)] for key, item in record.items()
            ]
            blobs += [item.data for item in record.values()]
        elif isinstance(record, ConfigRecord) and _SEPARATOR not in name:
            layout[name] = None
            for key, value in record.items():
                head[f"{name}{_SEPARATOR}{key}"] = value
        else:
            raise ProtocolError(f"record {name!r} cannot be packed")
    first, *rest = [*_cut_pieces(b"".join(blobs))] or [b""]
    head[_LAYOUT], head[_BYTES] = json.dumps(layout, separators=(",", ":")), first
    packed = RecordDict({PACKED_KEY: head})
    for number, piece in enumerate(rest, 1):
        packed[f"{PACKED_KEY}-{number}"] = ConfigRecord({_BYTES: piece})
    return packed


def unpack_content(packed: RecordDict) -> RecordDict:
    """Return the content that `pack_content` packed.

    Raises:
        ProtocolError: what is packed does not fit its layout.
    """
    try:
        records = packed.config_records
        head = records[PACKED_KEY]
        layout = json.loads(str(head[_LAYOUT]))
        names = [PACKED_KEY, *(f"{PACKED_KEY}-{number}" for number in range(1, len(packed)))]
        blob = memoryview(b"".join(_read_piece(records[name]) for name in names))
        content, start = RecordDict(), 0
        for name, arrays in layout.items():
            if arrays is None:
                prefix = f"{name}{_SEPARATOR}"
                own = {key.removeprefix(prefix): value for key, value in head.items() if key.startswith(prefix)}
                content[name] = ConfigRecord(own)
                continue
            unpacked = ArrayRecord()
            for key, dtype, shape, stype, size in arrays:
                if not isinstance(size, int) or size < 0 or start + size > len(blob):
                    raise ValueError
                data = bytes(blob[start : start + size])
                unpacked[key] = Array(dtype=str(dtype), shape=tuple(shape), stype=str(stype), data=data)
                start += size
            content[name] = unpacked
        if start != len(blob):
            raise ValueError
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        raise ProtocolError("its packed message does not fit its layout") from None
    return content


def _read_piece(record: ConfigRecord) -> bytes:
    piece = record[_BYTES]
    if not isinstance(piece, bytes):
        raise ValueError
    return piece


def _cut_pieces(blob: bytes) -> Iterator[bytes]:
    marks = [*range(0, len(blob), PIECE_BYTES), len(blob)]
    return (blob[start:end] for start, end in pairwise(marks))
