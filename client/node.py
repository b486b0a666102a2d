"""A hospital's node: a session with the coordinator's server, and the worker that answers its messages.

`Node` signs on at the server (client/fleet.py), fetches messages and hands them to the worker (client/worker.py), a
process that stays and has no part in the network. It distinguishes a key that was never registered from a session that
the server still counts as open. What must not be lost when it is killed is in its state folder: the number of its open
session, and the message in work, which the next start answers with an error.
"""

from __future__ import annotations

import hashlib
import logging
import time
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from flwr.app import Message

from client.fleet import Delivery, FleetSession, NodeRefused, RunEnded, ServerUnavailable
from client.gate.audit_entry import AuditEntry
from client.gate.audit_log import AuditLog, get_audit_path
from client.message_head import read_head, write_head
from client.supernode import NodeSettings, check_server, require_settings_only
from client.worker_channel import Parcel
from client.worker_process import WorkerLink, WorkerProcess
from common import files
from common.errors import DataError, EngineError
from common.receipts import RECEIPT_TYPE, pack_receipt

log = logging.getLogger("wardround.node")
RETRY_SECONDS = 10.0
"""Pause before another attempt to connect."""
REFUSAL_RETRY_SECONDS = 150.0
"""How long to retry with a refused key that was admitted before: another client's session may be ending."""
LOST_SECONDS = 60.0
"""How long a session goes on asking while the server does not answer; then the node signs on anew."""
SILENT_SECONDS = 5.0
"""How long no answer passes for a moment of the network's, of which only the log has a line."""
SHORTEST_PAUSE, LONGEST_PAUSE = 0.15, 3.0
"""Seconds between two questions for work; each takes the server about 10 ms of a core."""
PAUSE_SHARE = 0.15
"""The pause as a share of the time without work, within these limits."""


