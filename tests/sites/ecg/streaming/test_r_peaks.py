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
    learned = False
    for first, last in blocks:
        peak = first + int(energy[first:last].argmax())
        strength = int(energy[peak])
        if last - first < 12:
            continue
        learned = learned or bool(peaks and last >= peaks[0][0] + 375)
        if len(peaks) >= 3:
            usual, gap = np.median([own for _, own in peaks[-8:]]), peak - peaks[-1][0]
            before = sorted(energy[max(0, last - 1200) : last].tolist())
            noise = 15 * before[(len(before) - 1) // 2] if len(before) >= 125 else 0
            if gap < 187 and strength < min(noise, 0.25 * usual):
                continue
            if strength < usual * (0.05 if gap < 187 else 0.01) or (gap < 45 and strength < 0.1 * peaks[-1][1]):
                continue
        if peaks and peak - peaks[-1][0] < 30:
            if strength <= peaks[-1][1]:
                continue
            peaks.pop()
        peaks.append((peak, strength))
        if not learned and len(peaks) >= 3:
            strong = [own for own in peaks if own[1] >= 0.05 * np.median([each for _, each in peaks])]
            learned, peaks = len(strong) == len(peaks), strong
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
    assert max(delays[3:]) < r_peaks.DELAY_SECONDS + 12 / 125 + 10 / rate
    assert max(delays[:3]) < 3 + r_peaks.DELAY_SECONDS


def test_a_weak_first_wave_is_no_beat_and_the_first_beats_do_not_wait_for_ever() -> None:
    energy = np.zeros(3000, dtype=np.int64)
    energy[20:34] = 100  # a P wave
    for beat in range(70, 500, 100):
        energy[beat : beat + 14] = 10_000
    for size in (1, 50, 3000):
        finder, peaks = PeakFinder(), []
        for start in range(0, 3000, size):
            peaks += finder.push(energy[start : start + size])
        assert [peak.sample for peak in peaks] == [70, 170, 270, 370, 470]
    energy[200:] = 0
    finder = PeakFinder()
    assert finder.push(energy[:400]) == []  # two beats: a third one may come
    assert [peak.sample for peak in finder.push(energy[400:500])] == [70, 170]
    assert finder.certain > 400  # so that a pause is noticed


def test_noise_between_beats_is_no_beat_and_wide_waves_are() -> None:
    draw, at = np.random.default_rng(8), np.arange(0, 12500, 100)
    energy = draw.integers(20, 60, 12500)
    for beat in at[at < 10000]:
        energy[beat : beat + 14] += 3000
    for bump in at[2:100] + 45:  # 12 % of the beats' strength: noise, as half of all energies are not far below
        energy[bump : bump + 14] += 330
    for wave in range(10000, 12500, 50):  # a fast rhythm of wide waves: half of all energies are as high
        energy[wave : wave + 26] += 1500
    peaks = np.array([peak.sample for peak in PeakFinder().push(energy, last=True)])
    assert all(((peaks >= beat) & (peaks < beat + 14)).any() for beat in at[1:100].tolist())
    assert len(peaks[(peaks > 300) & (peaks < 9990)]) == 97
    assert len(peaks[peaks > 10000]) >= 45
    quiet = energy.copy()
    quiet[energy < 300] //= 10  # without the noise they are small beats
    small = np.array([peak.sample for peak in PeakFinder().push(quiet, last=True)])
    assert len(small[(small > 300) & (small < 9990)]) == 2 * 97


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
