"""The coordinator's SuperLink as a child process, and what is asked of it: register, list, submit, stop.

The SuperLink is Flower's command with its own FLWR_HOME, so that nothing depends on the user's `~/.flwr`. The run that
is submitted carries settings and no code: both ends load `server.app` and `client.app` from what is installed there.
The Control API of a SuperLink has no login: whoever reaches its port can start a run, so the default is to listen on
loopback alone.
"""

from __future__ import annotations

import http.client
import logging
import os
import shutil
import ssl
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from common.errors import ConfigError, EngineError
from common.files import make_private_folder, remove_leftovers
from common.processes import (
    ProcessTree,
    build_environment,
    check_site_name,
    find_command,
    require_free_port,
    to_toml,
    write_guarded_programs,
)
from common.run_folder import hold_lock
from server.credentials import Credentials, check_credentials
from server.site_registry import REGISTRY_VARIABLE, read_registry, registry_path, write_registry

if TYPE_CHECKING:
    from server.control import Control

_log = logging.getLogger("wardround")
LOCK_SECONDS = 60.0
"""Longest wait for another command that changes the registered sites."""
HELPER_SECONDS = 60.0
"""Seconds after its start by which a SuperLink has started the process that starts apps."""
_HELPERS = ("flower-superexec", "flwr-serverapp", "flwr-simulation")
"""What a SuperLink starts, and what that starts."""


@dataclass(frozen=True)
class Connection:
    """How to reach a SuperLink's Control API.

    Attributes:
        address: HOST:PORT.
        ca: certificate authority that signed the server's certificate; None: without TLS, on loopback alone.
        state: folder with the registry of sites (server/site_registry.py) and Flower's own files.
    """

    address: str
    ca: Path | None
    state: Path

    def register(self, site: str, public_key: Path) -> str:
        """Admit the holder of `public_key` as `site`; return the node's number and write it into the registry."""
        check_site_name(site)
        return self.admit(site, public_key, site)

    def admit(self, site: str, public_key: Path, label: str) -> str:
        """Register a public key for a site.

        The site's name may have any characters; Flower gets a `label` of a-z, 0-9 and - instead.
        """
        from server.control import NoAnswer

        with hold_lock(self.state / "sites.lock", LOCK_SECONDS):
            known = self.sites()
            if site in known:
                raise ConfigError(f"site {site} is registered already: unregister it first to give it another key")
            if not public_key.is_file():
                raise ConfigError(f"cannot read {public_key}: name the .pub file that the site sent")
            try:
                node = str(self.control.register_node(public_key, label))
            except NoAnswer:
                raise
            except EngineError as refusal:
                node = self._find_cut_off_registration(public_key, known, refusal)
            write_registry(self._registry, {**known, site: node})
        return node

    def _find_cut_off_registration(self, public_key: Path, known: dict[str, str], refusal: EngineError) -> str:
        """Return the node of a key that the server knows and the registry does not, as after a power failure.

        Raises:
            ConfigError: the key is another site's.
            EngineError: the server refused the key for another reason.
        """
        number = self.control.find_node(public_key)
        if number is None:
            raise refusal
        node = str(number)
        if other := next((name for name, own in known.items() if own == node), ""):
            raise ConfigError(f"{public_key} is the key of site {other} already: each site makes a key of its own")
        return node

    def unregister(self, site: str) -> None:
        """Shut `site` out for good: its key is refused from now on."""
        with hold_lock(self.state / "sites.lock", LOCK_SECONDS):
            known = self.sites()
            if site not in known:
                raise ConfigError(f"no site {site}; registered: {', '.join(sorted(known)) or 'none'}")
            self.control.unregister_node(int(known.pop(site)))
            write_registry(self._registry, known)

    def sites(self) -> dict[str, str]:
        """Return the registered sites: name -> node number."""
        return read_registry(self._registry)

    def nodes(self) -> dict[str, str]:
        """Return each registered site's status: `registered` (never seen), `online` or `offline`."""
        status = {str(node): status for node, status in self.control.list_nodes().items()}
        return {site: status.get(node, "unknown") for site, node in sorted(self.sites().items())}

    def submit(self, config_json: str, out: Path, simulation: Mapping[str, int] | None = None) -> str:
        """Start a run that carries these settings and no code; returns its number.

        Args:
            config_json: the configuration, as JSON.
            out: the run's folder.
            simulation: settings of Flower's simulation, on a server that simulates its sites.
        """
        from server.control import build_bundle

        bundle = build_bundle({"pyproject.toml": format_app_settings(config_json, out).encode()})
        return str(self.control.start_run(bundle, simulation))

    def run_status(self, run: str) -> tuple[str, str]:
        """Return a run's status, such as `running` or `finished:failed`, and Flower's details."""
        return self.control.run_status(int(run))

    def stop_run(self, run: str) -> None:
        """Stop a run that has not finished; sites get no further work from it."""
        self.control.stop_run(int(run))

    @property
    def control(self) -> Control:
        """The server's Control API."""
        from server.control import Control  # with Flower, which a command that only reads files does not need

        return Control(self.address, self.ca)

    @property
    def _registry(self) -> Path:
        return registry_path(self.state)


