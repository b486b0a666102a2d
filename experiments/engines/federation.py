"""The `federation` engine: a server and one SuperNode a site as real processes, on one machine or many.

`run_on_one_machine` starts all of it, for try-outs and tests: the same TLS, node keys and processes as
between hospitals. `submit` hands a run to a server that stands already. Both follow the run through the files
that the server's app writes, and both end what they started, whatever happens.
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

from client.supernode import Node, NodeSettings, create_node_key
from common.errors import ConfigError, EngineError
from common.processes import ONE_THREAD_VARIABLES, find_free_port, interrupt_on_signals
from common.run_folder import RunFolder
from server import credentials
from server.superlink import Connection, SuperLink

Event = dict[str, object]
OnEvent = Callable[[Event], None]
STATUS_EVERY = 5.0  # seconds between questions to the server; each costs a process of about a second


@dataclass(frozen=True)
class SiteProcess:
    """One site to start: its name, and what `client.site_context` reads there (numbers, truth values and text)."""

    name: str
    node_config: Mapping[str, str | int | float | bool]


class Federation:
    """A whole federation on this machine: enter it, `run` as often as wanted, leave it."""

    def __init__(self, sites: Sequence[SiteProcess], *, log_dir: Path, port: int | None = None) -> None:
        names = [site.name for site in sites]
        if not sites or len(set(names)) != len(names):
            raise ConfigError(f"a federation needs sites with names of their own, not {names}")
        self._sites, self._log_dir, self._port = sites, log_dir, port
        self._ended: set[str] = set()
        self._ends = ExitStack()
        self.nodes: dict[str, Node] = {}

    def __enter__(self) -> Federation:
        with ExitStack() as ends:
            state = Path(tempfile.mkdtemp(prefix="wardround-"))
            ends.callback(shutil.rmtree, state, ignore_errors=True)
            made = credentials.create_credentials(state / "server", [])
            port = self._port or find_free_port()
            log = self._log_dir / "superlink.log"
            self.link = ends.enter_context(SuperLink(state / "server", made, port=port, log=log))
            for site in self._sites:
                key = state / site.name / "node.key"
                create_node_key(key)
                self.link.connection.register(site.name, key.with_name("node.key.pub"))
                settings = NodeSettings(
                    site=site.name,
                    superlink=self.link.connection.address,
                    ca=made.ca,
                    key=key,
                    state=state / site.name,
                    node_config=site.node_config,
                )
                # One thread a site, as in the other engines: their number changes sums, and so the weights.
                node = Node(settings, log=self._log_dir / f"{site.name}.log", variables=ONE_THREAD_VARIABLES)
                self.nodes[site.name] = node
                ends.callback(node.stop)
                node.launch()
            for node in self.nodes.values():
                node.wait_online()
            self._ends = ends.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.close()

    def kill(self, site: str) -> None:
        """End a site's processes at once, as a power cut would."""
        self.nodes[site].kill()

    def run(self, config_json: str, out: Path, on_event: OnEvent | None = None) -> None:
        """Run to the end; raises `EngineError` with the server's reason if it fails."""
        follow_run(self.link.connection, config_json, out, on_event, self._watch)

    def _watch(self, tell: OnEvent) -> None:
        if self.link.poll() is not None:
            raise EngineError(f"the server's process ended in the middle of the run: see {self.link.log}")
        for name, node in self.nodes.items():
            if name not in self._ended and node.poll() is not None:
                self._ended.add(name)
                tell({"event": "site-ended", "site": name, "log": str(node.log)})
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
    """Start a server and one real SuperNode a site, run once, and end them all.

    `on_event` gets every line of `out/events.jsonl` as it appears, and `{"event": "site-ended", ...}` where a
    site's process ends early; the run goes on without it. Raises `EngineError` if the run fails.
    """
    with interrupt_on_signals(), Federation(sites, log_dir=log_dir, port=port) as federation:
        federation.run(config_json, out, on_event)


def submit_run(config_json: str, out: Path, *, address: str, ca: Path, on_event: OnEvent | None = None) -> None:
    """Hand a run to the server that stands at `address`, follow it, and stop it there if this is interrupted.

    The server's app writes into `out`, so this runs on the coordinator's machine: the Control API should be
    reachable from there alone.
    """
    with interrupt_on_signals(), tempfile.TemporaryDirectory(prefix="wardround-") as state:
        follow_run(Connection(address, ca, Path(state)), config_json, out, on_event)


def follow_run(
    connection: Connection,
    config_json: str,
    out: Path,
    on_event: OnEvent | None = None,
    watch: Callable[[OnEvent], None] | None = None,
    *extra: str,
) -> None:
    """Submit a run and follow `out/events.jsonl` and `out/server.done` until it is over.

    Both may be there from an earlier run that is taken up again: the first is read from its present end, the
    second is removed. `watch` is called a few times a second and may raise.
    """
    tell: OnEvent = on_event or (lambda event: None)
    out.mkdir(parents=True, exist_ok=True)
    done, lines = RunFolder(out).server_done, Tail(RunFolder(out).events)
    done.unlink(missing_ok=True)
    run = connection.submit(config_json, out, *extra)
    asked = time.monotonic()
    try:
        while True:
            for event in lines.fresh():
                tell(event)
            if done.exists():
                break
            if watch:
                watch(tell)
            if time.monotonic() - asked > STATUS_EVERY:
                status, details = connection.run_status(run)
                asked = time.monotonic()
                if status.startswith("finished") and not done.exists():
                    raise EngineError(f"the server's app ended without a result: {_one_line(details or status)}")
            time.sleep(0.2)
    except BaseException:
        with suppress(EngineError):
            connection.stop_run(run)
        raise
    for event in lines.fresh():
        tell(event)
    outcome = json.loads(done.read_text(encoding="utf-8"))
    if outcome["status"] != "complete":
        raise EngineError(_one_line(str(outcome.get("error") or "the run failed without a reason")))


class Tail:
    """The complete lines of a JSON-lines file from `start` on: by default, those that are still to come."""

    def __init__(self, file: Path, start: int | None = None) -> None:
        self._file = file
        present = file.stat().st_size if file.exists() else 0
        self._position = present if start is None else start

    def fresh(self) -> Iterator[Event]:
        """Yield the lines that came since the last call; an unfinished line waits for the next."""
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
