"""The JSON of a run's events: its keys are read by the progress display, by sinks and from earlier runs' files."""

from __future__ import annotations

import json

import pytest

from common.reports import TrainReport
from server.events import (
    AwaitedEvent,
    ChargedAgainEvent,
    DoneEvent,
    Event,
    HandshakeEvent,
    LateReplyEvent,
    ReplyEvent,
    ResumeEvent,
    RoundEvent,
    SentAgainEvent,
    StartEvent,
    WaitingEvent,
)
from tests.wire import SAMPLE_REPLIES

HANDSHAKE = SAMPLE_REPLIES["handshake"].report
ROUND = RoundEvent(
    round=2, rounds=8, trained={"north": TrainReport(examples=3, loss=0.5)}, validated={"west": {"examples": 4}},
    lost={"south": "offline"}, weights="0" * 16, validation={"accuracy": 0.5}, seconds=1.5, chosen=1, metric="macro_f1",
)  # fmt: skip


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (
            ReplyEvent("north", True, 2, "train", 3, 4),
            {"event": "reply", "site": "north", "ok": True, "waiting": 2, "phase": "train", "round": 3, "sites": 4},
        ),
        (
            ReplyEvent("node 1", False, 0, "handshake", 0),
            {"event": "reply", "site": "node 1", "ok": False, "waiting": 0, "phase": "handshake", "round": 0},
        ),
        (
            WaitingEvent(1, 0, 2, (), ("north",), 12, 120),
            {
                "event": "connect", "online": 1, "ready": 0, "need": 2, "missing": ["north"], "seconds": 12,
                "limit": 120,
            },
        ),
        (
            AwaitedEvent("train", 3, ("north", "va"), 12, 600),
            {"event": "awaited", "phase": "train", "round": 3, "sites": ["north", "va"], "seconds": 12, "limit": 600},
        ),
        (LateReplyEvent("north", "train", 3), {"event": "late", "site": "north", "phase": "train", "round": 3}),
        (SentAgainEvent("north", "train", 3), {"event": "sent-again", "site": "north", "phase": "train", "round": 3}),
        (ResumeEvent(3, 8), {"event": "resume", "round": 3, "rounds": 8}),
        (ResumeEvent(3, 8, ("x",)), {"event": "resume", "round": 3, "rounds": 8, "damaged": ["x"]}),
        (
            ChargedAgainEvent("north", 3, 20, None),
            {"event": "charged-again", "site": "north", "round": 3, "lost_steps": 20, "epsilon_run": None},
        ),
        (
            StartEvent("runs/a", ("w",), ()),
            {"event": "initial-model", "from": "runs/a", "taken": ["w"], "frozen": []},
        ),
        (DoneEvent("failed", "why"), {"event": "done", "status": "failed", "error": "why"}),
        (
            ROUND,
            {
                "event": "round", "rounds": 8, "round": 2,
                "sites": {"north": {"train": {"examples": 3, "loss": 0.5}}, "west": {"validation": {"examples": 4}}},
                "lost": {"south": "offline"}, "weights": "0" * 16, "validation": {"accuracy": 0.5}, "seconds": 1.5,
                "chosen": 1, "metric": "macro_f1",
            },
        ),
    ],
)  # fmt: skip
def test_each_event_has_its_keys(event: Event, expected: dict[str, object]) -> None:
    assert event.to_dict() == expected
    assert json.loads(json.dumps(event.to_dict())) == expected


def test_the_handshakes_event_says_what_each_site_stated() -> None:
    line = HandshakeEvent({"north": HANDSHAKE}, {"south": "no data"}).to_dict()  # type: ignore[dict-item]
    assert (line["event"], line["refused"]) == ("handshake", {"south": "no data"})
    assert list(line["sites"]["north"]) == [
        "protocol", "task", "fingerprint", "synthetic", "split", "warning", "excluded", "shift", "counts", "device",
    ]  # fmt: skip
    assert line["sites"]["north"]["counts"]["train"] == {"patients": 1, "examples": 3, "classes": [1, 1, 1]}
    assert line["sites"]["north"]["task"]["units"] is False  # a task is written whole


def test_a_round_without_validation_has_no_key_for_it() -> None:
    from dataclasses import replace

    assert "validation" not in replace(ROUND, validation=None).to_dict()
