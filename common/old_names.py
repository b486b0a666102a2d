"""The names that earlier versions wrote into files, and the names that replace them.

Files are written with today's names only. Where a file is read, `replace_old_names` renames what an earlier version
wrote, so no other module knows an old name. A run's files are of the version that run.json states as `format`, a report
is of the version in its `schema`; config.yaml states none and counts as version 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

FORMAT = 2
"""Version of the names in a run's files. Raise it when a name changes, and add the old one below."""


@dataclass(frozen=True)
class Rename:
    """The names that one version changed in the objects at one path.

    Attributes:
        version: the first version that writes the new names.
        path: where the objects are: keys from the root; `*` is any one key or list index, `**` any number of them.
        keys: new names of keys, by their old names.
        values: new texts of values, by key (its new name) and old text.
    """

    version: int
    path: tuple[str, ...]
    keys: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def matches(self, path: tuple[str, ...]) -> bool:
        """Return whether the rename applies to an object at `path`."""
        wanted = self.path
        if wanted[:1] == ("**",):
            wanted = wanted[1:]
            path = path[max(len(path) - len(wanted), 0) :]
        return len(path) == len(wanted) and all(key in ("*", part) for key, part in zip(wanted, path, strict=True))


_TRANSFER = {
    "mend": "recalibration",
    "mended": "recalibrated",
    "lost": "ranking_difference",
    "gap": "decision_difference",
    "won": "recovered",
}
_CURVES = Rename(2, ("**", "curve", "*"), {"chance": "probability"})
_AUDIT = {"seen": "measured"}
_LEFT_OUT = {"travel": "transfer"}


def _config_renames(*path: str) -> tuple[Rename, ...]:
    """Return what changed in a configuration that is at `path`."""
    return (
        Rename(2, (*path, "shift", "*", "prevalence"), {"of": "class_name"}),
        Rename(2, (*path, "privacy"), values={"on_budget": {"leave": "continue"}}),
    )


RENAMES: Mapping[str, tuple[Rename, ...]] = {
    "config": _config_renames(),
    "about": _config_renames("config"),
    "outcome": (_CURVES,),
    "baselines": (_CURVES, Rename(2, (), {"travel": "transfers"}), Rename(2, ("transfers", "*"), _TRANSFER)),
    "leave_one_out": (
        _CURVES,
        Rename(2, ("sites", "*"), _LEFT_OUT),
        Rename(2, ("sites", "*", "transfer"), _TRANSFER),
    ),
    "audit": (Rename(2, (), _AUDIT),),
    "rounds": (Rename(2, (), {"of": "rounds"}),),
    "events": (Rename(2, (), {"of": "rounds"}, {"event": {"hello": "handshake", "begin": "initial-model"}}),),
    "report": (
        _CURVES,
        Rename(2, (), {"travel": "transfers"}),
        Rename(2, ("transfers", "*"), _TRANSFER),
        Rename(2, ("left_out", "*"), _LEFT_OUT),
        Rename(2, ("left_out", "*", "transfer"), _TRANSFER),
        Rename(2, ("audit",), _AUDIT),
        *_config_renames("run", "config"),
    ),
}
"""What changed in which file of a run, by the file's property of RunFolder; applied from the root down, in order."""


def replace_old_names(file: str, content: Any, version: int) -> Any:
    """Return the content of a file with today's names.

    Args:
        file: the file, as a property of `RunFolder`; one that is no key of `RENAMES` has no old names.
        content: what was read from it, as JSON or YAML holds it.
        version: the version that wrote it; content of this version is returned as it is.

    >>> replace_old_names("audit", {"seen": 0.5}, version=1)
    {'measured': 0.5}
    """
    renames = [rename for rename in RENAMES.get(file, ()) if rename.version > version]
    return _rename(content, (), renames) if renames else content


def _rename(content: Any, path: tuple[str, ...], renames: list[Rename]) -> Any:
    if isinstance(content, list):
        return [_rename(item, (*path, "*"), renames) for item in content]
    if not isinstance(content, dict):
        return content
    for rename in renames:
        if rename.matches(path):
            new = {old: new for old, new in rename.keys.items() if new not in content}
            content = {new.get(key, key): value for key, value in content.items()}
            for key, texts in rename.values.items():
                if isinstance(content.get(key), str):
                    content[key] = texts.get(content[key], content[key])
    return {key: _rename(value, (*path, str(key)), renames) for key, value in content.items()}
