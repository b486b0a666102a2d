"""Which release of the program this is: both ends of a federation must run the same one."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from importlib import metadata
from pathlib import Path

PACKAGES = ("common", "sites", "client", "server")
"""The packages whose code decides what a run computes and sends."""
UNKNOWN_VERSION = "0"
"""Version of a program that was not installed, only copied."""


@cache
def identify_release() -> str:
    """Return this release: its version, and 12 hex digits that differ where the code does: `0.1.0+3f2a90bc11de`."""
    root = Path(__file__).resolve().parents[1]
    return f"{_read_version()}+{digest_code(root)}"


def digest_code(root: Path, packages: Sequence[str] = PACKAGES) -> str:
    """Return 12 hex digits of the Python files of packages in a folder, by path and content."""
    digest = hashlib.sha256()
    for package in packages:
        for path in sorted((root / package).rglob("*.py")):
            content = path.read_bytes().replace(b"\r\n", b"\n")
            digest.update(f"{path.relative_to(root).as_posix()}\x1f{len(content)}\x1f".encode() + content)
    return digest.hexdigest()[:12]


def _read_version() -> str:
    try:
        return metadata.version("wardround")
    except metadata.PackageNotFoundError:
        return UNKNOWN_VERSION