class SuperLink:
    """A SuperLink that this process owns: `start`, then use `connection`, then `stop`.

    With `credentials` it serves hospitals over TLS and admits registered node keys only. Without, it carries
    simulated sites (`--simulation`) and listens on loopback.
    """

    def __init__(
        self,
        state: Path,
        credentials: Credentials | None,
        *,
        host: str = "127.0.0.1",
        port: int,
        log: Path | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self.state, self.credentials, self.host, self.port = state, credentials, host, port
        self.log = log or state / "superlink.log"
        self._variables = variables
        self._child: ProcessTree | None = None
        self._helper: psutil.Process | None = None
        self._started = 0.0
        own = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
        address = f"[{own}]:{port}" if ":" in own else f"{own}:{port}"
        self.connection = Connection(address, credentials.ca if credentials else None, state)

    def command(self) -> list[str]:
        """Return the command line; it contains nothing secret."""
        common = [find_command("flower-superlink"), "--host", self.host, "--port", str(self.port)]
        common += ["--disable-runtime-dependency-installation"]
        if self.credentials is None:
            return [*common, "--insecure", "--simulation"]
        tls = ["--ssl-ca-certfile", self.credentials.ca, "--ssl-certfile", self.credentials.certificate]
        tls += ["--ssl-keyfile", self.credentials.key, "--database", self.state / "federation.db"]
        return [*common, "--enable-supernode-auth", *map(str, tls)]

    def start(self, timeout: float = 60.0) -> None:
        """Start the SuperLink and wait until it answers.

        Args:
            timeout: seconds to wait.

        Raises:
            ConfigError: the certificates cannot be used.
            EngineError: the address cannot be used, or the server ended or gave no answer in time.
        """
        if self.credentials is not None:
            named = [] if self.host in ("0.0.0.0", "::") else [self.host]
            check_credentials(self.credentials, named)
        require_free_port(self.host, self.port)
        make_private_folder(self.state)  # its database holds what sites sent
        remove_leftovers(self.state)
        shutil.rmtree(self.state / "flower" / "apps", ignore_errors=True)  # settings of runs that have ended
        helpers = write_guarded_programs(self.state / "bin", _HELPERS)
        path = os.pathsep.join([helpers, build_environment(self.state)["PATH"]])
        variables = {**(self._variables or {}), "PATH": path}
        if self.credentials is not None:  # sites have registered keys, by which the ServerApp knows them
            variables[REGISTRY_VARIABLE] = str(registry_path(self.state.resolve()))
        self._helper, self._started = None, time.monotonic()
        self._child = ProcessTree(self.command(), home=self.state / "flower", log=self.log, variables=variables)
        deadline = time.monotonic() + timeout
        try:
            while not self._answers():
                if self._child.poll() is not None:
                    raise EngineError(f"the server ended at once: {self._child.reason()} (log: {self.log})")
                if time.monotonic() > deadline:
                    log = f" (log: {self.log})" if self.log.is_file() else ""
                    raise EngineError(
                        f"the server gave no answer in {timeout:.0f} s{log}: on a busy machine, start it again later"
                    )
                time.sleep(0.1)
        except BaseException:
            self.stop()
            raise

    def poll(self) -> int | None:
        """Return the exit status of the SuperLink, or None while it runs.

        One whose helper has ended starts no run any more, and does not start another helper: it is ended too.
        """
        if self._child is None:
            return 0
        if self._child.poll() is None and self._has_lost_helper():
            _log.error("%s has ended, without which no run starts: the server is stopped", _HELPERS[0])
            self._child.stop()
        return self._child.poll()

    def is_healthy(self) -> bool:
        """Return whether the SuperLink answers."""
        try:
            return self._answers()
        except ConfigError:  # its certificate has ended meanwhile
            return False

    def wait(self) -> None:
        """Block while the SuperLink runs.

        Raises:
            EngineError: the SuperLink ended without `stop`.
        """
        while self._child is not None and self._child.poll() is None:
            time.sleep(0.5)
        if self._child is not None:
            raise EngineError(f"the server ended: {self._child.reason()} (log: {self.log})")

    def stop(self) -> None:
        """End the SuperLink and every process it started; harmless when it does not run."""
        if self._child is not None:
            self._child.stop()
            self._child = None

    def __enter__(self) -> SuperLink:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _has_lost_helper(self) -> bool:
        assert self._child is not None
        if self._helper is None:
            self._helper = _find_child(self._child.pid, _HELPERS[0])
            # one that ended before anybody looked is never there
            late = time.monotonic() > self._started + HELPER_SECONDS
            return self._helper is None and self.credentials is not None and late
        with suppress(psutil.Error):
            return self._helper.status() == psutil.STATUS_ZOMBIE
        return True

    def _answers(self) -> bool:
        host, _, port = self.connection.address.rpartition(":")
        where: http.client.HTTPConnection
        if self.credentials is None:
            where = http.client.HTTPConnection(host, int(port), timeout=2)
        else:
            context = ssl.create_default_context(cafile=self.credentials.ca)
            where = http.client.HTTPSConnection(host.strip("[]"), int(port), timeout=2, context=context)
        try:
            where.request("GET", "/health")
            return where.getresponse().status == 200
        except ssl.SSLCertVerificationError as error:
            raise ConfigError(f"{self.credentials and self.credentials.ca}: {error.verify_message}") from None
        except OSError:
            return False
        finally:
            where.close()


def format_app_settings(config_json: str, out: Path) -> str:
    """Return the `pyproject.toml` of a run: where the two apps are, and the two settings they read.

    Flower unpacks it into a folder named by its checksum and takes a folder that exists for a complete one, which it is
    not if the disk was full. No two texts are equal, so that a run which is resumed does not read such a folder.
    """
    return f"""[project]
name = "wardround-run"
version = "1.0.0"
license = "Apache-2.0"
description = "Settings of one Wardround run ({uuid.uuid4().hex}); the code is what each end has installed."

[tool.flwr.app]
publisher = "wardround"

[tool.flwr.app.components]
serverapp = "server.app:app"
clientapp = "client.app:app"

[tool.flwr.app.config]
wardround-config = {to_toml(config_json)}
wardround-out = {to_toml(str(out.resolve()))}
"""


def _find_child(pid: int, name: str) -> psutil.Process | None:
    """Return the child of a process whose command line has a name in it, if there is one that runs."""
    with suppress(psutil.Error):
        for child in psutil.Process(pid).children():
            with suppress(psutil.Error):  # one that has just ended has no command line
                if name in " ".join(child.cmdline()):
                    return child
    return None
