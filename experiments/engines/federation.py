"""The `federation` engine: a server and one SuperNode a site as real processes, on one machine or many.

`run_on_one_machine` starts all of it, for trials and tests, with the same TLS, node keys and processes as between
hospitals. `submit_run` sends a run to a server that is already running. Both follow the run through the files that the
server's app writes, and both stop what they started, also after an error.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from client.node_process import NodeProcess
from client.supernode import NodeSettings, create_node_key
from common.errors import ConfigError, EngineError
from common.files import escape_file_name, write_text
from common.processes import find_free_port, interrupt_on_signals
from common.run_folder import RunFolder, hold_lock, is_lock_held
from experiments.watcher import stage_event
from server.credentials import create_credentials
from server.superlink import Connection, SuperLink

Event = dict[str, object]
OnEvent = Callable[[Event], None]
STATUS_SECONDS = 3.0
"""Seconds between status queries to the server."""
OUTAGE_SECONDS = 180.0
"""How long a run goes on to be followed while its server gives no answer, as while it is started again."""
EARLIER_PART_SECONDS = 60.0
"""How long a run that is resumed waits for the end of its earlier part at the server."""


@dataclass(frozen=True)
class SiteProcess:
    """One site to start.

    Attributes:
        name: the site's name.
        node_config: the settings that `client.site_context` reads at the site.
    """

    name: str
    node_config: Mapping[str, str | int | float | bool]


class Federation:
    """A server and its sites on this machine: a context manager in which `run` may be called several times."""

    def __init__(self, sites: Sequence[SiteProcess], *, log_dir: Path, port: int | None = None) -> None:
        names = [site.name for site in sites]
        if not sites or len(set(names)) != len(names):
            raise ConfigError(f"a federation needs sites with different names, not {names}")
        self._sites, self._log_dir, self._port = sites, log_dir, port
        self._ended: set[str] = set()
        self._exits = ExitStack()
        self._starting = names
        self.nodes: dict[str, NodeProcess] = {}

    def __enter__(self) -> Federation:
        with ExitStack() as exits:
            state = Path(tempfile.mkdtemp(prefix="wardround-"))
            exits.callback(shutil.rmtree, state, ignore_errors=True)
            created = create_credentials(state / "server", [])
            port = self._port or find_free_port()
            log = self._log_dir / "superlink.log"
            self.link = exits.enter_context(SuperLink(state / "server", created, port=port, log=log))
            for number, site in enumerate(self._sites, 1):
                short = f"site-{number}"  # a data set may call a hospital what no registered site may be called
                key = state / short / "node.key"
                create_node_key(key)
                self.link.connection.admit(site.name, key.with_name("node.key.pub"), short)
                settings = NodeSettings(
                    site=short,
                    superlink=self.link.connection.address,
                    ca=created.ca,
                    key=key,
                    state=state / short,
                    node_config=site.node_config,
                )
                node = NodeProcess(settings, log=self._log_dir / f"{escape_file_name(site.name)}.log")
                self.nodes[site.name] = node
                exits.callback(node.stop)
                node.launch()
            self._exits = exits.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._exits.close()

    def kill(self, site: str) -> None:
        """Kill a site's processes, as a power failure would."""
        self.nodes[site].kill()

    def run(self, config_json: str, out: Path, on_event: OnEvent | None = None) -> str:
        """Run a configuration to its end; return the run's number.

        Args:
            config_json: the configuration, as JSON.
            out: the run's folder.
            on_event: receives each event.

        Raises:
            EngineError: the run failed; the message has the server's reason.
        """

        def watch(report: OnEvent) -> None:
            while self._starting:  # the server's app has been starting meanwhile
                self.nodes[self._starting[0]].wait_online()
                self._starting.pop(0)
            self._check_processes(report)

        return follow_run(self.link.connection, config_json, out, on_event, watch)

    def _check_processes(self, report: OnEvent) -> None:
        if self.link.poll() is not None:
            raise EngineError(f"the server's process ended during the run: see {self.link.log}")
        for name, node in self.nodes.items():
            if name not in self._ended and node.poll() is not None:
                self._ended.add(name)
                report({"event": "site-ended", "site": name, "log": str(node.log)})
        if len(self._ended) == len(self.nodes):
            raise EngineError(f"every site's process ended: see the logs in {self._log_dir}")


def run_on_one_machine(
    config_json: str,
    out: Path,
    sites: Sequence[SiteProcess],
    *,
    log_dir: Path,
    on_event: OnEvent | None = None,
    port: int | None = None,
) -> None:
    """Start a server and a SuperNode for each site, run once, and stop them.

    Args:
        config_json: the configuration, as JSON.
        out: the run's folder.
        sites: the sites to start.
        log_dir: the folder of the processes' logs.
        on_event: receives every line of `out/events.jsonl`, and `{"event": "site-ended", ...}` where a site's process
            ends early; the run continues without that site.
        port: the server's port; None: a free one.

    Raises:
        EngineError: the run failed.
    """
    with interrupt_on_signals(), Federation(sites, log_dir=log_dir, port=port) as federation:
        federation.run(config_json, out, on_event)


def submit_run(config_json: str, out: Path, *, address: str, ca: Path, on_event: OnEvent | None = None) -> None:
    """Send a run to the server at `address`, follow it, and stop it there if this process is interrupted.

    The server's app writes into `out`, so this must run on the coordinator's machine; the Control API should be
    reachable only from there.
    """
    with interrupt_on_signals(), tempfile.TemporaryDirectory(prefix="wardround-") as state:
        follow_run(Connection(address, ca, Path(state)), config_json, out, on_event)


