"""Health records without labels: the same inputs as for training, and no score that would rest on nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from common.config import parse_config
from common.errors import DataError
from sites import datasets
from sites.datasets import Source
from sites.datasets.sepsis.columns import LABEL, NAMES
from sites.unlabelled import tables
from sites.unlabelled_rows import Exclusion, ScorableRows

ROW = "63.0,1.0,1.0,145.0,233.0,1.0,2.0,150.0,0.0,2.3,3.0,0.0,6.0,0"
NOTHING = ",".join("?" * 14)


def source(folder: Path, dataset: str, store: Path, **options: object) -> Source:
    opened = datasets.open_source(parse_config({"data": {"dataset": dataset, "options": options}}), folder)
    return replace(opened, store=store)


def whole(result: list[ScorableRows]) -> tuple[np.ndarray, list[str], list[Exclusion]]:
    features = np.concatenate([part.cohort.features for part in result])
    names = [str(name) for part in result for name in part.columns["record"]]
    return features, names, [item for part in result for item in part.exclusions]


@pytest.fixture(scope="module", params=["flamby", "explicit"])
def heart(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Source:
    store = tmp_path_factory.mktemp("heart")
    config = {"dataset": "heart_disease", "cache": str(store)}
    options = {"simulated": True, "hospitals": 2, "patients": 40, "protocol": request.param}
    return datasets.open_source(parse_config({"data": {**config, "options": options}}), None)


def test_heart_disease_inputs_are_those_of_training(heart: Source) -> None:
    features, names, _ = whole(list(tables.read_unlabelled_tables(heart)))
    trained = [item.id for item in heart.patients()]
    theirs = heart.read(trained)
    row = {name: i for i, name in enumerate(names)}
    assert np.array_equal(features[[row[name] for name in trained]], theirs.features, equal_nan=True)
    assert all(part.cohort.synthetic for part in tables.read_unlabelled_tables(heart))


@pytest.mark.parametrize("protocol", ["flamby", "explicit"])
def test_a_row_of_nothing_is_left_out_and_one_without_a_diagnosis_is_not(
    tmp_path: Path, protocol: str, store: Path
) -> None:
    undiagnosed, partial = ROW[:-1] + "?", ROW.replace("233.0", "?")
    (tmp_path / "processed.here.data").write_text("\n".join([ROW, undiagnosed, NOTHING, partial]) + "\n")
    (result,) = tables.read_unlabelled_tables(source(tmp_path, "heart_disease", store, protocol=protocol))
    assert result.columns["line"].tolist()[:2] == [1, 2]
    assert np.array_equal(result.cohort.features[0], result.cohort.features[1])
    reasons = {item.record: (item.reason, item.rows) for item in result.exclusions}
    assert reasons["here-0003"] == ("every value is missing", 1)
    if protocol == "flamby":
        assert reasons["here-0004"] == ("a value is missing, which data.options.protocol=flamby refuses", 1)
    else:
        assert result.columns["record"].tolist() == ["here-0001", "here-0002", "here-0004"]
        assert np.isnan(result.cohort.features[2]).sum() == 1


def test_what_no_one_can_have_and_a_zero_are_not_measured(tmp_path: Path, store: Path) -> None:
    rows = [ROW.replace("233.0", value) for value in ("?", "0", "20", "233.0")]
    plain = ",".join(["63.0", *ROW.split(",")[1:]])
    (tmp_path / "processed.here.data").write_text("\n".join([*rows, plain, plain, plain]) + "\n")
    (result,) = tables.read_unlabelled_tables(source(tmp_path, "heart_disease", store, protocol="explicit"))
    gone, zero, outside, there = result.cohort.features[:4]
    assert np.array_equal(gone, zero, equal_nan=True)
    assert np.array_equal(gone, outside, equal_nan=True)
    assert np.isfinite(there).all()
    assert result.cleared == {
        "chol outside 50 to 900 mg/dl, read as not measured": 1,
        "chol of 0, read as not measured": 1,
    }


def psv(folder: Path, name: str, hours: int, labelled: bool = True, **values: list[float]) -> None:
    lines = ["|".join([*NAMES, LABEL] if labelled else NAMES)]
    for hour in range(hours):
        cells = {"Age": 60.0, "Gender": 1.0, "HospAdmTime": -3.0, "ICULOS": hour + 1.0}
        cells |= {key: series[hour] for key, series in values.items()}
        row = [f"{cells[key]:g}" if np.isfinite(cells.get(key, np.nan)) else "NaN" for key in NAMES]
        lines.append("|".join(row + ["0"] * labelled))
    (folder / f"{name}.psv").write_text("\n".join(lines) + "\n")


NAN = float("nan")
HR = [NAN, NAN, 80.0, NAN, 90.0]


@pytest.mark.parametrize("view", ["features", "hours"])
@pytest.mark.parametrize("labelled", [True, False])
def test_sepsis_inputs_are_those_of_training_with_or_without_labels(
    tmp_path: Path, store: Path, view: str, labelled: bool
) -> None:
    train, new = tmp_path / "train", tmp_path / "new"
    for folder, has in ((train, True), (new, labelled)):
        folder.mkdir()
        psv(folder, "p1", 5, has, HR=HR)
        psv(folder, "p2", 3, has, HR=[70.0, 71.0, NAN], Lactate=[NAN, 2.0, NAN])
    trained = source(train, "sepsis", store, view=view, hours=4)
    theirs = trained.read(["p1", "p2"]).take(np.asarray([2, 3, 4, 5, 6, 7]))
    (result,) = tables.read_unlabelled_tables(source(new, "sepsis", store, view=view, hours=4))
    assert np.array_equal(result.cohort.features, theirs.features, equal_nan=True)
    if view == "hours":
        assert np.array_equal(result.cohort.x.dense(), theirs.x.dense(), equal_nan=True)  # type: ignore[union-attr]
    assert result.columns["record"].tolist() == ["p1"] * 3 + ["p2"] * 3
    assert result.columns["hour"].tolist() == [3, 4, 5, 1, 2, 3]
    assert result.cohort.patient.tolist() == [0, 0, 0, 1, 1, 1]
    assert result.exclusions == (Exclusion("p1", "hours before anything was measured", rows=2),)


def test_sepsis_patients_of_nothing_and_bad_files_are_reported(
    tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sites.datasets.sepsis.unlabelled.FILES_PER_BATCH", 4)
    psv(tmp_path, "p1", 5, HR=HR)
    psv(tmp_path, "p2", 2)
    psv(tmp_path, "p3", 0)
    psv(tmp_path, "p4", 2, HR=[80.0, 81.0])
    (tmp_path / "p4.psv").write_text((tmp_path / "p4.psv").read_text().replace("81", "high"))
    psv(tmp_path, "p5", 1, HR=[70.0])
    features, names, left = whole(list(tables.read_unlabelled_tables(source(tmp_path, "sepsis", store))))
    assert names == ["p1"] * 3 + ["p5"]
    assert len(features) == 4
    said = {item.record: (item.reason, item.rows) for item in left}
    assert said["p2"] == ("every value is missing", 2)
    assert said["p3"] == ("no hour", 0)
    assert "p4.psv: line 3, column HR: a cell that is no number" in said["p4"][0]
    assert "high" not in said["p4"][0]


def test_a_hospital_in_other_units_is_refused_whole(tmp_path: Path, store: Path) -> None:
    for i in range(25):
        psv(tmp_path, f"p{i:02}", 2, Temp=[98.6, 99.0])
    with pytest.raises(DataError, match="column Temp: half of the values are above the plausible range"):
        list(tables.read_unlabelled_tables(source(tmp_path, "sepsis", store)))


def test_the_name_of_a_hospital_s_file_may_be_in_capitals(tmp_path: Path, store: Path) -> None:
    (tmp_path / "Processed.Cleveland.DATA").write_text(f"{ROW}\n")
    (tmp_path / "processed.va.data").write_text(f"{ROW.replace('63.0', '64.0')}\n")
    opened = source(tmp_path, "heart_disease", store)
    assert {item.site for item in opened.patients()} == {"cleveland", "va"}
    _, names, _ = whole(list(tables.read_unlabelled_tables(opened)))
    assert names == ["cleveland-0001", "va-0001"]


def test_a_wrong_folder(tmp_path: Path, store: Path) -> None:
    for name, what in (("sepsis", r"holds no \.psv file"), ("heart_disease", r"processed\.<hospital>\.data")):
        with pytest.raises(DataError, match=what):
            list(tables.read_unlabelled_tables(source(tmp_path, name, store)))
        with pytest.raises(DataError, match="no data folder"):
            list(tables.read_unlabelled_tables(source(tmp_path / "none", name, store)))


def test_any_other_data_set_comes_through_its_own_reader(tmp_path: Path) -> None:
    raw = {"dataset": "heartbeat_csv", "cache": str(tmp_path), "options": {"simulated": True, "patients": 4}}
    opened = datasets.open_source(parse_config({"data": raw}), None)
    (result,) = tables.read_unlabelled_tables(opened)
    assert np.array_equal(result.cohort.x, opened.read([item.id for item in opened.patients()]).x)
    for name in set(result.columns["record"]):
        rows = result.columns["row"][result.columns["record"] == name]
        assert rows.tolist() == list(range(len(rows)))


def test_a_patient_in_two_files_is_not_scored_twice(tmp_path: Path) -> None:
    hours = "|".join(NAMES) + "\n" + "|".join("0" if name == "Unit2" else "1" for name in NAMES) + "\n"
    for hospital in ("training_setA", "training_setB"):
        (tmp_path / hospital).mkdir()
        (tmp_path / hospital / "p000001.psv").write_text(hours)
    (tmp_path / "training_setB" / "p100002.psv").write_text(hours)
    with pytest.raises(DataError, match=r"1 patient\(s\) stand in several files: keep one file of each"):
        list(tables.read_unlabelled_tables(source(tmp_path, "sepsis", tmp_path / "store")))
    (tmp_path / "training_setB" / "p000001.psv").unlink()
    names = whole(list(tables.read_unlabelled_tables(source(tmp_path, "sepsis", tmp_path / "store"))))[1]
    assert sorted(names) == ["p000001", "p100002"]
