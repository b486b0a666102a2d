"""A recording that is there twice, cut, moved or with another gain, is counted by the distances of its beats."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sites.cohort import Cohort
from sites.datasets import mitdb
from sites.equal_rhythm import EQUAL_RHYTHM, count_equal_rhythms
from sites.suspicions import note_suspicions
from tests.sites.ecg.made_waves import RATE, make_waves, write_recording

ROOT = Path(__file__).resolve().parents[2]


def read(folder: Path) -> Cohort:
    names = [item.id for item in mitdb.patients(folder, mitdb.Options(), folder / "store")]
    return mitdb.read(folder, mitdb.Options(), names, folder / "store")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, seed in (("alpha", 1), ("bravo", 2), ("carol", 3)):
        write_recording(tmp_path, name, *make_waves(seed))
    return tmp_path


@pytest.mark.parametrize("copied", ["moved", "second half", "other gain"])
def test_a_copy_that_is_not_equal_is_counted(folder: Path, copied: str) -> None:
    assert EQUAL_RHYTHM not in note_suspicions(read(folder)).excluded
    lead, sample = make_waves(1)
    if copied == "moved":
        write_recording(folder, "echo", lead[5:], sample - 5)
    elif copied == "second half":
        half = int(30 * RATE)
        write_recording(folder, "echo", lead[half:], sample[sample > half + RATE] - half)
    else:
        write_recording(folder, "echo", lead, sample, gain=200.0)
    assert note_suspicions(read(folder)).excluded[EQUAL_RHYTHM] == 2


def test_a_rhythm_as_regular_as_a_clock_is_nobodys_own(tmp_path: Path) -> None:
    for seed, name in enumerate(("alpha", "bravo")):
        lead, _ = make_waves(seed)
        write_recording(tmp_path, name, lead, np.arange(30, 70) * 300 + seed)
    assert count_equal_rhythms(read(tmp_path)) == 0


@pytest.mark.realdata
def test_recordings_of_mit_bih_have_rhythms_of_their_own(tmp_path: Path) -> None:
    real = ROOT / "data" / "mitdb"
    if not real.is_dir():
        pytest.skip(f"no recordings in {real}")
    options = mitdb.Options(leads=1)
    names = [item.id for item in mitdb.patients(real, options, tmp_path)]
    assert count_equal_rhythms(mitdb.read(real, options, names, tmp_path)) == 0
