"""Irregular rhythm from RR intervals."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest

from sites.ecg import recordings
from sites.ecg.annotations import is_beat
from sites.ecg.rhythm import INTERVALS, MIN_INTERVALS, TOLERANCE, find_irregular_rhythm, sample_entropy_coefficient


def times(intervals: np.ndarray) -> np.ndarray:
    return np.concatenate([[0.0], np.cumsum(intervals)])


def irregular(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.4, 1.1, n)


def regular(n: int, seed: int = 0) -> np.ndarray:
    return 0.8 + 0.02 * np.random.default_rng(seed).standard_normal(n)


def test_the_entropy_is_that_of_a_plain_count() -> None:
    windows = np.random.default_rng(1).uniform(0.6, 0.8, (5, 20))
    for window, result in zip(windows, sample_entropy_coefficient(windows), strict=True):
        alike = longer = 0
        for i, j in itertools.combinations(range(len(window) - 1), 2):
            if abs(window[i] - window[j]) < TOLERANCE:
                alike += 1
                longer += abs(window[i + 1] - window[j + 1]) < TOLERANCE
        expected = -math.log(max(longer, 0.5) / alike) + math.log(2 * TOLERANCE) - math.log(window.mean())
        assert result == pytest.approx(expected)


@pytest.mark.parametrize("pattern", [[0.8], [0.5, 1.1], [0.5, 1.1, 0.8], [0.8] * 7 + [0.5, 1.1]], ids=str)
def test_ectopic_beats_in_a_pattern_are_no_irregular_rhythm(pattern: list[float]) -> None:
    intervals = np.resize(pattern, 200) + 0.008 * np.random.default_rng(2).standard_normal(200)
    assert not find_irregular_rhythm(times(intervals)).any()


def test_an_episode_is_found_where_it_is() -> None:
    flags = find_irregular_rhythm(times(np.concatenate([regular(200), irregular(200), regular(200)])))
    assert flags[230:370].all()
    assert not flags[:150].any()
    assert not flags[450:].any()


def test_a_short_recording_is_judged_as_a_whole_or_not_at_all() -> None:
    assert find_irregular_rhythm(times(irregular(INTERVALS // 2))).all()
    assert not find_irregular_rhythm(times(irregular(MIN_INTERVALS - 1))).any()
    assert len(find_irregular_rhythm(np.zeros(0))) == 0
    assert len(find_irregular_rhythm(np.ones(1))) == 1


@pytest.mark.realdata
def test_the_shares_of_mit_bih_are_those_of_the_docstring(mitdb_folder: Path) -> None:
    shares = {}
    for name in ("100", "113", "200", "203", "210", "219", "221"):
        recording = recordings.read_recording(mitdb_folder, name)
        beats = recording.sample[is_beat(recording.symbol)]
        shares[name] = round(float(find_irregular_rhythm(beats / recording.rate).mean()), 2)
    assert shares == {"100": 0.0, "113": 0.04, "200": 0.63, "203": 1.0, "210": 0.96, "219": 0.78, "221": 1.0}
