"""Simulated hospitals in UCI's layout."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from common import config
from common.errors import ConfigError, DataError
from sites import datasets, synthetic_folder
from sites.datasets.heart_disease import simulate
from sites.datasets.heart_disease.rows import COLUMNS
from tests.sites.datasets.heart_disease.uci_rows import EXPLICIT, FLAMBY, everyone


def test_generated_hospitals_differ_and_can_be_learnt_from(simulated: Path, tmp_path: Path) -> None:
    for options in (FLAMBY, EXPLICIT):
        result = everyone(simulated, options, tmp_path)
        assert result.synthetic
        model = make_pipeline(StandardScaler(), SimpleImputer(), LogisticRegression(C=0.1))
        score = cross_val_predict(model, result.features, result.y, cv=3, method="decision_function")
        assert 0.75 < roc_auc_score(result.y, score) < 0.9
    table = {
        name: pd.read_csv(simulated / f"processed.{name}.data", header=None, names=COLUMNS, na_values="?")
        for name in ("north", "south", "west", "east", "hospital-005")
    }
    assert {len(rows) for rows in table.values()} == {300}
    assert (table["west"].chol == 0).all()
    assert table["north"].notna().all(axis=1).mean() > 0.95
    assert table["south"].ca.isna().mean() > 0.85
    assert table["east"].age.mean() > table["south"].age.mean() + 8
    assert (table["west"].num > 0).mean() > (table["south"].num > 0).mean() + 0.2
    every = pd.concat(table.values())
    every["reserve"] = 220 - every.age - every.thalach
    ill = every.groupby(every.num > 0)[["reserve", "oldpeak"]].mean()
    assert ill.reserve[True] > ill.reserve[False] + 5
    assert ill.oldpeak[True] > ill.oldpeak[False] + 0.3


def test_a_generated_hospital_is_the_same_whatever_the_others(simulated: Path, tmp_path: Path) -> None:
    simulate.generate(tmp_path / "two", hospitals=2, patients=300, seed=4)
    simulate.generate(tmp_path / "other", hospitals=2, patients=300, seed=5)
    for name in ("processed.north.data", "processed.south.data"):
        same = (simulated / name).read_bytes()
        assert (tmp_path / "two" / name).read_bytes() == same
        assert (tmp_path / "other" / name).read_bytes() != same
    with pytest.raises(DataError, match="holds other data"):
        simulate.generate(tmp_path / "two", hospitals=2, patients=300, seed=5)


def test_hospitals_are_generated_only_where_asked_for(tmp_path: Path) -> None:
    raw = {"dataset": "heart_disease", "cache": str(tmp_path)}
    with pytest.raises(
        ConfigError, match=r"data\.path: name the folder of heart_disease .* or data\.options\.simulated=tr"
    ):
        datasets.open_source(config.parse_config({"data": raw}), None)
    requested = {"simulated": True, "hospitals": 3, "patients": 12, "protocol": "explicit"}
    source = datasets.open_source(config.parse_config({"data": raw | {"options": requested}}), None)
    assert source.folder.parent == tmp_path
    assert synthetic_folder.is_marked(source.folder)
    assert Counter(item.site for item in source.patients()) == {"north": 12, "south": 12, "west": 12}
