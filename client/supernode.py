"""A hospital's Flower SuperNode: its node key, and a process that is started, watched and restarted.

A SuperNode by itself retries silently for ever. `Node` connects to the server first, with this hospital's certificate
authority file, so that a wrong certificate or an unreachable host gives one clear line. It distinguishes a key that
was never registered from a session that the server still counts as open. And it accepts settings from a run, never
code: each ClientApp process checks the bundle that it was sent, and loads `client.app` from this installation.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import shlex
import socket
import ssl
import sys
import time
import tomllib
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from common.errors import ConfigError, EngineError
from common.processes import ProcessTree, build_environment, check_site_name, find_command, find_free_port, to_toml

FIRST_CONTACT_SECONDS = 60.0
"""Time that the SuperNode has to connect."""
RETRY_SECONDS = 10.0
"""Pause before another attempt to connect."""
REFUSAL_RETRY_SECONDS = 150.0
"""How long to retry with a refused key that was admitted before: a lost node counts as online for about 60 s."""
_APP = "client.app:app"
MAX_BUNDLE_BYTES = 4 << 20
"""Most bytes that a run's settings may unpack to."""


class NodeRefused(EngineError):
    """The server does not know the node key, or counts the key's last session as open: it does not say which."""


@dataclass(frozen=True)
class NodeSettings:
    """Identity of a hospital's node, and address of the server.

    Attributes:
        site: the hospital's name.
        superlink: the server's address, HOST:PORT.
        ca: file of the certificate authority that signed the server's certificate.
        key: file of the private node key.
        state: folder of logs and of state that is kept between messages.
        node_config: the site's name, data folder and policy, as client/site_context.py reads them.

    Raises:
        ConfigError: the name or address is malformed, or a file is missing.
    """

    site: str
    superlink: str
    ca: Path
    key: Path
    state: Path
    node_config: Mapping[str, str | int | float | bool]

    def __post_init__(self) -> None:
        check_site_name(self.site)
        split_address(self.superlink)
        for what, path in (("certificate authority", self.ca), ("node key", self.key)):
            if not path.is_file():
                raise ConfigError(f"no {what} at {path}: {_explain_source(what)}")


def create_node_key(path: Path) -> str:
    """Write a new node key (P-384, OpenSSH format, mode 0600) and `path`.pub, and return the public key's line.

    The public file goes to the coordinator; the private file never leaves the hospital.

    Raises:
        ConfigError: one of the files exists.
    """
    public_path = path.with_name(path.name + ".pub")
    for present in (path, public_path):
        if present.exists():
            raise ConfigError(f"{present} exists: keep it, or move it away to make another key")
    key = ec.generate_private_key(ec.SECP384R1())
    path.parent.mkdir(parents=True, exist_ok=True)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(private)
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    public_path.write_bytes(public + b"\n")
    return public.decode()


def split_address(address: str) -> tuple[str, int]:
    """Return host and port of `HOST:PORT`.

    Raises:
        ConfigError: the address has another form.
    """
    host, colon, port = address.rpartition(":")
    if not colon or not host.strip("[]") or "/" in address or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ConfigError(f"server address {address!r}: give it as HOST:PORT, without https://")
    return host.strip("[]"), int(port)


def check_server(address: str, ca: Path, *, timeout: float = 10.0) -> None:
    """Connect once, to check that a server whose certificate `ca` signed answers at `address`.

    Raises:
        EngineError: it does not; the message is one line that says what to do.
        ConfigError: `ca` is not a certificate file, or the address is malformed.
    """
    host, port = split_address(address)
    try:
        context = ssl.create_default_context(cafile=ca)
    except (ssl.SSLError, OSError):
        raise ConfigError(f"{ca} holds no certificate: ask the coordinator for ca.pem again") from None
    try:
        with (
            socket.create_connection((host, port), timeout=timeout) as raw,
            context.wrap_socket(raw, server_hostname=host),
        ):
            return
    except ssl.SSLCertVerificationError as error:
        raise EngineError(
            f"{address} shows a certificate that {ca} does not vouch for ({error.verify_message}): "
            "ask the coordinator for the right ca.pem or host name"
        ) from None
    except ssl.SSLError as error:
        raise EngineError(f"{address} does not speak TLS ({error.reason}): check host and port") from None
    except socket.gaierror:
        raise EngineError(f"host {host} is unknown: check the name, or this network's DNS") from None
    except OSError as error:
        why = error.strerror or "no answer"
        raise EngineError(
            f"cannot reach {address} ({why}): check that the server runs and that this host may go out to it"
        ) from None


