"""A scaling that sites agree on, against the scaling of all their rows, through the server's own exchange."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import Error
from safetensors.numpy import load_file

from client import input_scaling
from client.policy import SitePolicy
from client.site import Site, load_scaled_site
from client.training.local_update import copy_weights
from client.training.loop import Schedule, train_model
from common import messages, models
from common.errors import EngineError, SiteError
from common.metrics.counts import bin_edges
from common.requests import Request
from common.scaling import Scaling
from common.seeds import seed_for
from common.task import Task
from server import app
from server.run import digest_weights
from sites.cohort import Cohort
from tests import tiny
from tests.wire import FakeGrid, Script, site_script

pytestmark = pytest.mark.usefixtures("waiting_clock")

VITALS = Task(
    "vitals", "multiclass", ("quiet", "event"), ("q", "e"), 0, 0, 0.0, ("bp", "lab"), (), True, True, utility=True
)


def vitals(name: str, seed: int, parts: tuple[int, ...] = (0, 0, 0, 0, 1, 1, 2, 2)) -> Site:
    rng = np.random.default_rng(seed)
    n = 12 * len(parts)
    y = (rng.random(n) < 0.4).astype(np.int64)
    features = np.stack([rng.normal(110 + 10 * seed, 15, n) + 25 * y, rng.lognormal(1, 1, n)], 1).astype(np.float32)
    features[rng.random((n, 2)) < 0.2] = np.nan
    worth = np.stack([-1.0 * y, np.where(y, 0.5, -0.3)], 1).astype(np.float32)
    names = tuple(f"{seed}-{i}" for i in range(len(parts)))
    owner = np.repeat(np.arange(len(parts)), 12)
    split = np.asarray(parts, np.int8)[owner]
    empty = np.zeros((n, 0, 0), np.float32)
    return Site.from_cohort(name, Cohort(VITALS, empty, features, y, owner, names, names, split, utility=worth), True)


@pytest.fixture(name="sites")
def _sites(monkeypatch: pytest.MonkeyPatch) -> dict[str, Site]:
    result = {"north": vitals("north", 1), "south": vitals("south", 2, (0, 0, 1, 2, 2, 2))}
    monkeypatch.setattr("client.site.read_site", lambda context, config: result[str(context.site)])
    return result


def config(**more: Any) -> Any:
    return tiny.run_config(model={"name": "logreg"}, federation__choose="last", evaluation__threshold="utility", **more)


def lead(sites: dict[str, Site], wanted: Any, out: Path, scripts: list[Script] | None = None) -> Any:
    app.run_federation(FakeGrid(scripts or [site_script(site) for site in sites.values()]), wanted, out)
    return json.loads((out / "federated.json").read_text())


@pytest.mark.parametrize("how", ["auto", "quantile"])
def test_sites_train_on_inputs_scaled_as_all_rows_would_be(how: str, sites: dict[str, Site], tmp_path: Path) -> None:
    wanted = config(data__scaling=how)
    done = lead(sites, wanted, tmp_path)
    rows = np.concatenate([site.train.features for site in sites.values()]).astype(np.float64)
    result = Scaling.from_bytes((tmp_path / "scaling.safetensors").read_bytes())
    np.testing.assert_allclose(result.centre, np.nanmean(rows, 0), rtol=1e-6)
    np.testing.assert_allclose(result.spread, np.nanstd(rows, 0), rtol=1e-5)
    assert len(result.ranks) == (0 if how == "auto" else 2)
    current = copy_weights(models.build_model(VITALS, wanted.model, wanted.seed))
    counts = np.sum([site.train.class_counts() for site in sites.values()], 0).tolist()
    total = sum(len(site.train.y) for site in sites.values())
    for number in (1, 2):
        merged = {key: np.zeros_like(value) for key, value in current.items()}
        for name, site in sites.items():
            model = models.build_model(VITALS, wanted.model, 0)
            model.load_state_dict({key: torch.tensor(value) for key, value in current.items()})
            train = input_scaling.apply_scaling(site.train, result)
            seed = seed_for(wanted.seed, name, number, "train")
            train_model(model, train, wanted.training, seed, counts=counts, schedule=Schedule(number - 1, 2))
            for key, value in copy_weights(model).items():
                merged[key] += value * np.float32(len(train.y) / total)
        current = merged
    remaining = load_file(tmp_path / "model.safetensors")
    for key, value in current.items():
        np.testing.assert_allclose(remaining[key], value, rtol=1e-4, atol=1e-6)
    assert digest_weights(remaining) == done["weights"]


def test_the_threshold_is_the_best_on_all_validation_patients(sites: dict[str, Site], tmp_path: Path) -> None:
    wanted = config()
    done = lead(sites, wanted, tmp_path)
    result = Scaling.from_bytes((tmp_path / "scaling.safetensors").read_bytes())
    model = models.build_model(VITALS, wanted.model, 0)
    model.load_state_dict(
        {key: torch.tensor(value) for key, value in load_file(tmp_path / "model.safetensors").items()}
    )

    def odds(part: Cohort) -> np.ndarray:
        with torch.inference_mode():
            scaled = input_scaling.apply_scaling(part, result)
            z = model(torch.from_numpy(scaled.x), torch.from_numpy(scaled.features)).numpy().astype(np.float64)
        return z[:, 1] - z[:, 0]

    checked = [site.validation for site in sites.values()]
    z, worth = np.concatenate([odds(part) for part in checked]), np.concatenate([part.utility for part in checked])
    values = {edge: np.where(z >= edge, worth[:, 1], worth[:, 0]).sum() for edge in bin_edges(64)}
    assert values[done["threshold"]] == pytest.approx(max(values.values()))
    for name, site in sites.items():
        called = odds(site.test) >= done["threshold"]
        worth = site.test.utility
        got, none = np.where(called, worth[:, 1], worth[:, 0]).sum(), worth[:, 0].sum()
        printed = done["test"]["all"][name]
        assert printed["threshold"] == done["threshold"]
        assert printed["utility"]["value"] == pytest.approx((got - none) / (worth.max(1).sum() - none))
        assert printed["confusion"][1][1] == int((called & (site.test.y == 1)).sum())
    assert done["pooled"]["all"]["utility"]["low"] < done["pooled"]["all"]["utility"]["high"]


def test_the_default_threshold_is_chosen_after_the_round_and_changes_no_weight(
    sites: dict[str, Site], tmp_path: Path
) -> None:
    settings = {"model": {"name": "logreg"}, "federation__choose": "best", "evaluation__metric": "macro_f1"}
    done = {
        rule: lead(sites, tiny.run_config(**settings, evaluation__threshold=rule), tmp_path / rule)
        for rule in ("auto", "likelier")
    }
    assert done["auto"]["weights"] == done["likelier"]["weights"]
    assert done["auto"]["chosen"] == done["likelier"]["chosen"]
    lines = [(tmp_path / rule / "rounds.jsonl").read_text() for rule in done]
    figures = [[json.loads(line)["validation"] for line in text.splitlines()] for text in lines]
    assert figures[0] == figures[1]
    events = sum(int((site.validation.y == 1).sum()) for site in sites.values())
    others = sum(len(site.validation.y) for site in sites.values()) - events
    assert done["likelier"]["threshold"] is None
    assert (done["auto"]["threshold"] is None) is (min(events, others) < 5)


def test_each_site_may_scale_by_its_own_sums(sites: dict[str, Site], tmp_path: Path) -> None:
    lead(sites, config(data__scaling="site"), tmp_path)
    assert not (tmp_path / "scaling.safetensors").exists()
    from client.policy import SIMULATION_POLICY
    from client.site_context import SiteContext

    for name, site in sites.items():
        ready = load_scaled_site(SiteContext(SIMULATION_POLICY, site=name), config(data__scaling="site"), b"")
        mean = np.nanmean(site.train.features, 0)
        sd = np.nanstd(site.train.features, 0)
        np.testing.assert_allclose(ready.test.features, np.nan_to_num((site.test.features - mean) / sd), atol=1e-4)


def wrong(site: Site, change: Any) -> Script:
    honest = site_script(site)

    def answer(request: Request) -> Any:
        reply: Any = honest(request)
        return replace(reply, sums=change(dict(reply.sums))) if request.kind == "scaling" else reply

    return answer


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda sums: sums | {"total": np.array([np.nan, 0.0])}, "its sums total are not finite numbers"),
        (lambda sums: sums | {"count": np.array([-1.0, 5.0])}, "its sums count are below 0"),
        (lambda sums: sums | {"count": np.zeros(3)}, "do not fit"),
        (lambda sums: {}, "do not fit"),
    ],
)
def test_wrong_sums_leave_a_site_out(change: Any, said: str, sites: dict[str, Site], tmp_path: Path) -> None:
    scripts = [site_script(sites["north"]), wrong(sites["south"], change)]
    done = lead(sites, config(), tmp_path, scripts)
    assert said in done["lost"]["south"]
    result = Scaling.from_bytes((tmp_path / "scaling.safetensors").read_bytes())
    np.testing.assert_allclose(result.centre, np.nanmean(sites["north"].train.features.astype(float), 0), rtol=1e-6)


def test_a_policy_that_refuses_sums_and_no_sums_at_all(sites: dict[str, Site], tmp_path: Path) -> None:
    def refused(site: Site) -> Script:
        honest = site_script(site, SitePolicy(min_training_patients=50))

        def answer(request: Request) -> Any:
            try:
                return honest(request)
            except SiteError as error:
                return Error(code=messages.ERROR_CODE, reason=messages.pack_error(site.name, "SiteError", str(error)))

        return answer

    with pytest.raises(EngineError, match=r"scaling: 0 of 2 sites sent sums \(north: policy"):
        # validation counts are refused as well, so no threshold is sought
        likelier = tiny.run_config(model={"name": "logreg"}, federation__choose="last")
        lead(sites, likelier, tmp_path, [refused(site) for site in sites.values()])
