from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tornado")

from common.errors import ConfigError
from experiments.monitor import webhook as sending
from experiments.monitor.webhook import Webhook, load_secret
from tests.experiments.monitor.receivers import run_receiver


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "FIRST_WAIT", 0.05)
    monkeypatch.setattr(sending, "LONGEST_WAIT", 0.1)
    monkeypatch.setattr(sending, "TIMEOUT_SECONDS", 120.0)


def wait(condition: Callable[[], Any], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.02)


def test_an_event_is_signed_and_sent_until_it_is_taken(tmp_path: Path) -> None:
    answers = iter([500, 429, 503])
    with run_receiver(lambda path: next(answers, 204)) as receiver:
        own = Webhook(receiver.url + "/alerts", tmp_path)
        own.add("alert", {"alert": {"id": 7, "device": "bed-1"}})
        wait(lambda: own.counts.delivered == 1)
        own.close()
    assert own.counts.failures == 3
    assert len({body for _, _, body in receiver.requests}) == 1
    path, headers, body = receiver.requests[-1]
    assert path == "/alerts"
    assert json.loads(body)["alert"] == {"id": 7, "device": "bed-1"}
    fields = dict(part.split("=") for part in headers["X-Wardround-Signature"].split(","))
    secret = (tmp_path / "webhook.secret").read_text().strip().encode()
    expected = hmac.new(secret, fields["t"].encode() + b"." + body, hashlib.sha256).hexdigest()
    assert fields["v1"] == expected
    assert abs(int(fields["t"]) - time.time()) < 60
    assert (tmp_path / "webhook.secret").stat().st_mode & 0o077 == 0


def test_events_survive_a_restart_and_come_in_order(tmp_path: Path) -> None:
    first = Webhook("http://127.0.0.1:9", tmp_path)
    for number in range(3):
        first.add("alert", {"number": number})
    wait(lambda: first.counts.failures > 0)
    first.close()
    with run_receiver(lambda path: 200) as receiver:
        second = Webhook(receiver.url, tmp_path)
        assert second.waiting == 3
        second.add("alert", {"number": 3})
        wait(lambda: second.counts.delivered == 4)
        second.close()
    assert [json.loads(body)["number"] for _, _, body in receiver.requests] == [0, 1, 2, 3]
    assert len({json.loads(body)["id"] for _, _, body in receiver.requests}) == 4


@pytest.mark.parametrize("status", [400, 401, 307])
def test_an_event_that_is_refused_for_good_does_not_block_the_next(tmp_path: Path, status: int) -> None:
    answers = iter([status])
    with run_receiver(lambda path: next(answers, 200)) as receiver:
        own = Webhook(receiver.url, tmp_path)
        own.add("alert", {"number": 0})
        own.add("alert", {"number": 1})
        wait(lambda: own.counts.delivered == 1)
        own.close()
    assert (own.counts.given_up, own.waiting) == (1, 0)
    assert len(receiver.requests) == 2  # a redirect is not followed


def test_a_receiver_must_be_private_and_its_secret_too(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="https"):
        Webhook("http://receiver.example/", tmp_path)
    load_secret(tmp_path)
    (tmp_path / "webhook.secret").chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        load_secret(tmp_path)