def require_settings_only(bundle: bytes) -> None:
    """Check that a run's bundle (a Flower app as a zip file) holds nothing but settings for the installed apps.

    Raises:
        EngineError: it holds code, or names another client app.
    """
    with zipfile.ZipFile(io.BytesIO(bundle)) as archive:
        if (size := sum(item.file_size for item in archive.infolist())) > MAX_BUNDLE_BYTES:
            raise EngineError(f"refused a run whose bundle unpacks to {size} bytes: settings are small")
        extra = set(archive.namelist()) - {"pyproject.toml", ".info/CONTENT"}
        if extra:
            raise EngineError(f"refused a run that carries code ({len(extra)} files): this site runs its own")
        app = tomllib.loads(archive.read("pyproject.toml").decode())["tool"]["flwr"]["app"]
    if app["components"].get("clientapp") != _APP:
        raise EngineError(f"refused a run whose client is not {_APP}: this site runs no other")


def run_client_app_process() -> None:
    """Handle one ClientApp message in this process, as Flower does, but check the bundle before it is unpacked."""
    import flwr.supernode.runtime.run_clientapp as runtime
    from flwr.supernode.cli import flwr_clientapp

    # if Flower renames this function, the process fails here instead of running unchecked
    unpack = vars(runtime)["install_from_fab"]

    def checked(bundle: bytes, **options: object) -> object:
        require_settings_only(bundle)
        return unpack(bundle, **options)

    vars(runtime)["install_from_fab"] = checked
    flwr_clientapp()


