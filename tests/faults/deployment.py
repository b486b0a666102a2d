"""A server and two hospitals' clients as an operator runs them: commands of this installation, restarted when they end.

Every process carries a mark in its environment, by which `processes` lists them and a test sees what is left over.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import yaml

from client.policy import SIMULATION_POLICY
from common import config
from common.processes import find_free_port
from experiments.engines import link_site_recordings
from experiments.runs.checks import resolve_paths
from sites import datasets
from tests.faults.relay import Relay

MARK = "WARDROUND_TEST_DEPLOYMENT"
RESTART_SECONDS = 1.0
"""Seconds between the end of a service and its restart, as a service manager waits."""
PARTS = ("worker", "client", "superlink", "helper", "app", "server", "run")
"""The processes of a deployment: a hospital's worker and client; Flower's server, its helper that starts apps, and the
server's app; the coordinator's server command; and the command that follows a run."""
RAW: dict[str, Any] = {
    "name": "faults", "seed": 5,
    "data": {"options": {"hospitals": 2, "patients": 4, "minutes": 1.0}},
    "sites": {"validation": 0.25},
    "training": {"batch_size": 32, "optimizer": "sgd", "momentum": 0.0},
    "federation": {"rounds": 4, "connect_timeout": 90, "round_timeout": 90, "on_lost": "stop",
                   "strategy": {"name": "scaffold"}},
    "evaluation": {"bootstrap": 0},
    "baselines": {"local": False, "pooled": False},
}  # fmt: skip
"""A run whose server and sites hold state from round to round."""
PRIVATE: dict[str, Any] = {
    **RAW,
    "federation": {"rounds": 4, "connect_timeout": 90, "round_timeout": 90, "on_lost": "stop", "choose": "last"},
    "training": {"batch_size": 32, "optimizer": "sgd", "momentum": 0.0, "loss": "cross_entropy"},
    "privacy": {"sigma": 2.0, "delta": 0.01, "accountant": "rdp", "sampling": 0.5, "noise": "seeded",
                "level": "patient"},
}  # fmt: skip
"""A private run, with a ledger, whose noise can be repeated, so that its weights can be compared."""
RUNS = {"stateful": RAW, "private": PRIVATE}
"""The runs of a deployment."""
PATTERNS = {
    "worker": ("client.worker",),
    "client": ("wardround", "client"),
    "superlink": ("flower-superlink",),
    "helper": ("flower-superexec",),
    "app": ("flwr-serverapp",),
    "server": ("wardround", "server"),
    "run": ("wardround", "run"),
}
"""What the command line of each part contains, as whole words or ends of paths."""


def find_command() -> str:
    """Return the path of this installation's command."""
    return str(Path(sysconfig.get_path("scripts")) / "wardround")


def describe_part(process: psutil.Process) -> str:
    """Return which part of a deployment a process is; "" if it is none of them."""
    words = [Path(word).name for word in process.cmdline() if not word.startswith("/dev")]
    for part, pattern in PATTERNS.items():
        if pattern[0] in words:
            index = words.index(pattern[0])
            if tuple(words[index : index + len(pattern)]) == pattern:
                return part
    return ""


def read_tail(path: Path, count: int = 25) -> str:
    """Return the last lines of a log."""
    return "\n".join(path.read_text(errors="replace").splitlines()[-count:]) if path.is_file() else ""


