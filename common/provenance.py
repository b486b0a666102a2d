"""The versions of the packages that affect a result, and the commit of the program."""

from __future__ import annotations

import platform
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path

PACKAGES = ("flwr", "torch", "opacus", "numpy", "scipy", "pandas", "scikit-learn", "wfdb", "pydantic", "wardround")


@cache
def read_release() -> str:
    """Return the version of this program."""
    return metadata.version("wardround")


def installed_versions() -> dict[str, str]:
    """Return the versions of Python, the platform and the packages that affect a result."""
    versions = {"python": platform.python_version(), "platform": platform.platform(terse=True)}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def source_commit() -> str | None:
    """Return the commit of the running program, with "+changes" if its files differ from it; None if unknown."""
    here = Path(__file__).resolve().parent.parent
    try:
        if Path(_git(here, "rev-parse", "--show-toplevel")).resolve() != here:
            return None  # installed inside the repository of another project
        name = _git(here, "rev-parse", "HEAD")
        dirty = _git(here, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None
    return name + ("+changes" if dirty else "")


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10, check=True
    )
    return done.stdout.strip()
