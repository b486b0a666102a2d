"""Named arrays: a model's weights, and the control variates that are sent with them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy.typing as npt

Weights = dict[str, npt.NDArray[Any]]
"""Arrays by name, in the model's order."""

CONTROL_PREFIX = "control/"


def prefix_control(control: Weights) -> Weights:
    """Return control variates under the names that they have when they are sent with weights."""
    return {CONTROL_PREFIX + name: value for name, value in control.items()}


def split_control(arrays: Weights) -> tuple[Weights, Weights]:
    """Return weights and control variates, the latter under their parameters' names."""
    weights = {name: value for name, value in arrays.items() if not name.startswith(CONTROL_PREFIX)}
    return weights, {name[len(CONTROL_PREFIX) :]: arrays[name] for name in arrays if name.startswith(CONTROL_PREFIX)}


def pack_arrays(arrays: Weights) -> bytes:
    """Return arrays serialised by safetensors, for a message or a file."""
    from safetensors.numpy import save

    return save(arrays)


def unpack_arrays(raw: bytes, names: Collection[str], what: str) -> Weights:
    """Return the arrays that `pack_arrays` packed.

    Args:
        raw: the bytes.
        names: the arrays that there must be.
        what: what they are, for the error message.

    Raises:
        ValueError: the bytes hold something else.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        arrays = load(raw)
    except SafetensorError:
        arrays = {}
    if not set(names) <= set(arrays):
        raise ValueError(f"the received {what} cannot be read")
    return arrays
