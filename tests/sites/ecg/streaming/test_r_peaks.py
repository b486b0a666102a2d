from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sites.ecg.annotations import is_beat
from sites.ecg.recordings import read_recording, recording_names
from sites.ecg.streaming import r_peaks
from sites.ecg.streaming.filtering import StreamingFilter, design_filter
from sites.ecg.streaming.r_peaks import PeakFinder, detect_streaming


def find_slowly(energy: np.ndarray) -> list[int]:
    """The rules of the module's docstring, sample by sample, with the whole signal at hand."""

    def mean(first: int, after: int, divisor: float) -> float:
        return float(energy[max(first, 0) : max(min(after, len(energy)), 0)].sum()) / divisor

    blocks, start = [], None
    for at in range(len(energy) + 1):
        after = min(at + 39, len(energy))
        raised = at < len(energy) and mean(at - 6, at + 6, 12) > mean(at - 38, at + 39, 77) + 0.16 * mean(
            after - 1250, after, min(after, 1250)
        )
        if raised and start is None:
            start = at
        elif not raised and start is not None:
            blocks.append((start, at))
            start = None
    peaks: list[tuple[int, int]] = []
    for first, last in blocks:
        peak = first + int(energy[first:last].argmax())
        strength = int(energy[peak])
        if last - first < 12:
            continue
        if len(peaks) >= 3:
            usual, gap = np.median([own for _, own in peaks[-8:]]), peak - peaks[-1][0]
            if strength < usual * (0.05 if gap < 187 else 0.01) or (gap < 45 and strength < 0.1 * peaks[-1][1]):
                continue
        if peaks and peak - peaks[-1][0] < 30:
            if strength <= peaks[-1][1]:
                continue
            peaks.pop()
        peaks.append((peak, strength))
    return [peak for peak, _ in peaks]


def bumps(seed: int) -> np.ndarray:
    draw = np.random.default_rng(seed)
    energy, at = draw.integers(0, 400, 5000), 200
    while at < 4900:
        width = int(draw.integers(3, 20))
        energy[at : at + width] += int(draw.choice([3_000, 30_000, 200_000]))
        at += int(draw.integers(15, 260))
    return energy


@pytest.mark.parametrize("seed", range(8))
def test_the_stream_follows_the_rules_whatever_the_packets(seed: int) -> None:
    energy = bumps(seed)
    expected = find_slowly(energy)
    assert len(expected) > 10
    for size in (1, 13, 250, 5000):
        finder = PeakFinder()
        peaks = []
        for start in range(0, len(energy), size):
            certain = finder.certain
            new = finder.push(energy[start : start + size])
            assert all(peak.sample >= certain for peak in new)
            peaks += new
        peaks += finder.push(energy[:0], last=True)
        assert [peak.sample for peak in peaks] == expected


def test_a_peak_is_reported_in_time() -> None:
    rate, lead = 250.0, np.zeros(5000)
    for at in range(300, 4800, 200):
        lead[at - 5 : at + 6] += np.hanning(11)
    finder, own = PeakFinder(), StreamingFilter(design_filter(rate, 125.0, r_peaks.BAND, r_peaks.HALF_SECONDS))
    delays = []
    for start in range(0, len(lead), 10):
        energy = r_peaks.measure_energy(own.push(lead[start : start + 10, None])[:, 0])
        delays += [(start + 10) / rate - peak.sample / 125 for peak in finder.push(energy)]
    assert len(delays) >= 20
    assert max(delays) < r_peaks.DELAY_SECONDS + 12 / 125 + 10 / rate


def test_a_flat_lead_has_no_peak() -> None:
    assert detect_streaming(np.full(3000, 1.7), 250.0) == []


def count_matches(reference: np.ndarray, detected: np.ndarray, tolerance: float) -> int:
    matches = at = 0
    for time in reference:
        while at < len(detected) and detected[at] < time - tolerance:
            at += 1
        if at < len(detected) and abs(detected[at] - time) <= tolerance:
            matches, at = matches + 1, at + 1
    return matches


@pytest.mark.realdata
@pytest.mark.slow
def test_sensitivity_and_predictivity_on_all_unpaced_recordings(mitdb_folder: Path) -> None:
    matches = beats = detections = 0
    for name in recording_names(mitdb_folder):
        if name in ("102", "104", "107", "217"):
            continue
        recording = read_recording(mitdb_folder, name, "atr")
        reference = recording.sample[is_beat(recording.symbol)] / recording.rate
        lead = np.nan_to_num(recording.signal[:, 0])
        detected = np.array([peak.sample for peak in detect_streaming(lead, recording.rate, 360)]) / 125
        matches += count_matches(reference, detected, 0.15)
        beats += len(reference)
        detections += len(detected)
    assert beats > 100_000
    assert matches / beats > 0.998
    assert matches / detections > 0.995
