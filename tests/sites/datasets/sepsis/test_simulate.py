"""Simulated patients in the layout of the sepsis challenge."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from common.errors import DataError
from sites.datasets import sepsis
from sites.datasets.sepsis import Options, features, simulate
from sites.datasets.sepsis.columns import LABEL
from tests.sites.datasets.sepsis import sepsis_slow
from tests.sites.datasets.sepsis.psv_files import STAYS, hospital, whole


def test_generated_hospitals_are_the_same_again_and_differ_from_one_another(folder: Path, tmp_path: Path) -> None:
    simulate.generate(tmp_path / "again", patients=14, seed=3)
    files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    assert len(files) == 2 * 14 + 3
    for path in files:
        assert (folder / path).read_bytes() == (tmp_path / "again" / path).read_bytes()
    stamp = (tmp_path / "again" / files[0]).stat().st_mtime_ns
    simulate.generate(tmp_path / "again", patients=14, seed=3)
    assert (tmp_path / "again" / files[0]).stat().st_mtime_ns == stamp
    with pytest.raises(DataError, match="holds other data"):
        simulate.generate(tmp_path / "again", patients=14, seed=4)
    frames = {name: [sepsis_slow.frame(path) for path in hospital(folder, name).glob("*.psv")] for name in "AB"}
    gases, pressures, sick = (
        {name: value(pd.concat(items)) for name, items in frames.items()}
        for value in (
            lambda all_: all_["pH"].notna().mean(),
            lambda all_: all_["DBP"].notna().mean(),
            lambda all_: all_[LABEL].mean(),
        )
    )
    assert gases["A"] > 2 * gases["B"]
    assert pressures["B"] > 1.3 * pressures["A"]
    assert sick["A"] > sick["B"] > 0


def test_a_generated_label_stands_from_six_hours_before_to_three_after(folder: Path) -> None:
    for path in sorted((folder / "training").glob("*/*.psv")):
        label = sepsis_slow.frame(path)[LABEL].to_numpy()
        assert label.sum() in (0, 10)
        assert (np.diff(label) >= 0).all()


def test_a_model_can_learn_from_what_is_generated(tmp_path: Path) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score

    options = Options(simulated=True, patients=100)
    cohort = whole(sepsis.default_folder(options, tmp_path, 1), tmp_path, options)
    values = cohort.features[:, : len(features.CLINICAL)]
    train = cohort.patient % 2 == 0
    centre, spread = np.nanmean(values[train], 0), np.nanstd(values[train], 0) + 1e-6
    scaled = np.nan_to_num((values - centre) / spread)
    model = LogisticRegression(C=0.01, max_iter=200).fit(scaled[train], cohort.y[train])
    assert 0.7 < roc_auc_score(cohort.y[~train], model.predict_proba(scaled[~train])[:, 1]) < 0.95


def test_another_seed_generates_another_folder(tmp_path: Path) -> None:
    made = sepsis.default_folder(Options(simulated=True, patients=10), tmp_path, 1)
    assert made != sepsis.default_folder(Options(simulated=True, patients=10), tmp_path, 2)
    assert len(sepsis.patients(made, STAYS, tmp_path / "store")) == 20
