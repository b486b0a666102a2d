"""Data sets of annotated beats: MIT-BIH, generated recordings, and the mix with PTB-XL."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common import config
from common.errors import DataError
from common.settings import validate_settings
from sites import datasets
from sites.datasets import Source, mitdb, mixed, ptbxl, synthetic
from sites.ecg import beat_reader, features, recordings
from sites.ecg.beat_reader import Options
from tests.sites.datasets.dataset_variants import OPTIONS


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("prepared")


def test_the_synthetic_task_is_that_of_mitdb() -> None:
    """A model trained on generated recordings can be tried on real ones."""
    for options in OPTIONS["default"] + OPTIONS["ecg"]:
        one = synthetic.task(validate_settings(synthetic.Options, options, "a"))
        assert one == beat_reader.beat_task(validate_settings(Options, options, "b"))


def test_relative_channels_are_the_signal_less_the_median_beat(hospitals: Path, store: Path) -> None:
    ids = list(recordings.recording_names(hospitals / "north"))
    cohort = mitdb.read(hospitals / "north", Options(), ids, store)
    plain = mitdb.read(hospitals / "north", Options(relative=False), ids, store)
    np.testing.assert_array_equal(cohort.x[:, :2], plain.x)
    for which in range(len(ids)):
        own = cohort.x[cohort.patient == which]
        # Every beat counts for the median here: there are fewer than 400.
        np.testing.assert_allclose(own[:, 2:], own[:, :2] - np.median(own[:, :2], axis=0), atol=1e-5)
    width = plain.features.shape[1]
    np.testing.assert_array_equal(cohort.features[:, :width], plain.features)


def test_waves_are_measured_against_the_recordings_own_spread(hospitals: Path, store: Path) -> None:
    ids = list(recordings.recording_names(hospitals / "north"))[:2]
    plain = mitdb.read(hospitals / "north", Options(leads=1), ids, store)
    both = mitdb.read(hospitals / "north", Options(leads=2, relative=False), ids, store)
    cohort = mitdb.read(hospitals / "north", Options(leads=1, shape=2), ids, store)
    width = plain.features.shape[1]
    np.testing.assert_array_equal(cohort.x, plain.x)  # the second lead is measured, and not an input
    np.testing.assert_array_equal(cohort.features[:, :width], plain.features)
    assert cohort.task.features[width:] == features.beat_feature_names(2)
    for which in range(len(ids)):
        own = both.x[both.patient == which]
        slow = features.scale_to_own_spread(features.measure_beats(own, np.median(own, axis=0)))
        np.testing.assert_allclose(cohort.features[cohort.patient == which, width:], slow, atol=2e-3)
    again = mitdb.read(hospitals / "north", Options(leads=1, shape=2), ids, store)
    np.testing.assert_array_equal(again.features, cohort.features)


def test_of_a_lead_that_is_not_there_nothing_is_measured(tmp_path: Path, write_recording: Any) -> None:
    rng = np.random.default_rng(1)
    folders = list(range(100, 2000, 125))
    write_recording(tmp_path, "one", rng.integers(-500, 500, size=(2000, 1)), folders, ["N"] * len(folders))
    cohort = mitdb.read(tmp_path, Options(shape=2), ["one"], tmp_path / "store")
    total = [i for i, name in enumerate(cohort.task.features) if name in features.beat_feature_names(2)]
    half = len(total) // 2
    assert (cohort.features[:, total[half:]] == 0).all()
    assert cohort.features[:, total[:half]].std() > 0.1


def test_a_recording_of_one_lead_leaves_the_second_empty(tmp_path: Path, write_recording: Any) -> None:
    rng = np.random.default_rng(1)
    folders = list(range(100, 2000, 125))
    write_recording(tmp_path, "one", rng.integers(-500, 500, size=(2000, 1)), folders, ["N"] * len(folders))
    cohort = mitdb.read(tmp_path, Options(), ["one"], tmp_path / "store")
    assert (cohort.x[:, [1, 3]] == 0).all()
    assert cohort.x[:, 0].std() > 0.05
    assert cohort.x[:, 2].std() > 0.05


def test_beats_of_class_q_are_left_out_and_counted_or_kept(tmp_path: Path, write_recording: Any) -> None:
    folders = list(range(100, 2000, 125))
    symbols = (["N", "/", "V", "Q", "N"] * 4)[: len(folders)]
    digital = np.random.default_rng(1).integers(-500, 500, size=(2000, 2))
    write_recording(tmp_path, "one", digital, folders, symbols)
    few = mitdb.read(tmp_path, Options(), ["one"], tmp_path / "store")
    paced = sum(symbol in "/Q" for symbol in symbols)
    assert few.excluded == {"beats of class Q": paced}
    assert len(few.y) == len(folders) - paced
    every = mitdb.read(tmp_path, Options(classes="NSVFQ"), ["one"], tmp_path / "store")
    assert every.excluded == {}
    np.testing.assert_array_equal(every.take(every.y < 4).x, few.x)
    assert [every.task.classes[y] for y in every.y] == ["Q" if s in "/Q" else s for s in symbols]


def test_the_paced_and_the_person_with_two_recordings(tmp_path: Path, write_recording: Any) -> None:
    digital = np.random.default_rng(1).integers(-500, 500, size=(600, 2))
    for number, name in enumerate(("100", "102", "201", "202", "217")):
        write_recording(tmp_path, name, digital + number, [100, 200, 300, 400], ["N"] * 4)
    result = mitdb.patients(tmp_path, Options(), tmp_path / "store")
    assert [(item.id, item.published) for item in result] == [("100", "test"), ("201", "train"), ("202", "test")]
    assert result[1].person == result[2].person != result[0].person
    every = mitdb.patients(tmp_path, Options(paced=True), tmp_path / "store")
    assert [(item.id, item.published) for item in every if item.id not in ("100", "201", "202")] == [
        ("102", None),
        ("217", None),
    ]
    run = config.parse_config({"sites": {"scheme": "even", "count": 1, "split": "published"}})
    source = Source(mitdb, Options(paced=True), tmp_path, tmp_path / "store")
    dealt, _, dropped = datasets.assign_hospitals(source, run)
    assert dealt == {"hospital-1": ("100", "102", "202", "217")}
    assert dropped == 1
    for name in ("100", "201", "202"):
        (tmp_path / f"{name}.hea").unlink()
    with pytest.raises(DataError, match=r"all are paced; see data\.options\.paced"):
        mitdb.patients(tmp_path, Options(), tmp_path / "store")


def test_a_changed_recording_is_prepared_again(tmp_path: Path, write_recording: Any) -> None:
    rng = np.random.default_rng(1)
    folders = [100, 200, 300, 400]
    options, store = Options(), tmp_path / "store"
    write_recording(tmp_path, "one", rng.integers(-500, 500, size=(600, 2)), folders, ["N"] * 4)
    before = mitdb.read(tmp_path, options, ["one"], store)
    write_recording(tmp_path, "one", rng.integers(-500, 500, size=(600, 2)), folders, ["N"] * 4)
    after = mitdb.read(tmp_path, options, ["one"], store)
    assert not np.array_equal(before.x, after.x)
    write_recording(tmp_path, "one", rng.integers(-500, 500, size=(600, 2)), folders, ["N", "V", "N", "N"])
    assert mitdb.patients(tmp_path, options, store)[0].examples == (3, 0, 1, 0)
    for path in store.iterdir():
        path.write_bytes(path.read_bytes()[:-10])
    assert mitdb.patients(tmp_path, options, store)[0].examples == (3, 0, 1, 0)


def test_normal_against_abnormal_is_n_against_the_rest(hospitals: Path, store: Path) -> None:
    folder = hospitals / "north"
    ids = list(recordings.recording_names(folder))
    every = mitdb.read(folder, Options(leads=1), ids, store)
    two = mitdb.read(folder, Options(leads=1, target="abnormal"), ids, store)
    np.testing.assert_array_equal(two.x, every.x)
    np.testing.assert_array_equal(two.y, every.y > 0)
    assert two.task.binary
    counts = [item.examples for item in mitdb.patients(folder, Options(leads=1, target="abnormal"), store)]
    assert np.sum(counts, 0).tolist() == np.bincount(two.y, minlength=2).tolist()


def test_mixed_people_are_dealt_evenly_and_stay_apart_from_the_other_source(hospitals: Path, tmp_path: Path) -> None:
    (tmp_path / "mitdb").symlink_to(hospitals / "north")
    options = ptbxl.Options(simulated=True, patients=24)
    (tmp_path / "ptb-xl").symlink_to(ptbxl.default_folder(options, tmp_path / "made", 1))
    result = mixed.patients(tmp_path, mixed.Options(smallest=1), tmp_path / "store")
    sites = [item.site for item in result if item.id.startswith("mitdb/")]
    counts = [sites.count(name) for name in ("mit-bih-1", "mit-bih-2")]
    assert sum(counts) == len(sites)
    assert abs(counts[0] - counts[1]) <= 1
    assert {item.site for item in result if item.id.startswith("ptbxl/")} >= {"site-0"}
    alone = mixed.patients(tmp_path / "ptb-xl", mixed.Options(smallest=1), tmp_path / "store")
    assert alone == [item for item in result if item.id.startswith("ptbxl/")]
