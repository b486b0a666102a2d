"""What a site's update weighs: its handshake's counts, within the largest share that one site may have."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.site import Site
from common.errors import ConfigError
from common.reports import SplitCounts
from common.requests import Request
from common.sections.training import FederationConfig
from server import app
from server.weights import cap_shares, compute_weights
from tests import tiny
from tests.wire import FakeGrid, Script, change_report, site_script

pytestmark = pytest.mark.usefixtures("waiting_clock")

COUNTS = {
    "north": SplitCounts(patients=3, examples=900, classes=(900,)),
    "south": SplitCounts(patients=6, examples=60, classes=(60,)),
    "west": SplitCounts(patients=1, examples=40, classes=(40,)),
}


@pytest.mark.parametrize(
    ("rule", "cap", "expected"),
    [
        ("examples", None, [900.0, 60.0, 40.0]),
        ("patients", None, [3.0, 6.0, 1.0]),
        ("equal", None, [1.0, 1.0, 1.0]),
        ("examples", 0.5, [100.0, 60.0, 40.0]),
        ("examples", 0.4, [4.0, 3.6, 2.4]),
        ("patients", 0.5, [3.0, 4.0, 1.0]),
        ("examples", 0.2, [1.0, 1.0, 1.0]),
        ("examples", 1.0, [900.0, 60.0, 40.0]),
    ],
)
def test_weights_by_rule_and_cap(rule: Any, cap: float | None, expected: list[float]) -> None:
    weights = compute_weights(COUNTS, FederationConfig(weights=rule, weight_cap=cap))
    assert list(weights) == list(COUNTS)
    shares = np.asarray(list(weights.values())) / sum(weights.values())
    assert shares == pytest.approx(np.asarray(expected) / sum(expected), rel=1e-12)
    if cap is None:
        assert list(weights.values()) == expected


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(1e-3, 1e9), min_size=1, max_size=12), st.floats(0.01, 1.0))
def test_no_share_is_above_the_cap_and_the_others_keep_their_ratios(values: list[float], cap: float) -> None:
    weights = {str(i): value for i, value in enumerate(values)}
    capped = cap_shares(weights, cap)
    shares = {site: weight / sum(capped.values()) for site, weight in capped.items()}
    assert max(shares.values()) <= max(cap, 1 / len(values)) * (1 + 1e-9)
    below = [site for site in weights if shares[site] < cap * (1 - 1e-6)]
    for one in below:
        for other in below:
            assert capped[one] / capped[other] == pytest.approx(weights[one] / weights[other], rel=1e-6)
    order = sorted(weights, key=lambda site: weights[site])
    assert all(capped[a] <= capped[b] * (1 + 1e-9) for a, b in itertools.pairwise(order))


@pytest.fixture
def sites(monkeypatch: pytest.MonkeyPatch) -> dict[str, Site]:
    sites = {"north": tiny.site("north", 1), "south": tiny.site("south", 2, parts=(0, 0, 0, 0, 0, 0, 1, 2))}
    monkeypatch.setattr("client.site.read_site", lambda context, config: sites[str(context.site)])
    return sites


def moves_by(script: Script, change: float) -> Script:
    """Return a script whose updates are the weights that came, each moved by the same amount."""

    def answer(request: Request) -> Any:
        reply: Any = script(request)
        if request.kind != "train":
            return reply
        return replace(reply, weights={name: value + np.float32(change) for name, value in request.weights.items()})  # type: ignore[attr-defined]

    return answer


def moved(sites: dict[str, Site], out: Path, **federation: Any) -> float:
    """Return how far the model moves of itself when north moves it by 0 and south by 1."""
    from safetensors.numpy import load_file

    from common.models import build_model

    config = tiny.run_config(
        federation__rounds=1, federation__choose="last", **{f"federation__{k}": v for k, v in federation.items()}
    )
    scripts = [moves_by(site_script(sites["north"]), 0.0), moves_by(site_script(sites["south"]), 1.0)]
    app.run_federation(FakeGrid(scripts), config, out)
    start = build_model(tiny.TASK, config.model, config.seed).state_dict()
    after = load_file(out / "model.safetensors")
    return float(np.mean([(after[name] - value.numpy()).mean() for name, value in start.items()]))


@pytest.mark.parametrize(
    ("federation", "share"),
    [
        ({}, 48 / 72),
        ({"weights": "patients"}, 6 / 9),
        ({"weights": "equal"}, 0.5),
        ({"weight_cap": 0.6}, 0.6),
        ({"weight_cap": 0.3}, 0.5),
    ],
)
def test_the_model_moves_by_each_sites_share(
    sites: dict[str, Site], tmp_path: Path, federation: dict[str, Any], share: float
) -> None:
    assert moved(sites, tmp_path, **federation) == pytest.approx(share, abs=1e-5)


def test_what_an_update_claims_changes_no_weight(sites: dict[str, Site], tmp_path: Path) -> None:
    north, south = (site_script(site) for site in sites.values())

    def claims(request: Request) -> Any:
        reply = south(request)
        return change_report(reply, examples=10**6) if request.kind == "train" else reply

    app.run_federation(FakeGrid([north, claims]), tiny.run_config(federation__rounds=1), tmp_path)
    done = json.loads((tmp_path / "federated.json").read_text())
    assert done["lost"] == {"south": "round 1: it trained on 1000000 examples, in the handshake it stated 48"}


def test_a_cap_on_shares_does_not_go_with_privacy_of_hospitals() -> None:
    with pytest.raises(ConfigError, match=r"privacy\.weight_cap instead of federation\.weight_cap"):
        tiny.run_config(
            privacy__level="hospital", privacy__epsilon=6.0, privacy__weight_total=3, privacy__weight_cap=10,
            training__loss="cross_entropy", federation__choose="last", federation__weight_cap=0.5,
        )  # fmt: skip


def test_a_cap_on_shares_does_not_go_with_scaffold() -> None:
    from server.strategies import check_strategy

    config = tiny.run_config(
        federation__strategy={"name": "scaffold"}, federation__weight_cap=0.5, training__optimizer="sgd",
        training__momentum=0.0,
    )  # fmt: skip
    with pytest.raises(ConfigError, match=r"leave federation\.weight_cap out"):
        check_strategy(config)
