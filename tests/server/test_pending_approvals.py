"""A run that waits for hospitals' approvals: up to its deadline, naming them, and not one second for the others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flwr.app import Error

from common import messages
from common.errors import EngineError
from common.messages import WAITS_FOR_APPROVAL
from common.requests import Request
from server import pending_approvals
from server.events import Event, WaitingEvent
from server.phases.handshake import run_handshake
from tests import tiny
from tests.server.conftest import WaitingClock
from tests.server.phases.memory_runs import hello, quiet
from tests.wire import Answer, FakeGrid, Script

pytestmark = pytest.mark.usefixtures("waiting_clock")

PENDING = f"{WAITS_FOR_APPROVAL}: somebody at this hospital must approve the configuration 0123456789ab"
DECLINED = "policy: somebody at this hospital has declined this run"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pending_approvals, "ASK_AGAIN_SECONDS", 0.05)


def hesitating(name: str, refusals: int, text: str = PENDING, then: Callable[[], Script] | None = None) -> Script:
    """Return a site that refuses so many times before it says hello."""
    left = [refusals]
    whole = then() if then else hello(name)

    def answer(request: Request) -> Answer:
        left[0] -= 1
        reason = messages.pack_error(name, "ApprovalPending", text)
        return Error(code=messages.ERROR_CODE, reason=reason) if left[0] >= 0 else whole(request)

    return answer


def shake(scripts: list[Script], heard: list[Event] | None = None, **settings: Any) -> tuple[list[str], dict[str, str]]:
    config = tiny.run_config(**{f"federation__{key}": value for key, value in settings.items()})
    listen = quiet if heard is None else heard.append
    names = {1: "north", 2: "south"}
    federation, refused = run_handshake(FakeGrid(scripts), config, listen, lambda: names)
    return sorted(federation.reports), refused


def test_without_a_deadline_a_run_goes_on_and_names_who_must_approve(waiting_clock: WaitingClock) -> None:
    assert shake([hello("north"), hesitating("south", 1)]) == (["north"], {"south": PENDING})
    assert waiting_clock.now < 1


def test_a_hospital_that_approves_in_time_takes_part() -> None:
    heard: list[Event] = []
    assert shake([hello("north"), hesitating("south", 3)], heard, approval_timeout=60.0) == (["north", "south"], {})
    waiting = [event for event in heard if isinstance(event, WaitingEvent)]
    assert waiting[0].approval == ("south",)
    assert waiting[0].to_dict()["approval"] == ["south"]


def test_after_the_deadline_the_run_goes_on_without_it(waiting_clock: WaitingClock) -> None:
    assert shake([hello("north"), hesitating("south", 10**6)], approval_timeout=0.5) == (["north"], {"south": PENDING})
    assert 0.5 <= waiting_clock.now < 2


def test_a_hospital_that_declines_is_not_waited_for(waiting_clock: WaitingClock) -> None:
    scripts = [hello("north"), hesitating("south", 1, PENDING, lambda: hesitating("south", 10**6, DECLINED))]
    assert shake(scripts, approval_timeout=60.0) == (["north"], {"south": DECLINED})
    assert waiting_clock.now < 20


def test_a_named_hospital_is_waited_for_and_the_run_fails_by_name() -> None:
    assert shake([hello("north"), hesitating("south", 2)], approval_timeout=60.0, expect=["north", "south"]) == (
        ["north", "south"],
        {},
    )
    with pytest.raises(EngineError, match=f"missing south .south: {WAITS_FOR_APPROVAL}"):
        shake([hello("north"), hesitating("south", 10**6)], approval_timeout=0.3, expect=["north", "south"])


def test_only_those_that_wait_are_asked_again() -> None:
    requested: list[int] = []

    def counting(number: int, script: Script) -> Script:
        return lambda request: requested.append(number) or script(request)  # type: ignore[func-returns-value]

    other = hesitating("west", 10**6, "policy: nothing trains here without differential privacy")
    scripts = [counting(1, hello("north")), counting(2, hesitating("south", 2)), counting(3, other)]
    names = {1: "north", 2: "south", 3: "west"}
    config = tiny.run_config(federation__approval_timeout=60.0)
    federation, refused = run_handshake(FakeGrid(scripts), config, quiet, lambda: names)
    assert sorted(federation.reports) == ["north", "south"]
    assert list(refused) == ["west"]
    assert requested == [1, 2, 3, 2, 2]
