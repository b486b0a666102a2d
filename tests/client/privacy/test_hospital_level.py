"""Privacy of whole hospitals: sensitivity of the sum to one hospital, cost, and sums against a slow loop."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from client.privacy import hospital_level
from client.privacy.accounting import GaussianSteps, compute_epsilon, solve_noise
from client.privacy.charges import BudgetSpent
from client.privacy.hospital_level import ContributionPlan, build_contribution
from client.privacy.ledger import Ledger, get_ledger_path
from client.requests import handle
from client.site import Site, load_site
from client.site_context import SiteContext
from client.training.local_update import copy_weights
from client.training.loop import Schedule, train_model
from common import models, noise
from common.arrays import Weights
from common.config import RunConfig
from common.errors import ConfigError, SiteError
from common.requests import HandshakeRequest, Request
from common.seeds import seed_for
from server import app
from tests import tiny
from tests.wire import FakeGrid, Script, build_request, change_report

PARTS = {"north": (0,) * 8 + (2,), "south": (0, 0, 0, 2), "west": (0, 2)}
"""Eight, three and one people train: weights as unequal as they come."""


@pytest.fixture(autouse=True, name="sites")
def _sites(monkeypatch: pytest.MonkeyPatch) -> Any:
    held = {name: tiny.site(name, i, parts=parts) for i, (name, parts) in enumerate(PARTS.items(), 1)}
    monkeypatch.setattr("client.site.read_site", lambda context, config: held[str(context.site)])
    return held


def config(**more: Any) -> RunConfig:
    held = {"privacy__level": "hospital", "privacy__epsilon": 6.0, "privacy__delta": 1e-3, "privacy__accountant": "rdp",
            "privacy__clip": 0.05, "privacy__weight_cap": 5.0, "privacy__weight_total": 9.0,
            "federation__weights": "patients", "training__loss": "cross_entropy", "federation__choose": "last",
            "federation__rounds": 3}  # fmt: skip
    return tiny.run_config(**{**held, **more})


def here(state: Path, site: str = "north", **policy: Any) -> SiteContext:
    rules = {"max_delta": 0.01, "privacy_levels": ("hospital",), "seeded_noise": True, "server_noise": True}
    return SiteContext(tiny.policy(**{**rules, **policy}), site=site, state=state)


def request_reply(wanted: RunConfig, number: int = 1, run: str = "a" * 32) -> Any:
    weights = copy_weights(models.build_model(tiny.TASK, wanted.model, wanted.seed))
    return build_request("train", wanted, number, weights, (1, 1, 1), run_id=run)


def share(weight: float, cap: float = 5.0, clip: float = 0.5, **more: Any) -> ContributionPlan:
    return ContributionPlan(**{"weight": min(weight, cap), "cap": cap, "clip": clip, "sigma": 1.0, "noisy": False,
                    "source": noise.SeededSource(1), **more})  # fmt: skip


def changed(seed: int, size: float) -> tuple[Weights, Weights]:
    rng = np.random.default_rng(seed)
    came = {"a": rng.normal(size=(3, 4)).astype(np.float32), "b": rng.normal(size=(5,)).astype(np.float32)}
    step = {name: rng.normal(size=value.shape) for name, value in came.items()}
    norm = np.sqrt(sum(float((value**2).sum()) for value in step.values()))
    return came, {name: (came[name] + size / norm * step[name]).astype(np.float32) for name in came}


def flat(weights: Weights) -> np.ndarray:
    return np.concatenate([value.astype(np.float64).ravel() for value in weights.values()])


@pytest.mark.parametrize(("size", "weight"), [(0.1, 2.0), (7.0, 2.0), (0.1, 60.0), (7.0, 60.0)])
def test_a_contribution_is_the_clipped_update_with_its_capped_weight(size: float, weight: float) -> None:
    came, after = changed(1, size)
    result = build_contribution(came, after, share(weight))
    expected = (flat(after) - flat(came)) * min(1.0, 0.5 / size) * min(weight, 5.0)
    np.testing.assert_allclose(flat(result), expected, rtol=2e-3, atol=1e-6)
    assert np.linalg.norm(flat(result)) <= 5.0 * 0.5
    assert [value.shape for value in result.values()] == [(3, 4), (5,)]
    assert not flat(build_contribution(came, after, share(weight, drawn=False))).any()


def test_one_hospital_changes_the_sum_by_at_most_cap_times_clip() -> None:
    rng = np.random.default_rng(7)
    updates = [changed(i, size) for i, size in enumerate((0.01, 0.3, 0.5, 2.0, 40.0, 1000.0))]
    weights = [1.0, 3.0, 5.0, 9.0, 400.0, 0.5]
    sent = [flat(build_contribution(*update, share(weight))) for update, weight in zip(updates, weights, strict=True)]
    largest = 0.0
    for present in itertools.product((False, True), repeat=6):
        whole = sum((one for one, there in zip(sent, present, strict=True) if there), np.zeros(17))
        gone = int(rng.integers(6))
        rest = sum((one for k, (one, there) in enumerate(zip(sent, present, strict=True)) if there and k != gone),
                   np.zeros(17))  # fmt: skip
        largest = max(largest, float(np.linalg.norm(whole - rest)))
    assert 0.99 * 2.5 < largest <= 2.5
    # a mean over the weights that came is not so bounded: the others' parts move too
    plain = [flat(after) - flat(came) for came, after in updates]

    def mean(keep: list[int]) -> np.ndarray:
        part = sum((weights[k] * plain[k] * min(1.0, 0.5 / np.linalg.norm(plain[k])) for k in keep), np.zeros(17))
        return np.asarray(part / sum(weights[k] for k in keep))

    share_of_mean = weights[4] * 0.5 / sum(weights)
    assert np.linalg.norm(mean([0, 1, 2, 3, 4, 5]) - mean([0, 1, 2, 3, 5])) > 1.05 * share_of_mean


def test_the_noise_of_a_site_is_as_large_as_charged() -> None:
    came = {"a": np.zeros(4000, np.float32)}
    result = build_contribution(
        came, came, share(1.0, cap=3.0, clip=0.25, sigma=2.0, noisy=True, source=noise.SecureSource())
    )
    assert flat(result).std() == pytest.approx(2.0 * 3.0 * 0.25, rel=0.06)


def test_integers_and_nan_cannot_be_noised() -> None:
    came, after = changed(1, 1.0)
    with pytest.raises(SiteError, match="integer arrays"):
        build_contribution(came, after | {"n": np.ones(1, np.int64)}, share(1.0))
    with pytest.raises(SiteError, match="not a finite number"):
        build_contribution(came, after | {"b": np.full(5, np.nan, np.float32)}, share(1.0))


# --- a federation ---------------------------------------------------------------------------------------------------


def scripts(state: Path, **policy: Any) -> list[Script]:
    def script(name: str) -> Script:
        return lambda request: handle(here(state, name, **policy), request)

    return [script(name) for name in PARTS]


def run_rounds(wanted: RunConfig, root: Path, answer: list[Script] | None = None) -> Any:
    app.run_federation(FakeGrid(answer or scripts(root / "state")), wanted, root / "run")
    return json.loads((root / "run" / "federated.json").read_text())


def remaining(root: Path) -> np.ndarray:
    from safetensors.numpy import load_file

    return flat(dict(sorted(load_file(root / "run" / "model.safetensors").items())))


def test_a_round_agrees_with_a_slow_sum_over_hospitals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sites: dict[str, Site]
) -> None:
    """Without the noise: each hospital trained by hand, clipped, weighted, summed over the public total."""
    monkeypatch.setattr(noise, "add_noise", lambda total, deviation, source: total)
    wanted = config(federation__rounds=2)
    run_rounds(wanted, tmp_path)
    current = copy_weights(models.build_model(tiny.TASK, wanted.model, wanted.seed))
    clipped = 0
    for number in (1, 2):
        total = {name: np.zeros(value.shape) for name, value in current.items()}
        for name, site in sites.items():
            model = models.build_model(tiny.TASK, wanted.model, 0)
            model.load_state_dict({key: torch.tensor(value) for key, value in current.items()})
            train_model(model, site.train, wanted.training, seed_for(wanted.seed, name, number, "train"),
                counts=site.train.class_counts(), schedule=Schedule(number - 1, 2))  # fmt: skip
            step = {key: copy_weights(model)[key].astype(float) - value for key, value in current.items()}
            norm = float(np.sqrt(sum((value**2).sum() for value in step.values())))
            clipped += norm > 0.05
            for key, value in step.items():
                total[key] += min(site.train.people(), 5) * min(1, 0.05 / norm) * value
        current = {key: (value + total[key] / 9).astype(np.float32) for key, value in current.items()}
    assert clipped >= 3
    start = flat(dict(sorted(copy_weights(models.build_model(tiny.TASK, wanted.model, wanted.seed)).items())))
    expected = flat(dict(sorted(current.items())))
    assert np.linalg.norm(remaining(tmp_path) - expected) < 3e-3 * np.linalg.norm(expected - start)


@pytest.mark.parametrize("at", ["site", "server"])
def test_the_model_changes_by_the_charged_noise(tmp_path: Path, at: str) -> None:
    wide = {"name": "cnn", "options": {"widths": [32, 32], "kernel": 3, "hidden": 32}}
    wanted = config(federation__rounds=1, privacy__noise_at=at, privacy__clip=1e-3, model=wide)
    run_rounds(wanted, tmp_path)
    start = flat(dict(sorted(copy_weights(models.build_model(tiny.TASK, wanted.model, wanted.seed)).items())))
    sigma = solve_noise(6.0, 1e-3, 1.0, 1, "rdp")
    expected = sigma * 5.0 * 1e-3 / 9.0 * (np.sqrt(3) if at == "site" else 1)
    moved = remaining(tmp_path) - start
    assert moved.std() == pytest.approx(expected, rel=5 / np.sqrt(len(moved)))


@pytest.mark.parametrize(
    ("more", "q"),
    [({}, 1.0), ({"privacy__noise_at": "server", "privacy__hospital_sampling": 0.5}, 0.5)],
)
def test_rounds_and_runs_add_up_at_each_hospital(tmp_path: Path, more: dict[str, Any], q: float) -> None:
    wanted = config(**more)
    done = run_rounds(wanted, tmp_path)
    assert done["status"] == "complete"
    sigma = solve_noise(6.0, 1e-3, q, 3, "rdp")
    for name in PARTS:
        rows = Ledger.read(get_ledger_path(tmp_path / "state", name)).rows()
        assert [(row.level, row.unit, row.units, row.spent) for row in rows] == [
            ("hospital", "hospital", 1, GaussianSteps(q, sigma, 1))
        ] * 3
        assert rows[-1].epsilon == compute_epsilon([GaussianSteps(q, sigma, 3)], 1e-3, "rdp")
        assert 5.9 < rows[-1].epsilon <= 6.0
    lines = [json.loads(line) for line in (tmp_path / "run" / "rounds.jsonl").read_text().splitlines()]
    for line in lines:
        for item in line["sites"].values():
            assert set(item["train"]) == {
                "examples",
                "privacy",
            }  # no loss, no time: they reveal something of a hospital
    with pytest.raises(BudgetSpent, match="round 4"):
        run = Ledger.read(get_ledger_path(tmp_path / "state", "north")).rows()[0].run
        handle(here(tmp_path / "state"), request_reply(wanted, 4, run))
    assert (
        handle(here(tmp_path / "state"), request_reply(wanted, 1, "b" * 32)).report.to_dict()["privacy"]["epsilon"] > 6
    )


@pytest.mark.slow
def test_hospitals_are_sampled_independently_and_always_charged(tmp_path: Path) -> None:
    wanted = config(privacy__noise_at="server", privacy__hospital_sampling=0.5, privacy__epsilon=None,
                    privacy__sigma=50.0, federation__rounds=40)  # fmt: skip
    drawn = []
    for number in range(1, 41):
        reply = handle(here(tmp_path), request_reply(wanted, number))
        drawn.append(bool(flat(reply.weights).any()))
    assert 5 <= sum(drawn) <= 35  # 20 on average; anything else has a probability below 1e-6
    assert len(Ledger.read(get_ledger_path(tmp_path, "north")).rows()) == 40
    runs = sum(a != b for a, b in itertools.pairwise(drawn))
    assert runs > 4


def test_the_charge_is_written_before_the_update_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("client.training.training_call.train_model", crash)
    with pytest.raises(KeyboardInterrupt):
        handle(here(tmp_path), request_reply(config()))
    assert len(Ledger.read(get_ledger_path(tmp_path, "north")).rows()) == 1


def test_seeded_noise_repeats(tmp_path: Path) -> None:
    result = []
    for name in "ab":
        run_rounds(config(privacy__noise="seeded", privacy__noise_at="server", federation__rounds=1), tmp_path / name)
        result.append(remaining(tmp_path / name))
    np.testing.assert_array_equal(*result)
    run_rounds(config(privacy__noise_at="server", federation__rounds=1), tmp_path / "c")
    assert not np.array_equal(result[0], remaining(tmp_path / "c"))


@pytest.mark.parametrize(
    ("policy", "more", "says"),
    [
        ({"privacy_levels": ("patient",)}, {}, "level=hospital is not allowed"),
        ({"server_noise": False}, {"privacy__noise_at": "server"}, "adds its noise itself"),
        ({"max_epsilon": 3.0}, {}, "epsilon=6 is above the 3"),
    ],
)
def test_settings_that_a_policy_refuses(
    tmp_path: Path, policy: dict[str, Any], more: dict[str, Any], says: str
) -> None:
    for request in (HandshakeRequest(config(**more)), request_reply(config(**more))):
        with pytest.raises(SiteError, match=says):
            handle(here(tmp_path, **policy), request)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"privacy__weight_total": None}, "privacy.weight_total"),
        ({"privacy__weight_cap": None}, "privacy.weight_cap"),
        ({"federation__strategy": {"name": "fedprox"}}, "strategy=fedavg"),
        ({"privacy__hospital_sampling": 0.5}, "noise_at=server"),
        ({"training__loss": "weighted"}, "cross_entropy"),
        ({"data__scaling": "quantile"}, "data.scaling"),
    ],
)
def test_configurations_that_hospital_level_privacy_refuses(more: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        config(**more)
    assert config(federation__weights="equal", privacy__weight_cap=None).privacy.site_weight_cap == 1.0
    assert config(data__scaling="site").privacy.kind == "hospital"


def test_a_large_delta_and_a_silent_site_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="below 1 / 3 hospitals"):
        wanted = config(privacy__delta=0.4)
        run_rounds(wanted, tmp_path, scripts(tmp_path / "state", max_delta=0.5))

    def silent(inner: Script) -> Script:
        def answer(request: Request) -> Any:
            reply = inner(request)
            return change_report(reply, privacy=None) if request.kind == "train" else reply

        return answer

    one, *rest = scripts(tmp_path / "state")
    done = run_rounds(config(privacy__noise_at="server", federation__rounds=1), tmp_path / "2", [silent(one), *rest])
    assert list(done["lost"].values()) == ["round 1: it does not state what noise it was charged for"]
    with pytest.raises(ConfigError, match="use federation"):
        hospital_level.start_hospital_round(here(tmp_path / "3"), load_site(here(tmp_path), config()),
                       replace(request_reply(config()), proximal=0.1), 1.0)  # fmt: skip
