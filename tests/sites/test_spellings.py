"""One person or hospital in several spellings, in every data set."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from common.errors import DataError
from sites.cohort import Patient
from sites.datasets import Source
from sites.spellings import check_patients, count_perhaps_alike


def source(*people: tuple[str, str | None]) -> Source:
    """Return any data set that holds these persons at these hospitals."""
    listed = [Patient(f"{i}", person, (1, 0), site=site) for i, (person, site) in enumerate(people)]
    return Source(SimpleNamespace(patients=lambda *_: listed), None, Path("folder"), Path("store"))


@pytest.mark.parametrize("other", ["P00003", " p00003", "p00003 ", "\N{FULLWIDTH LATIN SMALL LETTER P}00003"])
def test_a_person_in_two_spellings_is_refused_in_any_data_set(other: str) -> None:
    with pytest.raises(DataError, match="folder: 1 patients are written in several ways"):
        source(("p00003", None), (other, None)).patients()
    assert len(source(("p00003", "A"), (other, "B"), ("p00003", "A")).patients()) == 3


def test_a_hospital_in_two_spellings_is_refused_in_any_data_set() -> None:
    with pytest.raises(DataError, match="folder: A, a differ only in spelling"):
        source(("p1", "A"), ("p2", "a")).patients()


@pytest.mark.parametrize(
    "name",
    [
        "mean",
        "TOTAL",
        "Summe",
        "std",
        "Grand total",
        "Average:",
        "N = 180",
        "Std. dev.",
        "Median (IQR)",
        "Mean \N{PLUS-MINUS SIGN} SD",
        "Durchschnitt",
        "\u5408\u8ba1",
    ],
)
def test_a_row_that_sums_up_is_no_patient(name: str) -> None:
    with pytest.raises(DataError, match=re.escape(f"x: a patient is called {name.lower()}: remove the row that sums")):
        check_patients("x", ["1", "2", name], np.zeros(3, np.int64))


@pytest.mark.parametrize("name", ["Sum Li", "N 12", "Max", "Total 17", "SD-01", "Min", "sum-3"])
def test_a_name_that_holds_a_word_for_a_sum_may_be_a_patients(name: str) -> None:
    check_patients("x", ["1", "2", name], np.zeros(3, np.int64))


@pytest.mark.parametrize("other", ["A_1", "A-01", "a.1", "Copy of A 1", "A 1 (2)", "A 1 - Kopie"])
def test_names_that_may_be_one_persons_are_counted(other: str) -> None:
    assert count_perhaps_alike(["A 1", "A 1", "B 1", other]) == 1


def test_names_that_differ_in_more_than_signs_are_not_counted() -> None:
    assert count_perhaps_alike(["1-12", "11-2", "A1", "A1_2", "1A", "002-1039", "021-039"]) == 0


@pytest.mark.parametrize("name", ["unknown", "N/A", "Anonymous", "unbekannt"])
def test_people_who_are_not_known_are_not_one_person(name: str) -> None:
    with pytest.raises(DataError, match=f"folder: a patient is called {name.lower()}, so that several people"):
        source((name, None), (name, None), ("p1", None)).patients()
