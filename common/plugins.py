"""Plug-ins: modules of a package, each known by its file's name; the error for an unknown name lists the known ones."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from types import ModuleType

from common.errors import ConfigError


def list_plugins(package: str, marker: str) -> tuple[str, ...]:
    """Return the names of the modules and packages in `package` that define `marker` at top level, sorted.

    The files are searched, not imported, because listing models must not load torch.

    >>> "cnn" in list_plugins("common.models", "build")
    True
    """
    folder = Path(str(importlib.import_module(package).__file__)).parent
    pattern = re.compile(rf"^(?:def {marker}\b|{marker}\b[^=\n]*=)", re.MULTILINE)
    return tuple(
        sorted(
            path.parent.name if path.name == "__init__.py" else path.stem
            for path in (*folder.glob("[!_]*.py"), *folder.glob("[!_]*/__init__.py"))
            if pattern.search(path.read_text(encoding="utf-8"))
        )
    )


def load_plugin(package: str, marker: str, name: str, what: str) -> ModuleType:
    """Import and return a plug-in.

    Args:
        package: where plug-ins are, such as `common.models`.
        marker: the name that every plug-in defines, such as `build`.
        name: the plug-in.
        what: the kind of plug-in, for the error message.

    Raises:
        ConfigError: there is no such plug-in; the message lists those that exist.
    """
    known = list_plugins(package, marker)
    if name not in known:
        raise ConfigError(f"no {what} named {name!r}: choose one of {', '.join(known)}")
    return importlib.import_module(f"{package}.{name}")
