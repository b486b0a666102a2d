"""Which rounds are validated with the next round's training, and what is stored of them until then."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from common.reports import TrainReport
from server.outcome import MergedRound, Outcome
from server.round_end import is_validated_later
from tests import tiny

PRIVATE = {
    "privacy__sigma": 2.0, "privacy__delta": 0.01, "privacy__accountant": "rdp", "privacy__sampling": 0.5,
    "training__loss": "cross_entropy", "privacy__evaluation_epsilon": 50.0, "evaluation__bins": 16,
    "evaluation__keep_resamples": False, "evaluation__bootstrap": 20,
}  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "number", "expected"),
    [
        ({}, 2, True),
        ({"federation__on_lost": "stop"}, 2, True),
        ({**PRIVATE, "federation__on_lost": "continue"}, 2, True),
        ({**PRIVATE, "federation__on_lost": "stop"}, 2, False),
        ({}, 3, False),
        ({"federation__choose": "last"}, 1, False),
        ({"federation__quorum": 1}, 1, False),
        ({"federation__rounds": 9, "federation__patience": 3}, 3, True),
        ({"federation__rounds": 9, "federation__patience": 3}, 4, False),
    ],
    ids=[
        "yes",
        "stops",
        "private",
        "private and stops",
        "last round",
        "nothing chosen",
        "quorum",
        "cannot stop yet",
        "may stop",
    ],
)
def test_a_round_is_validated_later_unless_something_depends_on_it(
    settings: dict[str, Any], number: int, expected: bool
) -> None:
    config = tiny.run_config(**({"federation__rounds": 3} | settings))
    holders = SimpleNamespace(holders=lambda split: ["north"])
    run: Any = SimpleNamespace(config=config, federation=holders)
    assert is_validated_later(run, number, Outcome(chosen=1)) is expected
    trees = config.model_copy(update={"model": config.model.model_copy(update={"name": "boosting"})})
    run.config = trees
    assert not is_validated_later(run, number, Outcome(chosen=1))
    run.config, holders.holders = config, lambda split: []
    assert not is_validated_later(run, number, Outcome(chosen=1))


def test_a_merged_round_is_kept_as_json() -> None:
    merged = MergedRound(
        3, {"north": TrainReport(examples=4, loss=0.1, seconds=1.5)}, {"south": "offline"}, ("a",), 2.5
    )
    assert MergedRound.from_dict(json.loads(json.dumps(merged.to_dict()))) == merged
