"""Serves the page of a run while it works, on this machine only (127.0.0.1); off unless it is asked for.

What happened is read from the run's events.jsonl, which the server of the federation writes; the command adds what no
server knows: the title, the stage, the baselines. Nothing can be changed through the page, and no request leaves it.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from common.errors import EngineError
from common.run_folder import RunFolder
from experiments.live.progress import RunProgress
from experiments.monitoring.log_followers import LineFollower, parse_events
from experiments.watcher import Event, Watcher

HOST = "127.0.0.1"
HERE = Path(__file__).parent
REPORT_STYLE = HERE.parent / "report" / "templates" / "report.css"
LIVE_STYLE = """
.live { max-width: 72rem; margin: 0 auto; }
.live progress { width: 100%; accent-color: var(--federated); }
.live svg .axis { stroke: var(--rule); }
.live svg .curve { fill: none; stroke: var(--federated); stroke-width: 2; }
.live svg .dot { fill: var(--federated); }
.live svg text { fill: var(--muted); font-size: 11px; }
.live svg .end { text-anchor: end; }
.live svg .middle { text-anchor: middle; }
"""
POLICY = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'"
FROM_COMMAND = frozenset({"start", "stage", "baseline", "baseline-failed", "site-ended"})
"""Events that no file has: the command hands them over."""


class LivePage:
    """A watcher that passes events on, and knows what the page shows.

    Args:
        inner: the watcher that gets every event too.
    """

    def __init__(self, inner: Watcher) -> None:
        self._inner = inner
        self._progress = RunProgress()
        self._lines: LineFollower | None = None
        self._lock = threading.Lock()
        self._over = False

    def handle(self, event: Event) -> None:
        """Take an event of the command, and pass it on."""
        with self._lock:
            if event["event"] == "start":
                self._progress = RunProgress()
                self._lines = LineFollower(RunFolder(Path(event["folder"])).events)
            if event["event"] in FROM_COMMAND:
                self._progress.handle(event)
        self._inner.handle(event)

    def finish(self) -> None:
        """Say that the command is at its end."""
        with self._lock:
            self._over = True

    def describe(self) -> dict[str, Any]:
        """Return what the page shows, with the events that were written since the last call."""
        with self._lock:
            if self._lines is not None:
                _, lines = self._lines.read_new()
                for event in parse_events(lines):
                    if event.get("event") not in FROM_COMMAND:
                        self._progress.handle(event)
            state = self._progress.describe()
            return state | ({"status": "ended", "seconds_left": None} if self._over else {})


def build_answers(page: LivePage) -> dict[str, tuple[str, bytes]]:
    """Return the type and content of each address; that of /state.json is made anew for each request."""
    style = REPORT_STYLE.read_text(encoding="utf-8") + LIVE_STYLE
    return {
        "/": ("text/html; charset=utf-8", (HERE / "page.html").read_bytes()),
        "/style.css": ("text/css; charset=utf-8", style.encode()),
        "/live.js": ("text/javascript; charset=utf-8", (HERE / "live.js").read_bytes()),
        "/state.json": ("application/json", json.dumps(page.describe()).encode()),
    }


class _Handler(BaseHTTPRequestHandler):
    page: LivePage

    def do_GET(self) -> None:
        """Answer a request of this machine; a name other than this machine's own is refused."""
        host = (self.headers.get("Host") or "").rpartition(":")[0]
        if host not in (HOST, "localhost"):
            self.send_error(403, "this page is for this machine only")
            return
        answer = build_answers(self.page).get(self.path.partition("?")[0])
        if answer is None:
            self.send_error(404)
            return
        self.send_response(200)
        for name, value in (
            ("Content-Type", answer[0]),
            ("Content-Length", str(len(answer[1]))),
            ("Content-Security-Policy", POLICY),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
            ("Referrer-Policy", "no-referrer"),
        ):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer[1])

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing."""


@contextmanager
def serve_live_page(inner: Watcher, port: int = 0) -> Iterator[tuple[LivePage, str]]:
    """Serve the page until the block ends; yield the watcher of the run, and the page's address.

    Args:
        inner: the watcher that gets every event too.
        port: the port; 0: any that is free.

    Raises:
        EngineError: the port cannot be listened on.
    """
    page = LivePage(inner)
    handler = type("Handler", (_Handler,), {"page": page})
    try:
        server = ThreadingHTTPServer((HOST, port), handler)
    except OSError as error:
        raise EngineError(f"--watch: cannot listen on {HOST}:{port}: {error.strerror or error}") from None
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, name="live page", daemon=True)
    thread.start()
    try:
        yield page, f"http://{HOST}:{server.server_address[1]}/"
    finally:
        page.finish()
        server.shutdown()
        server.server_close()
        thread.join(5)
