"""What devices send: packets of samples as JSON or in a compact binary form, checked before anything else sees them.

JSON, one packet or a list of them:

    {"device_id": "bed-7", "samples": [[0.01, 0.02], [0.02, 0.03]], "rate": 250, "leads": ["II", "V1"], "first": 500}

`samples` are mV: one row a sample, or plain numbers for a single lead, null where missing. `first` numbers the first
sample since the stream started; without it packets are taken to follow one another.

Binary, little-endian: `WRM1`, uint8 leads, uint8 length of the device's name, uint16 samples, float32 rate (Hz),
float32 mV of a unit, uint64 first, the name (UTF-8), the names of the leads (8 bytes each, filled with zeros), then
int16 samples, one row after the other; -32768 is missing. Over UDP, 16 bytes of BLAKE2b keyed with the device's token
follow.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from common.errors import DataError

MAGIC = b"WRM1"
HEAD = struct.Struct("<4sBBHffQ")
MISSING_VALUE = -(2**15)
MAC_BYTES = 16
MIN_RATE, MAX_RATE, MAX_LEADS, MAX_SAMPLES, MAX_PACKETS = 125.0, 1000.0, 12, 10_000, 256
DEVICE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")
LEAD = re.compile(r"[A-Za-z0-9+_-]{1,8}")
MAX_FIRST = 2**53
"""Whole numbers beyond are not exact in JSON."""
DEFAULT_RATE = 250.0
MAX_MILLIVOLTS = 1e4


@dataclass(frozen=True)
class Packet:
    """Samples of one device.

    Attributes:
        device: its name: of a bed or monitor, never of a person.
        rate: sampling rate, Hz.
        leads: names of the leads.
        first: number of the first sample since the stream started; None: follows the packet before.
        samples: float32 `(samples, leads)`, mV, NaN where missing.
    """

    device: str
    rate: float
    leads: tuple[str, ...]
    first: int | None
    samples: npt.NDArray[np.float32]


def check_device(name: object) -> str:
    """Return a device's name.

    Raises:
        DataError: it is none.
    """
    if not isinstance(name, str) or not DEVICE.fullmatch(name):
        raise DataError("device_id: give 1 to 64 letters, digits or ._:- that name a bed or device, not a person")
    return name


def read_json(body: bytes) -> list[Packet]:
    """Return the packets of a JSON document.

    Raises:
        DataError: it is malformed, or a value is out of range. The message never quotes a sample.
    """
    try:
        content = json.loads(body, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        raise DataError("the body is no JSON: send an object with device_id and samples") from None
    items = content if isinstance(content, list) else [content]
    if not 0 < len(items) <= MAX_PACKETS:
        raise DataError(f"a request holds 1 to {MAX_PACKETS} packets: send fewer at once")
    return [_read_item(item) for item in items]


def _read_item(item: Any) -> Packet:
    if not isinstance(item, dict):
        raise DataError("a packet is an object with device_id and samples")
    if unknown := sorted(set(item) - {"device_id", "samples", "rate", "leads", "first"}):
        raise DataError(f"unknown key {unknown[0][:40]!r}: a packet has device_id, samples, rate, leads and first")
    device = check_device(item.get("device_id"))
    rows = item.get("samples")
    if not isinstance(rows, list) or not 0 < len(rows) <= MAX_SAMPLES:
        raise DataError(f"samples: give a list of 1 to {MAX_SAMPLES} samples")
    single = not isinstance(rows[0], list)
    try:
        values = np.asarray([[value] for value in rows] if single else rows, dtype=np.float64)
    except (ValueError, TypeError, OverflowError):
        raise DataError("samples: every row must be a number or null for each lead") from None
    if values.ndim != 2:
        raise DataError("samples: every row must be a number or null for each lead")
    samples = _drop_impossible(values)
    names = item.get("leads", [f"lead {i + 1}" for i in range(samples.shape[1])])
    if "leads" in item and not (
        isinstance(names, list) and all(isinstance(n, str) and LEAD.fullmatch(n) for n in names)
    ):
        raise DataError("leads: give the name of each lead, of at most 8 letters, digits, + or -")
    first = item.get("first")
    if first is not None and (isinstance(first, bool) or not isinstance(first, int)):
        raise DataError("first: give the number of the packet's first sample")
    return _check(Packet(device, _read_rate(item.get("rate", DEFAULT_RATE)), tuple(names), first, samples))


def _read_rate(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DataError("rate: give the sampling rate in Hz")
    return float(value)


def _check(packet: Packet) -> Packet:
    """Return a packet whose numbers are in range.

    Raises:
        DataError: they are not.
    """
    if not MIN_RATE <= packet.rate <= MAX_RATE:
        raise DataError(f"rate: {packet.device} sends at a rate outside of {MIN_RATE:g} to {MAX_RATE:g} Hz")
    if packet.rate != round(packet.rate):
        raise DataError(f"rate: {packet.device} sends at a rate that is no whole number of Hz: resample its signal")
    leads = packet.samples.shape[1]
    if not 1 <= leads <= MAX_LEADS or len(packet.leads) != leads or len(set(packet.leads)) != leads:
        raise DataError(f"leads: {packet.device} must name each of its 1 to {MAX_LEADS} leads once")
    if packet.first is not None and not 0 <= packet.first < MAX_FIRST:
        raise DataError(f"first: {packet.device} numbers its samples from 0 to {MAX_FIRST}")
    return packet


def _drop_impossible(values: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    """Return values in mV with NaN for those that no amplifier gives."""
    with np.errstate(invalid="ignore"):
        return np.where(np.abs(values) < MAX_MILLIVOLTS, values, np.nan).astype(np.float32)


def read_binary(body: bytes) -> Packet:
    """Return the packet of a binary message.

    Raises:
        DataError: it is malformed, or a value is out of range.
    """
    if len(body) < HEAD.size or not body.startswith(MAGIC):
        raise DataError("the message is no WRM1 packet")
    _, leads, width, count, rate, unit, first = HEAD.unpack_from(body)
    start = HEAD.size + width + 8 * leads
    if not leads or not 0 < count <= MAX_SAMPLES or len(body) != start + 2 * count * leads:
        raise DataError("the length of a WRM1 packet does not fit its header")
    try:
        device = check_device(body[HEAD.size : HEAD.size + width].decode("utf-8"))
        names = tuple(
            body[HEAD.size + width + 8 * i : HEAD.size + width + 8 * i + 8].rstrip(b"\0").decode("ascii")
            for i in range(leads)
        )
    except UnicodeDecodeError:
        raise DataError("the names of a WRM1 packet are no text") from None
    if not all(LEAD.fullmatch(name) for name in names):
        raise DataError("leads: give the name of each lead, of at most 8 letters, digits, + or -")
    if not (np.isfinite(unit) and np.isfinite(rate)) or unit <= 0:
        raise DataError("a WRM1 packet has no rate, or no size of a unit")
    values = np.frombuffer(body, dtype="<i2", offset=start).reshape(count, leads)
    samples = np.where(values == MISSING_VALUE, np.nan, values * float(unit))
    return _check(Packet(device, round(float(rate), 4), names, first, _drop_impossible(samples)))


def write_binary(packet: Packet, unit: float = 0.001) -> bytes:
    """Return a packet in the binary form, with `unit` mV a step."""
    values = np.rint(np.nan_to_num(packet.samples / unit, nan=MISSING_VALUE))
    values = np.where(np.isfinite(packet.samples), np.clip(values, MISSING_VALUE + 1, 2**15 - 1), MISSING_VALUE)
    name = packet.device.encode()
    count, leads = values.shape
    head = HEAD.pack(MAGIC, leads, len(name), count, packet.rate, unit, packet.first or 0)
    names = b"".join(lead.encode("ascii").ljust(8, b"\0") for lead in packet.leads)
    return head + name + names + values.astype("<i2").tobytes()


def sign_datagram(body: bytes, token: str) -> bytes:
    """Return a binary message with the code that UDP needs: 16 bytes of BLAKE2b keyed with the device's token."""
    return body + _authenticate(body, token)


def open_datagram(datagram: bytes, tokens: tuple[str, ...]) -> bytes | None:
    """Return the message of a datagram that was signed with one of some tokens; None if it was not."""
    body, code = datagram[:-MAC_BYTES], datagram[-MAC_BYTES:]
    valid = [hmac.compare_digest(code, _authenticate(body, token)) for token in tokens]
    return body if any(valid) else None


def _authenticate(body: bytes, token: str) -> bytes:
    key = hashlib.blake2b(token.encode(), digest_size=32).digest()
    return hashlib.blake2b(body, key=key, digest_size=MAC_BYTES).digest()
