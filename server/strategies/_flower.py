"""The arguments that all of Flower's strategies get: every site takes part in every round, and our record keys."""

from __future__ import annotations

from typing import TypedDict

from common.messages import ARRAYS_KEY, CONFIG_KEY, WEIGHT_KEY


class _Arguments(TypedDict):
    fraction_train: float
    fraction_evaluate: float
    min_train_nodes: int
    min_evaluate_nodes: int
    min_available_nodes: int
    weighted_by_key: str
    arrayrecord_key: str
    configrecord_key: str


EVERY_SITE: _Arguments = {
    "fraction_train": 1.0,
    "fraction_evaluate": 1.0,
    "min_train_nodes": 1,
    "min_evaluate_nodes": 1,
    "min_available_nodes": 1,
    "weighted_by_key": WEIGHT_KEY,
    "arrayrecord_key": ARRAYS_KEY,
    "configrecord_key": CONFIG_KEY,
}
