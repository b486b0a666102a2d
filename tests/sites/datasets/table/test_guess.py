"""`wardround data init`: what is guessed of a table, and what is said to look wrong."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from common.errors import DataError
from sites.datasets.table.description import load_description
from sites.datasets.table.examine import Table, load_table
from sites.datasets.table.guess import guess_description
from sites.datasets.table.suspicions import add_suspicions
from sites.datasets.table.write import render_description

N = 240


def frame(**changes: Any) -> pd.DataFrame:
    rng = np.random.default_rng(3)
    died = rng.random(N) < 0.3
    columns = {
        "mrn": [f"{i:05d}" for i in range(N)],
        "Hospital": np.repeat(["north", "south", "west"], N // 3),
        "Age": rng.integers(20, 90, N),
        "gender": rng.choice(["female", "male"], N),
        "glucose": rng.normal(110, 20, N).round(),
        "heart_rate": rng.normal(80, 10, N).round(),
        "smoker": rng.choice(["yes", "no"], N),
        "admission": rng.choice(["planned", "emergency", "transfer"], N),
        "died": died.astype(int),
    }
    return pd.DataFrame(columns | changes)


def look(tmp_path: Path, table: pd.DataFrame, **given: Any) -> tuple[Any, list[tuple[str, str, str]], Table]:
    path = tmp_path / "t.csv"
    table.to_csv(path, index=False, **given)
    loaded = load_table(path)
    description = guess_description(loaded)
    add_suspicions(loaded, description)
    return description, [(item.level, item.column, item.text) for item in loaded.findings], loaded


def test_a_plain_table_is_guessed_without_a_question(tmp_path: Path) -> None:
    description, findings, table = look(tmp_path, frame())
    assert findings == []
    assert (description.patient, description.read.hospital, description.age) == ("mrn", "Hospital", "Age")
    assert description.outcome.values == ("0", "1")
    assert description.outcome.classes == ("survived", "died")
    assert description.sex.female == ("female",)
    kinds = {item.name: (item.kind, item.unit) for item in description.inputs}
    assert kinds == {
        "Age": ("number", "years"),
        "male": ("yes_no", ""),
        "glucose": ("number", "mg/dL"),
        "heart_rate": ("number", "beats/min"),
        "smoker": ("yes_no", ""),
        "admission": ("category", ""),
    }
    (tmp_path / "table.yaml").write_text(render_description(description, table))
    assert load_description(tmp_path / "table.yaml").contract() == description.contract()


def test_european_spelling_is_found(tmp_path: Path) -> None:
    table = frame(glucose=np.random.default_rng(0).normal(5.6, 1, N).round(1))
    description, _, _ = look(tmp_path, table, sep=";", decimal=",", encoding="latin-1")
    read = description.read
    assert (read.delimiter, read.decimal) == (";", ",")
    assert next(item.unit for item in description.inputs if item.name == "glucose") == "mmol/L"


@pytest.mark.parametrize(
    ("changes", "level", "column", "words"),
    [
        (
            {"glucose": np.where(np.arange(N) < 80, 5.6, 105.0) + np.arange(N) % 7 / 10},
            "wrong",
            "glucose",
            "south in mg|north in mmol",
        ),
        ({"lab": np.where(np.arange(N) < 80, 700.0, 10.0) + np.arange(N) % 7}, "check", "lab", "times at north"),
        ({"mrn": [f"{i % 120}" for i in range(N)]}, "wrong", "mrn", "at more than one hospital"),
        (
            {"discharge": np.where(frame()["died"] == 1, "died", "home")},
            "check",
            "discharge",
            "nearly equal the outcome",
        ),
        ({"risk": frame()["died"] + np.arange(N) / 1000}, "check", "risk", "separates the outcome"),
        ({"autopsy": np.where(frame()["died"] == 1, "done", None)}, "note", "autopsy", "same value everywhere"),
        (
            {"autopsy": np.where(frame()["died"] == 1, np.arange(N) % 9, np.nan)},
            "check",
            "autopsy",
            "filled in only afterwards",
        ),
        ({"surname": [f"N{i}" for i in range(N)]}, "check", "surname", "identifies people"),
        ({"notes": [f"text {i}" for i in range(N)]}, "check", "notes", "different values"),
        ({"admitted": pd.date_range("2024-01-01", periods=N).astype(str)}, "note", "admitted", "dates are no input"),
        ({"glucose": np.where(np.arange(N) % 9, frame()["glucose"], -99)}, "check", "glucose", r"-99\.0 in 27 rows"),
        (
            {"crp": [f"<{i}" if i % 50 == 0 else str(i / 10) for i in range(N)]},
            "wrong",
            "crp",
            "5 cells are not numbers, the first in row 1",
        ),
        ({"empty": np.full(N, np.nan)}, "note", "empty", "every value is missing"),
        ({"Hospital": ["north"] * (N - 9) + ["tiny"] * 9}, "check", "", "tiny: fewer than 20 patients"),
        ({"gender": np.arange(N) % 2}, "check", "gender", "0 is taken as female"),
        ({"crp": np.where(np.arange(N) < 80, np.nan, np.arange(N))}, "check", "crp", "never measured at north"),
    ],
)
def test_what_looks_wrong_is_said(tmp_path: Path, changes: Any, level: str, column: str, words: str) -> None:
    _, findings, _ = look(tmp_path, frame(**changes))
    assert any(a == level and b == column and re.search(words, text) for a, b, text in findings), findings


def test_rows_in_time_and_visits(tmp_path: Path) -> None:
    patient, hour = np.arange(N) // 8, np.arange(N) % 8
    event = (patient % 3 == 0) & (hour >= 5)
    table = frame(mrn=patient, Hospital="one", hour=hour, died=event.astype(int)).drop(columns="Hospital")
    description, findings, _ = look(tmp_path, table)
    assert description.time.column == "hour"
    assert any("hours ahead" in text for _, _, text in findings)
    description, findings, _ = look(tmp_path, table.assign(died=(patient % 3 == 0).astype(int)))
    assert description.time is None
    assert any("rows are visits" in text for _, _, text in findings)


def test_no_outcome_and_files_that_differ(tmp_path: Path) -> None:
    table = frame().drop(columns="died").assign(smoker="no")
    table.to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(DataError, match="which column is the outcome"):
        guess_description(load_table(tmp_path / "a.csv"))
    table.drop(columns="Age").to_csv(tmp_path / "b.csv", index=False)
    with pytest.raises(DataError, match=r"its columns are not those of a\.csv: see Age"):
        load_table(tmp_path)
