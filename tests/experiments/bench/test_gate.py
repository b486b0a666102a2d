"""The benchmark of the gate answers each kind of request, and leaves the program as it found it."""

from __future__ import annotations

import time

import pytest

from client.gate import admission
from client.gate.disclosure import ReleaseRules
from experiments.bench import gate
from experiments.bench.gate import COUNTED, count_time, measure_gate, render_gate_table


@pytest.mark.slow
def test_every_kind_of_message_is_measured() -> None:
    before = [getattr(owner, name) for owner, name, _ in COUNTED]
    measured = measure_gate(100, 1)
    assert [getattr(owner, name) for owner, name, _ in COUNTED] == before
    rows = {item["request"]: item for item in measured["messages"]}
    kinds = ["handshake", "scaling", "train, first round", "train, later round", "validate", "test"]
    assert list(rows) == [*kinds, "handshake, cold"]
    assert all(item["checks"] > 0 and item["work"] > 0 for item in rows.values())
    assert all((rows[kind]["grain"] > 0) == (kind in ("validate", "test")) for kind in kinds)
    assert rows["train, first round"]["hashing"] > 0
    table = render_gate_table(measured)
    assert table.count("\n| ") == 1 + len(rows)
    assert "SYNTHETIC hospital of 99 people" in table or f"of {measured['people']} people" in table


def test_only_the_threads_own_time_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "digest_question", lambda request: time.sleep(0.05) or "x")
    spent: dict[str, float] = {}
    with count_time(admission, "digest_question", spent, "hashing"):
        assert admission.digest_question(None) == "x"  # type: ignore[arg-type]
    assert 0 < spent["hashing"] < 0.04
    with pytest.raises(ZeroDivisionError), count_time(ReleaseRules, "coarsen", spent, "grain"):
        raise ZeroDivisionError
    assert ReleaseRules.coarsen is gate.ReleaseRules.coarsen
    assert not hasattr(ReleaseRules.coarsen, "__wrapped__")
