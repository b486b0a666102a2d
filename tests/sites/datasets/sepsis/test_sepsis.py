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


def test_what_tells_of_habit_or_of_the_stay_can_be_left_out(folder: Path, store: Path) -> None:
    every = whole(folder, store)
    for view, tells in (("features", ("recency", "times in")), ("hours", ("measured",))):
        full = whole(folder, store, Options(view=view))
        assert any(any(word in name for word in tells) for name in (*full.task.features, *full.task.channel_names))
        for options, absent in (
            (Options(view=view, iculos=False), ("ICULOS",)),
            (Options(view=view, habit=False), ("ICULOS", "Unit", "unit", "HospAdmTime", *tells)),
        ):
            few = whole(folder, store, options)
            names = (*few.task.features, *few.task.channel_names)
            assert not [name for name in names if any(word in name for word in absent)]
            kept = [name for name in full.task.features if not any(word in name for word in absent)]
            assert list(few.task.features) == kept
            for name in kept:
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


def test_what_was_prepared_is_not_read_again(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("read again")

    first = whole(folder, tmp_path)
    monkeypatch.setattr(psv, "parse_files", never)
    monkeypatch.setattr(hour_table, "_SETTLED_NS", 0)
    whole(folder, tmp_path)
    monkeypatch.setattr(hour_table, "_contents", never)
    monkeypatch.setattr(features, "compute_features", never)
    np.testing.assert_array_equal(whole(folder, tmp_path).features, first.features)


def test_files_just_written_are_read_whole_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within two seconds a second change may bear the same time: then contents decide."""
    write(tmp_path / "data", "one", lines(3))
    whole(tmp_path / "data", tmp_path / "store")
    monkeypatch.setattr(hour_table, "_contents", lambda *_: pytest.fail("as it must be"))
    with pytest.raises(pytest.fail.Exception):
        whole(tmp_path / "data", tmp_path / "store")


def test_a_change_that_keeps_size_and_time_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hour_table, "_SETTLED_NS", 0)
    path = write(tmp_path / "data", "one", lines(3, HR=70))
    at = path.stat()
    assert (column(whole(tmp_path / "data", tmp_path / "store"), "HR") == 70).all()
    path.write_text(text(lines(3, HR=90)))
    os.utime(path, ns=(at.st_atime_ns, at.st_mtime_ns))
    assert path.stat().st_size == at.st_size
    assert (column(whole(tmp_path / "data", tmp_path / "store"), "HR") == 90).all()


def test_damaged_prepared_data_are_made_again(folder: Path, tmp_path: Path) -> None:
    first = whole(folder, tmp_path).features.copy()
    for path in (path for path in tmp_path.rglob("*") if path.is_file()):
        path.write_bytes(path.read_bytes()[:-4])
    np.testing.assert_array_equal(whole(folder, tmp_path).features, first)


def broken(change: Callable[[list[list[str]]], Any]) -> str:
    rows = lines(4, HR=70, Temp=36.5)
    changed = change(rows)
    return text(changed if isinstance(changed, list) else rows)


def cell(row: int, name: str, value: str) -> Callable[[list[list[str]]], None]:
    def change(rows: list[list[str]]) -> None:
        rows[row][HEADER.index(name)] = value

    return change


SWAPPED = [*HEADER]
SWAPPED[2], SWAPPED[3] = SWAPPED[3], SWAPPED[2]
WITHOUT = [name for name in HEADER if name != "Temp"]
BAD = {
    "a column missing": (
        text([row[:2] + row[3:] for row in lines(2)], WITHOUT),
        ": column Temp is missing: the first line names the 41 columns, split by |",
    ),
    "columns out of order": (text(lines(2), SWAPPED), ": column 3 is 'SBP', not Temp: keep the columns"),
    "a column too many": (text(lines(2), [*HEADER, "Extra"]), ": column 42 is 'Extra', one too many"),
    "a word": (broken(cell(1, "Temp", "987x")), ": line 3, column Temp: a cell that is no number: write NaN"),
    "an empty cell": (broken(cell(0, "pH", "")), ": line 2, column pH: a cell that is no number: write NaN"),
    "a comma": (broken(cell(3, "HR", "98,7")), ": line 5, column HR: a cell that is no number"),
    "infinite": (broken(cell(2, "HR", "1e987")), ": line 4, column HR: not a finite number"),
    "a short row": (broken(lambda rows: rows[2].pop()), ": line 4 has 40 cells, not 41"),
    "an empty row": (broken(lambda rows: [rows[0], [""], *rows[1:]]), ": line 3 has 1 cells, not 41"),
    "an hour twice": (broken(cell(2, "ICULOS", "2")), ": line 4, column ICULOS: does not rise by 1"),
    "an hour left out": (broken(cell(3, "ICULOS", "5")), ": line 5, column ICULOS: does not rise by 1"),
    "no first hour": (broken(cell(0, "ICULOS", "NaN")), ": line 2, column ICULOS: does not rise by 1"),
    "a label that falls": (
        broken(lambda rows: (cell(1, LABEL, "1")(rows), cell(2, LABEL, "1")(rows))),
        f": line 5, column {LABEL}: falls back to 0",
    ),
    "a third label": (broken(cell(1, LABEL, "2")), f": line 3, column {LABEL}: neither 0 nor 1"),
    "no label": (broken(cell(1, LABEL, "NaN")), f": line 3, column {LABEL}: neither 0 nor 1"),
    "a line broken by a carriage return": (
        text(lines(3)).replace("|2|0\n", "|2|0\r"),
        ": a carriage return within a line",
    ),
    "an empty file": ("", ": column HR is missing"),
    "another file": ("%PDF-1.4\n", ": column HR is missing"),
}


@pytest.mark.parametrize(("content", "said"), BAD.values(), ids=BAD)
@pytest.mark.parametrize("among", [0, 6])
def test_a_bad_file_is_refused_in_one_line(tmp_path: Path, content: str, said: str, among: int) -> None:
    """Its name, its line and its column are told, and never what stands there."""
    for i in range(among):
        write(tmp_path, f"p{i}", lines(3 + i))
    (tmp_path / "p3.psv").write_text(content)
    with pytest.raises(DataError) as caught:
        sepsis.patients(tmp_path, STAYS, tmp_path / "store")
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'p3.psv'}{said}")
    assert "\n" not in message
    assert "98" not in message.replace(str(tmp_path), "")


@pytest.mark.parametrize(
    ("name", "usual", "other", "unit"),
    [
        ("Temp", 37.1, 98.8, "°C"),
        ("FiO2", 0.4, 40, "share, 0 to 1"),
        ("Creatinine", 0.9, 80, "mg/dL"),
        ("Glucose", 120, 6.7, "mg/dL"),
        ("SBP", 120, 16, "mmHg"),
        ("Hgb", 10, 100, "g/dL"),
    ],
)
def test_a_hospital_with_another_unit_is_refused(
    tmp_path: Path, name: str, usual: float, other: float, unit: str
) -> None:
    for i in range(20):
        write(tmp_path / "right", f"p{i}", lines(3 + i, **{name: usual}))
        write(tmp_path / "wrong", f"p{i}", lines(3 + i, **{name: other}))
    assert whole(tmp_path / "right", tmp_path / "store").excluded == {}
    with pytest.raises(DataError) as caught:
        sepsis.patients(tmp_path / "wrong", STAYS, tmp_path / "store")
    assert str(caught.value).startswith(f"{tmp_path / 'wrong'}: column {name}: half of the values are ")
    assert str(caught.value).endswith(f" the plausible range: give it in {unit}")


def test_one_patients_fahrenheit_is_taken_as_not_measured_and_counted(tmp_path: Path) -> None:
    for i in range(25):
        write(tmp_path, f"p{i:02d}", lines(4, Temp=98.6 if i == 7 else 37, HR=70 + i))
    cohort = whole(tmp_path, tmp_path / "store")
    assert cohort.excluded == {"Temp outside 15 to 45 °C, read as not measured": 4}
    temperature, recency = column(cohort, "Temp"), column(cohort, "Temp recency")
    assert np.isnan(temperature[cohort.patient == 7]).all()
    assert (recency[cohort.patient == 7] == 0).all()
    assert (temperature[cohort.patient != 7] == 37).all()
    other = sepsis.read(tmp_path, STAYS, ["p08"], tmp_path / "store")
    assert other.excluded == {}


def test_every_column_has_a_unit_and_limits_that_fit_one_another() -> None:
    assert len(COLUMNS) == 40
    for item in COLUMNS:
        assert item.limits.unit
        assert item.limits.cell[0] < item.limits.cell[1]
        assert item.limits.median[0] < item.limits.median[1]


def test_one_patient_at_two_hospitals_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "training_setA", "p1", lines(3, HR=70))
    write(tmp_path / "training_setB", "p1", lines(3, HR=80))
    with pytest.raises(DataError, match=r"^p1\.psv is in training_setA and in training_setB: one patient at two"):
        sepsis.patients(tmp_path, STAYS, tmp_path / "store")


def test_the_same_content_twice_and_files_without_an_hour_are_left_out_and_counted(tmp_path: Path) -> None:
    rows = {name: lines(3, HR=70 + i) for i, name in enumerate(("p1", "p2", "p3", "q1", "q2"))}
    for name, content in rows.items():
        write(tmp_path / f"training_set{'A' if name[0] == 'p' else 'B'}", name, content)
    write(tmp_path / "training_setA", "p0", [])
    write(tmp_path / "training_setA", "p4", rows["p2"])
    write(tmp_path / "training_setB", "q3", rows["p3"])
    store = tmp_path / "store"
    patients = sepsis.patients(tmp_path, STAYS, store)
    assert [(item.id, item.site) for item in patients] == [(name, "A" if name[0] == "p" else "B") for name in rows]
    parts = [sepsis.read(tmp_path, STAYS, ids, store) for ids in (["p1", "p3"], ["p2"], ["q1", "q2"])]
    assert parts[0].excluded == {
        "patients without an hour": 1,
        "patients whose file is the same as another's, or its beginning": 1,
    }
    assert parts[1].excluded == {}
    assert parts[2].excluded == {"patients whose file is the same as another's, or its beginning": 1}
    assert join_cohorts(parts).excluded == whole(tmp_path, store).excluded
    with pytest.raises(DataError, match="no patient p4"):
        sepsis.read(tmp_path, STAYS, ["p4"], store)


def test_a_hospital_without_anyone_of_its_own_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "training_setA", "p1", lines(3))
    write(tmp_path / "training_setB", "q1", lines(3))
    write(tmp_path / "none", "p1", [])
    for folder, place in ((tmp_path, "training_setB"), (tmp_path / "none", "none")):
        with pytest.raises(DataError, match=f"no recordings in .*{place}: every .psv file"):
            sepsis.patients(folder, STAYS, tmp_path / "store")


def test_line_ends_of_windows_and_a_missing_last_one(tmp_path: Path) -> None:
    rows = lines(4, HR=[70, "nan", 80, 8.5e1], pH=[".5e1", "7.", "+7.4", "NaN"])
    forms = {"plain": text(rows), "windows": text(rows, end="\r\n"), "open": text(rows)[:-1], "long": text(rows) + "\n"}
    found = {}
    for name, content in forms.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "p1.psv").write_bytes(content.encode())
        write(tmp_path / name, "p2", lines(2))
        found[name] = whole(tmp_path / name, tmp_path / "store")
    for cohort in found.values():
        np.testing.assert_array_equal(cohort.features, found["plain"].features)
    np.testing.assert_allclose(column(found["plain"], "HR"), [70, 70, 80, 85, np.nan, np.nan])


def test_what_is_no_patient_is_not_read(tmp_path: Path) -> None:
    write(tmp_path, "p1", lines(3))
    (tmp_path / "._p1.psv").write_bytes(b"\0\5\x16\7")
    (tmp_path / "index.html").write_text("<html>")
    (tmp_path / "old.psv").mkdir()
    assert [item.id for item in sepsis.patients(tmp_path, STAYS, tmp_path / "store")] == ["p1"]
    assert not whole(tmp_path, tmp_path / "store").synthetic
    write(tmp_path / "training_setA", "p2", lines(3, HR=70))
    with pytest.raises(DataError, match="files are next to the hospitals' folders"):
        sepsis.patients(tmp_path, STAYS, tmp_path / "store")


def test_unknown_sex_and_age(tmp_path: Path) -> None:
    write(tmp_path, "p1", lines(3, Gender="NaN", Age="NaN"))
    write(tmp_path, "p2", lines(3, Gender=0, Age=61.5))
    cohort = whole(tmp_path, tmp_path / "store")
    assert cohort.sex is not None
    assert cohort.sex.tolist() == [-1, 0]
    np.testing.assert_array_equal(cohort.age, np.array([np.nan, 61.5], np.float32))


def test_generated_hospitals_are_the_same_again_and_differ_from_one_another(folder: Path, tmp_path: Path) -> None:
    simulate.generate(tmp_path / "again", patients=14, seed=3)
    files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    assert len(files) == 2 * 14 + 3
    for path in files:
        assert (folder / path).read_bytes() == (tmp_path / "again" / path).read_bytes()
    stamp = (tmp_path / "again" / files[0]).stat().st_mtime_ns
    simulate.generate(tmp_path / "again", patients=14, seed=3)
    assert (tmp_path / "again" / files[0]).stat().st_mtime_ns == stamp
    with pytest.raises(DataError, match="holds other data"):
        simulate.generate(tmp_path / "again", patients=14, seed=4)
    frames = {name: [sepsis_slow.frame(path) for path in hospital(folder, name).glob("*.psv")] for name in "AB"}
    gases, pressures, sick = (
        {name: value(pd.concat(items)) for name, items in frames.items()}
        for value in (
            lambda all_: all_["pH"].notna().mean(),
            lambda all_: all_["DBP"].notna().mean(),
            lambda all_: all_[LABEL].mean(),
        )
    )
    assert gases["A"] > 2 * gases["B"]
    assert pressures["B"] > 1.3 * pressures["A"]
    assert sick["A"] > sick["B"] > 0


def test_a_generated_label_stands_from_six_hours_before_to_three_after(folder: Path) -> None:
    for path in sorted((folder / "training").glob("*/*.psv")):
        label = sepsis_slow.frame(path)[LABEL].to_numpy()
        assert label.sum() in (0, 10)
        assert (np.diff(label) >= 0).all()


def test_a_model_can_learn_from_what_is_generated(tmp_path: Path) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score

    options = Options(simulated=True, patients=100)
    cohort = whole(sepsis.default_folder(options, tmp_path, 1), tmp_path, options)
    values = cohort.features[:, : len(features.CLINICAL)]
    train = cohort.patient % 2 == 0
    centre, spread = np.nanmean(values[train], 0), np.nanstd(values[train], 0) + 1e-6
    scaled = np.nan_to_num((values - centre) / spread)
    model = LogisticRegression(C=0.01, max_iter=200).fit(scaled[train], cohort.y[train])
    assert 0.7 < roc_auc_score(cohort.y[~train], model.predict_proba(scaled[~train])[:, 1]) < 0.95


def test_without_a_folder_one_must_ask_for_generated_data(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"^data\.path: name the folder of sepsis .*data\.options\.simulated=true for SYN"
    ):
        sepsis.default_folder(Options(), tmp_path, 1)
    made = sepsis.default_folder(Options(simulated=True, patients=10), tmp_path, 1)
    assert made != sepsis.default_folder(Options(simulated=True, patients=10), tmp_path, 2)
    assert len(sepsis.patients(made, STAYS, tmp_path / "store")) == 20


def test_a_file_that_cannot_be_read_or_changes_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "data", "p1", lines(3))
    reading = os.read
    monkeypatch.setattr(os, "read", lambda handle, size: reading(handle, size - 9))
    with pytest.raises(DataError, match=r"p1\.psv: changed while it was read"):
        sepsis.patients(tmp_path / "data", STAYS, tmp_path / "store")
    monkeypatch.undo()
    if os.geteuid():
        path.chmod(0)
        with pytest.raises(DataError, match=r"p1\.psv: cannot be read: Permission denied"):
            sepsis.patients(tmp_path / "data", STAYS, tmp_path / "store")
    shutil.rmtree(tmp_path / "data")
    with pytest.raises(DataError, match="no data folder"):
        sepsis.patients(tmp_path / "data", STAYS, tmp_path / "store")
