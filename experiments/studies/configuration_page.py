"""docs/reference/configuration.md, generated from the configuration models, so that no option is undocumented.

python -m experiments.studies.configuration_page > docs/reference/configuration.md
"""

from __future__ import annotations

import types
import typing
from typing import Any, Literal

from pydantic import BaseModel

from common import models, plugins
from common.config import RunConfig
from experiments.markdown_table import render_markdown_table
from server import strategies
from sites import datasets

HEAD = """# Configuration

A run is configured by one YAML file. Every key below is optional; an unknown key is refused with the nearest known one.
`--set section.key=value` overrides a value. This page is generated from the program by
`python -m experiments.studies.configuration_page`.
"""


def render_configuration_page() -> str:
    """Return docs/reference/configuration.md."""
    parts = [HEAD, *_describe_section("", RunConfig)]
    kinds = [
        ("data.options", "sites.datasets", "CARD", datasets.dataset_names()),
        ("model.options", "common.models", "build", models.list_models()),
        ("federation.strategy.options", "server.strategies", "build", strategies.list_strategies()),
    ]
    for path, package, marker, names in kinds:
        for name in names:
            options = plugins.load_plugin(package, marker, name, "plug-in").Options
            parts += _describe_options(f"`{path}` of `{name}`", "", options)
    return "\n".join(parts) + "\n"


def _describe_section(path: str, model: type[BaseModel]) -> list[str]:
    sections = {name: _find_section(name, field.annotation) for name, field in model.model_fields.items()}
    inner = {name: section for name, section in sections.items() if section}
    parts = [f"\n## `{path}`\n", _docstring_text(model)] if path else ["\n## Top level\n"]
    if len(inner) < len(model.model_fields):
        parts += _list_keys(model, hidden=tuple(inner))
    for name, annotation in inner.values():
        parts += _describe_section(f"{path}.{name}" if path else name, annotation)
    return parts


def _describe_options(title: str, path: str, model: type[BaseModel]) -> list[str]:
    """Return a plug-in's options, and below them those of each key that holds keys of its own."""
    heading = f"\n### `{path}` in {title}\n" if path else f"\n## {title}\n"
    parts = [heading, _docstring_text(model), *_list_keys(model)]
    for name, field in model.model_fields.items():
        if inner := _find_section(name, field.annotation):
            parts += _describe_options(title, f"{path}.{name}" if path else name, inner[1])
    return parts


def _find_section(name: str, annotation: Any) -> tuple[str, type[BaseModel]] | None:
    """Return the section that a key holds, also where it is optional or there is one for each name."""
    if typing.get_origin(annotation) is dict:
        inside = _find_section(name, typing.get_args(annotation)[1])
        return (f"{name}.NAME", inside[1]) if inside else None
    for item in typing.get_args(annotation) or (annotation,):
        if isinstance(item, type) and issubclass(item, BaseModel):
            return name, item
    return None


def _docstring_text(model: type[BaseModel]) -> str:
    return " ".join(line.strip() for line in (model.__doc__ or "").strip().splitlines()) + "\n"


def _list_keys(model: type[BaseModel], hidden: tuple[str, ...] = ()) -> list[str]:
    rows = []
    for name, field in model.model_fields.items():
        if name in hidden:
            continue
        default = field.get_default(call_default_factory=True)
        default_text = "none" if default is None else str(list(default) if isinstance(default, tuple) else default)
        default_text = "required" if field.is_required() else f"`{default_text}`"
        default_text = "those below" if isinstance(default, BaseModel) else default_text
        limits = ", ".join(_describe_limit(item) for item in field.metadata if _describe_limit(item))
        meaning = "; ".join(filter(None, [field.description or "", limits]))
        rows.append([f"`{name}`", _describe_kind(field.annotation), default_text, meaning])
    return [render_markdown_table(["key", "kind", "default", "meaning, limits"], rows) if rows else "No options.\n"]


def _describe_limit(item: Any) -> str:
    signs = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below", "max_length": "at most (length)"}
    for attribute, words in signs.items():
        value = getattr(item, attribute, None)
        if value is not None:
            return f"{words} {value}"
    return ""


def _describe_kind(annotation: Any) -> str:
    origin = typing.get_origin(annotation)
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in typing.get_args(annotation))
    if origin in (types.UnionType, typing.Union):
        return " or ".join(
            "none" if item is type(None) else _describe_kind(item) for item in typing.get_args(annotation)
        )
    if origin in (tuple, list):
        return "list of " + _describe_kind(typing.get_args(annotation)[0])
    if origin is typing.Annotated:
        return _describe_kind(typing.get_args(annotation)[0])
    if origin is dict:
        return "keys and values"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "keys, see below"
    names = {str: "text", int: "whole number", float: "number", bool: "true or false"}
    return names.get(annotation, "text")


if __name__ == "__main__":
    print(render_configuration_page(), end="")
