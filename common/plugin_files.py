"""A model in a file of one's own, for simulations.

Code is never run because a message names a file. A file is trusted by the process that started a simulation, or by
`$WARDROUND_TRUSTED_FILES` (absolute paths), and by the digest that the run recorded. Processes of hospitals trust none.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

from common.errors import ConfigError

VARIABLE = "WARDROUND_TRUSTED_FILES"
"""Environment variable with trusted files, which processes of a simulation inherit."""


def trust_file(path: str) -> None:
    """Trust a file in this process, and in those that it starts."""
    trusted = os.environ.get(VARIABLE, "").split(os.pathsep)
    if path not in trusted:
        os.environ[VARIABLE] = os.pathsep.join([path, *filter(None, trusted)])


def digest_file(path: Path) -> str:
    """Return the SHA-256 sum of a file of code.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ConfigError(f"model.file: {path} cannot be read: {error.strerror}") from None


def load_plugin_file(path: str, digest: str | None, marker: str, what: str) -> ModuleType:
    """Import and return a trusted file as a plug-in.

    Args:
        path: the file, absolute.
        digest: its SHA-256 sum when the run started.
        marker: a function that it must define.
        what: the kind of plug-in, for the error message.

    Raises:
        ConfigError: it is not trusted here, cannot be read, has changed, or is no such plug-in.
    """
    if path not in os.environ.get(VARIABLE, "").split(os.pathsep):
        raise ConfigError(
            f"{what} {path}: code in a file runs only in a simulation that was started here with it: install it as a "
            f"package (wardround new), or trust it with {VARIABLE}={path}"
        )
    file = Path(path)
    actual = digest_file(file)
    if digest is not None and actual != digest:
        raise ConfigError(f"{what} {path}: the file has changed since the run: restore the version of the run")
    name = f"wardround_file_{actual[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{what} {path}: not a Python file (.py)")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # pydantic looks annotations up there
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        line = str(error).splitlines()[0] if str(error) else "no message"
        raise ConfigError(f"{what} {path}: cannot be imported: {type(error).__name__}: {line}") from None
    for needed in (marker, "Options"):
        if not hasattr(module, needed):
            del sys.modules[name]
            raise ConfigError(f"{what} {path}: it defines no {needed}, which every {what} has")
    return module
