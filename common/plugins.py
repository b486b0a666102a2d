"""Plug-ins: modules of a package, or of other installed packages, each known by its name.

Another package offers a plug-in as an entry point, whose value is the module:

    [project.entry-points."wardround.models"]
    pooling = "my_package.pooling"

The groups are `wardround.datasets`, `wardround.models`, `wardround.strategies` and `wardround.metrics`. What is
installed on a machine can be used there, and nothing else: a message names a plug-in, it never brings one.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType

from common.errors import ConfigError

GROUPS = {
    "sites.datasets": "wardround.datasets",
    "common.models": "wardround.models",
    "server.strategies": "wardround.strategies",
    "common.metrics": "wardround.metrics",
}
"""Group of entry points that adds to the plug-ins of each package."""


def list_plugins(package: str, marker: str) -> tuple[str, ...]:
    """Return the names of the modules and packages in `package` that define `marker` at top level, sorted.

    Plug-ins of other installed packages are among them. The files are searched, not imported, because listing models
    must not load torch.

    >>> "cnn" in list_plugins("common.models", "build")
    True
    """
    return _search_plugins(package, marker, tuple(sys.path))


@lru_cache
def _search_plugins(package: str, marker: str, paths: tuple[str, ...]) -> tuple[str, ...]:
    folder = Path(str(importlib.import_module(package).__file__)).parent
    pattern = re.compile(rf"^(?:def {marker}\b|{marker}\b[^=\n]*=)", re.MULTILINE)
    own = {
        path.parent.name if path.name == "__init__.py" else path.stem
        for path in (*folder.glob("[!_]*.py"), *folder.glob("[!_]*/__init__.py"))
        if pattern.search(path.read_text(encoding="utf-8"))
    }
    return tuple(sorted(own | {name for name, point in installed_plugins(package).items() if _defines(point, pattern)}))


def load_plugin(package: str, marker: str, name: str, what: str) -> ModuleType:
    """Import and return a plug-in.

    Args:
        package: where plug-ins are, such as `common.models`.
        marker: the name that every plug-in defines, such as `build`.
        name: the plug-in.
        what: the kind of plug-in, for the error message.

    Raises:
        ConfigError: there is no such plug-in, and the message lists those that exist; or it cannot be imported.
    """
    known = list_plugins(package, marker)
    if name not in known:
        raise ConfigError(f"no {what} named {name!r}: choose one of {', '.join(known)}")
    point = installed_plugins(package).get(name)
    if point is None or _is_own(package, name):
        return importlib.import_module(f"{package}.{name}")
    return _load(point, what)


def installed_plugins(package: str) -> dict[str, EntryPoint]:
    """Return the entry points of other installed packages that add to the plug-ins of `package`, by name."""
    return _read_entry_points(GROUPS[package], tuple(sys.path)) if package in GROUPS else {}


@lru_cache
def _read_entry_points(group: str, paths: tuple[str, ...]) -> dict[str, EntryPoint]:
    """Return the entry points of a group, by name; read once for each search path, because every package is opened."""
    return {point.name: point for point in entry_points(group=group)}


def _is_own(package: str, name: str) -> bool:
    """Return whether a plug-in is of this program; it goes before one of another package with the same name."""
    folder = Path(str(importlib.import_module(package).__file__)).parent
    return (folder / f"{name}.py").is_file() or (folder / name / "__init__.py").is_file()


def _defines(point: EntryPoint, pattern: re.Pattern[str]) -> bool:
    path = _source_file(point.module)
    return path is not None and pattern.search(path.read_text(encoding="utf-8")) is not None


@lru_cache
def _source_file(module: str) -> Path | None:
    """Return the file of a module without importing it (its packages are), None if there is none."""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None
    return Path(spec.origin) if spec is not None and spec.origin and spec.origin.endswith(".py") else None


def _load(point: EntryPoint, what: str) -> ModuleType:
    try:
        return importlib.import_module(point.module)
    except Exception as error:
        package = point.dist.name if point.dist is not None else point.module
        raise ConfigError(
            f"{what} {point.name}: the installed package {package} cannot be imported ({type(error).__name__}: "
            f"{str(error).splitlines()[0] if str(error) else 'no message'}): correct it, or uninstall it"
        ) from None
