from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from experiments.bench.monitor_sepsis import Streamed, send_hours, stream_patients, summarise
from experiments.monitor.hourly import HourlyModel
from experiments.scoring.score import score_rows
from sites import datasets
from sites.datasets.sepsis import simulate
from sites.datasets.sepsis.columns import ICULOS
from sites.datasets.sepsis.hospitals import load_hospitals
from sites.datasets.sepsis.unlabelled import read_unlabelled
from sites.datasets.sepsis.utility import hourly_utility, normalised_utility
from tests.experiments.scoring.scored_runs import make_run_folder


def test_streamed_hours_have_the_odds_of_the_batch_path(tmp_path: Path) -> None:
    raw = {"data": {"dataset": "sepsis", "scaling": "none"}, "model": {"name": "mlp"}}
    model = HourlyModel(make_run_folder(tmp_path / "run", raw))
    simulate.generate(tmp_path / "data", patients=12, seed=3)
    batch: dict[tuple[str, int], float] = {}
    for part in read_unlabelled(datasets.open_source(model.scoring.config, tmp_path / "data")):
        scored = score_rows(model.scoring, part)
        rows = scored.rows.columns
        batch |= dict(zip(zip(rows["record"], rows["hour"].tolist(), strict=True), scored.odds[:, 1], strict=True))
    compared = 0
    for hospital in load_hospitals(tmp_path / "data", tmp_path / "cache"):
        edges = np.append(hospital.table.first, len(hospital.table.rows))
        tables = [send_hours(hospital.table.rows[a:b]) for a, b in itertools.pairwise(edges)]
        for name, a, odds in zip(hospital.table.names, edges, stream_patients(model, tables), strict=False):
            for hour, value in enumerate(odds.tolist(), int(hospital.table.rows[a, ICULOS])):
                if (name, hour) in batch:
                    assert value == pytest.approx(batch[name, hour], abs=1e-5)
                    compared += 1
    assert compared == len(batch) > 300


def test_utility_and_alarms_are_those_of_the_challenge() -> None:
    draw = np.random.default_rng(2)
    first = np.arange(0, 400, 40)
    label = np.zeros(400, np.uint8)
    label[[30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 110, 111, 112]] = 1
    odds = draw.normal(size=400)
    figures = summarise(Streamed(odds, label, first), 0.5)
    expected = normalised_utility(hourly_utility(label, first), odds >= 0.5)
    assert figures["utility"] == pytest.approx(expected, abs=1e-6)
    assert figures["alarms_a_patient_day"] == pytest.approx(24 * (odds >= 0.5).mean(), abs=1e-6)
