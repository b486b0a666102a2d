"""A run makes a hospital's policy stricter, and never looser in any way."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from client import requests
from client.gate import tighten
from client.gate.tighten import tighten_policy
from client.policy import ANY, SIMULATION_POLICY, SitePolicy
from client.site_context import SiteContext
from common.errors import SiteError
from common.requests import HandshakeRequest
from tests import tiny
from tests.wire import SAMPLE_REPLIES

LISTS = {"allowed_settings": ("sites.limit", "sites.draw", "*"), "allowed_models": ("cnn", "mlp", "*"),
         "allowed_tasks": ("mitdb", "*"), "allowed_strategies": ("fedavg", "fedprox", "*"),
         "approved_weights": ("a", "b"), "privacy_levels": ("patient", "record", "hospital")}  # fmt: skip
WHOLE = {"max_bins", "max_runs_per_month", "max_rounds_per_run", "max_rounds_per_month", "max_rounds_per_day",
         "max_validated_models_per_month",
         "max_tested_models_per_run", "max_tested_models_per_month", "max_update_bytes"}  # fmt: skip


def values(key: str) -> some.SearchStrategy[Any]:
    if key in LISTS:
        return some.lists(some.sampled_from(LISTS[key]), min_size=1, unique=True).map(tuple)
    if key in tighten.STRICT_VALUES:
        return some.sampled_from(SitePolicy.model_fields[key].annotation.__args__)  # type: ignore[union-attr]
    if key in (*tighten.FALSE, *tighten.TRUE):
        return some.booleans()
    number: some.SearchStrategy[Any] = some.integers(16, 900) if key in WHOLE else some.floats(0.001, 0.9)
    limit = key in tighten.SMALLER and SitePolicy.model_fields[key].annotation not in (int, float)
    return some.none() | number if limit else number


KEYS = [*tighten.SMALLER, *tighten.FALSE, *tighten.TRUE, *tighten.COMMON, *tighten.STRICT_VALUES]
SOME_KEYS = some.fixed_dictionaries({}, optional={key: values(key) for key in KEYS})


def allows_more(key: str, one: Any, other: Any) -> bool:
    """Return whether a value allows something that another one does not; written apart from the code under test."""
    infinite = float("inf")
    if key in tighten.SMALLER:
        return (infinite if one is None else one) > (infinite if other is None else other)
    if key in LISTS:
        return ANY not in other and (ANY in one or not set(one) <= set(other))
    strict: Any = {"private_only": True, **tighten.STRICT_VALUES}.get(key, False)
    return bool(one != strict and other == strict)


def test_every_key_of_a_policy_has_a_direction_or_is_the_hospitals_own() -> None:
    assert sorted([*KEYS, *tighten.OWN]) == sorted(SitePolicy.model_fields)


@settings(max_examples=150, deadline=None)
@given(own=SOME_KEYS, wanted=SOME_KEYS)
def test_nothing_is_ever_allowed_that_the_hospital_or_the_run_forbids(own: Any, wanted: Any) -> None:
    policy, asked = SitePolicy(**own), SitePolicy(**wanted)
    try:
        result = tighten_policy(policy, wanted)
    except SiteError:
        assert not set(policy.privacy_levels) & set(asked.privacy_levels)
        return
    for key in KEYS:
        if key != "max_epsilon":
            assert not allows_more(key, getattr(result, key), getattr(policy, key)), key
            if key in wanted:
                assert not allows_more(key, getattr(result, key), getattr(asked, key)), key
    assert not allows_more("max_epsilon", result.epsilon_limit, policy.epsilon_limit)
    if wanted.get("max_epsilon") is not None:
        assert not allows_more("max_epsilon", result.epsilon_limit, asked.max_epsilon)
        assert result.needs_privacy
    assert result.needs_privacy >= policy.needs_privacy
    assert {key: getattr(result, key) for key in tighten.OWN} == {key: getattr(policy, key) for key in tighten.OWN}


def test_a_run_without_wishes_changes_nothing() -> None:
    policy = SitePolicy(min_training_patients=3)
    assert tighten_policy(policy, {}) is policy
    assert tighten_policy(policy, SIMULATION_POLICY.model_dump(exclude=set(tighten.OWN))) == policy


def test_a_run_chooses_no_number_of_people_and_no_grain() -> None:
    """With a floor or a grain of its own choice a coordinator reads exact numbers off what it is refused."""
    for key in ("min_training_patients", "min_cell_patients", "min_unit_patients", "round_counts_to", "counts_epsilon"):
        with pytest.raises(SiteError, match=f"{key} is each hospital's own: leave it out"):
            tighten_policy(SitePolicy(), {key: 90})


@pytest.mark.parametrize(
    ("wanted", "why"),
    [({"max_bin": 5}, "unknown key max_bin .did you mean"), ({"max_bins": "many"}, "max_bins"),
     ({"hours": []}, "hours is each hospital's own"), ({"test_share": 0.5}, "test_share is each hospital's own"),
     ({"privacy_levels": ["record"]}, "privacy_levels")],
)  # fmt: skip
def test_wishes_that_no_policy_can_meet_are_refused(wanted: dict[str, Any], why: str) -> None:
    with pytest.raises(SiteError, match=why):
        tighten_policy(SitePolicy(), wanted)


def test_the_door_applies_what_a_run_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[SitePolicy] = []
    monkeypatch.setattr(requests, "admit", lambda context, _: seen.append(context.policy))
    reply = replace(SAMPLE_REPLIES["handshake"], site="north")
    handlers = {HandshakeRequest: lambda context, _: seen.append(context.policy) or reply}
    monkeypatch.setattr(requests, "HANDLERS", handlers)
    context = SiteContext(SitePolicy(), site="north", data=tmp_path, state=tmp_path / "runs")
    config = tiny.run_config(federation__site_policy={"max_tested_models_per_run": 1, "share_resamples": True})
    requests.handle(context, HandshakeRequest(config))
    assert [policy.max_tested_models_per_run for policy in seen] == [1, 1]
    assert not any(policy.share_resamples for policy in seen)
    with pytest.raises(SiteError, match="unknown key"):
        requests.handle(context, HandshakeRequest(tiny.run_config(federation__site_policy={"max": 1})))