class Node:
    """One SuperNode and the processes that it starts: `launch` and `wait_online`, or `run` until interrupted.

    Args:
        settings: who and where.
        log: file for the SuperNode's output; default: `supernode.log` in the state folder.
        variables: further environment variables of the SuperNode.
    """

    def __init__(
        self, settings: NodeSettings, *, log: Path | None = None, variables: Mapping[str, str] | None = None
    ) -> None:
        self.settings = settings
        self._variables = variables or {}
        self.log = log or settings.state / "supernode.log"
        self._child: ProcessTree | None = None

    def command(self, port: int) -> list[str]:
        """Return the SuperNode's command line; the data's path is in a file, where other users cannot see it."""
        s = self.settings
        return [
            *(find_command("flower-supernode"), "--superlink", s.superlink, "--root-certificates", str(s.ca)),
            *("--auth-supernode-private-key", str(s.key), "--node-config", str(s.state / "node.toml")),
            *("--host", "127.0.0.1", "--port", str(port)),
        ]

    def launch(self) -> None:
        """Check the server, then start the SuperNode without waiting for it.

        Raises:
            EngineError: the server cannot be reached.
        """
        s = self.settings
        check_server(s.superlink, s.ca)
        s.state.mkdir(parents=True, exist_ok=True, mode=0o700)
        config = "".join(f"{key} = {to_toml(value)}\n" for key, value in s.node_config.items())
        (s.state / "node.toml").write_text(config, encoding="utf-8")
        path = os.pathsep.join([_write_task_programs(s.state / "bin"), build_environment(s.state)["PATH"]])
        variables = {**self._variables, "PATH": path}
        self._child = ProcessTree(
            self.command(find_free_port()), home=s.state / "flower", log=self.log, variables=variables
        )

    def wait_online(self, timeout: float = FIRST_CONTACT_SECONDS) -> str:
        """Return the node's number once the server has admitted it.

        Raises:
            NodeRefused: the server does not admit the key.
            EngineError: the SuperNode ended, or did not connect within `timeout` seconds.
        """
        s, deadline = self.settings, time.monotonic() + timeout
        child = self._child
        while child is not None and time.monotonic() < deadline:
            if match := re.search(r"SuperNode ID: (\d+)", child.output()):
                (s.state / "admitted").write_text(self._identity())
                return match[1]
            if child.poll() is not None:
                self.stop()
                if "Failed to activate SuperNode" in child.output():
                    raise NodeRefused(self._why_refused())
                raise EngineError(f"{s.site}: the SuperNode ended ({child.reason()}): see {self.log}")
            time.sleep(0.1)
        self.stop()
        raise EngineError(f"{s.site}: no answer from {s.superlink} in {timeout:.0f} s: see {self.log}")

    def run(self, say: Callable[[str], None] = print) -> None:
        """Serve until interrupted, through restarts of node or server.

        A refused key that was admitted before tries again for REFUSAL_RETRY_SECONDS: after a power cut or SIGKILL the
        server counts the lost node as online for about a minute.

        Args:
            say: called with each line for the user.

        Raises:
            EngineError: the first contact failed; later failures are retried.
        """
        s, connected, refused_since = self.settings, False, None
        try:
            while True:
                try:
                    self.launch()
                    node = self.wait_online()
                except EngineError as error:
                    if isinstance(error, NodeRefused):
                        refused_since = refused_since or time.monotonic()
                        may_retry = connected or self._admitted_before()
                        if not may_retry or time.monotonic() - refused_since > REFUSAL_RETRY_SECONDS:
                            raise
                    elif not connected:
                        raise
                    say(f"{error}; trying again in {RETRY_SECONDS:.0f} s")
                    time.sleep(RETRY_SECONDS)
                    continue
                say(f"{s.site}: connected to {s.superlink} as node {node}; log: {self.log}")
                connected, refused_since = True, None
                while self._child is not None and self._child.poll() is None:
                    time.sleep(0.5)
                say(f"{s.site}: the SuperNode ended; starting it again (log: {self.log})")
                self.stop()
                time.sleep(1)
        finally:
            self.stop()

    def poll(self) -> int | None:
        """Return the exit status of the SuperNode, or None while it runs."""
        return self._child.poll() if self._child else 0

    def stop(self) -> None:
        """End the SuperNode, which signs off at the server, and every ClientApp; does nothing if none runs."""
        if self._child is not None:
            self._child.stop()
            self._child = None

    def kill(self) -> None:
        """End all processes at once without signing off, as a power cut would."""
        if self._child is not None:
            self._child.kill()
            self._child = None

    def _identity(self) -> str:
        digest = hashlib.sha256(self.settings.key.read_bytes()).hexdigest()
        return f"{self.settings.superlink} {digest}"

    def _admitted_before(self) -> bool:
        file = self.settings.state / "admitted"
        return file.exists() and file.read_text() == self._identity()

    def _why_refused(self) -> str:
        s = self.settings
        if self._admitted_before():
            return f"{s.site}: {s.superlink} still counts this site's last session as open, or no longer admits {s.key}"
        return f"{s.site}: {s.superlink} does not admit {s.key}: send {s.key}.pub to the coordinator to be registered"


def _write_task_programs(folder: Path) -> str:
    # Flower finds the programs of its tasks on PATH. A hospital runs one kind of task, the ClientApp, whose bundle is
    # checked first; all other kinds are refused, because they would run code that the server sent.
    folder.mkdir(exist_ok=True)
    python, start = shlex.quote(sys.executable), "from client.supernode import run_client_app_process as p; p()"
    allowed = f'#!/bin/sh\nexec {python} -P -c "{start}" "$@"\n'
    refused = '#!/bin/sh\necho "this site runs no such task" >&2\nexit 1\n'
    for task in ("clientapp", "agentapp", "serverapp", "simulation", "model", "connector"):
        file = folder / f"flwr-{task}"
        file.write_text(allowed if task == "clientapp" else refused)
        file.chmod(0o700)
    return str(folder)


def _explain_source(what: str) -> str:
    if what == "node key":
        return "make one with 'wardround client keygen'"
    return "ask the coordinator for ca.pem"
