"""What a strategy holds from round to round (moments, momentum, control variates), as plain values and arrays.

A strategy is Flower's class or ours, and none of them can be saved. Its state is what its attributes hold beyond those
of a strategy that was just built: numbers, texts, arrays, records of arrays, and lists and dictionaries of them. What
else a strategy may hold is refused by name after the first round, because a run could not be resumed with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from flwr.app import ArrayRecord
from flwr.serverapp.strategy import Strategy

from common import messages
from common.arrays import Weights
from common.errors import DataError, EngineError

Plain = bool | int | float | str | None


@dataclass(frozen=True)
class StrategyState:
    """The state of a strategy.

    Attributes:
        values: what each attribute holds, JSON-ready; arrays are named in it.
        arrays: the arrays by name.
    """

    values: dict[str, Any] = field(default_factory=dict)
    arrays: Weights = field(default_factory=dict)


def export_state(strategy: Strategy, fresh: Strategy) -> StrategyState:
    """Return the state of a strategy.

    Args:
        strategy: the strategy.
        fresh: one that was built with the same options and has not been used.

    Raises:
        EngineError: it holds something that cannot be saved.
    """
    state = StrategyState()
    initial = vars(fresh)
    for name, value in vars(strategy).items():
        if name in initial and _is_same(value, initial[name]):
            continue
        try:
            state.values[name] = _encode(value, name, state.arrays)
        except TypeError as error:
            raise EngineError(
                f"the strategy {type(strategy).__name__} holds {error}, which no checkpoint can hold: "
                "keep numbers, texts, arrays, and lists or dictionaries of them"
            ) from None
    return state


def restore_state(strategy: Strategy, state: StrategyState) -> None:
    """Give a strategy that was just built the state that `export_state` returned.

    Raises:
        DataError: the state is not one of this kind of strategy.
    """
    try:
        for name, value in state.values.items():
            setattr(strategy, name, _decode(value, state.arrays))
    except (KeyError, TypeError, ValueError):
        raise DataError(f"the checkpoint's state does not fit the strategy {type(strategy).__name__}") from None


def _is_same(value: object, initial: object) -> bool:
    """Return whether an attribute is as it was: the same object, or an equal number or text."""
    plain = isinstance(value, bool | int | float | str) and type(value) is type(initial)
    return value is initial or (plain and bool(value == initial))


def _encode(value: object, where: str, arrays: Weights) -> dict[str, object]:
    """Return a value JSON-ready, with its arrays put into `arrays`.

    Raises:
        TypeError: it cannot be saved; says where it is and of which type.
    """
    if value is None or type(value) in (bool, int, float, str):
        return {"value": value}
    if isinstance(value, np.ndarray | np.generic) and value.dtype != object:
        name = f"{where}#{len(arrays)}"
        arrays[name] = np.asarray(value)
        return {"array": name}
    if isinstance(value, ArrayRecord):
        return {"record": _encode(messages.unpack_weights(value), where, arrays)}
    if isinstance(value, list | tuple):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [_encode(item, where, arrays) for item in value]}
    if isinstance(value, Mapping) and all(type(key) is str for key in value):
        return {"map": [[key, _encode(item, f"{where}/{key}", arrays)] for key, item in value.items()]}
    raise TypeError(f"{where}, of the type {type(value).__name__}")


def _decode(value: Mapping[str, Any], arrays: Weights) -> Any:
    ((kind, content),) = value.items()
    if kind == "value":
        return content
    if kind == "array":
        return arrays[content]
    if kind == "record":
        return messages.pack_weights(_decode(content, arrays))
    if kind in ("list", "tuple"):
        items = [_decode(item, arrays) for item in content]
        return tuple(items) if kind == "tuple" else items
    if kind == "map":
        return {key: _decode(item, arrays) for key, item in content}
    raise ValueError(kind)
