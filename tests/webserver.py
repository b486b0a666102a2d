"""A web server on this machine that breaks off, truncates, lies, and asks for patience."""

from __future__ import annotations

import hashlib
import socket
import ssl
import threading
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, ClassVar

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

BIG = bytes(range(256)) * 1200  # several chunks of a download, and no two bytes beside one another alike
FILES = {
    "100.hea": b"100 2 360\n",
    "100.dat": BIG,
    "sub/deep/x.csv": b"a,b\n1,2\n",
    "LICENSE.txt": b"ODC-By\n",
    "extra/notes.html": b"<p>",
}


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class Server:
    """Files over HTTP. `faults[path]` are what goes wrong with the next GETs of a path, one after the other."""

    def __init__(self) -> None:
        self.files = dict(FILES)
        self.etags = {path: f'"{sha(content)[:8]}"' for path, content in FILES.items()}
        self.faults: dict[str, list[Any]] = defaultdict(list)
        self.always: dict[str, Any] = {}
        self.log: list[tuple[str, str, dict[str, str]]] = []
        self.hold = threading.Event()
        self.ranges = self.head = True
        self.sums()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version: ClassVar[str] = "HTTP/1.1"
            disable_nagle_algorithm = True

            def log_message(self, format: str, *args: Any) -> None: ...

            def do_HEAD(self) -> None:
                outer.answer(self, body=False)

            def do_GET(self) -> None:
                outer.answer(self, body=True)

        class Http(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None: ...

        self.http = Http(("127.0.0.1", 0), Handler)
        self.base = f"http://127.0.0.1:{self.http.server_address[1]}/files/toy/"
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def sums(self, **wrong: str) -> None:
        lines = [
            f"{wrong.get(path) or sha(content)}  {path}\n" for path, content in self.files.items() if "SUMS" not in path
        ]
        self.files["SHA256SUMS.txt"] = "".join(lines).encode()

    def list_requests(self, path: str, method: str = "GET") -> list[dict[str, str]]:
        return [headers for how, name, headers in self.log if (how, name) == (method, path)]

    def answer(self, request: BaseHTTPRequestHandler, body: bool) -> None:
        path = request.path.removeprefix("/files/toy/")
        self.log.append((request.command, path, dict(request.headers)))
        if not body and not self.head:
            request.send_error(405)
            return
        fault = self.always.get(path)
        if body and self.faults[path]:
            fault = self.faults[path].pop(0)
        if callable(fault):
            fault(request)
            return
        if isinstance(fault, tuple):
            status, headers = fault
            request.send_response(status)
            for name, value in {"Content-Length": "0", **headers}.items():
                request.send_header(name, value)
            request.end_headers()
            return
        content = self.files.get(path)
        if content is None:
            request.send_error(404)
            return
        if fault == "other bytes":
            content = content[::-1]
        etag = self.etags.get(path, "")
        start, status = 0, 200
        given = request.headers.get("Range")
        fresh = request.headers.get("If-Range") in (None, etag)
        if body and given and ((self.ranges and fresh) or fault == "lie about the version"):
            start, status = int(given.removeprefix("bytes=").rstrip("-")), 206
            if start >= len(content):
                request.send_response(416)
                request.send_header("Content-Range", f"bytes */{len(content)}")
                request.send_header("Content-Length", "0")
                request.end_headers()
                return
        size = len(content) - start
        if fault == "wrong place":
            start = max(0, start - 7)
        request.send_response(status)
        if status == 206:
            request.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if etag:
            request.send_header("ETag", etag)
        if fault == "says less":
            size //= 2
        if fault == "says more":
            size += 100
        if fault == "gzip":
            request.send_header("Content-Encoding", "gzip")
        if fault == "no length":
            request.send_header("Connection", "close")
        elif fault in ("chunks", "broken chunks"):
            request.send_header("Transfer-Encoding", "chunked")
        else:
            request.send_header("Content-Length", str(size))
        request.end_headers()
        if not body:
            return
        if fault == "silent":
            self.hold.wait(120)
            return
        half = len(content[start:]) // 2
        if fault == "break":
            request.wfile.write(content[start : start + half])
            request.wfile.flush()
            request.connection.shutdown(socket.SHUT_RDWR)
        elif fault in ("chunks", "broken chunks"):
            for first in (0, half):
                piece = content[first:half] if first == 0 else content[half:]
                request.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                if fault == "broken chunks":
                    request.close_connection = True
                    return
            request.wfile.write(b"0\r\n\r\n")
        elif fault == "pause":
            request.wfile.write(content[start : start + half])
            request.wfile.flush()
            self.hold.wait(120)
        else:
            request.wfile.write(content[start : start + size])
        if fault in ("no length", "says more"):
            request.close_connection = True

    def close(self) -> None:
        self.hold.set()
        self.http.shutdown()
        self.http.server_close()


def certificate(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """Return a server's side of TLS with a certificate of its own for 127.0.0.1, and the file that holds it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(True, None), True)
        .sign(key, hashes.SHA256())
    )
    public, private = folder / "tls.crt", folder / "tls.key"
    public.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(public, private)
    return context, public
