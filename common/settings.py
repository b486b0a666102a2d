"""Reading and validation of settings: YAML, `a.b=c` overrides, errors that name the key and the nearest valid one."""

from __future__ import annotations

import difflib
import re
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from common.errors import ConfigError

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$")]
"""A name that can be part of a file name."""

T = TypeVar("T", bound=BaseModel)


def validate_settings(model: type[T], raw: Mapping[str, Any], source: str) -> T:
    """Return a mapping as a settings model.

    Args:
        model: the class to return.
        raw: keys and values.
        source: where they come from, for error messages.

    Raises:
        ConfigError: keys or values are invalid; the message names the first four by path.
    """
    try:
        return model.model_validate(lists_to_tuples(raw))
    except ValidationError as error:
        items = error.errors()
        wrong_inside = {item["loc"][:end] for item in items for end in range(1, len(item["loc"]))}
        problems = [
            _explain(model, dict(item))
            for item in items
            if not (item["type"] == "too_short" and item["loc"] in wrong_inside)
        ]
        raise ConfigError(f"{source}: " + "; ".join(problems[:4])) from None


def _explain(model: type[BaseModel], item: dict[str, Any]) -> str:
    where = ".".join(str(part) for part in item["loc"])
    if item["type"] == "extra_forbidden":
        known = _keys(model, item["loc"][:-1])
        near = difflib.get_close_matches(str(item["loc"][-1]), known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else "known keys: " + ", ".join(sorted(known))
        return f"unknown key {where} ({hint})"
    message = str(item["msg"]).removeprefix("Value error, ")
    given = item.get("input")
    got = f", got {given!r}" if isinstance(given, str | int | float | bool) or given is None else ""
    return f"{where}: {message}{got}" if where else message


def _keys(model: type[BaseModel], path: Sequence[str | int]) -> list[str]:
    annotation: Any = model
    for part in path:
        if typing.get_origin(annotation) is dict:
            annotation = typing.get_args(annotation)[1]
        elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
            field = annotation.model_fields.get(str(part))
            annotation = field.annotation if field else None
        if typing.get_origin(annotation) in (types.UnionType, typing.Union):
            annotation = next(item for item in typing.get_args(annotation) if item is not type(None))
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return list(annotation.model_fields)
    return []


_LOST_TEXT = re.compile(r"""\A\s*(?:&|~\s*\Z)|\A[^'"]*(?:(?:^|\s)#|\S\s*\n\s*\S)""")
"""Of a value of --set, as it is written: an anchor, ~ alone, a comment or a line break, none of them in quotes."""


def apply_override(raw: dict[str, Any], override: str) -> None:
    """Apply one `a.b=c` override to nested settings, in place.

    Raises:
        ConfigError: it is not of this form, its value is not YAML, or a key on its path holds a value.
    """
    key, equals, text = override.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise ConfigError(f"--set {override!r}: write it as section.key=value, such as training.lr=0.01")
    try:
        value = parse_yaml(text)
    except yaml.YAMLError:
        raise ConfigError(f"--set {key}: {text!r} is not a YAML value") from None
    if (value is None or isinstance(value, str)) and _LOST_TEXT.search(text):
        raise ConfigError(
            f"--set {key}: YAML reads a part of {text!r} as a comment, an anchor, nothing or two lines: put the value "
            f"in quotes, as in --set '{key.strip()}=\"...\"'"
        )
    section = raw
    for part in parts[:-1]:
        inner = section.setdefault(part, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"--set {key}: {part} holds a value, not a section")
        section = inner
    section[parts[-1]] = copy_mappings(value)


class _Loader(yaml.SafeLoader):
    """YAML 1.1 with the numbers of YAML 1.2, without dates, and a repeated key is an error.

    An unquoted 1e-3 is a number. 010 is not 8, nor 1:30 ninety, as in YAML 1.1: both are text, which no number accepts.
    2024-01-31 is text too, as it is written.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key must be a word", key.start_mark)
            if key.value in keys:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key.value} occurs twice", key.start_mark)
            keys.add(key.value)
        return super().construct_mapping(node, deep)


_INT, _FLOAT, _DATE = (f"tag:yaml.org,2002:{kind}" for kind in ("int", "float", "timestamp"))
_Loader.yaml_implicit_resolvers = {
    start: [(tag, pattern) for tag, pattern in resolvers if tag not in (_INT, _FLOAT, _DATE)]
    for start, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_WHOLE = r"(0|[1-9][0-9]*(_[0-9]+)*)"
for _tag, _pattern in (
    (_INT, rf"[-+]?({_WHOLE}|0x[0-9a-fA-F]+(_[0-9a-fA-F]+)*|0b[01]+(_[01]+)*)"),
    (
        _FLOAT,
        rf"[-+]?({_WHOLE}|{_WHOLE}?\.[0-9]+(_[0-9]+)*|{_WHOLE}\.)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
    ),
):
    _Loader.add_implicit_resolver(_tag, re.compile(f"(?:{_pattern})$"), list("-+.0123456789"))


MAX_VALUES = 100_000
"""Largest number of values in a YAML text, with every alias expanded."""
MAX_BITS = 1024
"""Longest whole number in a YAML text."""


def parse_yaml(text: str) -> Any:
    """Return the value of a YAML text.

    Raises:
        yaml.YAMLError: the text is not YAML, an anchor contains itself, or aliases expand to too many values.
    """
    try:
        value = yaml.load(text, Loader=_Loader)
        _check_aliases(value, (), 0)
    except RecursionError:
        raise yaml.constructor.ConstructorError(None, None, "it is nested too deeply") from None
    except (ValueError, LookupError, AttributeError, TypeError):  # as of !!int x, or of 5,000 digits
        problem = "a value is not of the kind that its tag (!!) names, or a number is too long"
        raise yaml.constructor.ConstructorError(None, None, problem) from None
    return value


def _check_aliases(value: Any, parents: tuple[int, ...], count: int) -> int:
    """Return `count` plus the number of values, with every alias expanded."""
    if count > MAX_VALUES:
        raise yaml.constructor.ConstructorError(None, None, f"aliases expand to more than {MAX_VALUES:,} values")
    if isinstance(value, Mapping | list):
        if id(value) in parents:
            raise yaml.constructor.ConstructorError(None, None, "an anchor contains itself")
        for item in value.values() if isinstance(value, Mapping) else value:
            count = _check_aliases(item, (*parents, id(value)), count)
    elif isinstance(value, int) and value.bit_length() > MAX_BITS:
        raise yaml.constructor.ConstructorError(None, None, "a number is too long")
    return count + 1


def copy_mappings(value: Any) -> Any:
    """Return a copy in which nested mappings are new dicts, so that overrides leave the original unchanged."""
    return {key: copy_mappings(item) for key, item in value.items()} if isinstance(value, Mapping) else value


def list_changed_keys(one: Mapping[str, Any], other: Mapping[str, Any], path: str = "") -> list[str]:
    """Return the dotted keys whose values differ between two nested settings, sorted.

    >>> list_changed_keys({"seed": 1, "training": {"lr": 0.1}}, {"seed": 1, "training": {"lr": 0.2, "epochs": 3}})
    ['training.epochs', 'training.lr']
    """
    changed: list[str] = []
    for key in sorted({*one, *other}):
        first, second = one.get(key), other.get(key)
        if isinstance(first, Mapping) and isinstance(second, Mapping):
            changed += list_changed_keys(first, second, f"{path}{key}.")
        elif (key in one) != (key in other) or first != second:
            changed.append(f"{path}{key}")
    return changed


def lists_to_tuples(value: Any) -> Any:
    """Return nested settings with tuples in place of lists, because strict models accept no list for a tuple."""
    if isinstance(value, Mapping):
        return {key: lists_to_tuples(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return tuple(lists_to_tuples(item) for item in value)
    return value


class Section(BaseModel):
    """Base of the parts of a configuration: frozen, and strict about unknown keys and types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
