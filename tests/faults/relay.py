"""A relay of TCP connections on loopback that can be cut, as a network is."""

from __future__ import annotations

import selectors
import socket
import threading
from contextlib import suppress

CHUNK = 1 << 16


class Relay:
    """Passes on what it receives, until `cut`; then connections stay open and nothing goes through, or new ones come.

    Args:
        target: host and port of the server.

    Attributes:
        port: the loopback port that it listens on.
    """

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open = threading.Event()
        self._open.set()
        self._closed = False
        self._ends: set[socket.socket] = set()
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Let nothing through: bytes in both directions wait, as on a link without answers."""
        self._open.clear()

    def join(self) -> None:
        """Let everything through again."""
        self._open.set()

    def reset(self) -> None:
        """Close every connection at once; new ones are accepted."""
        with self._lock:
            ends, self._ends = self._ends, set()
        for end in ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End the relay."""
        self._closed = True
        self._open.set()
        self._listener.close()
        self.reset()

    def _accept(self) -> None:
        while not self._closed:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        with near, suppress(OSError):
            self._open.wait()
            with socket.create_connection(self._target, timeout=10) as far, selectors.DefaultSelector() as ready:
                far.settimeout(None)
                pairs = {near: far, far: near}
                with self._lock:
                    self._ends |= set(pairs)
                for each in pairs:
                    ready.register(each, selectors.EVENT_READ, each)
                while True:
                    for key, _ in ready.select():
                        end: socket.socket = key.data
                        data = end.recv(CHUNK)
                        self._open.wait()
                        if not data:
                            return
                        pairs[end].sendall(data)
                    if self._closed:
                        return
