from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from common.errors import DataError
from experiments.monitor.hourly import HourlyModel, Stay, read_observation
from experiments.scoring.score import score_rows
from sites import datasets
from sites.datasets.sepsis.columns import N_MEASURED, NAMES
from sites.datasets.sepsis.unlabelled import read_unlabelled
from tests.experiments.scoring.scored_runs import make_run_folder


@pytest.fixture
def model(tmp_path: Path) -> HourlyModel:
    raw = {"data": {"dataset": "sepsis", "scaling": "none"}, "model": {"name": "mlp"}}
    return HourlyModel(make_run_folder(tmp_path / "run", raw))


FILE = """HR|O2Sat|Temp|SBP|Lactate|Age|Gender
80|97||120||61|1
85||38.5|110|2.5|61|1
||||||
120|91|39.1|85|5.5|61|1
"""


def write_patient(folder: Path) -> Path:
    folder.mkdir()
    head, *rows = FILE.splitlines()
    given = head.split("|")
    lines = ["|".join(NAMES)]
    for hour, row in enumerate(rows, 1):
        values = dict(zip(given, row.split("|"), strict=True)) | {"ICULOS": str(hour), "Age": "61", "Gender": "1"}
        lines.append("|".join(values.get(name) or "NaN" for name in NAMES))
    (folder / "p000001.psv").write_text("\n".join(lines) + "\n")
    return folder


def feed(stay: Stay) -> list[int]:
    head, *rows = FILE.splitlines()
    stay.fixed.update(Age=61.0, Gender=1.0)
    hours = []
    for hour, row in enumerate(rows, 1):
        values = {name: float(text) for name, text in zip(head.split("|"), row.split("|"), strict=True) if text}
        if values:
            stay.add(hour, values)
            hours.append(hour)
    return hours


def test_the_risk_is_that_of_the_batch_path(model: HourlyModel, tmp_path: Path) -> None:
    source = datasets.open_source(model.scoring.config, write_patient(tmp_path / "patients"))
    (rows,) = read_unlabelled(source)
    batch = score_rows(model.scoring, rows)
    by_hour = dict(zip(batch.rows.columns["hour"].tolist(), batch.probability[:, 1].tolist(), strict=True))
    stay = Stay()
    head, *texts = FILE.splitlines()
    stay.fixed.update(Age=61.0, Gender=1.0)
    for hour, text in enumerate(texts, 1):
        values = {name: float(part) for name, part in zip(head.split("|"), text.split("|"), strict=True) if part}
        if not values:
            continue
        stay.add(hour, values)
        assert model.assess(stay).risk == pytest.approx(by_hour[hour], abs=1e-6)


def test_a_factor_is_the_change_of_the_log_odds_without_it(model: HourlyModel) -> None:
    stay = Stay()
    feed(stay)
    risk = model.assess(stay)
    assert risk.hour == 4
    name, effect = risk.factors[0]
    for values in stay.values.values():
        values.pop(name, None)
    without = model.assess(stay).risk
    assert effect == pytest.approx(np.log(risk.risk / (1 - risk.risk)) - np.log(without / (1 - without)), abs=1e-4)
    assert abs(effect) == max(abs(item[1]) for item in risk.factors)


def test_implausible_values_are_cleared_and_unknown_columns_refused() -> None:
    stay = Stay()
    stay.add(1, {"Temp": 101.2, "HR": 80.0})
    assert stay.cleared == 1
    assert stay.values == {1: {"HR": 80.0}}
    assert np.isfinite(stay.table()[:, :N_MEASURED]).sum() == 1
    with pytest.raises(DataError, match="unknown column"):
        stay.add(1, {"name": 1.0})
    with pytest.raises(DataError, match="hour"):
        stay.add(0, {"HR": 80.0})


def test_a_fhir_observation_gives_columns_and_no_identity() -> None:
    pressure = {
        "resourceType": "Observation", "subject": {"display": "Ada"}, "code": {"coding": [{"code": "85354-9"}]},
        "component": [
            {"code": {"coding": [{"system": "http://loinc.org", "code": "8480-6"}]}, "valueQuantity": {"value": 120}},
            {"code": {"coding": [{"code": "8462-4"}]}, "valueQuantity": {"value": 80}},
        ],
    }  # fmt: skip
    assert read_observation(json.loads(json.dumps(pressure))) == {"SBP": 120.0, "DBP": 80.0}
    for odd in ({}, {"resourceType": "Patient"}, {"resourceType": "Observation", "component": 3, "code": []}):
        with pytest.raises(DataError):
            read_observation(odd)
