from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import Any

import pytest

from common.task import Task

TASK = Task("beats", "multiclass", ("N", "V"), ("normal", "ventricular"), 2, 96, 125.0, ("rr",), ("II", "V1"))
OTHER: dict[str, Any] = {
    "name": "other",
    "kind": "multilabel",
    "classes": ("V", "N"),
    "class_titles": ("a", "b"),
    "channels": 1,
    "samples": 97,
    "rate_hz": 250.0,
    "features": (),
    "channel_names": ("I", "V1"),
    "units": True,
    "missing": True,
    "utility": True,
    "binary_features": ("rr",),
    "anomaly": True,
    "against": ("V",),
}


def test_a_task_survives_json_with_its_fingerprint() -> None:
    again = Task.from_dict(json.loads(json.dumps(TASK.to_dict())))
    assert again == TASK
    assert again.fingerprint() == TASK.fingerprint()
    assert len(TASK.fingerprint()) == 16


@pytest.mark.parametrize("field", [field.name for field in fields(Task)])
def test_the_fingerprint_depends_on_every_field(field: str) -> None:
    change = {field: OTHER[field]} | ({"channel_names": ("II",)} if field == "channels" else {})
    assert replace(TASK, **change).fingerprint() != TASK.fingerprint()


@pytest.mark.parametrize(
    "change",
    [
        {"classes": ("N",), "class_titles": ("n",)},
        {"class_titles": ("n",)},
        {"channel_names": ("II",)},
        {"channels": 3},
        {"binary_features": ("age",)},
        {"kind": "multilabel", "anomaly": True},
    ],
)
def test_a_task_that_contradicts_itself_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"needs? a|must fit|must be among"):
        replace(TASK, **change)
