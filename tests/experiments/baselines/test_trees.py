"""Boosted trees at one place."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from client import input_scaling
from client.site import Site
from common import models
from common.seeds import rng_for
from experiments.baselines.trees import grow_trees
from experiments.studies.choose_trees import compare_settings
from sites.cohort import join_cohorts
from tests import tiny
from tests.server.phases.memory_runs import lead, scripts
from tests.wire import FakeGrid


def test_they_are_those_of_a_federation_of_the_same_rows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    sites = {name: tiny.site(name, seed, parts=(0,) * 9 + (2,)) for name, seed in (("a", 1), ("b", 2))}
    monkeypatch.setattr("client.site.read_site", lambda context, config: sites[str(context.site)])
    options = {"trees": 6, "depth": 2, "bins": 8, "sample": 1.0, "columns": 1.0, "min_people": 0.0}
    config = tiny.run_config(
        model={"name": "boosting", "options": options}, federation__rounds=3, federation__choose="last"
    )
    lead(FakeGrid(scripts(sites)), config, tmp_path)
    scaling = input_scaling.fit_scaling([site.train for site in sites.values()], "bins")
    whole = join_cohorts([input_scaling.apply_scaling(site.train, scaling) for site in sites.values()])
    model = models.build_model(whole.task, config.model, config.seed)
    rounds: list[int] = []
    grow_trees(model, whole, config, "pooled", lambda number, grown: rounds.append(number))
    federated = load_file(tmp_path / "model.safetensors")
    for name, value in model.state_dict().items():
        np.testing.assert_allclose(value.numpy(), federated[name], atol=1e-6)
    assert rounds == [0, 1, 2]


def test_settings_are_compared_on_people_who_were_held_out(monkeypatch: pytest.MonkeyPatch) -> None:
    site: Site = tiny.site("a", 1, parts=(0,) * 30 + (2,))
    rng = rng_for(1, "shuffled")
    noise = replace(site.train, y=rng.permutation(site.train.y))
    config = tiny.run_config(
        model={"name": "boosting", "options": {"trees": 10, "bins": 16, "min_people": 0.0}}, federation__rounds=5
    )
    monkeypatch.setattr("sites.datasets.open_source", lambda *_: None)
    monkeypatch.setattr("sites.datasets.assign_hospitals", lambda *_: ({"a": ()}, [], 0))
    scores = {}
    for name, train in (("real", site.train), ("noise", noise)):
        changed = replace(site, train=train)
        monkeypatch.setattr("experiments.studies.choose_trees.load_site", lambda *_, found=changed: found)
        scores[name] = compare_settings(config, {"depth": (2,), "learning_rate": (0.3,)})
    assert [row["rounds"] for row in sorted(scores["real"], key=lambda row: row["rounds"])] == [1, 2, 3, 4, 5]
    assert scores["real"][0]["auroc"] > 0.7
    assert {row["depth"] for row in scores["real"]} == {2}
    assert np.mean(scores["real"][0]["f1"]) > np.mean(scores["noise"][0]["f1"]) + 0.1
    assert 0.3 < scores["noise"][0]["auroc"] < 0.65
