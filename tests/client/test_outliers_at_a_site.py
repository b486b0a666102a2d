"""A site's outliers on the way to a federated scaling: cleared and reported, but never where training is private."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from client import input_scaling
from client.policy import SIMULATION_POLICY
from client.site import Site, load_site
from client.site_context import SiteContext
from common.config import RunConfig, parse_config
from sites.datasets import open_source
from sites.datasets.eicu import simulate
from sites.disclosure.describe import describe_folder

COLUMN = "admissionweight"
"""A further column of eICU, of which no public range is stated."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three hospitals, at one of which one weight is 9999."""
    folder = tmp_path_factory.mktemp("eicu") / "generated"
    simulate.generate(folder, hospitals=3, stays=60, seed=1)
    path = folder / "eicu-crd-demo" / "patient.csv.gz"
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    own = np.flatnonzero(table["hospitalid"] == "67")
    table.loc[own[:6], COLUMN] = "9999"
    table.to_csv(path, index=False)
    return folder


def run_config(folder: Path, **sections: object) -> RunConfig:
    options = {"by": "hospital", "min_patients": 5, "columns": [COLUMN]}
    return parse_config({"data": {"dataset": "eicu", "path": str(folder), "options": options}} | sections)


def load_sites(config: RunConfig) -> list[Site]:
    return [load_site(SiteContext(SIMULATION_POLICY, index=i, count=3), config) for i in range(3)]


def test_a_code_for_missing_at_one_site_does_not_widen_what_all_share(folder: Path) -> None:
    sites = load_sites(run_config(folder))
    what = f"{COLUMN} outside 1 to 600 kg, read as not measured"
    assert [site.train.excluded.get(what, 0) for site in sites] == [0, 5, 0]  # one stay has no APACHE variables
    scaling = input_scaling.fit_scaling([site.train for site in sites], "standard")
    assert scaling is not None
    assert 10 < scaling.spread[sites[0].task.features.index(COLUMN)] < 40
    for site in sites:
        values = np.concatenate([part.features[:, -1] for part in (site.train, site.validation, site.test)])
        assert np.nanmax(values) < 250


def test_a_code_within_its_columns_range_is_reported_and_stays(folder: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(folder, tmp_path / "copied")
    path = copied / "eicu-crd-demo" / "patient.csv.gz"
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    table[COLUMN] = table[COLUMN].replace("9999", "555")
    table.to_csv(path, index=False)
    sites = load_sites(run_config(copied))
    what = f"{COLUMN} of 555, apart from all other values: a code for missing? (not left out)"
    assert [site.train.excluded.get(what, 0) for site in sites] == [0, 5, 0]
    described = describe_folder(open_source(run_config(copied), None))
    assert described["excluded"][what] == 5


def test_where_training_is_private_limits_are_public_alone(folder: Path) -> None:
    private = {
        "privacy": {"epsilon": 8.0, "bounds": {COLUMN: [40, 150]}},
        "training": {"loss": "cross_entropy"},
        "federation": {"choose": "last"},
    }
    site = load_sites(run_config(folder, **private))[1]
    cleared = [what for what in site.train.excluded if what.startswith(COLUMN)]
    assert cleared == [f"{COLUMN} outside 1 to 600 kg, read as not measured"]  # a public limit, not the patients' own
    assert max(np.nanmax(part.features[:, -1]) for part in (site.train, site.validation, site.test)) <= 600
