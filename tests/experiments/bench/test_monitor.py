from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tornado")

from experiments.bench.monitor_alarms import count_alarms
from experiments.bench.monitor_beats import Matches, list_runs, outside
from experiments.bench.monitor_load import Usage, describe_machine, generate_signal, measure_load
from experiments.bench.monitor_saturation import measure_saturation, wait_until_unchanged
from experiments.bench.monitor_time import measure_time
from experiments.monitor.decisions import Limits
from sites.ecg.recordings import Recording
from sites.ecg.streaming.r_peaks import detect_streaming
from tests.experiments.scoring.scored_runs import make_run_folder


def test_each_detection_matches_one_beat() -> None:
    matches = Matches()
    matches.add(np.array([1.0, 2.0, 3.0, 4.0]), np.array([0.9, 1.1, 2.14, 3.3, 4.0]))
    assert (matches.annotated, matches.detected, matches.matched) == (4, 5, 3)
    assert matches.shares() == (75.0, 60.0)
    assert outside(np.array([1.0, 2.0, 3.0]), [(1.5, 2.5)]).tolist() == [1.0, 3.0]


def test_annotated_runs_have_three_fast_ventricular_beats() -> None:
    times = np.cumsum([1.0, 0.4, 0.4, 0.8, 0.4, 0.4, 0.8, 0.8, 0.8, 0.8])
    symbols = np.array(list("NVVNVVVNVV"))
    own = Recording("a", 100.0, ("II",), np.zeros((1000, 1), np.float32), np.rint(times * 100).astype(int), symbols, ())
    assert list_runs(own, Limits()) == []  # 0.4 and 0.8 s: 100 a minute, but of three beats only the first pair is fast
    fast = np.rint(np.cumsum([1.0, 0.4, 0.4, 0.8, 0.4, 0.4, 0.4, 0.8, 0.8, 0.8]) * 100).astype(int)
    own = Recording("a", 100.0, ("II",), np.zeros((1000, 1), np.float32), fast, symbols, ())
    (run,) = list_runs(own, Limits())
    assert run == (pytest.approx(3.0), pytest.approx(3.8))


def test_an_alarm_belongs_to_the_run_that_it_announces() -> None:
    runs = [(10.0, 12.0), (100.0, 101.0), (300.0, 301.0)]
    assert count_alarms([9.5, 50.0], runs, Limits(refractory=60)) == (2, 1)  # the second run is within 60 s of an alarm
    assert count_alarms([], runs, Limits()) == (0, 0)
    assert count_alarms([302.5], runs, Limits()) == (0, 1)


def test_generated_patients_have_a_heart_rate() -> None:
    peaks = detect_streaming(generate_signal(30, 3)[:, 0], 250.0)
    assert 30 * 0.9 <= len(peaks) <= 30 * 1.9


@pytest.mark.slow
@pytest.mark.processes
def test_a_small_load_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("experiments.bench.monitor_load.WARM_UP_SECONDS", 3.0)
    options = {"leads": 1, "causal": True}
    run = make_run_folder(tmp_path / "run", {"data": {"dataset": "mitdb", "options": options}})
    figures = measure_load(run, patients=3, seconds=15, workers=1)
    assert figures["samples_sent"] == figures["samples_taken"] == 3 * 15 * 250 - 3 * (15 * 250 % 62)
    assert figures["lost"] == figures["shed"] == 0
    assert figures["beats_scored"] > 30
    assert 0 < figures["cores_used"] < figures["cores"]
    assert figures["memory_mib"][0] > 100


def test_growth_of_memory_is_that_of_the_second_half() -> None:
    start = [Usage(60.0 * i, (100 + 50 * min(i, 4)) * 2**20, 3.0 * i) for i in range(5)]
    later = [Usage(300.0 + 60 * i, (300 + 2 * (i + 1)) * 2**20, 15.0 + 3 * i) for i in range(5)]
    figures = describe_machine(start + later, 5.4)
    assert figures["memory_growth_mib_a_minute"] == pytest.approx(2.0, abs=0.01)
    assert (figures["cores_used"], figures["cores_used_by_main_process"]) == (0.05, 0.01)


def test_packets_that_the_kernel_still_holds_are_waited_for() -> None:
    counts = iter([3, 70, 90, 90, 95])
    asyncio.run(wait_until_unchanged(lambda: next(counts), 0.0))
    assert list(counts) == [95]  # what was sent has been read twice the same


@pytest.mark.slow
@pytest.mark.processes
def test_past_saturation_every_sample_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples that were sent are those that arrived and those counted as lost; a small load recovers at once."""
    monkeypatch.setattr("experiments.bench.monitor_saturation.WARM_UP_SECONDS", 2.0)
    monkeypatch.setattr("experiments.bench.monitor_saturation.AFTER_SECONDS", 3.0)
    options = {"leads": 1, "causal": True}
    run = make_run_folder(tmp_path / "run", {"data": {"dataset": "mitdb", "options": options}})
    figures = measure_saturation(run, patients=2, factor=5, seconds=3, workers=1)
    assert figures["not_accounted_for"] == 0
    assert figures["arrived"] > 2 * 250 * 10
    assert figures["recovered_after_s"] < 60


def test_processor_time_is_counted_for_every_beat_of_the_signal(tmp_path: Path) -> None:
    options = {"leads": 1, "shape": 1, "causal": True}
    run = make_run_folder(tmp_path / "run", {"data": {"dataset": "mitdb", "options": options}})
    for figures in measure_time(run, patients=2, seconds=30).values():
        expected = sum(len(detect_streaming(generate_signal(45, patient)[3750:, 0], 250.0)) for patient in (0, 1))
        assert abs(figures["beats"] - expected) <= 6
        assert 0 < figures["ms_a_beat_inputs_and_model"] < figures["ms_a_beat"]
        assert figures["patients_a_core"] == pytest.approx(
            2 * 30 / (figures["beats"] * figures["ms_a_beat"] / 1000), rel=0.05
        )
