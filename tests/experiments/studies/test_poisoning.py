"""The study's attackers answer as their names say, and the server treats them as the study's tables say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.site import load_scaled_site
from client.site_context import read_site_context
from common.requests import TrainRequest
from experiments.studies import poisoning
from experiments.studies.poisoning import run_poisoned
from experiments.studies.poisoning_attacks import ATTACKS, Turn

START = {"out.weight": np.full((2, 13), 0.25, np.float32), "out.bias": np.array([0.5, -0.5], np.float32)}


@pytest.fixture
def settings(tmp_path: Path) -> list[str]:
    return [f"data.cache={tmp_path}", "data.options.patients=40", "federation.rounds=3", "data.scaling=none"]


def turn(settings: list[str], number: int = 1) -> Turn:
    config = poisoning.build_config(1, {"name": "fedavg"}, settings)
    context = read_site_context({"partition-id": 1, "num-partitions": 4})
    return Turn(
        context,
        TrainRequest(config, number, START, class_counts=(60, 60), total=120),
        np.random.default_rng(number),
        np.random.default_rng(0),
    )


def sent(name: str, given: Turn) -> dict[str, np.ndarray]:
    return ATTACKS[name](given).weights


def plain_step(given: Turn, flip: bool) -> dict[str, np.ndarray]:
    """One step of gradient descent on the site's mean cross-entropy, by formula."""
    train = given.request.config.training
    cohort = load_scaled_site(given.context, given.request.config, b"").train
    x, y = cohort.features.astype(np.float64), (1 - cohort.y if flip else cohort.y)
    w, b = (START[name].astype(np.float64) for name in ("out.weight", "out.bias"))
    odds = x @ w.T + b
    excess = np.exp(odds - odds.max(1, keepdims=True))
    excess = excess / excess.sum(1, keepdims=True) - np.eye(2)[y]
    gradients = [excess.T @ x / len(y), excess.mean(0)]
    shrink = min(1.0, train.clip_norm / float(np.sqrt(sum((g**2).sum() for g in gradients))))
    return {
        "out.weight": w - train.lr * (shrink * gradients[0] + train.weight_decay * w),
        "out.bias": b - train.lr * shrink * gradients[1],
    }


@pytest.mark.parametrize(
    ("name", "factor"),
    [("sign flip", -1), ("scaling ×10", 10), ("sign flip ×10", -10), ("claim of 1e12 examples", -10)],
)
def test_an_update_is_turned_and_scaled(settings: list[str], name: str, factor: int) -> None:
    given = turn(settings)
    honest, poisoned = plain_step(given, flip=False), sent(name, given)
    assert list(poisoned) == list(START)
    for key, start in START.items():
        np.testing.assert_allclose(poisoned[key], start + factor * (honest[key] - start), rtol=1e-4, atol=1e-4)
        assert poisoned[key].dtype == np.float32


def test_flipped_labels_are_trained_on(settings: list[str]) -> None:
    given = turn(settings)
    expected, poisoned = plain_step(given, flip=True), sent("flipped labels", given)
    for key in START:
        np.testing.assert_allclose(poisoned[key], expected[key], rtol=1e-4, atol=1e-4)
    honest = plain_step(given, flip=False)
    assert np.abs(expected["out.weight"] - honest["out.weight"]).max() > 0.01
    cohort = load_scaled_site(given.context, given.request.config, b"").train
    assert ATTACKS["flipped labels"](given).report.examples == len(cohort.y)


def test_replaced_models(settings: list[str]) -> None:
    first, second = (sent("random model", turn(settings, number)) for number in (1, 2))
    assert np.abs(first["out.weight"] - second["out.weight"]).min() > 0
    assert 0.5 < first["out.weight"].std() < 1.5
    far, again = (sent("far model", turn(settings, number)) for number in (1, 2))
    assert far["out.weight"].tolist() == again["out.weight"].tolist()
    assert set(np.abs(far["out.weight"]).ravel().tolist()) == {1000.0}


