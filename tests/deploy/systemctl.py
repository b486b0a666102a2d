"""A stand-in for `systemctl` where no systemd runs: it does what the units of this project say, and no more.

It reads a unit under /etc/systemd/system, makes its folders, starts its command as its user, waits until the command
says READY=1, restarts it as `Restart` says, and ends what is left of a unit's processes when its first one has ended.
A service that gives no sign of life for WatchdogSec is ended. User, capabilities, NoNewPrivileges, UMask,
PrivateNetwork, PrivateTmp, ProtectSystem, SystemCallFilter and MemoryDenyWriteExecute have their effect (confine.py);
the other settings that restrict a service are systemd's own affair and have none.

Each unit has a supervisor, a process to which the orphans of its service come (PR_SET_CHILD_SUBREAPER), as they would
stay in the unit's control group. `BASE/UNIT.json` has its state: process numbers, starts, and what outlived the first
process of a service although its own program should have ended it.
"""

from __future__ import annotations

import ctypes
import grp
import json
import os
import pwd
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import psutil

from tests.deploy.units import Unit, get_value, read_unit, read_variables, split_command

UNITS = Path("/etc/systemd/system")
BASE = Path("/run/systemctl-stand-in")
_SUBREAPER = 36
"""Linux, <sys/prctl.h>: PR_SET_CHILD_SUBREAPER."""


def find_unit(name: str) -> tuple[str, Unit]:
    """Return a unit's full name and its content."""
    name = name.removesuffix(".service")
    stem, at, instance = name.partition("@")
    path = UNITS / f"{stem}{at}.service"
    if not path.is_file():
        sys.exit(f"Unit {name}.service could not be found.")
    return name, read_unit(path, instance)


class Supervisor:
    """Runs one unit until SIGTERM."""

    def __init__(self, name: str, unit: Unit) -> None:
        self.name, self.unit = name, unit
        user = pwd.getpwnam(get_value(unit, "Service", "User"))
        group = grp.getgrnam(get_value(unit, "Service", "Group"))
        self.user, self.group = user.pw_uid, group.gr_gid
        self.folders = {
            f"/{base}/{get_value(unit, 'Service', kind)}": int(get_value(unit, "Service", f"{kind}Mode", "0755"), 8)
            for kind, base in (("StateDirectory", "var/lib"), ("RuntimeDirectory", "run"))
            if get_value(unit, "Service", kind)
        }
        self.state: dict[str, object] = {"supervisor": os.getpid(), "main": 0, "starts": 0, "status": ""}
        self.left: list[str] = []
        self.ending = False
        self.manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        path = BASE / f"{name}.notify"
        path.unlink(missing_ok=True)
        self.manager.bind(str(path))
        path.chmod(0o777)
        self.manager.settimeout(0.1)
        self.variables = {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "LANG": "C.UTF-8", "HOME": user.pw_dir,
                          "NOTIFY_SOCKET": str(path)}  # fmt: skip
        for line in unit["Service"].get("Environment", []):
            self.variables |= dict(word.split("=", 1) for word in line.split())
        for file in unit["Service"].get("EnvironmentFile", []):
            self.variables |= read_variables(Path(file))
        self.watchdog = float(get_value(unit, "Service", "WatchdogSec", "0"))
        if self.watchdog:
            self.variables["WATCHDOG_USEC"] = str(int(self.watchdog * 1e6))

    def write(self, **changes: object) -> None:
        self.state |= changes
        part = BASE / f".{self.name}.part"
        part.write_text(json.dumps(self.state))
        part.replace(BASE / f"{self.name}.json")

    def run(self) -> None:
        ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
        signal.signal(signal.SIGTERM, lambda number, frame: setattr(self, "ending", True))
        prevented = get_value(self.unit, "Service", "RestartPreventExitStatus")
        while True:
            code = self.run_once()
            if self.ending or str(code) in prevented.split():
                self.write(main=0, status=f"ended with {code}")
                return
            deadline = time.monotonic() + float(get_value(self.unit, "Service", "RestartSec", "0.1"))
            while time.monotonic() < deadline and not self.ending:
                time.sleep(0.05)
            if self.ending:
                self.write(main=0, status="ended")
                return

    def restrict(self) -> list[str]:
        """Return a command that runs another as the unit's user, with its capabilities, network, folders and calls."""
        service = self.unit["Service"]
        names = get_value(self.unit, "Service", "AmbientCapabilities").lower().replace("cap_", "").split()
        drop = ["-all", *(f"+{name}" for name in names)]
        sets = [f"--{kind}={','.join(drop)}" for kind in ("inh-caps", "ambient-caps", "bounding-set")]
        who = [f"--reuid={self.user}", f"--regid={self.group}", "--clear-groups", "--no-new-privs"]
        apart = ["unshare", "--net"] if get_value(self.unit, "Service", "PrivateNetwork") == "yes" else []
        assert get_value(self.unit, "Service", "ProtectSystem") == "strict"
        confine = [sys.executable, str(Path(__file__).with_name("confine.py"))]
        calls = [";".join(service["SystemCallFilter"]), get_value(self.unit, "Service", "MemoryDenyWriteExecute", "no")]
        folders = [*confine, "folders", ":".join(self.folders)]
        return [*folders, *apart, "setpriv", *who, *sets, *confine, "calls", *calls]

    def run_once(self) -> int:
        service = self.unit["Service"]
        for folder, mode in self.folders.items():
            Path(folder).mkdir(parents=True, exist_ok=True)
            os.chown(folder, self.user, self.group)
            os.chmod(folder, mode)
        mask = int(get_value(self.unit, "Service", "UMask", "0022"), 8)
        with (BASE / f"{self.name}.log").open("ab") as log:
            process = subprocess.Popen(
                [*self.restrict(), *split_command(service["ExecStart"][-1], self.variables)], env=self.variables,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, umask=mask,
                cwd=get_value(self.unit, "Service", "WorkingDirectory", "/"), start_new_session=True,
            )  # fmt: skip
        ready = get_value(self.unit, "Service", "Type") != "notify"
        starts = int(str(self.state["starts"])) + 1
        self.write(main=process.pid, starts=starts, status="ready" if ready else "starting")
        start = last_sign = time.monotonic()
        stopping = 0.0
        while process.poll() is None:
            with suppress(TimeoutError):
                message = self.manager.recv(4096).decode()
                last_sign = time.monotonic()
                if message.startswith("READY=1"):
                    ready = True
                    self.write(status="ready")
            now = time.monotonic()
            if ready and self.watchdog and now - last_sign > self.watchdog:
                self.write(watchdog=True)
                process.kill()
            if not ready and now - start > float(get_value(self.unit, "Service", "TimeoutStartSec", "90")):
                process.kill()
            if self.ending and not stopping:
                stopping = now
                process.terminate()
            if stopping and now - stopping > float(get_value(self.unit, "Service", "TimeoutStopSec", "90")):
                process.kill()
        deadline = time.monotonic() + 20  # what ends with its parent has ended by then
        while (lines := self.list_own_lines()) and time.monotonic() < deadline:
            time.sleep(0.05)
        self.left += lines
        self.write(left=self.left)
        while processes := self.list_processes():
            for each in processes:
                with suppress(psutil.Error):
                    each.kill()
            time.sleep(0.02)
        return process.returncode

    def list_own_lines(self) -> list[str]:
        """Return the command lines of the unit's processes, nginx's left out: its workers outlive a killed master."""
        lines = []
        for each in self.list_processes():
            with suppress(psutil.Error):
                lines.append(" ".join(each.cmdline()))
        return [line for line in lines if "nginx" not in line]

    def list_processes(self) -> list[psutil.Process]:
        """Return the unit's processes that run; those that have ended are taken off the system's list."""
        running = []
        for each in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                if each.status() == psutil.STATUS_ZOMBIE:
                    with suppress(OSError):
                        os.waitpid(each.pid, os.WNOHANG)
                else:
                    running.append(each)
        return running


