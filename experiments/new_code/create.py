"""Writing a package with one plug-in: its module, a test and the entry point."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path
from string import Template

from common.errors import ConfigError
from common.files import write_text
from common.plugins import GROUPS, installed_plugins, list_plugins

KINDS = {
    "data": ("sites.datasets", "CARD"),
    "model": ("common.models", "build"),
    "strategy": ("server.strategies", "build"),
    "metric": ("common.metrics", ""),
}
"""Package whose plug-ins each kind adds to, and the name that every one defines."""


def create_package(kind: str, name: str, parent: Path) -> list[Path]:
    """Write a package with a working plug-in of a kind and its test; return its files.

    Args:
        kind: one of KINDS.
        name: the plug-in's name in a configuration.
        parent: the folder in which the package's folder is made.

    Raises:
        ConfigError: the name is no name, is taken, or its folder exists.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]{1,30}", name):
        raise ConfigError(f"new: {name!r} is no name: small letters, digits and _, a letter first")
    package, marker = KINDS[kind]
    if kind == "metric":
        from common.metrics.registry import METRICS

        taken: tuple[str, ...] = tuple(METRICS)
    else:
        taken = (*list_plugins(package, marker), *installed_plugins(package))
    if name in taken:
        raise ConfigError(f"new: there is a {kind} {name} already: choose another name")
    folder = parent / name
    if folder.exists():
        raise ConfigError(f"new: {folder} exists: choose another name, or another folder with --into")
    module = f"wardround_{name}"
    group = GROUPS[package]
    words = {
        "name": name,
        "module": module,
        "group": group,
        "target": f"{module}:METRIC" if kind == "metric" else module,
        "title": name.replace("_", " "),
        "class_name": "".join(word.capitalize() for word in name.split("_")),
    }
    contents = {
        "pyproject.toml": _fill("pyproject.toml.txt", words),
        f"{module}.py": _fill(f"{kind}.py.txt", words),
        f"test_{module}.py": _fill(f"test_{kind}.py.txt", words),
    }
    folder.mkdir(parents=True)
    for file, text in contents.items():
        write_text(folder / file, text)
    return [folder / file for file in contents]


def _fill(template: str, words: dict[str, str]) -> str:
    text = (files("experiments.new_code") / "templates" / template).read_text(encoding="utf-8")
    return Template(text).substitute(words)
