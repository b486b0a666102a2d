from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from experiments.monitor.quality import QualityWatch, judge_second
from sites.ecg.recordings import read_recording

RATE = 250.0


def clean(seconds: float = 1.0) -> np.ndarray:
    time = np.arange(int(seconds * RATE)) / RATE
    beat = np.exp(-((((time % 0.8) - 0.4) / 0.012) ** 2))
    return beat + 0.15 * np.sin(2 * np.pi * time) + 0.005 * np.random.default_rng(1).normal(size=len(time))


def spoil(kind: str) -> np.ndarray:
    lead, time = clean(), np.arange(int(RATE)) / RATE
    if kind == "missing samples":
        lead[100] = np.nan
    elif kind == "flat lead":
        lead[:] = 0.3
    elif kind == "saturated lead":
        lead = np.clip(lead * 3, -0.5, 1.0)
        lead[50:90] = 1.0
    elif kind == "lead off":
        lead += 200
    elif kind == "mains hum":
        lead += 0.5 * np.sin(2 * np.pi * 50 * time)
    elif kind == "noise":
        lead += 0.5 * np.random.default_rng(2).normal(size=len(lead))
    return lead


@pytest.mark.parametrize(
    "kind", ["", "missing samples", "flat lead", "saturated lead", "lead off", "mains hum", "noise"]
)
def test_each_fault_is_named(kind: str) -> None:
    assert judge_second(np.stack([spoil(kind), clean()], axis=1), RATE) == (kind, "")


@pytest.mark.parametrize("rate", [250.0, 257.3])
def test_seconds_do_not_depend_on_packets(rate: float) -> None:
    signal = np.stack([np.concatenate([clean(), spoil("flat lead"), clean(), spoil("noise")])] * 2, axis=1)
    results = []
    for size in (1, 33, 5000):
        watch = QualityWatch(rate, 2)
        results.append(
            [item for start in range(0, len(signal), size) for item in watch.push(signal[start : start + size])]
        )
    assert results[0] == results[1] == results[2]
    assert [second for second, _ in results[0]] == list(range(len(results[0])))


@pytest.mark.realdata
def test_a_good_recording_is_usable(mitdb_folder: Path) -> None:
    recording = read_recording(mitdb_folder, "100", "atr")
    seconds = QualityWatch(recording.rate, 2).push(recording.signal)
    assert len(seconds) == 1805
    assert sum(bool(faults[0]) for _, faults in seconds) < 0.01 * len(seconds)


@pytest.mark.parametrize("rate", [125.0, 250.0, 360.0, 1000.0])
def test_tall_wide_beats_without_a_pause_are_no_noise(rate: float) -> None:
    time = np.arange(int(rate)) / rate
    run = 1.5 * np.sin(2 * np.pi * 200 / 60 * time) + 0.5 * np.sin(2 * np.pi * 600 / 60 * time)  # 200 a minute, mV
    assert judge_second(run[:, None], rate) == ("",)
    noise = 0.3 * np.random.default_rng(4).normal(size=len(time))
    assert judge_second((run + noise)[:, None], rate) == ("noise",)


@pytest.mark.realdata
def test_a_published_ventricular_run_is_usable(mitdb_folder: Path) -> None:
    recording = read_recording(mitdb_folder, "203", "atr")
    faults = dict(QualityWatch(recording.rate, 2).push(recording.signal))
    assert [faults[second][0] for second in (105, 710, 1605, 1606)] == [""] * 4  # runs of 3 to 7 beats, annotated
    assert [faults[second][0] for second in (44, 45, 46)] == ["noise"] * 3
