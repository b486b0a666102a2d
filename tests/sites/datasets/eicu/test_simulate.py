"""Simulated hospitals in eICU's layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from common.errors import DataError
from sites.datasets import eicu
from sites.datasets.eicu import simulate
from tests.sites.datasets.eicu.eicu_tables import everyone, make_options


def test_generated_hospitals_are_the_same_again_and_say_what_they_are(made: Path, tmp_path: Path) -> None:
    simulate.generate(tmp_path / "again", hospitals=5, stays=50, seed=3)
    files = sorted(path.relative_to(made) for path in made.rglob("*") if path.is_file())
    assert len(files) == 10
    for path in files:
        assert (made / path).read_bytes() == (tmp_path / "again" / path).read_bytes(), path
    assert "SYNTHETIC" in (made / "SYNTHETIC").read_text()
    simulate.generate(made, hospitals=5, stays=50, seed=3)  # left alone
    with pytest.raises(DataError, match="holds other data than requested"):
        simulate.generate(made, hospitals=5, stays=50, seed=4)
    assert not [path for path in tmp_path.iterdir() if path.name != "again"]


def test_hospitals_are_generated_once_for_the_same_options(tmp_path: Path) -> None:
    folder = eicu.default_folder(make_options(simulated=True, hospitals=2, stays=20), tmp_path, 1)
    assert (folder / "SYNTHETIC").is_file()
    assert eicu.default_folder(make_options(simulated=True, hospitals=2, stays=20), tmp_path, 1) == folder


def test_files_without_the_marker_are_not_called_synthetic(mine: Path, store: Path) -> None:
    for path in mine.rglob("SYNTHETIC"):
        path.unlink()
    ids, _ = everyone(mine, make_options(), store)
    assert not eicu.read(mine, make_options(), ids, store).synthetic


def test_simulated_deaths_can_be_learnt_from_the_day_and_from_the_hours(tmp_path: Path, store: Path) -> None:
    """Trained on half of the hospitals, tested on the others; what is not measured counts as the mean."""
    simulate.generate(tmp_path / "more", hospitals=8, stays=150, seed=1)
    for options in (make_options(by="hospital"), make_options(by="hospital", view="hours")):
        patients = eicu.patients(tmp_path / "more", options, store)
        cohort = eicu.read(tmp_path / "more", options, [item.id for item in patients], store)
        inputs = cohort.features
        if options.view == "hours":
            assert isinstance(cohort.x, np.ndarray)
            inputs = np.concatenate([inputs, cohort.x[:, :, -1]], axis=1)
        sites = sorted({str(item.site) for item in patients})
        held = np.array([item.site in sites[::2] for item in patients])
        mean, spread = np.nanmean(inputs[~held], 0), np.nanstd(inputs[~held], 0)
        inputs = np.nan_to_num((inputs - mean) / np.where(spread > 0, spread, 1))
        model = LogisticRegression(C=0.01, max_iter=500).fit(inputs[~held], cohort.y[~held])
        auroc = roc_auc_score(cohort.y[held], model.decision_function(inputs[held]))
        assert (0.75 if options.view == "day" else 0.65) < auroc < 0.95
