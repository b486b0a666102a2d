"""Hours and labels that a hospital counts otherwise than the challenge are counted; published patients are not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from sites.datasets.sepsis.odd_patients import ALWAYS, LATE, STARTS, count_odd_patients

ROOT = Path(__file__).resolve().parents[4]
HOURS = 30


def labels(labelled: list[int]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Return the labels of patients of HOURS hours with so many hours of label 1 at the end."""
    rows = [[0] * (HOURS - n) + [1] * n for n in labelled]
    return np.asarray(rows, np.uint8).ravel(), np.arange(len(labelled)) * HOURS


@pytest.mark.parametrize(
    ("start", "labelled", "expected"),
    [
        ([1.0] * 60 + [4.0] * 30, [0] * 70 + [10] * 18 + [6, 30], {}),
        ([0.0] * 60 + [4.0] * 30, [0] * 90, {STARTS: 60}),
        ([101.0] * 90, [0] * 90, {STARTS: 90}),
        ([1.0] * 90, [0] * 70 + [1] * 20, {LATE: 20}),
        ([1.0] * 90, [0] * 70 + [4] * 15 + [10] * 5, {LATE: 15}),
        ([1.0] * 90, [0] * 70 + [30] * 20, {ALWAYS: 20}),
        ([0.0] * 10, [1] * 9 + [0], {}),
    ],
)
def test_what_is_counted_otherwise(start: list[float], labelled: list[int], expected: dict[str, int]) -> None:
    assert count_odd_patients(np.asarray(start), *labels(labelled)) == expected


@pytest.mark.realdata
@pytest.mark.parametrize("name", ["A", "B"])
def test_published_patients_are_counted_as_the_challenge_does(name: str) -> None:
    folder = ROOT / "data" / "challenge-2019" / "training" / f"training_set{name}"
    files = sorted(folder.glob("*.psv"))[:2000]
    if not files:
        pytest.skip(f"no patients in {folder}")
    tables = [np.loadtxt(file, delimiter="|", skiprows=1, usecols=(39, 40), ndmin=2) for file in files]
    first = np.cumsum([len(table) for table in tables]) - [len(table) for table in tables]
    label = np.concatenate([table[:, 1] for table in tables]).astype(np.uint8)
    assert count_odd_patients(np.asarray([table[0, 0] for table in tables]), label, first) == {}
