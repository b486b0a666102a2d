"""The study of a private evaluation's noise, on SYNTHETIC rows of heart disease patients."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from common.config import load_config
from experiments import restore
from experiments.runs.run import run_experiment
from experiments.studies.evaluation_noise import POOLED, Silent, measure, render_table

CONFIG = Path(__file__).parents[3] / "experiments" / "heart_disease.yaml"
SETTINGS = [
    "data.options={simulated: true, hospitals: 2, patients: 60}", "data.path=null", "sites.split=patient",
    "federation.rounds=2", "baselines.local=false", "baselines.pooled=false", "evaluation.domain_shift=false",
    "evaluation.subgroups={}", "privacy.accountant=rdp",
]  # fmt: skip


@pytest.mark.slow
def test_more_epsilon_is_less_noise_about_the_exact_figures(tmp_path: Path) -> None:
    config = load_config(CONFIG, [*SETTINGS, f"data.cache={tmp_path / 'cache'}"])
    folder = run_experiment(config, tmp_path / "runs", Silent())
    exact, differences = measure(config, folder, [1.0, 1000.0], 20)
    reported = restore.load_outcome(folder)["test"]["all"]
    assert set(exact) == {*reported, POOLED}
    for name, item in reported.items():
        assert exact[name][0] == pytest.approx(item["accuracy"]["value"])
    for name in exact:
        small, large = (np.nanmean(np.abs(np.asarray(differences[name, each])), 0) for each in (1.0, 1000.0))
        assert large[0] < small[0]
        assert large[0] < 0.01
    values, patients = {name: [each] for name, each in exact.items()}, {name: [(15, 4)] for name in exact}
    text = render_table(values, differences, patients, [1.0])
    assert text.count("\n") == 1 + 2 * len(exact)
    assert "| 15 (4) |" in text
