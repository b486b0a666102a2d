"""Annotations that are not on the waves are found, and those of MIT-BIH all are on them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from sites.datasets import mitdb
from sites.ecg.annotation_fit import MISFIT, fits_waves
from sites.ecg.annotations import AAMI_CLASSES
from sites.ecg.recordings import read_recording, recording_names
from tests.sites.ecg.made_waves import RATE, make_waves, write_recording

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def waves() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    return make_waves(1)


def test_annotations_of_this_recording_fit(waves: tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]) -> None:
    lead, sample = waves
    assert fits_waves(lead, RATE, sample)
    assert fits_waves(-lead, RATE, sample)
    assert fits_waves(lead, RATE, sample + 3)  # on another part of the QRS
    noise = np.random.default_rng(0).normal(0, 0.05, len(lead)).astype(np.float32)
    assert fits_waves(lead + noise, RATE, sample)
    assert fits_waves(lead, RATE, np.delete(sample, slice(20, 30)))  # some beats were not annotated
    assert fits_waves(lead, RATE, sample[:10] + 100)  # too few to judge


@pytest.mark.parametrize("wrong", ["other", "late", "clock", "t waves", "half", "reversed", "noise", "in two blocks"])
def test_annotations_of_something_else_do_not_fit(
    wrong: str, waves: tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]
) -> None:
    lead, sample = waves
    changed = {
        "other": (lead, make_waves(2)[1]),
        "late": (lead, sample + round(0.17 * RATE)),
        "clock": (lead, (sample * 250 / RATE).astype(np.int64)),
        "t waves": (lead, np.sort(np.concatenate([sample, sample + round(0.28 * RATE)]))),
        "half": (lead, sample[::2]),
        "reversed": (lead[::-1].copy(), sample),
        "noise": (np.random.default_rng(0).normal(0, 0.3, len(lead)).astype(np.float32), sample),
        "in two blocks": (np.concatenate([lead[::2], lead[1::2]]), sample),
    }
    assert not fits_waves(changed[wrong][0], RATE, changed[wrong][1])


def test_exchanged_annotations_are_counted_by_the_reader(tmp_path: Path) -> None:
    for name, seed in (("alpha", 1), ("bravo", 2), ("carol", 3)):
        write_recording(tmp_path, name, *make_waves(seed))
    options = mitdb.Options()

    def excluded() -> dict[str, int]:
        names = [item.id for item in mitdb.patients(tmp_path, options, tmp_path / "store")]
        return dict(mitdb.read(tmp_path, options, names, tmp_path / "store").excluded)

    assert MISFIT not in excluded()
    (tmp_path / "alpha.atr").rename(tmp_path / "x")
    (tmp_path / "bravo.atr").rename(tmp_path / "alpha.atr")
    (tmp_path / "x").rename(tmp_path / "bravo.atr")
    assert excluded()[MISFIT] == 2


@pytest.mark.realdata
def test_annotations_of_mit_bih_are_on_its_waves() -> None:
    folder = ROOT / "data" / "mitdb"
    if not folder.is_dir():
        pytest.skip(f"no recordings in {folder}")
    for name in recording_names(folder):
        recording = read_recording(folder, name)
        beat = np.isin(recording.symbol, list(AAMI_CLASSES))
        assert fits_waves(np.nan_to_num(recording.signal[:, 0]), recording.rate, recording.sample[beat]), name
