"""Folders whose files contradict each other or themselves: training refuses them, scoring leaves out what is wrong."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from common.errors import DataError
from tests.sites.datasets.sepsis.test_odd_files import (
    HOURS,
    USUAL,
    folder_with,
    rows,
    scored,
    text,
    whole,
)


def refuse_both(folder: Path, tmp_path: Path, problem: str) -> None:
    """Check that training refuses the folder, and that scoring leaves out the file `q` for the same reason."""
    with pytest.raises(DataError, match=problem):
        whole(folder, tmp_path / "store")
    result = scored(folder, tmp_path / "store")
    assert [item.record for item in result.exclusions if re.search(problem, item.reason)] == ["q"]
    assert set(result.cohort.patients) == {"p0", "p1", "p2"}


@pytest.mark.parametrize(
    ("column", "other"), [("Age", 30), ("Gender", 0), ("Unit1", "NaN"), ("Unit2", 1), ("HospAdmTime", -9)]
)
def test_two_peoples_hours_in_one_file_are_refused(tmp_path: Path, column: str, other: float | str) -> None:
    values = [USUAL[column]] * 4 + [other] * 4
    folder = folder_with(tmp_path, "q.psv", text(rows(**{column: values, "Unit1": values if column == "Unit1" else 0})))
    if other == "NaN":  # unknown in some hours
        assert "q" in whole(folder, tmp_path / "store").patients
        return
    refuse_both(folder, tmp_path, f"column {column}: changes within a patient")


def test_a_stay_in_both_units_is_refused(tmp_path: Path) -> None:
    refuse_both(folder_with(tmp_path, "q.psv", text(rows(Unit2=1))), tmp_path, "columns Unit1 and Unit2: both are 1")


@pytest.mark.parametrize(("low", "high"), [("MAP", "SBP"), ("DBP", "MAP"), ("Bilirubin_direct", "Bilirubin_total")])
def test_columns_that_are_turned_round_are_refused(tmp_path: Path, low: str, high: str) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    values = {"SBP": 120, "MAP": 80, "DBP": 60, "Bilirubin_direct": 0.3, "Bilirubin_total": 1.1}
    values[low], values[high] = values[high], values[low]
    for i in range(20):
        (folder / f"p{i:02}.psv").write_bytes(text(rows(HR=70 + i, **values)))
    for read in (whole, scored):
        with pytest.raises(DataError, match=f"{low} is mostly larger than {high}: are the two columns turned round"):
            read(folder, tmp_path / "store")


def test_hospitals_in_two_places_are_refused(tmp_path: Path) -> None:
    for i, name in enumerate(("training_setA", "training/training_setB")):
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / f"p{i}.psv").write_bytes(text(rows(HR=70 + i)))
    with pytest.raises(DataError, match=r"hospitals are in it and in .*training, which would not be read"):
        whole(tmp_path / "data", tmp_path / "store")


def test_a_patient_under_another_ending_is_refused(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, "q.csv", text(rows()))
    for read in (whole, scored):
        with pytest.raises(DataError, match=r"q\.csv is not read: call it PATIENT\.psv"):
            read(folder, tmp_path / "store")
    (folder / "q.csv").write_text("patient,ward\n1,A\n")
    assert len(whole(folder, tmp_path / "store").patients) == 3


def test_where_no_file_can_be_scored_each_is_listed(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    for i in range(2):
        (folder / f"p{i}.psv").write_bytes(text(rows()).replace(b"|", b";"))
    result = scored(folder, tmp_path / "store")
    assert len(result.cohort.y) == 0
    assert [item.record for item in result.exclusions] == ["p0", "p1"]


def test_scoring_names_codes_and_names_that_may_be_one_persons(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    for i in range(20):
        wbc = [str(5 + 0.1 * (i + hour)) if hour % 3 else "99" for hour in range(HOURS)]
        (folder / f"p{i}.psv").write_bytes(text(rows(WBC=wbc)))
    (folder / "p_3.psv").write_bytes(text(rows(HR=99)))
    counts = scored(folder, tmp_path / "store").suspicions
    assert counts["patients whose names differ only in signs, zeros or 'copy' from another's: one person? "
                  "(not left out)"] == 1  # fmt: skip
    assert counts["WBC of 99, apart from all other values: a code for missing? (not left out)"] == 20 * 3
