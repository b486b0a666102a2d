"""Messages with all arrays in a few large pieces, as they travel between a server and its hospitals.

Flower moves every array as two objects, each of them with an HTTP request of its own at every hop: a model of twenty
arrays takes some ninety requests a message. Packed, a message takes four. What is packed is only joined: the bytes of
each array are the same after unpacking, and the checks of common/messages.py apply to them as ever.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise

from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

from common.errors import ProtocolError

LAYOUT_KEY = "packed"
"""The record that says which arrays there are, in which order."""
PIECE_BYTES = 4 << 20
"""Most bytes of a piece; a reverse proxy may limit the size of a request."""


def is_packed(content: RecordDict) -> bool:
    """Return whether a message's content has been packed."""
    return LAYOUT_KEY in content


def pack_content(content: RecordDict) -> RecordDict:
    """Return a message's content with its arrays in pieces; other records stay as they are."""
    packed = RecordDict()
    layout: dict[str, list[list[object]]] = {}
    blobs: list[bytes] = []
    for name, record in content.items():
        if not isinstance(record, ArrayRecord):
            packed[name] = record
            continue
        layout[name] = [[key, item.dtype, list(item.shape), item.stype, len(item.data)] for key, item in record.items()]
        blobs += [item.data for item in record.values()]
    packed[LAYOUT_KEY] = ConfigRecord({"layout": json.dumps(layout, separators=(",", ":"))})
    for number, piece in enumerate(_cut_pieces(b"".join(blobs))):
        packed[f"{LAYOUT_KEY}-{number}"] = ConfigRecord({"bytes": piece})
    return packed


def unpack_content(packed: RecordDict) -> RecordDict:
    """Return the content that `pack_content` packed.

    Raises:
        ProtocolError: the pieces do not fit the layout.
    """
    try:
        layout = json.loads(str(packed.config_records[LAYOUT_KEY]["layout"]))
        pieces: list[bytes] = []
        while (record := packed.config_records.get(f"{LAYOUT_KEY}-{len(pieces)}")) is not None:
            piece = record["bytes"]
            if not isinstance(piece, bytes):
                raise ValueError
            pieces.append(piece)
        blob = memoryview(b"".join(pieces))
        content = RecordDict({name: item for name, item in packed.items() if not name.startswith(LAYOUT_KEY)})
        start = 0
        for name, arrays in layout.items():
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
        raise ProtocolError("its packed arrays do not fit their layout") from None
    return content


def _cut_pieces(blob: bytes) -> Iterator[bytes]:
    marks = [*range(0, len(blob), PIECE_BYTES), len(blob)]
    return (blob[start:end] for start, end in pairwise(marks))