def read_state(name: str) -> dict[str, object]:
    """Return the state of a unit; empty if it was never started."""
    try:
        return dict(json.loads((BASE / f"{name}.json").read_text()))
    except OSError:
        return {}


def is_supervised(name: str) -> bool:
    with suppress(psutil.Error, ValueError, TypeError):
        process = psutil.Process(int(str(read_state(name).get("supervisor"))))
        return process.status() != psutil.STATUS_ZOMBIE
    return False


def start_unit(name: str, unit: Unit) -> None:
    """Start a unit and wait until it is ready, as `systemctl start` does."""
    if is_supervised(name):
        return
    for other in get_value(unit, "Unit", "Wants").split():
        if (UNITS / (other.partition("@")[0] + "@.service")).is_file():
            start_unit(*find_unit(other))
    BASE.mkdir(exist_ok=True)
    (BASE / f"{name}.json").unlink(missing_ok=True)
    subprocess.Popen(
        [sys.executable, __file__, "supervise", name], stdin=subprocess.DEVNULL, start_new_session=True,
        stdout=(BASE / f"{name}.supervisor").open("ab"), stderr=subprocess.STDOUT,
    )  # fmt: skip
    deadline = time.monotonic() + 600
    while read_state(name).get("status") != "ready":
        if time.monotonic() > deadline or str(read_state(name).get("status")).startswith("ended"):
            sys.exit(f"Job for {name}.service failed: {(BASE / f'{name}.log').read_text()[-2000:]}")
        time.sleep(0.05)


def stop_unit(name: str) -> None:
    if is_supervised(name):
        supervisor = psutil.Process(int(str(read_state(name)["supervisor"])))
        supervisor.terminate()
        while is_supervised(name):
            time.sleep(0.05)


def main() -> None:
    """Run a command of systemctl."""
    words = [word for word in sys.argv[1:] if word != "--now"]
    command, names = words[0], words[1:]
    if command == "daemon-reload":
        return
    for each in names:
        if each == "nginx":  # Debian's own unit is of no concern here
            continue
        name, unit = find_unit(each)
        if command == "supervise":
            Supervisor(name, unit).run()
        elif command in ("enable", "start"):
            start_unit(name, unit)
        elif command in ("disable", "stop"):
            stop_unit(name)
        elif command == "restart":
            stop_unit(name)
            start_unit(name, unit)
        elif command == "reload":
            subprocess.run(split_command(unit["Service"]["ExecReload"][-1], {}), check=True)
        elif command == "is-active":
            print("active" if is_supervised(name) else "inactive")
        else:
            sys.exit(f"this stand-in knows no {command}")


if __name__ == "__main__":
    main()
