"""Events of an extract that cannot be used or cannot be right are counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sites.datasets.meds.odd_events import BEFORE_BIRTH, NO_TIMES, ONE_SEX, TWICE
from tests.sites.datasets.meds.test_odd_extracts import YEAR, describe, events, read

Rows = list[tuple[int, float | None, str, float | None]]


def people(count: int = 40) -> Rows:
    """Return people who are admitted, of known birth and sex, with two values each."""
    rows: Rows = []
    for n in range(1, count + 1):
        rows += [(n, None, "F" if n % 2 else "M", None), (n, -50 * YEAR, "BORN", None), (n, 0.0, "ADM", None)]
        rows += [(n, 1.0, "LAB", n / 10), (n, 5.0, "LAB", n / 10 + 1), (n, 60.0, "LAB", 1.0)]
    return rows


def counts(folder: Path, rows: Rows, **changes: Any) -> dict[str, int]:
    options = describe(birth="BORN", sex={"female": ["F"], "male": ["M"]}, **changes)
    kept = {NO_TIMES, BEFORE_BIRTH, TWICE, ONE_SEX}
    return {reason: n for reason, n in read(folder, events(rows), options=options).excluded.items() if reason in kept}


def test_an_extract_without_odd_events_has_no_note(tmp_path: Path) -> None:
    rows = people()
    rows += [row for row in rows if row[0] < 3 and row[2] == "LAB"]  # a device stored a few twice
    assert counts(tmp_path, sorted(rows, key=lambda row: (row[0], row[1] or -1e9))) == {}


def test_events_without_a_time_and_before_the_birth_are_counted(tmp_path: Path) -> None:
    rows = people()
    rows[3] = (1, None, "LAB", 0.1)
    rows[9] = (2, -90 * YEAR, "LAB", 0.2)
    assert counts(tmp_path, sorted(rows, key=lambda row: (row[0], row[1] or -1e9))) == {NO_TIMES: 1, BEFORE_BIRTH: 1}


def test_timeless_events_that_are_used_are_not_counted(tmp_path: Path) -> None:
    rows = people()
    rows[3] = (1, None, "LAB", 0.1)
    inputs = [{"name": "LAB", "summaries": ["count"], "ever": True}]
    assert counts(tmp_path, sorted(rows, key=lambda row: (row[0], row[1] or -1e9)), inputs=inputs) == {}


def test_an_extract_that_was_joined_twice_is_counted(tmp_path: Path) -> None:
    rows = people()
    twice = rows + [row for row in rows if row[2] == "LAB"]
    assert counts(tmp_path, sorted(twice, key=lambda row: (row[0], row[1] or -1e9))) == {TWICE: 120}


@pytest.mark.parametrize(("code", "expected"), [("M", {}), ("MALE", {ONE_SEX: 20})])
def test_a_code_of_one_sex_that_nobody_has_is_counted(tmp_path: Path, code: str, expected: dict[str, int]) -> None:
    rows: Rows = [(n, hour, code if name == "M" else name, value) for n, hour, name, value in people()]
    assert counts(tmp_path, rows) == expected