class Node:
    """A hospital's SuperNode: a session with the server, and the worker that answers its messages.

    Args:
        settings: who and where.
        log: file for the output of the worker; default: `supernode.log` in the state folder.
        worker: a worker that another user runs; None: one is started here.

    Attributes:
        number: the node's number at the server while it is connected, else 0.
        beat: called at least every few seconds, also while the worker works: a sign that the node does not hang.
    """

    def __init__(self, settings: NodeSettings, *, log: Path | None = None, worker: WorkerLink | None = None) -> None:
        self.settings = settings
        self.log = log or settings.state / "supernode.log"
        self.worker = worker or WorkerProcess(settings.node_config, settings.state, self.log)
        self.number = 0
        self.beat: Callable[[], None] = lambda: None
        self._say: Callable[[str], None] = lambda line: None
        self._session: FleetSession | None = None
        self._last_message = ""
        self._refusals: dict[int, str] = {}

    def run(self, say: Callable[[str], None] = print) -> None:
        """Serve until interrupted, through restarts of worker or server.

        A refused key that was admitted before tries again for REFUSAL_RETRY_SECONDS: another client may hold it, or
        the server may still count a lost session as open.

        Args:
            say: called with each line for the user.

        Raises:
            EngineError: the first contact failed; later failures are retried.
        """
        s, connected, refused_since = self.settings, False, None
        self._say = say
        s.state.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            while True:
                try:
                    node = self._connect()
                    say(f"{s.site}: connected to {s.superlink} as node {node}; log: {self.log}")
                    connected, refused_since = True, None
                    self._serve()
                except EngineError as error:
                    if isinstance(error, NodeRefused):
                        refused_since = refused_since or time.monotonic()
                        may_retry = connected or self._admitted_before()
                        if not may_retry or time.monotonic() - refused_since > REFUSAL_RETRY_SECONDS:
                            raise
                    elif not connected:
                        raise
                    say(f"{error}; trying again in {RETRY_SECONDS:.0f} s")
                    self._disconnect()
                    self.beat()
                    time.sleep(RETRY_SECONDS)
        finally:
            self._disconnect()
            self.worker.stop()

    def _connect(self) -> int:
        """Sign on and start the worker; return the node's number.

        Raises:
            NodeRefused: the server does not admit the key.
            EngineError: the server cannot be reached.
        """
        s = self.settings
        check_server(s.superlink, s.ca)
        self.worker.keep_running()
        self._session = FleetSession(s.superlink, s.ca, s.key)
        self._session.beat = lambda: self.beat()
        try:
            node = self._session.open(self._read_open_session())
        except NodeRefused:
            raise NodeRefused(self._why_refused()) from None
        files.write_bytes(s.state / "admitted", self._identity().encode())
        files.write_bytes(s.state / "session", f"{self._identity()} {node}".encode())
        self._refuse_unfinished()
        self.number = node
        return node

    def _serve(self) -> None:
        """Hand messages to the worker until an error ends the session.

        Raises:
            EngineError: the server refuses this node, or cannot be reached for a while.
        """
        session = self._session
        assert session is not None
        last_message, failing_since, waits = time.monotonic(), 0.0, False
        while True:
            self.beat()
            try:
                delivery = session.pull()
                if waits:
                    self._say(f"{self.settings.site}: {self.settings.superlink} answers again")
                failing_since, waits = 0.0, False
            except ServerUnavailable as error:
                now = time.monotonic()
                failing_since = failing_since or now
                log.warning("%s", error)
                if now - failing_since > LOST_SECONDS:
                    raise
                if now - failing_since >= SILENT_SECONDS and not waits:
                    self._say(
                        f"{self.settings.site}: {error}; waiting for it, and signing on anew after {LOST_SECONDS:.0f} s"
                    )
                    waits = True
                delivery = None
            if delivery is not None:
                self._answer(session, delivery)
                last_message = time.monotonic()
                continue
            self.worker.keep_running()
            time.sleep(choose_pause(time.monotonic() - max(last_message, failing_since)))

    def _answer(self, session: FleetSession, delivery: Delivery) -> None:
        """Send the worker's reply to a message, or an error; a lost reply ends nothing else."""
        meta, start = delivery.head.metadata, time.monotonic()
        if meta.message_type == RECEIPT_TYPE:
            self._send_receipt(session, delivery.head)
            return
        self._last_message = meta.message_id
        log.info("run %s: %s, %d bytes", meta.run_id, meta.message_type, sum(map(len, delivery.objects.values())))
        pending = self.settings.state / "pending"
        files.write_bytes(pending, write_head(delivery.head))
        try:
            try:
                self._require_settings_only(session, meta.run_id, meta.message_type)
                fields = {"run": str(meta.run_id), "node": str(meta.dst_node_id), "root": meta.message_id}
                request = Parcel("request", fields, delivery.objects)
                reply = self.worker.ask(request, lambda: self._is_awaited(session, meta.run_id))
            except EngineError as error:
                log.error("run %s: %s: %s", meta.run_id, meta.message_type, error)
                session.push_error(delivery.head, *self._pack_reason(error))
            except KeyboardInterrupt:
                with suppress(EngineError):
                    session.push_error(delivery.head, *self._pack_reason(EngineError("the site's client was stopped")))
                raise
            else:
                proto, tree = (bytes.fromhex(str(reply.fields[key])) for key in ("message", "tree"))
                session.push(proto, tree, dict(reply.objects), time.monotonic() - start)
                log.info("run %s: %s answered in %.2f s", meta.run_id, meta.message_type, time.monotonic() - start)
        except NodeRefused:
            raise
        except EngineError as error:
            log.warning("run %s: the reply was not sent: %s", meta.run_id, error)
        pending.unlink(missing_ok=True)

    def _send_receipt(self, session: FleetSession, question: Message) -> None:
        """Say which message came before a question; without an answer the server waits as it did before."""
        try:
            session.push_content(question, pack_receipt(self._last_message))
        except NodeRefused:
            raise
        except EngineError as error:
            log.warning("run %s: a receipt was not sent: %s", question.metadata.run_id, error)

    def _is_awaited(self, session: FleetSession, run: int) -> bool:
        """Return whether somebody still waits for a run's reply; asked every few seconds while the worker works."""
        self.beat()
        return session.is_running(run)

    def _require_settings_only(self, session: FleetSession, run: int, kind: str) -> None:
        """Raise `EngineError` if a run's bundle holds more than settings; each run is checked once."""
        if run not in self._refusals:
            try:
                require_settings_only(session.fetch_bundle(run))
                self._refusals = {run: ""}
            except (RunEnded, ServerUnavailable):
                raise
            except EngineError as error:
                self._refusals = {run: str(error)}
            except (zipfile.BadZipFile, KeyError, TypeError, ValueError):
                self._refusals = {run: "refused a run whose settings cannot be read"}
        if self._refusals[run]:
            self._log_refusal(run, kind)
            raise EngineError(self._refusals[run])

    def _log_refusal(self, run: int, kind: str) -> None:
        """Write a refusal into the hospital's audit log; where that fails, the node's own log says so."""
        config, entry = self.settings.node_config, AuditEntry("refused", kind, reason=self._refusals[run])
        if "data" not in config or "state" not in config:
            return  # a simulated site keeps none
        path = get_audit_path(Path(str(config["state"])), self.settings.site)
        try:
            AuditLog(path).append(replace(entry, server=self.settings.superlink, server_run=str(run)))
        except DataError as error:
            log.error("%s", error)

    def _refuse_unfinished(self) -> None:
        """Answer the message at which an earlier client ended, so that the server need not wait for it."""
        pending, session = self.settings.state / "pending", self._session
        if session is None or not pending.exists():
            return
        with suppress(Exception):  # a damaged file costs the server's patience, no more
            head = read_head(pending.read_bytes())
            session.push_error(head, *self._pack_reason(EngineError("the site's client ended during this request")))
        pending.unlink(missing_ok=True)

    def _pack_reason(self, error: EngineError) -> tuple[str, int]:
        """Return the reason and code of an error reply; the text of these errors holds no data."""
        from common.messages import ERROR_CODE, pack_error

        return pack_error(self.settings.site, type(error).__name__, str(error)), ERROR_CODE

    def _disconnect(self) -> None:
        """Sign off; does nothing without a session."""
        if self._session is not None:
            if self._session.close():  # else the server counts the session as open: the next one ends it first
                (self.settings.state / "session").unlink(missing_ok=True)
            self._session, self.number = None, 0

    def _identity(self) -> str:
        digest = hashlib.sha256(self.settings.key.read_bytes()).hexdigest()
        return f"{self.settings.superlink} {digest}"

    def _admitted_before(self) -> bool:
        file = self.settings.state / "admitted"
        return file.exists() and file.read_text() == self._identity()

    def _read_open_session(self) -> int:
        """Return the node's number in a session that was not closed, as by a power cut; 0: there is none."""
        file = self.settings.state / "session"
        with suppress(OSError, ValueError):
            identity, _, node = file.read_text().rpartition(" ")
            return int(node) if identity == self._identity() else 0
        return 0

    def _why_refused(self) -> str:
        s = self.settings
        if self._admitted_before():
            return f"{s.site}: {s.superlink} still counts this site's last session as open, or no longer admits {s.key}"
        return f"{s.site}: {s.superlink} does not admit {s.key}: send {s.key}.pub to the coordinator to be registered"


def choose_pause(idle: float) -> float:
    """Return the seconds to the next question for work: a share of the time without work, within limits.

    A round is waited for with little delay, and a node without a run asks as rarely as Flower's own.

    >>> [round(choose_pause(idle), 2) for idle in (0.0, 4.0, 3600.0)]
    [0.15, 0.6, 3.0]
    """
    return min(max(PAUSE_SHARE * idle, SHORTEST_PAUSE), LONGEST_PAUSE)