def follow_run(
    connection: Connection,
    config_json: str,
    out: Path,
    on_event: OnEvent | None = None,
    watch: Callable[[OnEvent], None] | None = None,
    simulation: Mapping[str, int] | None = None,
) -> str:
    """Submit a run and follow `out/events.jsonl` and `out/server.done` until it ends; return its number.

    Both files may exist from an earlier part of the same run: the first is read from its present end, the second is
    removed.

    Args:
        connection: the server.
        config_json: the configuration, as JSON.
        out: the run's folder.
        on_event: receives each event.
        watch: called a few times a second with `on_event`; may raise.
        simulation: settings of Flower's simulation, on a server that simulates its sites.

    Raises:
        EngineError: the run failed.
    """
    report: OnEvent = on_event or (lambda event: None)
    out.mkdir(parents=True, exist_ok=True)
    done, tail = RunFolder(out).server_done, Tail(RunFolder(out).events)
    _stop_earlier_part(connection, out)
    done.unlink(missing_ok=True)
    run = connection.submit(config_json, out, simulation)
    write_text(RunFolder(out).server_run, f"{run}\n")
    status_query, is_over = StatusQuery(connection, run, RunFolder(out).server_lock, report), False
    try:
        while True:
            for event in tail.read_new():
                report(event)
            if done.exists():
                break
            if watch:
                watch(report)
            if (ending := status_query.ask_if_due()) and not done.exists():
                raise EngineError(f"the server's app ended without a result: {ending}")
            time.sleep(0.2)
        is_over = True
    except BaseException:
        is_over = _stop_run(connection, run)
        raise
    finally:
        if is_over:  # else it may go on at the server: it is stopped when the run is resumed
            RunFolder(out).server_run.unlink(missing_ok=True)
    for event in tail.read_new():
        report(event)
    outcome = json.loads(done.read_text(encoding="utf-8"))
    if outcome["status"] != "complete":
        raise EngineError(_one_line(str(outcome.get("error") or "the run failed without a reason")))
    return run


class StatusQuery:
    """Asks a server every few seconds whether a run has ended, and waits for a server that is gone for a while.

    Args:
        connection: the server.
        run: the run's number.
        lock: held by the server's app while it runs: Flower notices its death after a minute.
        report: gets a line when the server gives no answer, and when it is back.
    """

    def __init__(self, connection: Connection, run: str, lock: Path, report: OnEvent) -> None:
        self._connection, self._run, self._lock, self._report = connection, run, lock, report
        self._was_held, self._free_times = False, 0
        self._last_query = self._last_answer = time.monotonic()
        self._gone = False

    def ask_if_due(self) -> str:
        """Return how the run ended, as one line; "" while it goes on, or before it is time to ask again.

        Raises:
            EngineError: the server has given no answer for OUTAGE_SECONDS, or does not know the run.
        """
        from server.control import NoAnswer

        if time.monotonic() - self._last_query < STATUS_SECONDS:
            return ""
        if self._has_app_ended():
            return "its process ended"
        try:
            status, details = self._connection.run_status(self._run)
        except NoAnswer as error:
            silence = time.monotonic() - self._last_answer
            if silence > OUTAGE_SECONDS:
                raise
            if not self._gone:
                self._report(stage_event(f"{error}; waiting for it up to {OUTAGE_SECONDS:.0f} s"))
            self._gone = True
            return ""
        finally:
            self._last_query = time.monotonic()
        if self._gone:
            self._report(stage_event("the server answers again"))
        self._last_answer, self._gone = self._last_query, False
        return _one_line(details or status) if status.startswith("finished") else ""

    def _has_app_ended(self) -> bool:
        """Return whether the app's lock, once held, has been free at two questions: it writes its result before."""
        held = is_lock_held(self._lock)
        self._was_held |= held
        self._free_times = 0 if held or not self._was_held else self._free_times + 1
        return self._free_times > 1


def _stop_run(connection: Connection, run: str) -> bool:
    """Stop a run at its server; return False if the server gave no answer, so that it may go on there."""
    from server.control import NoAnswer

    try:
        connection.stop_run(run)
    except NoAnswer:
        return False
    except EngineError:  # it has ended already
        pass
    return True


def _stop_earlier_part(connection: Connection, out: Path) -> None:
    """Stop what the server still does for the run of this folder, if the process that followed it was killed.

    Raises:
        DataError: it has not ended after a minute.
    """
    files = RunFolder(out)
    with suppress(OSError, EngineError):
        connection.stop_run(files.server_run.read_text(encoding="utf-8").strip())
    with hold_lock(files.server_lock, EARLIER_PART_SECONDS):
        pass  # the server's app has ended and has written its last file


class Tail:
    """Reads the complete lines of a JSON-lines file that are appended after `start` (bytes; default: its end)."""

    def __init__(self, file: Path, start: int | None = None) -> None:
        self._file = file
        present = file.stat().st_size if file.exists() else 0
        self._position = present if start is None else start

    def read_new(self) -> Iterator[Event]:
        """Yield the lines since the last call; an incomplete line is left for the next call."""
        if not self._file.exists():
            return
        with self._file.open("rb") as file:
            file.seek(self._position)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self._position += len(line)
                if line.strip():
                    yield json.loads(line)


def _one_line(text: str) -> str:
    return " ".join(text.split())
