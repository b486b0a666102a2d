"""The sepsis reader on generated and hand-written files: hours, labels, features, and their order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from common.errors import DataError
from sites.cohort import Windows
from sites.datasets import sepsis
from sites.datasets.sepsis import Options, features
from sites.datasets.sepsis.columns import LABEL, N_MEASURED, NAMES
from tests.sites.datasets.sepsis import sepsis_slow
from tests.sites.datasets.sepsis.psv_files import STAYS, column, hospital, lines, whole, write


def test_hours_labels_and_patients_are_those_of_the_files(folder: Path, store: Path) -> None:
    patients = sepsis.patients(folder, STAYS, store)
    cohort = sepsis.read(folder, STAYS, [item.id for item in patients], store)
    files = sorted((folder / "training").glob("*/*.psv"))
    assert [item.id for item in patients] == [path.stem for path in files]
    assert [item.site for item in patients] == [path.parent.name[-1] for path in files]
    assert cohort.age is not None
    assert cohort.sex is not None
    for i, path in enumerate(files):
        frame = sepsis_slow.frame(path)
        mine = cohort.take(cohort.patient == i)
        np.testing.assert_array_equal(mine.y, frame[LABEL])
        assert patients[i].examples == ((frame[LABEL] == 0).sum(), frame[LABEL].sum())
        assert cohort.age[i] == np.float32(frame["Age"].iloc[0])
        assert cohort.sex[i] == frame["Gender"].iloc[0]
    assert cohort.synthetic
    assert cohort.excluded == {}
    assert cohort.task.binary
    assert cohort.task.classes[1] == "sepsis"


def test_every_feature_equals_a_slow_reading(folder: Path, store: Path) -> None:
    cohort = whole(folder, store)
    for i in range(0, len(cohort.patients), 4):
        path = next((folder / "training").glob(f"*/{cohort.patients[i]}.psv"))
        slow = sepsis_slow.features(sepsis_slow.frame(path).iloc[:30])
        assert set(slow) == set(cohort.task.features)
        mine = cohort.features[cohort.patient == i][:30]
        for j, name in enumerate(cohort.task.features):
            np.testing.assert_allclose(mine[:, j], slow[name], rtol=1e-4, atol=1e-3, err_msg=name)


def test_utility_is_that_of_every_hour_of_every_patient(folder: Path, store: Path) -> None:
    cohort = whole(folder, store)
    assert cohort.utility is not None
    assert cohort.y.any()
    for i in range(len(cohort.patients)):
        label = cohort.y[cohort.patient == i].tolist()
        slow = [[sepsis_slow.worth(label, t, alarm) for alarm in (False, True)] for t in range(len(label))]
        np.testing.assert_allclose(cohort.utility[cohort.patient == i], slow, atol=1e-6)


def test_features_of_a_short_stay_by_hand(tmp_path: Path) -> None:
    rows = lines(
        8,
        HR=["NaN", 80, "NaN", 100, 91, "NaN", "NaN", "NaN"],
        SBP=[100] * 8,
        Lactate=["NaN", "NaN", 2, "NaN", "NaN", 5, "NaN", "NaN"],
        Unit1="NaN",
        Unit2="NaN",
    )
    write(tmp_path, "one", rows)
    cohort = whole(tmp_path, tmp_path / "store")
    nan = np.nan
    expected = {
        "HR": [nan, 80, 80, 100, 91, 91, 91, 91],
        "HR recency": [0, 1, 1 / 2, 1, 1, 1 / 2, 1 / 3, 1 / 4],
        "HR times in 24 h": [0, 1, 1, 2, 3, 3, 3, 3],
        "HR 6 h low": [nan, 80, 80, 80, 80, 80, 80, 80],
        "HR 6 h high": [nan, 80, 80, 100, 100, 100, 100, 100],
        "HR 6 h mean": [nan, 80, 80, 260 / 3, 351 / 4, 442 / 5, 533 / 6, 544 / 6],
        "HR 6 h trend": [nan, nan, nan, nan, nan, nan, nan, 11],
        "Lactate": [nan, nan, 2, 2, 2, 5, 5, 5],
        "Lactate change": [nan, nan, nan, nan, nan, 3, 3, 3],
        "shock index": [nan, 0.8, 0.8, 1, 0.91, 0.91, 0.91, 0.91],
        "SIRS": [0, 0, 0, 1, 1, 1, 1, 1],
        "organ points": [0] * 8,
        "unit unknown": [1] * 8,
        "male": [1] * 8,
        "ICULOS": [1, 2, 3, 4, 5, 6, 7, 8],
        "HospAdmTime": [-3.5] * 8,
    }
    for name, values in expected.items():
        np.testing.assert_allclose(column(cohort, name), values, rtol=1e-6, err_msg=name)


def test_no_hour_knows_a_later_one_nor_another_patient(folder: Path, tmp_path: Path) -> None:
    """Files cut after some hours, in other company, give the same first hours."""
    store = tmp_path / "store"
    before = {view: whole(folder, store, Options(view=view)) for view in ("features", "hours")}
    cut = tmp_path / "cut"
    for path in sorted((folder / "training").glob("*/*.psv"))[::3]:
        write(cut, path.stem, [line.split("|") for line in path.read_text().splitlines()[1:8]])
    for view, cohort in before.items():
        short = whole(cut, store, Options(view=view))
        assert len(short.patients) == 10
        for i, name in enumerate(short.patients):
            long = cohort.take(cohort.patient == cohort.patients.index(name))
            mine = short.take(short.patient == i)
            np.testing.assert_array_equal(mine.features, long.features[:7])
            if isinstance(mine.x, Windows) and isinstance(long.x, Windows):
                np.testing.assert_array_equal(mine.x.dense(), long.x.dense()[:7])


def test_blocks_do_not_show(folder: Path, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = whole(folder, store)
    monkeypatch.setattr(features, "_BLOCK", 50)
    np.testing.assert_array_equal(one.features, whole(folder, tmp_path).features)


@pytest.mark.parametrize("carry", [True, False])
def test_windows_of_hours_equal_slices_of_the_files(folder: Path, store: Path, carry: bool) -> None:
    cohort = whole(folder, store, Options(view="hours", hours=5, carry=carry))
    assert isinstance(cohort.x, Windows)
    dense = cohort.x.dense()
    assert dense.shape == (len(cohort.y), 2 * N_MEASURED, 5)
    for i in range(0, len(cohort.patients), 5):
        path = next((folder / "training").glob(f"*/{cohort.patients[i]}.psv"))
        raw = sepsis_slow.frame(path)[list(NAMES[:N_MEASURED])]
        known = raw.notna().to_numpy(dtype=float)
        values = (raw.ffill() if carry else raw).to_numpy()
        both = np.vstack([np.full((4, 2 * N_MEASURED), np.nan), np.hstack([values, known])])
        slow = np.stack([both[t : t + 5].T for t in range(len(raw))])
        np.testing.assert_allclose(dense[cohort.patient == i], slow, rtol=1e-6)


def test_features_of_habit_or_of_the_stay_can_be_left_out(folder: Path, store: Path) -> None:
    every = whole(folder, store)
    for view, states in (("features", ("recency", "times in")), ("hours", ("measured",))):
        full = whole(folder, store, Options(view=view))
        assert any(any(word in name for word in states) for name in (*full.task.features, *full.task.channel_names))
        for options, absent in (
            (Options(view=view, iculos=False), ("ICULOS",)),
            (Options(view=view, habit=False), ("ICULOS", "Unit", "unit", "HospAdmTime", *states)),
        ):
            few = whole(folder, store, options)
            names = (*few.task.features, *few.task.channel_names)
            assert not [name for name in names if any(word in name for word in absent)]
            remaining = [name for name in full.task.features if not any(word in name for word in absent)]
            assert list(few.task.features) == remaining
            for name in remaining:
                np.testing.assert_array_equal(column(few, name), column(full, name))
    assert len(every.task.features) == 170


def test_patients_come_in_the_order_that_is_asked_for(folder: Path, store: Path) -> None:
    every = whole(folder, store)
    some = [every.patients[i] for i in (20, 3, 4, 5, 27, 0)]
    for view in ("features", "hours"):
        cohort = sepsis.read(folder, Options(view=view), some, store)
        full = whole(folder, store, Options(view=view))
        for i, name in enumerate(some):
            mine = cohort.take(cohort.patient == i)
            other = full.take(full.patient == full.patients.index(name))
            np.testing.assert_array_equal(mine.features, other.features)
            np.testing.assert_array_equal(mine.y, other.y)
            if isinstance(mine.x, Windows) and isinstance(other.x, Windows):
                np.testing.assert_array_equal(mine.x.dense(), other.x.dense())
    with pytest.raises(DataError, match="no patient p999999"):
        sepsis.read(folder, STAYS, ["p999999"], store)


def test_one_hospitals_own_folder(folder: Path, store: Path) -> None:
    mine = hospital(folder, "B")
    assert {item.site for item in sepsis.patients(mine, STAYS, store)} == {None}
    alone = whole(mine, store)
    among = sepsis.read(folder, STAYS, alone.patients, store)
    np.testing.assert_array_equal(alone.features, among.features)
    assert alone.synthetic