def test_a_claim_is_refused_and_the_run_goes_on(settings: list[str]) -> None:
    config = poisoning.build_config(1, {"name": "geomedian"}, settings)
    result = run_poisoned(config, 4, 2, ATTACKS["claim of 1e12 examples"])
    assert result.error == ""
    assert list(result.refused) == ["north"]
    assert "examples: Input should be less than or equal to" in result.refused["north"]
    assert set(result.counts) == {"east", "north", "south", "west"}


def test_false_counts_raise_a_weight_as_far_as_its_cap(settings: list[str]) -> None:
    """The false counts agree with each other, so nothing but the cap limits them."""
    attack = ATTACKS["sign flip, false counts"]
    strategy = {"name": "geomedian", "options": {"weighted": True}}
    config = poisoning.build_config(1, strategy, [*settings, "federation.weight_cap=0.4"])
    result = run_poisoned(config, 4, 2, attack)
    assert (result.error, result.refused) == ("", {})
    without = run_poisoned(poisoning.build_config(1, strategy, settings), 4, 2, attack)
    assert "one site has half of the weight: set federation.weight_cap below 0.5" in without.error


def test_one_attacker_among_honest_sites(settings: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    observed: list[tuple[str, int]] = []

    def record(given: Turn) -> Any:
        observed.append((str(given.context.index), given.request.round))
        return ATTACKS["sign flip"](given)

    config = poisoning.build_config(1, {"name": "fedavg"}, settings)
    result = run_poisoned(config, 4, 3, record)
    assert observed == [("2", 1), ("2", 2), ("2", 3)]
    assert (result.refused, result.error) == ({}, "")
    cohorts = {name: total for name, (_, total) in result.counts.items()}
    assert result.accuracy(["east", "west"]) == pytest.approx(
        sum(result.counts[name][0] for name in ("east", "west")) / (cohorts["east"] + cohorts["west"])
    )
    assert poisoning.Result().accuracy(["east"]) == 0


@pytest.mark.slow
def test_the_study_and_its_tables(settings: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(poisoning, "ATTACKS", {name: ATTACKS[name] for name in ("far model", "claim of 1e12 examples")})
    actual = poisoning.run_study(["fedavg", "geomedian", "krum, malicious 1"], 2, [*settings, "data.scaling=standard"])
    assert "needs 5 answers a round, 4 came" in actual["krum, malicious 1"]["error"]
    change = {name: actual[name]["attacks"]["far model"] for name in ("fedavg", "geomedian")}
    assert list(change["fedavg"]) == ["east", "north", "south", "west"]
    assert {len(values) for values in change["fedavg"].values()} == {2}
    means = {name: float(np.mean(list(values.values()))) for name, values in change.items()}
    assert means["fedavg"] < means["geomedian"] - 0.05
    text = poisoning.render_tables(actual)
    assert text.count("| geomedian |") == 2
    assert "- krum, malicious 1: the run ends without an attack: krum that selects 1" in text
    assert "- fedavg, claim of 1e12 examples: round 3: its train report is wrong: examples" in text


def test_one_repeat_has_no_interval() -> None:
    by_site = {name: {"east": [-0.01], "west": [-0.03]} for name in ATTACKS}
    text = poisoning.render_tables({"fedavg": {"honest": [0.8], "attacks": by_site, "refused": {}}})
    assert text.count(" -0.020 |") == len(ATTACKS)
    assert text.count(" -0.030, west |") == len(ATTACKS)
    assert text.endswith("- nothing")


def test_an_interval_of_paired_differences() -> None:
    mean, low, high = poisoning.mean_interval([0.01, 0.03])
    # Student's t with one degree of freedom: 12.706 standard errors of 0.01
    assert (mean, low, high) == pytest.approx((0.02, 0.02 - 0.12706, 0.02 + 0.12706), abs=1e-4)
