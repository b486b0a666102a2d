"""docs/reference/configuration.md, made from the models themselves: an option cannot be there and undocumented.

python -m experiments.studies.configuration_page > docs/reference/configuration.md
"""

from __future__ import annotations

import types
import typing
from typing import Any, Literal

from pydantic import BaseModel

from common import models, plugins
from common.config import RunConfig
from server import strategies
from sites import datasets

HEAD = """# Configuration

One YAML file a run. Every key below may be left out; an unknown key is refused, and the nearest right one named.
`--set section.key=value` overrides a value. Made by `python -m experiments.studies.configuration_page` from the
program itself.
"""


def render_configuration_page() -> str:
    """Return the page."""
    parts = [HEAD, *_section("", RunConfig)]
    kinds = [
        ("data.options", "sites.datasets", "CARD", datasets.dataset_names()),
        ("model.options", "common.models", "build", models.list_models()),
        ("federation.strategy.options", "server.strategies", "build", strategies.list_strategies()),
    ]
    for path, package, marker, names in kinds:
        for name in names:
            options = plugins.load_plugin(package, marker, name, "plug-in").Options
            parts += [f"\n## `{path}` of `{name}`\n", _words(options), *_table(options)]
    return "\n".join(parts) + "\n"


def _section(path: str, model: type[BaseModel]) -> list[str]:
    inner = {
        name: found for name, field in model.model_fields.items() if (found := _section_of(name, field.annotation))
    }
    parts = [f"\n## `{path}`\n", _words(model)] if path else ["\n## At the top\n"]
    if len(inner) < len(model.model_fields):
        parts += _table(model, leave_out=tuple(inner))
    for name, annotation in inner.values():
        parts += _section(f"{path}.{name}" if path else name, annotation)
    return parts


def _section_of(name: str, annotation: Any) -> tuple[str, type[BaseModel]] | None:
    """Return the section that a key holds, also where it may be left out or there is one for each name."""
    if typing.get_origin(annotation) is dict:
        inside = _section_of(name, typing.get_args(annotation)[1])
        return (f"{name}.NAME", inside[1]) if inside else None
    for item in typing.get_args(annotation) or (annotation,):
        if isinstance(item, type) and issubclass(item, BaseModel):
            return name, item
    return None


def _words(model: type[BaseModel]) -> str:
    return " ".join(line.strip() for line in (model.__doc__ or "").strip().splitlines()) + "\n"


def _table(model: type[BaseModel], leave_out: tuple[str, ...] = ()) -> list[str]:
    rows = []
    for name, field in model.model_fields.items():
        if name in leave_out:
            continue
        default = field.get_default(call_default_factory=True)
        shown = "none" if default is None else str(list(default) if isinstance(default, tuple) else default)
        shown = "must be given" if field.is_required() else f"`{shown}`"
        limits = ", ".join(_limit(item) for item in field.metadata if _limit(item))
        meaning = "; ".join(filter(None, [field.description or "", limits]))
        rows.append(f"| `{name}` | {_kind(field.annotation)} | {shown} | {meaning} |")
    return (
        ["| key | kind | default | meaning, limits |", "| --- | --- | --- | --- |", *rows]
        if rows
        else ["No options.\n"]
    )


def _limit(item: Any) -> str:
    signs = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below", "max_length": "at most (length)"}
    for attribute, words in signs.items():
        value = getattr(item, attribute, None)
        if value is not None:
            return f"{words} {value}"
    return ""


def _kind(annotation: Any) -> str:
    origin = typing.get_origin(annotation)
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in typing.get_args(annotation))
    if origin in (types.UnionType, typing.Union):
        return " or ".join("none" if item is type(None) else _kind(item) for item in typing.get_args(annotation))
    if origin in (tuple, list):
        return "list of " + _kind(typing.get_args(annotation)[0])
    if origin is typing.Annotated:
        return _kind(typing.get_args(annotation)[0])
    if origin is dict:
        return "keys and values"
    names = {str: "text", int: "whole number", float: "number", bool: "true or false"}
    return names.get(annotation, "text")


if __name__ == "__main__":
    print(render_configuration_page(), end="")
