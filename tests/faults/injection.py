"""Faults of a deployment: what is killed, stopped, without disk, at another time or cut off, when, and for how long."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import psutil

from tests.faults.deployment import PARTS, Deployment

Kind = Literal["kill", "stop", "limit", "full", "clock", "cut"]
KINDS: tuple[Kind, ...] = ("kill", "stop", "limit", "full", "clock", "cut")
"""kill -9; SIGSTOP for a while; no file may grow; the disk is full; a clock jumps; a network is cut."""
TARGETS: dict[Kind, tuple[str, ...]] = {
    "kill": PARTS,
    "stop": PARTS,
    "limit": PARTS,
    "full": ("client", "server", "run"),
    "clock": ("client", "server", "run"),
    "cut": ("client", "run"),
}
"""Parts that each kind of fault hits."""
JUMPS = (-7200, -400, 20, 7200)
"""Seconds by which a clock jumps."""


def build_clock_library(folder: Path) -> str:
    """Return the path of the library that shifts a process's time of day; "" where it cannot be built."""
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        return ""
    library = folder / "clock.so"
    source = Path(__file__).with_name("clock.c")
    command = [compiler, "-shared", "-fPIC", "-O2", "-o", str(library), str(source), "-ldl"]
    return str(library) if subprocess.run(command, check=False).returncode == 0 else ""


BALLAST = "ballast"
"""The file that fills a disk."""
DISK_FOLDERS = ("server", "north", "south", "runs")
"""The folders of a deployment that have disks of their own."""


@contextmanager
def small_disks(root: Path) -> Iterator[bool]:
    """Give folders of a deployment small disks of their own, in memory; yields whether that was possible."""
    mounted: list[Path] = []
    try:
        for name in DISK_FOLDERS if os.geteuid() == 0 and sys.platform == "linux" else ():
            (root / name).mkdir(parents=True)
            command = ["mount", "-t", "tmpfs", "-o", "size=64m,mode=700", "wardround-test", str(root / name)]
            if subprocess.run(command, capture_output=True, check=False).returncode:
                break
            mounted.append(root / name)
        yield len(mounted) == len(DISK_FOLDERS)
    finally:
        for folder in mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=False)


def fill_disk(path: Path) -> None:
    """Write a file until its disk is full."""
    with suppress(OSError), path.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12):
            with suppress(OSError):
                while True:
                    file.write(bytes(size))


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes:
        kind: what happens.
        part: to which part.
        hospital: whose, where the part is a hospital's.
        delay: seconds from the end of the fault before, or from the start of a run.
        in_round: whether the delay counts from the next message of a hospital, so that rounds are hit and not only
            starts.
        seconds: how long it lasts; a kill takes no time.
        jump: seconds that a clock jumps by.
    """

    kind: Kind
    part: str
    hospital: str
    delay: float
    in_round: bool
    seconds: float
    jump: int = 0

    def __str__(self) -> str:
        """Return the fault in words."""
        where = f"{self.part} of {self.hospital}" if self.part in ("client", "worker") else self.part
        time_text = "" if self.kind == "kill" else f" for {self.seconds:.1f} s"
        return f"{self.kind} {where}{time_text}{f' by {self.jump} s' if self.jump else ''}"


def draw_faults(seed: int, count: int, kinds: tuple[Kind, ...] = KINDS) -> list[Fault]:
    """Return random faults: first each part killed once, then any kind of any part, in random order."""
    rng = np.random.default_rng(seed)
    first: list[tuple[Kind, str]] = [("kill", part) for part in PARTS]
    first += [("stop", part) for part in ("worker", "client", "superlink", "app")]
    first += [("limit", part) for part in ("worker", "superlink", "app")]
    first += [("full", "client"), ("full", "server"), ("clock", "client"), ("clock", "server")]
    first += [("cut", "client"), ("cut", "run")]
    pairs = [pair for pair in first if pair[0] in kinds]
    while len(pairs) < count:
        kind = kinds[rng.integers(len(kinds))]
        pairs.append((kind, TARGETS[kind][rng.integers(len(TARGETS[kind]))]))
    chosen = pairs[:count]
    rng.shuffle(chosen)
    return [
        Fault(
            kind, part, ("north", "south")[rng.integers(2)], float(rng.uniform(0.0, 4.0)), bool(rng.random() < 0.7),
            float(rng.uniform(0.5, 5.0)), int(rng.choice(JUMPS)) if kind == "clock" else 0,
        )
        for kind, part in chosen
    ]  # fmt: skip


class Injector:
    """Carries out faults on a deployment, one at a time.

    Attributes:
        active: the fault that lasts, or None.
    """

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self.active: Fault | None = None
        self._end = 0.0

    def inject(self, fault: Fault) -> bool:
        """Carry out a fault; return False, having done nothing, where its part does not run at the moment."""
        hit = self._targets(fault)
        if not hit and fault.kind in ("kill", "stop", "limit"):
            return False
        self.active, self._end = fault, time.monotonic() + (0.0 if fault.kind == "kill" else fault.seconds)
        service = fault.hospital if fault.part == "client" else fault.part
        if fault.kind == "clock":
            self._deployment.set_clock(service, fault.jump)
        elif fault.kind == "cut":
            self._deployment.relays[service].cut()
        elif fault.kind == "full":
            fill_disk(self._disk(fault) / BALLAST)
        for process in hit:
            with suppress(psutil.Error):
                if fault.kind == "limit":
                    _, hard = process.rlimit(resource.RLIMIT_FSIZE)
                    process.rlimit(resource.RLIMIT_FSIZE, (0, hard))
                elif fault.kind in ("kill", "stop"):
                    process.send_signal(signal.SIGKILL if fault.kind == "kill" else signal.SIGSTOP)
        return True

    def active_seconds(self) -> float:
        """Return how long the active fault still lasts, s."""
        return max(0.0, self._end - time.monotonic()) if self.active is not None else 0.0

    def heal_if_over(self) -> None:
        """End the fault that lasts, if its time is over."""
        if self.active is None or time.monotonic() < self._end:
            return
        fault, self.active = self.active, None
        service = fault.hospital if fault.part == "client" else fault.part
        if fault.kind == "clock":
            self._deployment.set_clock(service, 0)
        elif fault.kind == "cut":
            self._deployment.relays[service].join()
        elif fault.kind == "full":
            (self._disk(fault) / BALLAST).unlink()
        elif fault.kind == "stop":
            for process in self._targets(fault):
                with suppress(psutil.Error):
                    process.send_signal(signal.SIGCONT)
        elif fault.kind == "limit":
            for process in self._deployment.processes():  # also what was started meanwhile
                with suppress(psutil.Error):
                    _, hard = process.rlimit(resource.RLIMIT_FSIZE)
                    process.rlimit(resource.RLIMIT_FSIZE, (hard, hard))

    def _disk(self, fault: Fault) -> Path:
        folder = {"client": fault.hospital, "run": "runs"}.get(fault.part, fault.part)
        return self._deployment.root / folder

    def _targets(self, fault: Fault) -> list[psutil.Process]:
        if fault.kind not in ("kill", "stop", "limit"):
            return []
        owner = fault.hospital if fault.part in ("client", "worker") else ""
        return self._deployment.processes(fault.part, owner)


@contextmanager
def deployed(deployment: Deployment) -> Iterator[Deployment]:
    """Start a deployment, and end it; raises AssertionError if a process outlives it."""
    try:
        deployment.start()
        yield deployment
    finally:
        left = deployment.stop()
    assert left == []
