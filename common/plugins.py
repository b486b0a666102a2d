"""Plug-ins are files: a folder is the list of names, a wrong name lists the right ones."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from types import ModuleType

from common.errors import ConfigError


def list_plugins(package: str, marker: str) -> tuple[str, ...]:
    """Return the names of the modules and packages in `package` that define `marker` at top level, sorted.

    The files are read, not imported: listing models must not load torch.

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
    """Import the plug-in `name`, or raise ConfigError that lists the right names."""
    known = list_plugins(package, marker)
    if name not in known:
        raise ConfigError(f"no {what} named {name!r}: choose one of {', '.join(known)}")
    return importlib.import_module(f"{package}.{name}")
