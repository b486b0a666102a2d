"""Faults of a deployment: what is killed, stopped, without disk, at another time or cut off, when, and for how long."""

from __future__ import annotations

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

Kind = Literal["kill", "stop", "disk", "clock", "cut"]
KINDS: tuple[Kind, ...] = ("kill", "stop", "disk", "clock", "cut")
TARGETS: dict[Kind, tuple[str, ...]] = {
    "kill": PARTS,
    "stop": PARTS,
    "disk": PARTS,
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
    pairs: list[tuple[Kind, str]] = [("kill", part) for part in PARTS]
    pairs += [("stop", part) for part in ("worker", "client", "superlink", "app")]
    pairs += [("disk", part) for part in ("worker", "client", "superlink", "app", "run")]
    pairs += [pair for pair in (("clock", "client"), ("clock", "server"), ("cut", "client"), ("cut", "run"))
              if pair[0] in kinds]  # fmt: skip
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
        if not hit and fault.kind in ("kill", "stop", "disk"):
            return False
        self.active, self._end = fault, time.monotonic() + (0.0 if fault.kind == "kill" else fault.seconds)
        service = fault.hospital if fault.part == "client" else fault.part
        if fault.kind == "clock":
            self._deployment.set_clock(service, fault.jump)
        elif fault.kind == "cut":
            self._deployment.relays[service].cut()
        for process in hit:
            with suppress(psutil.Error):
                if fault.kind == "disk":
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
        elif fault.kind == "stop":
            for process in self._targets(fault):
                with suppress(psutil.Error):
                    process.send_signal(signal.SIGCONT)
        elif fault.kind == "disk":
            for process in self._deployment.processes():  # also what was started meanwhile
                with suppress(psutil.Error):
                    _, hard = process.rlimit(resource.RLIMIT_FSIZE)
                    process.rlimit(resource.RLIMIT_FSIZE, (hard, hard))

    def _targets(self, fault: Fault) -> list[psutil.Process]:
        if fault.kind in ("clock", "cut"):
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
