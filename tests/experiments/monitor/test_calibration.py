"""Outcomes that arrive later: matched to what was predicted, judged by patient, kept over a new start."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tornado")

from common.errors import DataError
from experiments.monitor.calibration import Calibration, Outcome, describe_calibration, read_outcomes
from experiments.monitor.metrics import collect_calibration
from experiments.monitor.outcomes import OutcomeLog
from experiments.monitor.store import Store
from tests.experiments.monitor.conftest import Client, cut, heartbeats


def draw(patients: int, factor: float, seed: int, hours: int = 40) -> Calibration:
    """Return outcomes whose true probability is `factor` times the one that was given; patients differ."""
    rng, own = np.random.default_rng(seed), Calibration()
    for patient in range(patients):
        level = rng.beta(2, 8)
        for hour in range(hours):
            given = float(np.clip(level * rng.uniform(0.5, 1.5), 0, 0.9))
            own.add(Outcome("risk", f"bed-{patient}", hour, bool(rng.random() < min(1.0, factor * given))), given)
    return own


def test_sums_and_ratio_are_those_made_by_hand() -> None:
    own = Calibration()
    for patient in range(6):
        own.add(Outcome("risk", f"bed-{patient}", 1, True), 0.5)
        own.add(Outcome("risk", f"bed-{patient}", 2, patient < 3), 0.25)
    own.add(Outcome("risk", "bed-0", 2, False), 0.25)  # corrected later: it replaces the first report
    found = own.summarise("risk")
    assert found is not None
    assert (found.patients, found.outcomes, found.observed, found.expected) == (6, 12, 8, 4.5)
    assert found.ratio == pytest.approx(8 / 4.5)
    assert own.summarise("beat") is None


def test_right_probabilities_are_seldom_blamed_and_wrong_ones_always() -> None:
    right = [draw(30, 1.0, seed).summarise("risk") for seed in range(60)]
    assert sum(own.wrong for own in right if own is not None) <= 8  # 5 % are expected, and few patients are optimistic
    covered = 0
    for seed in range(10):
        for factor, side in ((2.0, "too low"), (0.5, "too high")):
            own = draw(30, factor, seed)
            summary = own.summarise("risk")
            assert summary is not None
            covered += summary.low < factor < summary.high
            assert f"hourly risks are {side}, the model may no longer fit" in describe_calibration(own)
    assert covered >= 16
    assert "cannot be judged yet" in describe_calibration(draw(4, 1, 0))
    assert describe_calibration(Calibration()) == "calibration: no outcomes yet"


def test_a_patient_counts_once_however_many_outcomes_it_has() -> None:
    """With all of 40 hours alike in a patient, the interval is that of 30 patients, not of 1,200 hours."""
    rng, one, many = np.random.default_rng(3), Calibration(), Calibration()
    for patient in range(30):
        event = bool(rng.random() < 0.3)
        one.add(Outcome("risk", f"bed-{patient}", 0, event), 0.3)
        for hour in range(40):
            many.add(Outcome("risk", f"bed-{patient}", hour, event), 0.3)
    a, b = one.summarise("risk"), many.summarise("risk")
    assert a is not None
    assert b is not None
    assert (a.low, a.high) == pytest.approx((b.low, b.high))


@pytest.mark.parametrize(
    "item",
    [
        {}, [], {"device_id": "bed-1", "event": True}, {"device_id": "bed-1", "hour": 1, "seconds": 2, "event": True},
        {"device_id": "bed-1", "hour": 1, "event": 1}, {"device_id": "a b", "hour": 1, "event": True},
        {"device_id": "bed-1", "hour": "1", "event": True}, {"device_id": "bed-1", "hour": True, "event": True},
        {"device_id": "bed-1", "hour": -1, "event": True}, {"device_id": "bed-1", "hour": 1, "event": True, "x": 1},
    ],
)  # fmt: skip
def test_malformed_outcomes_are_refused(item: object) -> None:
    with pytest.raises(DataError):
        read_outcomes(json.dumps(item).encode())


def test_outcomes_find_the_prediction_and_stay_over_a_new_start(tmp_path: Path) -> None:
    store = Store(tmp_path / "monitor.sqlite")
    store.add_beat("bed-1", 1000.0, 12.34, "V", 0.9)
    store.add_beat("bed-1", 1001.0, 13.1, "N", 0.2)
    store.add_beat("bed-1", 1002.0, 14.0, "unusable", 0.7)
    store.add_risk("bed-2", 5, 1000.0, 0.125, "{}")
    assert store.flush()
    log = OutcomeLog(store, None)
    body = [
        {"device_id": "bed-1", "seconds": 12.4, "event": True}, {"device_id": "bed-1", "seconds": 13.0, "event": False},
        {"device_id": "bed-2", "hour": 5, "event": True}, {"device_id": "bed-1", "seconds": 14.0, "event": True},
        {"device_id": "bed-2", "hour": 6, "event": True}, {"device_id": "bed-3", "seconds": 12.4, "event": True},
    ]  # fmt: skip
    assert log.take(json.dumps(body).encode(), "ada") == (3, 3)
    store.flush()
    store.close()
    store = Store(tmp_path / "monitor.sqlite")
    again = OutcomeLog(store, None).calibration
    beats, risks = again.summarise("beat"), again.summarise("risk")
    assert beats is not None
    assert risks is not None
    assert (beats.outcomes, beats.observed, beats.expected) == (2, 1, pytest.approx(1.1))
    assert (risks.outcomes, risks.observed, risks.expected) == (1, 1, 0.125)
    assert [row[1:] for row in store.read_audit() if row[2] == "outcomes"] == [("ada", "outcomes", "3 reported")]
    store.close()


def test_prometheus_reads_the_ratio_and_its_interval() -> None:
    own = draw(30, 2.0, 1)
    summary = own.summarise("risk")
    assert summary is not None
    samples = {item.name: item.value for part in collect_calibration(own) for item in part.samples}
    assert samples["wardround_monitor_calibration_ratio"] == summary.ratio
    assert samples["wardround_monitor_calibration_ratio_low"] == summary.low
    assert samples["wardround_monitor_calibration_patients"] == 30


@pytest.mark.processes
def test_a_person_reports_outcomes_over_http(monitor: Client) -> None:
    for packet in cut(heartbeats(30), "bed-outcome"):
        assert monitor.send(packet)[0] == 202
    monitor.wait(lambda: monitor.overview()["bed-outcome"]["counts"])
    shown = monitor.wait(lambda: json.loads(monitor.call("/api/patients/bed-outcome")[1])["beats"])[5]
    body = json.dumps({"device_id": "bed-outcome", "seconds": shown["seconds"], "event": False}).encode()
    assert monitor.call("/api/outcomes", body, "device")[0] == 401

    def report() -> dict[str, int]:
        status, answer = monitor.call("/api/outcomes", body)
        assert status == 200
        return dict(json.loads(answer))

    assert monitor.wait(lambda: report()["taken"]) == 1  # the beat is written a quarter of a second later
    assert monitor.call("/api/outcomes", b"[]")[0] == 400
    assert monitor.call("/api/outcomes", body, Sec_Fetch_Site="cross-site")[0] == 403
    assert "ventricular beats: cannot be judged yet" in json.loads(monitor.call("/api/ward")[1])["calibration"]
    assert b'wardround_monitor_calibration_outcomes{kind="beat"} 1' in monitor.call("/metrics")[1]
