"""A hospital's node as a process of its own, for a federation whose sites run on one machine.

`python -m client.node_process STATE` runs the node whose settings are in STATE/node.json; `NodeProcess` starts it,
waits until the server has admitted it, and ends it.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from client.supernode import NodeSettings
from common import files
from common.errors import EngineError, WardroundError
from common.log_format import start_logging
from common.process_guard import end_with_parent
from common.processes import ProcessTree

FIRST_CONTACT_SECONDS = 60.0
"""Time that a node has to connect."""
SETTINGS_FILE = "node.json"


class NodeProcess:
    """A node in a process of its own: `launch` and `wait_online`, then `stop`.

    Args:
        settings: who and where.
        log: file for the output of node and worker.
        variables: further environment variables.
    """

    def __init__(self, settings: NodeSettings, *, log: Path, variables: Mapping[str, str] | None = None) -> None:
        self.settings, self.log = settings, log
        self._variables = variables or {}
        self._child: ProcessTree | None = None

    def launch(self) -> None:
        """Start the node without waiting for it; data and policy are named in a file, not on the command line."""
        s = self.settings
        s.state.mkdir(parents=True, exist_ok=True, mode=0o700)
        fields = {"site": s.site, "superlink": s.superlink, "ca": str(s.ca), "key": str(s.key)}
        settings = {**fields, "log": str(self.log.resolve()), "node_config": dict(s.node_config)}
        files.write_json(s.state / SETTINGS_FILE, settings)
        command = [sys.executable, "-P", "-m", "client.node_process", str(s.state), str(os.getpid())]
        self._child = ProcessTree(command, home=s.state / "flower", log=self.log, variables=self._variables)

    def wait_online(self, timeout: float = FIRST_CONTACT_SECONDS) -> str:
        """Wait until the server has admitted the node, and return the number that the server gave it.

        Raises:
            EngineError: the node ended, or did not connect within `timeout` seconds.
        """
        s, deadline = self.settings, time.monotonic() + timeout
        child = self._child
        while child is not None and time.monotonic() < deadline:
            if match := re.search(r": connected to \S+ as node (\d+);", child.output()):
                return match[1]
            if child.poll() is not None:
                self.stop()
                raise EngineError(f"{s.site}: the node ended ({child.reason()}): see {self.log}")
            time.sleep(0.05)
        self.stop()
        raise EngineError(f"{s.site}: no answer from {s.superlink} in {timeout:.0f} s: see {self.log}")

    def poll(self) -> int | None:
        """Return the exit status of the node, or None while it runs."""
        return self._child.poll() if self._child else 0

    def stop(self) -> None:
        """End the node, which signs off at the server, and its worker process; do nothing if the node does not run."""
        if self._child is not None:
            self._child.stop()
            self._child = None

    def kill(self) -> None:
        """End node and worker at once without signing off, as a power cut would."""
        if self._child is not None:
            self._child.kill()
            self._child = None


def read_settings(state: Path) -> tuple[NodeSettings, Path]:
    """Return the settings that `NodeProcess.launch` wrote into a state folder, and the path of the node's log file."""
    raw = json.loads((state / SETTINGS_FILE).read_text(encoding="utf-8"))
    paths = Path(raw["ca"]), Path(raw["key"])
    return NodeSettings(raw["site"], raw["superlink"], *paths, state, raw["node_config"]), Path(raw["log"])


def main() -> None:
    """Run the node of the command line: its state folder and the process that started it."""
    end_with_parent(int(sys.argv[2]))
    start_logging()
    from client.node import Node
    from common.processes import interrupt_on_signals

    settings, log = read_settings(Path(sys.argv[1]))
    try:
        with interrupt_on_signals():
            Node(settings, log=log).run(lambda line: print(line, flush=True))
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGTERM)
    except WardroundError as error:
        print(f"error: {error}", flush=True)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
