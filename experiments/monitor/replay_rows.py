"""Streams patients' hours of the data set sepsis at a monitor, as devices and laboratories would send them."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest
from tornado.simple_httpclient import HTTPTimeoutError

from common.errors import DataError, EngineError
from experiments.monitor.replay import TRIES

Floats = npt.NDArray[np.float32]


@dataclass
class RowCounts:
    """What a replay sent, and what the monitor answered.

    Attributes:
        rows: hours that were accepted.
        again: hours that were sent again.
        empty: hours before a patient's first measurement, for which there is no risk.
        risks: the last risk by device and hour.
    """

    rows: int = 0
    again: int = 0
    empty: int = 0
    risks: dict[str, dict[int, float]] = field(default_factory=dict)


def read_stays(folder: Path, store: Path, most: int) -> list[tuple[str, Floats]]:
    """Return the names and hours `(hours, columns)` of the first patients of each hospital in turn.

    Args:
        folder: the data set.
        store: the cache of prepared data.
        most: patients in all; 0: every one.

    Raises:
        DataError: there is no such data.
    """
    from sites.datasets.sepsis.hospitals import load_hospitals

    tables = [hospital.table for hospital in load_hospitals(folder, store)]
    out: list[tuple[str, Floats]] = []
    for number in range(max(len(table.names) for table in tables)):
        for table in tables:
            if number < len(table.names) and (not most or len(out) < most):
                end = table.first[number + 1] if number + 1 < len(table.first) else len(table.rows)
                out.append((table.names[number], np.asarray(table.rows[int(table.first[number]) : int(end)])))
    if not out:
        raise DataError(f"{folder}: no patients")
    return out


def write_rows(device: str, rows: Floats) -> Iterator[bytes]:
    """Yield the body of each hour."""
    from sites.datasets.sepsis.columns import ICULOS, NAMES

    for row in rows:
        known = [column for column in np.flatnonzero(np.isfinite(row)).tolist() if column != ICULOS]
        values = {NAMES[column]: float(row[column]) for column in known}
        content: dict[str, Any] = {"device_id": device, "hour": int(row[ICULOS]), "values": values}
        yield json.dumps(content).encode()


async def replay_stays(url: str, token: str, stays: Sequence[tuple[str, Floats]], speed: float) -> RowCounts:
    """Send the hours of patients, one after the other; all patients start together.

    Args:
        url: of the monitor, with a final `/`.
        token: of a device.
        stays: names and hours of the patients.
        speed: multiple of real time: at 3600 an hour takes a second.

    Raises:
        EngineError: the monitor refuses rows, or is away for too long.
    """
    AsyncHTTPClient.configure(None, max_clients=1000)
    client, counts, start = AsyncHTTPClient(), RowCounts(), time.monotonic()

    async def play(name: str, rows: Floats) -> None:
        device = f"bed-{name}"
        for number, body in enumerate(write_rows(device, rows)):
            await asyncio.sleep(max(0.0, start + number * 3600 / speed - time.monotonic()))
            answer = await _send(client, url, token, body, counts)
            if answer is not None:
                counts.risks.setdefault(device, {})[int(answer["hour"])] = float(answer["risk"])

    await asyncio.gather(*(play(name, rows) for name, rows in stays))
    return counts


async def _send(client: AsyncHTTPClient, url: str, token: str, body: bytes, counts: RowCounts) -> dict[str, Any] | None:
    """Return the monitor's answer; None: nothing was measured yet."""
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    request = HTTPRequest(f"{url}api/rows", "POST", headers, body, validate_cert=False, request_timeout=30)
    for attempt in range(TRIES):
        try:
            response = await client.fetch(request)
        except (OSError, HTTPClientError, HTTPTimeoutError) as error:
            code, text = getattr(error, "code", 0), _read_reason(error)
            if code == 400 and "nothing was measured" in text:
                counts.empty += 1
                return None
            if code not in (0, 503, 599):
                raise EngineError(f"the monitor refuses rows ({code}): {text}") from None
            counts.again += 1
            await asyncio.sleep(min(1.0, 0.05 * 2**attempt))
            continue
        counts.rows += 1
        return dict(json.loads(response.body))
    raise EngineError(f"the monitor at {url} does not take rows: is it running?")


def _read_reason(error: Exception) -> str:
    response = getattr(error, "response", None)
    try:
        return str(json.loads(response.body)["error"]) if response else str(error)
    except (ValueError, KeyError):
        return "no reason given"
