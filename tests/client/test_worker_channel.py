"""The channel to the worker: whole parcels, or one error."""

from __future__ import annotations

import json
import pickle
from multiprocessing.connection import Pipe

import pytest

from client.worker_channel import ChannelClosed, Parcel, receive_parcel, send_parcel


def test_a_parcel_arrives_as_it_was_sent() -> None:
    here, there = Pipe()
    sent = Parcel("request", {"run": "1", "x": 0.1, "deep": True}, {"a": b"", "b": bytes(range(256)) * 100})
    send_parcel(here, sent)
    send_parcel(here, Parcel("alive"))
    assert receive_parcel(there) == sent
    assert receive_parcel(there) == Parcel("alive")


def test_a_closed_channel_is_one_error() -> None:
    here, there = Pipe()
    here.close()
    with pytest.raises(ChannelClosed, match="has ended"):
        receive_parcel(there)
    with pytest.raises(ChannelClosed, match="has ended"):
        send_parcel(there, Parcel("ready"))


@pytest.mark.parametrize("header", [b"x", b"[]", json.dumps({"kind": "reply"}).encode(), pickle.dumps({"kind": "x"})])
def test_what_is_no_parcel_is_one_error(header: bytes) -> None:
    here, there = Pipe()
    here.send_bytes(header)
    with pytest.raises(ChannelClosed, match="no message of this channel"):
        receive_parcel(there)


def test_an_oversized_header_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("client.worker_channel.MAX_HEADER", 10)
    here, there = Pipe()
    here.send_bytes(b" " * 11)
    with pytest.raises(ChannelClosed):
        receive_parcel(there)
