"""Loading the sites of a simulation: each gets its own patients, and the assignment is computed once for all."""

from __future__ import annotations

from pathlib import Path

import pytest

from client import site as site_module
from client.policy import SIMULATION_POLICY
from client.site import forget_sites, load_site
from client.site_context import SiteContext
from common import config
from common.errors import ConfigError
from sites import datasets


def make_run(store: Path, sites: dict[str, object]) -> config.RunConfig:
    options = {"protocol": "explicit", "simulated": True, "hospitals": 6, "patients": 12}
    return config.parse_config(
        {
            "name": "six",
            "data": {"dataset": "heart_disease", "cache": str(store), "options": options},
            "sites": {"split": "patient", **sites},
            "model": {"name": "logreg"},
        }
    )


@pytest.mark.parametrize("sites", [{"scheme": "natural"}, {"scheme": "size", "count": 6, "skew": 1.0}])
def test_each_site_holds_its_own_patients(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sites: dict[str, object]
) -> None:
    forget_sites()
    run = make_run(tmp_path, sites)
    hospitals, everyone, _ = datasets.assign_hospitals(datasets.open_source(run, None), run)
    calls: list[int] = []
    assign = datasets.assign_hospitals
    monkeypatch.setattr(datasets, "assign_hospitals", lambda *args: (calls.append(1), assign(*args))[1])
    loaded = [load_site(SiteContext(SIMULATION_POLICY, index=index, count=6), run) for index in range(6)]
    assert len(calls) == 1
    assert [site.name for site in loaded] == sorted(hospitals)
    for site in loaded:
        held = {name for part in (site.train, site.validation, site.test) for name in part.patients}
        assert held == set(hospitals[site.name])
    assert sum(len(ids) for ids in hospitals.values()) == len(everyone)
    forget_sites()


def test_the_number_of_nodes_must_fit(tmp_path: Path) -> None:
    run = make_run(tmp_path, {"scheme": "natural"})
    with pytest.raises(ConfigError, match="the run has 6 hospitals, but 5 nodes were started"):
        load_site(SiteContext(SIMULATION_POLICY, index=0, count=5), run)
    forget_sites()


def test_the_settings_are_reduced_once_for_each_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(tmp_path, {"scheme": "natural"})
    other = run.model_copy(update={"seed": run.seed + 1})
    reduced: list[int] = []
    reduce = site_module._reduce_config
    monkeypatch.setattr(site_module, "_reduce_config", lambda config: (reduced.append(config.seed), reduce(config))[1])
    context = SiteContext(SIMULATION_POLICY, index=0, count=6)
    first = load_site(context, run)
    assert all(load_site(context, run) is first for _ in range(3))
    assert load_site(context, other) is not first
    assert reduced == [run.seed, other.seed]
    for _ in range(100):  # configurations that come and go do not fill the memory
        load_site(context, run.model_copy())
    assert len(site_module._reduced_configs) <= site_module.MOST_CONFIGS
    forget_sites()
