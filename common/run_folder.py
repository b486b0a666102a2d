"""Run folders: runs/<name>-<time>/ with configuration, versions and commit, written before anything runs."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from common.config import RunConfig
from common.errors import ConfigError, DataError
from common.files import write_arrays
from common.metrics.counts import Counts

PACKAGES = ("flwr", "torch", "opacus", "numpy", "scipy", "pandas", "scikit-learn", "wfdb", "pydantic", "wardround")


def create_run_folder(config: RunConfig, root: Path) -> Path:
    """Make the folder of a new run.

    Raises:
        ConfigError: it cannot be made.
    """
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    for attempt in range(1000):
        folder = root / (f"{config.name}-{stamp}" + (f"-{attempt}" if attempt else ""))
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise ConfigError(f"cannot write the run folder {folder}: {error.strerror}; see --runs") from None
        return folder
    raise ConfigError(f"cannot find a free name for a run folder in {root}")


def describe_run(config: RunConfig, folder: Path, card: dict[str, Any], notices: list[dict[str, str]]) -> None:
    """Write config.yaml and run.json."""
    (folder / "config.yaml").write_text(
        yaml.safe_dump(json.loads(config.model_dump_json()), sort_keys=False), encoding="utf-8"
    )
    about = {
        "id": folder.name,
        "name": config.name,
        "title": config.title or config.name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "engine": config.federation.engine,
        "seed": config.seed,
        "config": json.loads(config.model_dump_json()),
        "versions": installed_versions(),
        "commit": source_commit(),
        "data": card,
        "notices": notices,
        "status": "running",
        "seconds": 0.0,
    }
    write_run(folder, about)


def update_run(folder: Path, **changes: Any) -> dict[str, Any]:
    """Change entries of run.json."""
    about = read_run(folder) | changes
    write_run(folder, about)
    return about


def read_run(folder: Path) -> dict[str, Any]:
    """Return run.json.

    Raises:
        DataError: it is not there, or not whole.
    """
    try:
        about: dict[str, Any] = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise DataError(f"{folder} is no run folder: it holds no whole run.json") from None
    return about


def write_run(folder: Path, about: dict[str, Any]) -> None:
    """Write run.json whole or not at all."""
    part = folder / "run.json.part"
    part.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    os.replace(part, folder / "run.json")


def installed_versions() -> dict[str, str]:
    """Return the versions of what shapes a result."""
    found = {"python": platform.python_version(), "platform": platform.platform(terse=True)}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def source_commit() -> str | None:
    """Return the commit that the program runs from, with "+changes" if it was changed; None if unknown."""
    here = Path(__file__).resolve().parent.parent
    try:
        if Path(_git(here, "rev-parse", "--show-toplevel")).resolve() != here:
            return None  # installed below a repository of something else
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


class Stopwatch:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def seconds(self) -> float:
        """Return them."""
        return round(time.monotonic() - self._began, 3)


COUNT_PARTS = tuple(part.name for part in fields(Counts))


def save_tables(path: Path, tables: Mapping[str, Mapping[str, Counts]]) -> None:
    """Write counts by site and table name."""
    arrays = {
        f"{site}\t{name}\t{part}": getattr(counts, part)
        for site, found in tables.items()
        for name, counts in found.items()
        for part in COUNT_PARTS
    }
    write_arrays(path, arrays, {})


def load_tables(path: Path) -> dict[str, dict[str, Counts]]:
    """Read what `save_tables` wrote.

    Raises:
        DataError: it is not there or not whole.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    found: dict[str, dict[str, dict[str, Any]]] = {}
    try:
        for key, value in load_file(path).items():
            site, name, part = key.split("\t")
            found.setdefault(site, {}).setdefault(name, {})[part] = value
        return {s: {n: Counts(**parts) for n, parts in tables.items()} for s, tables in found.items()}
    except (OSError, SafetensorError, ValueError, TypeError):
        raise DataError(f"{path} holds no counts: run with evaluation.keep_counts=true") from None
