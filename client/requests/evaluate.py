"""Answers to the validation and test phases."""

from __future__ import annotations

from collections.abc import Mapping

from common.metrics.figures import Evaluation
from common.metrics.table_names import ALL_PATIENTS, PERSONAL


def _of_personal(table: str) -> str:
    """Return the name of the personal model's table beside one of the federated model's."""
    head, tail = (ALL_PATIENTS, "") if table.startswith(ALL_PATIENTS) else ("", " ")
    return PERSONAL + tail + table.removeprefix(head)


def _noted(results: Mapping[str, Evaluation], note: str) -> dict[str, Evaluation]:
    return {name: item.model_copy(update={"notes": (*item.notes, note)}) for name, item in results.items()}
