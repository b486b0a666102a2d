"""Messages as one record, as they travel between a server and its hospitals.

Flower moves every record and, twice, every array of a message by HTTP requests of their own, at every hop: a model of
twenty arrays takes some ninety requests a message, at ten milliseconds of the server's time each. Packed, a message
takes three, and one for each 4 MiB of arrays; these are objects of their own, so that a site that has just validated a
model need not fetch it again to train it. Texts and counts, which are mostly zeros, are compressed; weights are not,
because they hardly shrink. Records and arrays are the same, byte for byte, after unpacking, and the checks of
common/messages.py apply to them as ever.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from itertools import pairwise

from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

from common.errors import ProtocolError

PACKED_KEY = "packed"
"""The record that says what there is; the arrays are in `packed-0` and so on."""
PIECE_BYTES = 4 << 20
"""Most bytes of arrays in one record; a reverse proxy may limit the size of a request."""
MAX_EXPANDED = 16 << 20
"""Most bytes that compressed arrays may expand to; larger ones travel as they are."""
SAMPLE_BYTES, WORTHWHILE = 1 << 16, 0.7
"""Arrays are compressed if their first bytes shrink to less than this share."""
_ABOUT, _ABOUT_SIZE, _BYTES, _EXPANDED, _SEPARATOR = "about", "about-size", "bytes", "expanded", "/"


def is_packed(content: RecordDict) -> bool:
    """Return whether a message's content has been packed."""
    return PACKED_KEY in content


def pack_content(content: RecordDict) -> RecordDict:
    """Return a message's content as one record and pieces of its arrays.

    Raises:
        ProtocolError: it holds records that no message of this protocol has.
    """
    layout: dict[str, list[list[object]] | dict[str, list[str]]] = {}
    head, texts = ConfigRecord(), {}
    blobs: list[bytes] = []
    for name, record in content.items():
        if isinstance(record, ArrayRecord):
            layout[name] = [
                [key, item.dtype, list(item.shape), item.stype, len(item.data)] for key, item in record.items()
            ]
            blobs += [item.data for item in record.values()]
        elif isinstance(record, ConfigRecord) and _SEPARATOR not in name:
            layout[name] = {"keys": list(record)}
            for key, value in record.items():
                if isinstance(value, str):
                    texts[f"{name}{_SEPARATOR}{key}"] = value
                else:
                    head[f"{name}{_SEPARATOR}{key}"] = value
        else:
            raise ProtocolError(f"record {name!r} cannot be packed")
    blob = b"".join(blobs)
    about = json.dumps([layout, texts], separators=(",", ":")).encode()
    head[_ABOUT], head[_ABOUT_SIZE], head[_EXPANDED] = zlib.compress(about, 6), len(about), 0
    if _is_worth_compressing(blob):
        head[_EXPANDED], blob = len(blob), zlib.compress(blob, 1)
    packed = RecordDict({PACKED_KEY: head})
    for number, piece in enumerate(_cut_pieces(blob)):
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
        layout, texts = json.loads(_expand(_read_bytes(head, _ABOUT), head[_ABOUT_SIZE]))
        values = {**head, **texts}
        pieces = (records[f"{PACKED_KEY}-{number}"] for number in range(len(packed) - 1))
        blob = memoryview(_expand(b"".join(_read_bytes(piece, _BYTES) for piece in pieces), head[_EXPANDED]))
        content, start = RecordDict(), 0
        for name, arrays in layout.items():
            if isinstance(arrays, dict):
                content[name] = ConfigRecord({key: values[f"{name}{_SEPARATOR}{key}"] for key in arrays["keys"]})
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
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError, zlib.error):
        raise ProtocolError("its packed message does not fit its layout") from None
    return content


def _read_bytes(record: ConfigRecord, key: str) -> bytes:
    value = record[key]
    if not isinstance(value, bytes):
        raise ValueError
    return value


def _is_worth_compressing(blob: bytes) -> bool:
    sample = blob[:SAMPLE_BYTES]
    return 0 < len(blob) <= MAX_EXPANDED and len(zlib.compress(sample, 1)) < WORTHWHILE * len(sample)


def _expand(blob: bytes, size: object) -> bytes:
    """Return the arrays' bytes; of a compressed blob no more than it may expand to."""
    if not isinstance(size, int) or not 0 <= size <= MAX_EXPANDED:
        raise ValueError
    if not size:
        return blob
    expander = zlib.decompressobj()
    expanded = expander.decompress(blob, size + 1)  # with room for one more, its end is seen in any case
    if len(expanded) != size or not expander.eof or expander.unused_data:
        raise ValueError
    return expanded


def _cut_pieces(blob: bytes) -> Iterator[bytes]:
    marks = [*range(0, len(blob), PIECE_BYTES), len(blob)]
    return (blob[start:end] for start, end in pairwise(marks))
