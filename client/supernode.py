"""The hospital's end of the wire: its node key, and a SuperNode that is started, watched and started again.

A SuperNode by itself retries in silence for ever. `Node` first looks at the server with this hospital's
authority file, so that a wrong certificate or an unreachable host is one clear line. It tells a key that was
never admitted from a session that the server still counts as open. And it lets a run bring settings, never
code: each ClientApp process checks the bundle it was sent and loads `client.app` from this installation.
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
RETRY_SECONDS = 10.0
REFUSAL_RETRY_SECONDS = 150.0  # seconds; the server counts a node that vanished as online for about 60
_APP = "client.app:app"


class NodeRefused(EngineError):
    """The server knows no such key, or counts its last session as open: it does not say which."""


@dataclass(frozen=True)
class NodeSettings:
    """Who this hospital is and where the server is; `node_config` is what `client.place` reads."""

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
                raise ConfigError(f"no {what} at {path}: {_where_from(what)}")


def create_node_key(path: Path) -> str:
    """Write a new node key (P-384, OpenSSH format, mode 0600) and `path`.pub; returns the public line.

    The public file goes to the coordinator, the private one never leaves the hospital. Raises `ConfigError`
    where either file exists.
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
    """Return host and port of `HOST:PORT`; raises `ConfigError` for anything else."""
    host, colon, port = address.rpartition(":")
    if not colon or not host.strip("[]") or "/" in address or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ConfigError(f"server address {address!r}: give it as HOST:PORT, without https://")
    return host.strip("[]"), int(port)


def check_server(address: str, ca: Path, *, timeout: float = 10.0) -> None:
    """Raise `EngineError` with one line if no server that `ca` vouches for answers at `address`."""
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
    """Raise `EngineError` if a run's bundle holds anything but settings for the installed apps."""
    with zipfile.ZipFile(io.BytesIO(bundle)) as archive:
        extra = sorted(set(archive.namelist()) - {"pyproject.toml", ".info/CONTENT"})
        if extra:
            raise EngineError(f"refused a run that carries code ({len(extra)} files): this site runs its own")
        app = tomllib.loads(archive.read("pyproject.toml").decode())["tool"]["flwr"]["app"]
    if app["components"].get("clientapp") != _APP:
        raise EngineError(f"refused a run whose client is not {_APP}: this site runs no other")


def run_client_app_process() -> None:
    """Be the process of one ClientApp message: Flower's own, but it checks the bundle before unpacking."""
    import flwr.supernode.runtime.run_clientapp as runtime
    from flwr.supernode.cli import flwr_clientapp

    unpack = vars(runtime)["install_from_fab"]  # a Flower that renames this fails here, and so stays shut

    def checked(bundle: bytes, **options: object) -> object:
        require_settings_only(bundle)
        return unpack(bundle, **options)

    vars(runtime)["install_from_fab"] = checked
    flwr_clientapp()


class Node:
    """One SuperNode and all it starts. `launch` and `wait_online`, or `run` to serve until interrupted."""

    def __init__(
        self, settings: NodeSettings, *, log: Path | None = None, variables: Mapping[str, str] | None = None
    ) -> None:
        self.settings = settings
        self._variables = variables or {}
        self.log = log or settings.state / "supernode.log"
        self._child: ProcessTree | None = None

    def command(self, port: int) -> list[str]:
        """Return the command line; the data's path stands in a file, not here."""
        s = self.settings
        return [
            *(find_command("flower-supernode"), "--superlink", s.superlink, "--root-certificates", str(s.ca)),
            *("--auth-supernode-private-key", str(s.key), "--node-config", str(s.state / "node.toml")),
            *("--host", "127.0.0.1", "--port", str(port)),
        ]

    def launch(self) -> None:
        """Look at the server, then start the SuperNode; returns at once."""
        s = self.settings
        check_server(s.superlink, s.ca)
        s.state.mkdir(parents=True, exist_ok=True, mode=0o700)
        config = "".join(f"{key} = {to_toml(value)}\n" for key, value in s.node_config.items())
        (s.state / "node.toml").write_text(config, encoding="utf-8")
        path = os.pathsep.join([_programs(s.state / "bin"), build_environment(s.state)["PATH"]])
        variables = {**self._variables, "PATH": path}
        self._child = ProcessTree(
            self.command(find_free_port()), home=s.state / "flower", log=self.log, variables=variables
        )

    def wait_online(self, timeout: float = FIRST_CONTACT_SECONDS) -> str:
        """Return the node's number once the server has let it in; raises `Refused` or `EngineError`."""
        s, deadline = self.settings, time.monotonic() + timeout
        child = self._child
        while child is not None and time.monotonic() < deadline:
            if found := re.search(r"SuperNode ID: (\d+)", child.output()):
                (s.state / "admitted").write_text(self._identity())
                return found[1]
            if child.poll() is not None:
                self.stop()
                if "Failed to activate SuperNode" in child.output():
                    raise NodeRefused(self._why_refused())
                raise EngineError(f"{s.site}: the SuperNode ended ({child.reason()}): see {self.log}")
            time.sleep(0.1)
        self.stop()
        raise EngineError(f"{s.site}: no answer from {s.superlink} in {timeout:.0f} s: see {self.log}")

    def run(self, say: Callable[[str], None] = print) -> None:
        """Serve until interrupted, through restarts at either end; raises only before the first contact.

        A refusal is waited out where this key was admitted before: a server counts a node that vanished
        without a word (power cut, SIGKILL) as present for about a minute.
        """
        s, met, refused_since = self.settings, False, None
        try:
            while True:
                try:
                    self.launch()
                    node = self.wait_online()
                except EngineError as error:
                    if isinstance(error, NodeRefused):
                        refused_since = refused_since or time.monotonic()
                        patient = met or self._admitted_before()
                        if not patient or time.monotonic() - refused_since > REFUSAL_RETRY_SECONDS:
                            raise
                    elif not met:
                        raise
                    say(f"{error}; trying again in {RETRY_SECONDS:.0f} s")
                    time.sleep(RETRY_SECONDS)
                    continue
                say(f"{s.site}: connected to {s.superlink} as node {node}; log: {self.log}")
                met, refused_since = True, None
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
        """Sign off at the server, then end the SuperNode and every ClientApp; harmless if none runs."""
        if self._child is not None:
            self._child.stop()
            self._child = None

    def kill(self) -> None:
        """End it all at once, as a power cut would: the server is not told."""
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


def _programs(folder: Path) -> str:
    # Flower finds the programs of its tasks on PATH. At a hospital there is one kind of task, the ClientApp,
    # and it starts through the check of its bundle; the other kinds would run what the server sent.
    folder.mkdir(exist_ok=True)
    python, start = shlex.quote(sys.executable), "from client.supernode import run_client_app_process as p; p()"
    allowed = f'#!/bin/sh\nexec {python} -P -c "{start}" "$@"\n'
    refused = '#!/bin/sh\necho "this site runs no such task" >&2\nexit 1\n'
    for task in ("clientapp", "agentapp", "serverapp", "simulation", "model", "connector"):
        file = folder / f"flwr-{task}"
        file.write_text(allowed if task == "clientapp" else refused)
        file.chmod(0o700)
    return str(folder)


def _where_from(what: str) -> str:
    if what == "node key":
        return "make one with 'wardround client keygen'"
    return "ask the coordinator for ca.pem"
