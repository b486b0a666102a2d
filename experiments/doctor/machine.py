"""Checks of this machine: versions, memory, disk, devices, the programs that the engines need."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import psutil

from common.errors import UsageError
from common.processes import find_command
from common.provenance import installed_versions
from common.release import identify_release
from experiments.doctor.checks import Check, fail, ok, run_checks, warn

GIB = 1 << 30
LITTLE_MEMORY, TOO_LITTLE_MEMORY = 2.0, 0.75
"""Free memory in GiB below which a node is warned about, or cannot work: its processes take about half a GiB."""
LITTLE_DISK, TOO_LITTLE_DISK = 5.0, 0.5
"""Free disk in GiB below which a folder is warned about, or is too full for ledgers, logs and prepared data."""
COMMANDS = ("flower-superlink", "flower-supernode", "flwr")


def check_machine(folder: Path) -> list[Check]:
    """Return the checks of this machine; `folder` is where it writes."""
    return run_checks(
        (
            ("release", check_release),
            ("packages", check_packages),
            ("memory", check_memory),
            ("disk", lambda: check_disk(folder)),
            ("device", check_device),
            ("engines", check_engines),
        )
    )


def check_release() -> Iterator[Check]:
    """Name this release, which both ends of a federation must share."""
    yield ok("release", f"{identify_release()}; the other end must run the same")
    python = ".".join(map(str, sys.version_info[:3]))
    if (3, 11) <= sys.version_info[:2] <= (3, 13):
        yield ok("python", python)
    else:
        yield fail("python", python, "use Python 3.11, 3.12 or 3.13")


def check_packages() -> Iterator[Check]:
    """Check that the packages that this release needs are installed, in versions that it was made for."""
    from packaging.requirements import Requirement

    wrong = []
    for text in metadata.requires("wardround") or []:
        need = Requirement(text)
        if need.marker is not None and not need.marker.evaluate({"extra": ""}):
            continue
        try:
            version = metadata.version(need.name)
        except metadata.PackageNotFoundError:
            wrong.append(f"{need.name} is missing")
            continue
        if not need.specifier.contains(version, prereleases=True):
            wrong.append(f"{need.name} {version} is not {need.specifier}")
    if wrong:
        yield fail("packages", "; ".join(wrong), "install again: pip install -c constraints.txt -e .")
    else:
        versions = {
            name: version for name, version in installed_versions().items() if name not in ("platform", "python")
        }
        yield ok("packages", ", ".join(f"{name} {version}" for name, version in versions.items()))


def check_memory() -> Iterator[Check]:
    """Check the memory that is free now."""
    memory = psutil.virtual_memory()
    free = memory.available / GIB
    finding = f"{free:.1f} of {memory.total / GIB:.1f} GiB are free"
    if free < TOO_LITTLE_MEMORY:
        yield fail(
            "memory", finding, f"at least {TOO_LITTLE_MEMORY} GiB are needed besides the data: end other programs"
        )
    elif free < LITTLE_MEMORY:
        yield warn("memory", finding, f"below {LITTLE_MEMORY:g} GiB large data or models may not fit")
    else:
        yield ok("memory", finding)


def check_disk(folder: Path) -> Iterator[Check]:
    """Check the disk that a folder is on, or will be."""
    present = next(each for each in (folder.absolute(), *folder.absolute().parents) if each.exists())
    free = shutil.disk_usage(present).free / GIB
    finding = f"{free:.1f} GiB are free for {folder}"
    if free < TOO_LITTLE_DISK:
        yield fail("disk", finding, "free the disk: what cannot be written down is refused, and nothing is trained")
    elif free < LITTLE_DISK:
        yield warn("disk", finding, f"below {LITTLE_DISK:g} GiB prepared data and logs may fill it")
    else:
        yield ok("disk", finding)


def check_device() -> Iterator[Check]:
    """Name the device that models train on."""
    import torch

    if torch.cuda.is_available():
        yield ok("device", f"cuda: {torch.cuda.get_device_name(0)}")
    else:
        yield ok("device", f"cpu, {os.cpu_count()} cores; no GPU that PyTorch can use")


def check_engines() -> Iterator[Check]:
    """Check which engines can run on this machine."""
    from experiments.engines.ray_runtime import require_ray

    yield ok("engine local", "ready")
    try:
        require_ray()
        yield ok("engine ray", "ready")
    except UsageError as error:
        yield ok("engine ray", f"not installed, which only engine ray needs ({error})")
    missing = [command for command in COMMANDS if not shutil.which(find_command(command))]
    if missing:
        yield fail(
            "engine federation", f"missing programs: {', '.join(missing)}", "install flwr in this environment again"
        )
    else:
        yield ok("engine federation", "ready")
