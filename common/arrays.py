"""Named arrays: a model's weights, and the control variates that are sent with them."""

from __future__ import annotations

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
