"""What a hospital's node tries again after a failure, and for how long."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from client import node
from client.fleet import NodeRefused, ServerUnavailable
from client.node import Node
from client.supernode import NodeSettings
from common.errors import EngineError
from tests.client.test_node import REPLY, ScriptOver, Session, Worker, message, plain, quick, run_node, settings

__all__ = ["quick", "settings"]  # fixtures


class Scripted(Node):
    """A node whose starts end as written: an error, or None for a contact that then ends."""

    def __init__(self, settings: NodeSettings, ends: list[EngineError | None]) -> None:
        super().__init__(settings)
        self.ends = ends

    def _connect(self) -> int:
        if not self.ends:
            raise ScriptOver
        end = self.ends.pop(0)
        if end is not None:
            raise end
        return 17

    def _serve(self) -> None:
        raise ServerUnavailable("no answer")


def test_a_refusal_at_the_first_contact_ends_the_command(settings: NodeSettings) -> None:
    with pytest.raises(NodeRefused, match="not registered"):
        Scripted(settings, [NodeRefused("not registered"), None]).run(print)


def test_an_unreachable_server_at_the_first_contact_ends_the_command(settings: NodeSettings) -> None:
    with pytest.raises(EngineError, match="cannot reach"):
        Scripted(settings, [EngineError("cannot reach"), None]).run(print)


def test_after_the_first_contact_every_failure_is_retried(settings: NodeSettings) -> None:
    said: list[str] = []
    ends: list[EngineError | None] = [None, NodeRefused("still open"), EngineError("cannot reach"), None]
    with pytest.raises(ScriptOver):
        Scripted(settings, ends).run(said.append)
    assert [line for line in said if "trying again in 10 s" in line] == [
        "no answer; trying again in 10 s",
        "still open; trying again in 10 s",
        "cannot reach; trying again in 10 s",
        "no answer; trying again in 10 s",
    ]
    assert sum("connected to host.example.org:443 as node 17" in line for line in said) == 2


def test_a_key_that_was_admitted_before_retries_for_a_limited_time(
    settings: NodeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 10_000, 60))
    monkeypatch.setattr(node.time, "monotonic", lambda: float(next(clock)))
    waiting = Scripted(settings, [NodeRefused("still open")] * 20)
    settings.state.mkdir()
    (settings.state / "admitted").write_text(waiting._identity())
    with pytest.raises(NodeRefused, match="still open"):
        waiting.run(print)
    assert 1 < len(waiting.ends) < 19


def test_a_short_failure_of_the_server_keeps_the_session(
    monkeypatch: pytest.MonkeyPatch, settings: NodeSettings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    session = Session([ServerUnavailable("status 502")] * 3 + [message()], plain(tmp_path))
    run_node(monkeypatch, settings, session, Worker(REPLY))
    assert caplog.text.count("status 502") == 3
    assert len(session.opened) == 1
    assert len(session.pushed) == 1


def test_a_long_failure_of_the_server_ends_the_session(monkeypatch: pytest.MonkeyPatch, settings: NodeSettings) -> None:
    clock = iter(range(0, 10_000, 5))
    monkeypatch.setattr(node.time, "monotonic", lambda: float(next(clock)))
    session = Session([ServerUnavailable("no answer")] * 40)
    _, said = run_node(monkeypatch, settings, session, Worker())
    assert said[1:3] == [
        "north: no answer; waiting for it, and signing on anew after 60 s",
        "no answer; trying again in 10 s",
    ]
    assert len(session.opened) > 1


def test_a_node_says_once_that_its_server_is_away_and_that_it_is_back(
    monkeypatch: pytest.MonkeyPatch, settings: NodeSettings
) -> None:
    clock = iter(range(0, 10_000, 2))
    monkeypatch.setattr(node.time, "monotonic", lambda: float(next(clock)))
    pulls = [None, ServerUnavailable("away"), None, *[ServerUnavailable("away")] * 6, None]
    _, said = run_node(monkeypatch, settings, Session(pulls), Worker())
    assert said[1:] == [
        "north: away; waiting for it, and signing on anew after 60 s",
        "north: host.example.org:443 answers again",
    ]
