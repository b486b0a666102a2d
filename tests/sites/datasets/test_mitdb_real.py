"""The published recordings: counts that papers print, and beats against a reading without any of our code."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import scipy.signal

from common import config
from sites import datasets
from sites.datasets import Source, mitdb
from sites.ecg import recordings
from sites.ecg.beat_reader import Options
from sites.ecg.simulate.hospitals import wfdb

pytestmark = pytest.mark.realdata

AAMI = {"N": "NLRej", "S": "AaJS", "V": "VE", "F": "F", "Q": "/fQ"}
CLASS_BY_NAME = {symbol: name for name, symbols in AAMI.items() for symbol in symbols}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("prepared")


def annotated(folder: Path, name: str) -> tuple[np.ndarray, list[str]]:
    """Return the samples and the classes of a recording's beats, straight from wfdb."""
    marks = wfdb.rdann(str(folder / name), "atr")
    beats = [(at, CLASS_BY_NAME[s]) for at, s in zip(marks.sample, marks.symbol, strict=True) if s in CLASS_BY_NAME]
    return np.array([at for at, _ in beats]), [kind for _, kind in beats]


def test_the_published_sides_are_apart_and_leave_out_the_paced(mitdb_folder: Path) -> None:
    assert len(mitdb.DS1) == len(mitdb.DS2) == 22
    assert not set(mitdb.DS1) & set(mitdb.DS2)
    assert set(mitdb.DS1) | set(mitdb.DS2) | set(mitdb.PACED) == set(recordings.recording_names(mitdb_folder))
    assert len(recordings.recording_names(mitdb_folder)) == 48


def test_every_recording_is_whole(mitdb_folder: Path) -> None:
    for name in recordings.recording_names(mitdb_folder):
        result = recordings.read_recording(mitdb_folder, name)
        assert result.signal.shape == (650_000, 2)
        assert result.rate == 360
        assert not np.isnan(result.signal).any()


def test_the_kachuee_view_has_the_counts_that_its_authors_publish(mitdb_folder: Path, prepared: Path) -> None:
    """109,446 beats: the rows of mitbih_train.csv and mitbih_test.csv together, by class."""
    options = Options(view="kachuee", classes="NSVFQ", paced=True, leads=1)
    patients = mitdb.patients(mitdb_folder, options, prepared)
    counts = tuple(int(n) for n in np.sum([item.examples for item in patients], axis=0))
    assert dict(zip("NSVFQ", counts, strict=True)) == {"N": 90589, "S": 2779, "V": 7236, "F": 803, "Q": 8039}
    assert sum(counts) == 109_446


def test_class_counts_of_the_published_sides_are_those_of_the_annotations(mitdb_folder: Path, prepared: Path) -> None:
    source = Source(mitdb, Options(classes="NSVFQ"), mitdb_folder, prepared)
    for side, names in (("train", mitdb.DS1), ("test", mitdb.DS2)):
        expected = sum((Counter(annotated(mitdb_folder, name)[1]) for name in names), Counter())
        mine = [item for item in source.patients() if item.published == side]
        result = np.sum([item.examples for item in mine], axis=0)
        assert {item.id for item in mine} == set(names)
        assert dict(zip("NSVFQ", result.tolist(), strict=True)) == dict(expected)


def test_the_person_of_201_and_202_is_dropped_from_training(mitdb_folder: Path, prepared: Path) -> None:
    run = config.parse_config({"sites": {"scheme": "even", "count": 4, "split": "published"}})
    source = Source(mitdb, Options(), mitdb_folder, prepared)
    dealt, _, dropped = datasets.assign_hospitals(source, run)
    assert dropped == 1
    every = {name for ids in dealt.values() for name in ids}
    assert every == (set(mitdb.DS1) | set(mitdb.DS2)) - {"201"}
    assert len({item.person for item in source.patients()}) == 43


def test_a_second_reading_comes_from_the_cache_and_is_the_same(mitdb_folder: Path, tmp_path: Path) -> None:
    options, ids = Options(), ["100", "208", "114"]
    first = mitdb.read(mitdb_folder, options, ids, tmp_path / "one")
    again = mitdb.read(mitdb_folder, options, ids, tmp_path / "one")
    fresh = mitdb.read(mitdb_folder, options, ids, tmp_path / "two")
    for other in (again, fresh):
        for field in ("x", "features", "y", "patient"):
            np.testing.assert_array_equal(getattr(first, field), getattr(other, field))
    assert not first.synthetic


@pytest.mark.parametrize("name", ["100", "114", "208"])
def test_windows_equal_a_slow_reading(mitdb_folder: Path, prepared: Path, name: str) -> None:
    """Filtered in the time domain at 360 Hz by scipy, cut by linear interpolation; 114 has MLII second."""
    record = wfdb.rdrecord(str(mitdb_folder / name))
    at, kinds = annotated(mitdb_folder, name)
    lead = record.p_signal[:, record.sig_name.index("MLII")]
    for edge, kind in ((0.5, "highpass"), (40.0, "lowpass")):
        lead = scipy.signal.sosfiltfilt(scipy.signal.butter(2, edge, kind, fs=360, output="sos"), lead)
    directory = np.rint(at * 125 / 360)
    seconds = (directory[:, None] - 36 + np.arange(96)) / 125
    windows = np.interp(seconds, np.arange(len(lead)) / 360, lead)
    result = mitdb.read(mitdb_folder, Options(classes="NSVFQ"), [name], prepared)
    ours = result.x[:, 0]
    assert [result.task.classes[y] for y in result.y] == kinds
    height = np.median(np.ptp(windows, axis=1))
    inner = slice(5, -5)
    difference = ours[inner] - windows[inner] / height
    assert np.sqrt((difference**2).mean()) < 0.01
    assert np.abs(difference).max() < 0.15


def test_kachuee_beats_equal_a_slow_reading(mitdb_folder: Path, prepared: Path) -> None:
    record = wfdb.rdrecord(str(mitdb_folder / "100"))
    at, _ = annotated(mitdb_folder, "100")
    lead = scipy.signal.resample_poly(record.p_signal[:, 0], 25, 72, window=("kaiser", 14.0), padtype="line")
    directory = np.rint(at * 125 / 360).astype(int)
    options = Options(view="kachuee", classes="NSVFQ", leads=1)
    result = mitdb.read(mitdb_folder, options, ["100"], prepared).x[:, 0]
    assert len(result) == len(at) - 1
    for i in range(5, len(directory) - 5, 97):
        stretch = [b - a for a, b in pairwise(directory) if a // 1250 == b // 1250 == directory[i] // 1250]
        length = min(int(np.rint(1.2 * np.median(stretch))), 187)
        part = lead[directory[i] : directory[i] + length]
        expected = np.zeros(187)
        expected[:length] = (part - part.min()) / (part.max() - part.min())
        np.testing.assert_allclose(result[i], expected, atol=0.03)
        assert (result[i][length:] == 0).all()
