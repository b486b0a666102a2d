"""systemd's unit files, read as far as tests need it."""

from __future__ import annotations

import re
import shlex
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy" / "systemd"
Unit = Mapping[str, Mapping[str, list[str]]]
"""Section -> key -> values, in their order."""


def read_unit(path: Path, instance: str = "") -> Unit:
    """Return the sections of a unit file, with `%i` replaced."""
    sections: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    section = ""
    for line in path.read_text(encoding="utf-8").replace("\\\n", " ").splitlines():
        line = line.strip()
        if not line or line[0] in "#;":
            continue
        if match := re.fullmatch(r"\[(\w+)\]", line):
            section = match[1]
            continue
        key, equals, value = line.partition("=")
        assert section, f"{path.name}: {line!r} stands in no section"
        assert equals, f"{path.name}: {line!r} is no setting"
        sections[section][key].append(value.replace("%i", instance))
    return sections


def get_value(unit: Unit, section: str, key: str, default: str = "") -> str:
    """Return the last value of a key."""
    return unit.get(section, {}).get(key, [default])[-1]


def split_command(text: str, variables: Mapping[str, str]) -> list[str]:
    """Return the words of a command with `${NAME}` replaced, which fails for a name that is not defined."""
    return [re.sub(r"\$\{(\w+)\}", lambda match: variables[match[1]], word) for word in shlex.split(text)]


def read_variables(path: Path) -> dict[str, str]:
    """Return the variables of an environment file."""
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    pairs = (line.partition("=") for line in lines if line and not line.startswith("#"))
    return {name: "".join(shlex.split(value)) for name, _, value in pairs}


def to_seconds(text: str) -> float:
    """Return a time span of systemd, in seconds without a unit.

    Raises:
        ValueError: it has a unit.
    """
    return float(text)