class Service:
    """A command that is started again when it ends.

    Args:
        name: `server`, or a hospital's name.
        command: program and arguments.
        log: the file that output is appended to.
        variables: environment variables.
    """

    def __init__(self, name: str, command: Sequence[str], log: Path, variables: Mapping[str, str]) -> None:
        self.name, self.log, self._command = name, log, list(command)
        self._variables = dict(variables)
        self._process: subprocess.Popen[bytes] | None = None
        self._ended = 0.0
        self.starts = 0

    def restart_if_ended(self) -> None:
        """Start the command if it does not run and its pause is over."""
        if self._process is not None:
            if self._process.poll() is None:
                return
            self._process, self._ended = None, time.monotonic()
        if self._ended and time.monotonic() - self._ended < RESTART_SECONDS:
            return
        self.starts += 1
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                env={**os.environ, **self._variables},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def poll(self) -> int | None:
        """Return the exit status of the command, or None while it runs."""
        return self._process.poll() if self._process is not None else 0

    def stop(self) -> None:
        """End the command as a service manager does."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.terminate()
            try:
                self._process.wait(120)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(60)
            self._process = None


class Deployment:
    """A server and clients of simulated hospitals, each with a relay between it and the server.

    Args:
        root: a folder for everything.
        clock_library: from `build_clock_library`, where clocks are to jump; each service then has a clock of its own.
        prefixes: by service (`server`, `run` or a hospital) the words that its command starts with.
        addresses: by hospital where it reaches the server, where that is no relay.
    """

    def __init__(
        self,
        root: Path,
        *,
        clock_library: str = "",
        prefixes: Mapping[str, Sequence[str]] | None = None,
        addresses: Mapping[str, str] | None = None,
    ) -> None:
        self.root, self._clock_library, self._prefixes = root, clock_library, dict(prefixes or {})
        self.mark = f"{root}-{os.getpid()}"
        self.port, self._addresses = find_free_port(), dict(addresses or {})
        self.relays: dict[str, Relay] = {}
        self.services: dict[str, Service] = {}
        self.state = root / "server"
        self.names: list[str] = []
        self._data = ""

    def variables(self, name: str) -> dict[str, str]:
        """Return the environment of a service or of the command that follows a run."""
        chosen = {MARK: self.mark, "WARDROUND_TEST_SERVICE": name}
        if self._clock_library:
            if not self._clock_file(name).is_file():
                self.set_clock(name, 0)
            chosen |= {"LD_PRELOAD": self._clock_library, "WARDROUND_TEST_CLOCK": str(self._clock_file(name))}
        return chosen

    def set_clock(self, name: str, seconds: int) -> None:
        """Let the clock of a service be off by some seconds from now on."""
        with open(os.open(self._clock_file(name), os.O_WRONLY | os.O_CREAT), "wb") as file:  # it is mapped: no new file
            file.write(seconds.to_bytes(8, sys.byteorder, signed=True))

    def _clock_file(self, name: str) -> Path:
        return self.root / f"{name}.clock"

    def start(self) -> None:
        """Create keys, start the server and the clients, and wait until every hospital is online."""
        self.start_server()
        self.start_clients()

    def start_server(self) -> None:
        """Create the server's keys and start it."""
        self.root.mkdir(parents=True, exist_ok=True)
        names = {"127.0.0.1", *(address.rpartition(":")[0] for address in self._addresses.values())}
        self.call("server", "init", "--state", str(self.state), *(f"--name={name}" for name in sorted(names)))
        command = [*self._prefix("server"), find_command(), "server", "--state", str(self.state)]
        self._add("server", [*command, "--listen", f"127.0.0.1:{self.port}"])
        self.wait_until(lambda: "serving on" in read_tail(self.root / "server.log"), "the server answers")

    def start_clients(self) -> None:
        """Create each hospital's folder and key, start the clients, and wait until every hospital is online."""
        wanted = resolve_paths(config.parse_config(RAW, []))
        source = datasets.open_source(wanted, None)
        hospitals, _, _ = datasets.assign_hospitals(source, wanted)
        self.names, self._data = sorted(hospitals), str(source.folder)
        for name, ids in hospitals.items():
            link_site_recordings(source, ids, self.root / "data" / name)
            self.write_policy(name)
            key = self.root / name / "node.key"
            self.call("client", "keygen", str(key))
            self.call("server", "register", name, f"{key}.pub", "--state", str(self.state), at="server")
            address = self._addresses.get(name, "")
            if not address:
                self.relays[name] = Relay(("127.0.0.1", self.port))
                address = f"127.0.0.1:{self.relays[name].port}"
            self._add(name, self.client_command(name, address))
        if not self._addresses:
            self.relays["run"] = Relay(("127.0.0.1", self.port))
        self.wait_until(self.all_online, "every hospital is online")

    def client_command(self, name: str, address: str) -> list[str]:
        """Return the command line of a hospital's client."""
        state = self.root / name
        files = {"--data": self.root / "data" / name, "--policy": state / "policy.yaml", "--ca": self.state / "ca.pem",
                 "--key": state / "node.key", "--state": state / "state"}  # fmt: skip
        options = [text for option, path in files.items() for text in (option, str(path))]
        command = [find_command(), "client", "--site", name, "--superlink", address, *options]
        return [*self._prefix(name), *command]

    def write_policy(self, name: str) -> None:
        """Let a hospital allow what a simulation does."""
        (self.root / name).mkdir(parents=True, exist_ok=True)
        text = yaml.safe_dump(SIMULATION_POLICY.model_dump(mode="json"))
        (self.root / name / "policy.yaml").write_text(text)

    def call(self, *arguments: str, at: str = "") -> str:
        """Run a command of this installation to its end; return what it prints."""
        command = [*self._prefix(at), find_command(), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=600, check=True).stdout

    def write_config(self, file: Path, raw: Mapping[str, Any], settings: Sequence[str] = ()) -> Path:
        """Write the configuration of a run at this server."""
        port = self.relays["run"].port if "run" in self.relays else self.port
        own = {
            "federation.engine": "federation",
            "federation.address": f"127.0.0.1:{port}",
            "federation.ca": str(self.state / "ca.pem"),
            "federation.expect": self.names,
            "data.path": self._data,
        }
        own_settings = [f"{key}={json.dumps(value)}" for key, value in own.items()]
        wanted = resolve_paths(config.parse_config(dict(raw), [*own_settings, *settings]))
        file.write_text(yaml.safe_dump(wanted.model_dump(mode="json")))
        return file

    def start_run(self, log: Path, *arguments: str) -> subprocess.Popen[bytes]:
        """Start the command that submits and follows a run, or goes on with one."""
        with log.open("ab") as out:
            return subprocess.Popen(
                [*self._prefix("run"), find_command(), "run", *arguments],
                env={**os.environ, **self.variables("run")},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def tend(self) -> None:
        """Start what has ended again."""
        for service in self.services.values():
            service.restart_if_ended()

    def wait_until(self, happened: Callable[[], bool], what: str, seconds: float = 300.0) -> None:
        """Tend the services until something has happened."""
        deadline = time.monotonic() + seconds
        while not happened():
            assert time.monotonic() < deadline, f"not in {seconds:.0f} s: {what}\n{self.describe()}"
            self.tend()
            time.sleep(0.1)

    def processes(self, part: str = "", service: str = "") -> list[psutil.Process]:
        """Return the running processes of a part, or all."""
        return [each for each, found_part, owner in self.members()
                if part in ("", found_part) and service in ("", owner)]  # fmt: skip

    def members(self) -> Iterator[tuple[psutil.Process, str, str]]:
        """Yield each running process with its part and the service that it belongs to."""
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                variables = process.environ()
                if variables.get(MARK) == self.mark and process.status() != psutil.STATUS_ZOMBIE:
                    yield process, describe_part(process), variables.get("WARDROUND_TEST_SERVICE", "")

    def all_online(self) -> bool:
        """Return whether every hospital's client says that it is connected."""
        return all(self._is_connected(name) for name in self.names)

    def describe(self) -> str:
        """Return the ends of all logs."""
        logs = sorted(self.root.glob("*.log")) + sorted(self.root.glob("*/state/supernode.log"))
        return "\n".join(f"--- {path.name}\n{read_tail(path)}" for path in [*logs, self.state / "superlink.log"])

    def stop(self) -> list[str]:
        """End everything; return the command lines of what then still runs, which is ended too."""
        for service in reversed(self.services.values()):
            service.stop()
        for relay in self.relays.values():
            relay.close()
        deadline = time.monotonic() + 120
        while (left := self.processes()) and time.monotonic() < deadline:
            time.sleep(0.1)
        lines = []
        for process in left:
            with suppress(psutil.Error):
                lines.append(" ".join(process.cmdline()))
                process.kill()
        return lines

    def _add(self, name: str, command: Sequence[str]) -> None:
        self.services[name] = Service(name, command, self.root / f"{name}.log", self.variables(name))
        self.services[name].restart_if_ended()

    def _prefix(self, name: str) -> list[str]:
        return list(self._prefixes.get(name, ()))

    def _is_connected(self, name: str) -> bool:
        return (self.root / name / "state" / "session").is_file() and self.services[name].poll() is None
