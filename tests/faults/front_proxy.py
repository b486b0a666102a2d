"""A reverse proxy in front of the server that can answer 502 in its stead, as one does whose server is unreachable.

As a program: `python -m tests.faults.front_proxy HOST:PORT TARGET_PORT SERVER_STATE SHARE_FILE`; the file holds the
share of requests that are answered with 502. Of every second one of them the server's answer is thrown away, as when it
comes too late; the server has never heard of the others.
"""

from __future__ import annotations

import http.client
import random
import ssl
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

OWN_HEADERS = ("content-length", "transfer-encoding", "connection", "date", "server")
"""Headers of a reply that are each connection's own."""


class Proxy(ThreadingHTTPServer):
    """Passes requests on to a server on loopback.

    Args:
        address: host and port to listen on.
        target: the server's port.
        state: the server's state folder, for its certificate.
        share: the file with the share of requests that get 502.
    """

    daemon_threads = True

    def __init__(self, address: tuple[str, int], target: int, state: Path, share: Path) -> None:
        super().__init__(address, Handler)
        self.target, self.share = target, share
        self.random = random.Random(0)
        self.trusted = ssl.create_default_context(cafile=state / "ca.pem")
        own = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        own.load_cert_chain(state / "server.pem", state / "server.key")
        # without handshakes here, one client that does not answer would stop all others
        self.socket = own.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    def handle_error(self, request: object, client_address: object) -> None:
        """Write nothing: connections end early on a bad network."""


class Handler(BaseHTTPRequestHandler):
    """One connection of a client."""

    protocol_version = "HTTP/1.1"
    server: Proxy
    timeout = 60

    def do_POST(self) -> None:
        """Pass a request on, or answer 502."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        bad = self.server.random.random() < float(self.server.share.read_text() or 0)
        if bad and self.server.random.random() < 0.5:
            self._refuse()
            return
        target = http.client.HTTPSConnection("127.0.0.1", self.server.target, timeout=60, context=self.server.trusted)
        try:
            target.request(self.command, self.path, body, dict(self.headers.items()))
            reply = target.getresponse()
            content = reply.read()
        except OSError:
            self._refuse()
            return
        finally:
            target.close()
        if bad:
            self._refuse()
            return
        headers = [(name, value) for name, value in reply.getheaders() if name.lower() not in OWN_HEADERS]
        self._answer(reply.status, headers, content)

    do_GET = do_POST

    def log_message(self, format: str, *args: object) -> None:
        """Write nothing."""

    def _refuse(self) -> None:
        self._answer(502, [("Content-Type", "text/html")], b"<html><h1>502 Bad Gateway</h1></html>")

    def _answer(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def main() -> None:
    """Serve until killed."""
    host, _, port = sys.argv[1].rpartition(":")
    Proxy((host, int(port)), int(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4])).serve_forever()


if __name__ == "__main__":
    main()
