"""A database that is gone for a while under load: what is stored afterwards, compared with what was scored."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import shutil
import socket
import sqlite3
import subprocess
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import ConfigError
from experiments.bench.monitor_load import send_load
from experiments.monitor.influx import InfluxSettings
from experiments.monitor.service import Running, Settings, run_service
from experiments.monitor.worker import NewModel

BEFORE_SECONDS, AFTER_SECONDS, FLUSH_SECONDS = 15.0, 15.0, 120.0
"""Seconds of load before and after the outage, and how long writing may take afterwards."""
INFLUX_CONFIG = """
reporting-disabled = true
bind-address = "127.0.0.1:{rpc}"
[meta]
  dir = "{folder}/meta"
[data]
  dir = "{folder}/data"
  wal-dir = "{folder}/wal"
  query-log-enabled = false
[http]
  bind-address = "127.0.0.1:{port}"
  log-enabled = false
"""


@dataclass(frozen=True)
class Database:
    """A database that can be taken away.

    Attributes:
        take_away: makes it unavailable.
        bring_back: makes it available again.
        count: returns the beats that it holds.
        influx: how the monitor writes to it; None: it is the state folder's.
    """

    take_away: Callable[[], None]
    bring_back: Callable[[], None]
    count: Callable[[], int]
    influx: InfluxSettings | None = None


def lock_embedded(state: Path) -> Database:
    """Return the embedded store, which another program locks."""
    locks: list[sqlite3.Connection] = []

    def take_away() -> None:
        locks.append(sqlite3.connect(state / "monitor.sqlite", isolation_level=None, timeout=30))
        locks[0].execute("BEGIN EXCLUSIVE")

    def bring_back() -> None:
        locks[0].execute("ROLLBACK")
        locks.pop().close()

    def count() -> int:
        with sqlite3.connect(state / "monitor.sqlite") as own:
            return int(own.execute("SELECT count(*) FROM beat").fetchone()[0])

    return Database(take_away, bring_back, count)


class InfluxServer:
    """A real InfluxDB 1.x on this machine, which is killed."""

    def __init__(self, folder: Path) -> None:
        """Start it.

        Raises:
            ConfigError: it is not installed.
        """
        program = shutil.which("influxd") or os.environ.get("WARDROUND_INFLUXD", "")
        if not program:
            raise ConfigError("InfluxDB 1.x is not installed: apt install influxdb, or set WARDROUND_INFLUXD")
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            second.bind(("127.0.0.1", 0))
            port, rpc = first.getsockname()[1], second.getsockname()[1]
        folder.mkdir()
        self._arguments = [program, "-config", str(folder / "influxdb.conf")]
        (folder / "influxdb.conf").write_text(INFLUX_CONFIG.format(folder=folder, port=port, rpc=rpc))
        self._log, self.url = folder / "log", f"http://127.0.0.1:{port}"
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._arguments, stdout=log, stderr=log)
        end = time.monotonic() + 60
        while time.monotonic() < end:
            try:
                with urllib.request.urlopen(self.url + "/ping", timeout=1):
                    return
            except OSError:
                time.sleep(0.1)
        raise ConfigError(f"{self._arguments[0]} does not answer: see {self._log}")

    def kill(self) -> None:
        """Kill it without notice."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(30)
            self._process = None

    def count(self) -> int:
        """Return the beats that it holds."""
        query = urllib.parse.urlencode({"db": "wardround", "q": 'SELECT count("seconds") FROM "beats"."beat"'})
        with urllib.request.urlopen(f"{self.url}/query?{query}", timeout=60) as answer:
            series = json.loads(answer.read())["results"][0].get("series", [])
        return sum(int(row[1]) for item in series for row in item["values"])


def measure_outage(run: Path, patients: int, seconds: float, workers: int) -> dict[str, Any]:
    """Return what was scored and stored, with the embedded store and with an InfluxDB where one is installed.

    Args:
        run: the run whose model scores.
        patients: devices, each with 3 leads at 250 Hz, in real time.
        seconds: of the outage; the load lasts BEFORE_SECONDS and AFTER_SECONDS longer.
        workers: worker processes.
    """
    out: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        state = Path(scratch) / "embedded"
        settings = Settings(NewModel(run), state, port=0, workers=workers)
        out["embedded store, locked"] = asyncio.run(_measure(settings, lock_embedded(state), patients, seconds))
        try:
            server = InfluxServer(Path(scratch) / "influxdb")
        except ConfigError as error:
            return out | {"InfluxDB, killed": str(error)}
        try:
            influx = InfluxSettings(server.url)
            database = Database(server.kill, server.start, server.count, influx)
            settings = Settings(NewModel(run), Path(scratch) / "state", port=0, workers=workers, influx=influx)
            out["InfluxDB, killed"] = asyncio.run(_measure(settings, database, patients, seconds))
        finally:
            server.kill()
    return out


async def _measure(settings: Settings, database: Database, patients: int, seconds: float) -> dict[str, Any]:
    context = multiprocessing.get_context("spawn")
    async with run_service(settings) as running:
        result = context.Queue()
        length = BEFORE_SECONDS + seconds + AFTER_SECONDS
        arguments = (running.url, running.tokens.first("device").token, patients, length, result)
        sender = context.Process(target=send_load, args=arguments, daemon=True)
        sender.start()
        await asyncio.sleep(BEFORE_SECONDS)
        before = await asyncio.to_thread(database.count)
        await asyncio.to_thread(database.take_away)
        held, spooled, refused, end = 0, 0, 0, time.monotonic() + seconds
        while time.monotonic() < end:
            await asyncio.sleep(0.5)
            lines = running.ward.store.lines
            held = max(held, running.ward.store.queued + (lines.queued if lines is not None else 0))
            spooled = max(spooled, lines.spooled_bytes if lines is not None else 0)
            refused = max(refused, running.ward.refused["busy"])
        await asyncio.to_thread(database.bring_back)
        back = time.monotonic()
        while sender.is_alive():
            await asyncio.sleep(0.5)
        await asyncio.sleep(3)
        written = await asyncio.to_thread(running.ward.store.flush, FLUSH_SECONDS)
        sent = result.get(timeout=10)
        stored = await asyncio.to_thread(database.count)
        return summarise_outage(running, sent, stored) | {
            "beats_stored_before_it": before,
            "all_written": written,
            "most_rows_waiting": held,
            "most_bytes_in_the_spool": spooled,
            "requests_refused": refused,
            "seconds_from_its_return_to_the_end": round(time.monotonic() - back, 1),
        }


def summarise_outage(running: Running, sent: dict[str, float], stored: int) -> dict[str, Any]:
    """Return samples and beats that were sent, taken, scored and stored."""
    ward = running.ward
    scored = sum(worker.load.scored for worker in ward.workers)
    return {
        "samples_sent": int(sent["sent"]),
        "samples_taken": sum(stream.total for stream in ward.streams.values()),
        "samples_lost": sum(stream.sequencer.losses.lost for stream in ward.streams.values()),
        "samples_shed": sum(worker.load.shed for worker in ward.workers),
        "beats_scored": scored,
        "beats_stored": stored,
        "beats_missing": scored - stored,
        "failed_writes": ward.store.failures + (ward.store.lines.failures if ward.store.lines is not None else 0),
    }
