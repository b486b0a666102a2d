"""The arguments that all of Flower's strategies get: every site takes part in every round, and our record keys."""

from __future__ import annotations

from typing import Any

from common.messages import ARRAYS_KEY, CONFIG_KEY, WEIGHT_KEY

EVERY_SITE: dict[str, Any] = {
    "fraction_train": 1.0,
    "fraction_evaluate": 1.0,
    "min_train_nodes": 1,
    "min_evaluate_nodes": 1,
    "min_available_nodes": 1,
    "weighted_by_key": WEIGHT_KEY,
    "arrayrecord_key": ARRAYS_KEY,
    "configrecord_key": CONFIG_KEY,
}
