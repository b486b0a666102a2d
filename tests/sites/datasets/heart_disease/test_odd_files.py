"""UCI's files as they come from elsewhere: other separators, spellings and units."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from common.config import parse_config
from common.errors import DataError
from sites import datasets
from sites.datasets import Source
from sites.datasets.heart_disease.rows import COLUMNS
from sites.unlabelled.tables import read_unlabelled_tables

ROWS = 40
Edit = Callable[[str], str]


def table(seed: int) -> str:
    rng = np.random.default_rng(seed)
    lines = []
    for _ in range(ROWS):
        cells = [rng.integers(35, 75), rng.integers(0, 2), rng.integers(1, 5), 130, rng.integers(180, 300), 0, 0]
        cells += [rng.integers(110, 180), 0, 1.2, 2, 0, 3]
        lines.append(",".join(f"{float(cell):.1f}" for cell in cells) + f",{rng.integers(0, 2)}")
    return "\n".join(lines) + "\n"


def source(tmp_path: Path, content: bytes, name: str = "processed.cleveland.data") -> Source:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "processed.hungarian.data").write_text(table(1))
    (folder / name).write_bytes(content)
    raw = {"data": {"dataset": "heart_disease", "options": {"protocol": "explicit"}}}
    return replace(datasets.open_source(parse_config(raw), folder), store=tmp_path / "store")


def scored_rows(opened: Source) -> int:
    return sum(len(part.cohort.y) for part in read_unlabelled_tables(opened))


PLAIN = table(3)
READ: dict[str, bytes] = {
    "plain": PLAIN.encode(),
    "a byte order mark": b"\xef\xbb\xbf" + PLAIN.encode(),
    "Windows' line ends": PLAIN.replace("\n", "\r\n").encode(),
    "missing as -9": PLAIN.replace(",2.0,0.0,3.0,", ",-9,-9,-9,").encode(),
}


@pytest.mark.parametrize("content", READ.values(), ids=READ)
def test_a_file_is_read_however_it_is_spelt(tmp_path: Path, content: bytes) -> None:
    opened = source(tmp_path, content)
    assert len(opened.patients()) == scored_rows(opened) == 2 * ROWS


def each_line(change: Edit) -> bytes:
    return "".join(change(line) + "\n" for line in PLAIN.splitlines()).encode()


REFUSED: dict[str, tuple[bytes, str]] = {
    "split by ;": (PLAIN.replace(",", ";").encode(), "line 1 has 1 columns, not the 14"),
    "tabs": (PLAIN.replace(",", "\t").encode(), "line 1 has 1 columns, not the 14"),
    "decimal commas": (PLAIN.replace(",", ";").replace(".", ",").encode(), "line 1, column sex: neither a number nor"),
    "a header": (("age,sex,cp,trestbps,chol,fbs,restecg,thalach,exang,oldpeak,slope,ca,thal,num\n" + PLAIN).encode(),
                 "line 1, column age: neither a number nor ? (not measured); UCI's files have no header line"),
    "empty cells": (PLAIN.replace(",2.0,0.0,3.0,", ",,,,").encode(), "column slope: neither a number nor"),
    "nan": (PLAIN.replace(",2.0,0.0,3.0,", ",nan,nan,nan,").encode(), "column slope: neither a number nor"),
    "quotes": (each_line(lambda line: ",".join(f'"{cell}"' for cell in line.split(","))), "column age: neither"),
    "a column more": (each_line(lambda line: line + ",7"), "line 1 has 15 columns, not the 14"),
    "a column less": (each_line(lambda line: line.partition(",")[2]), "line 1 has 13 columns, not the 14"),
    "an age of 90+": (("90+" + PLAIN[PLAIN.index(","):]).encode(), "line 1, column age: neither a number nor"),
    "UTF-16": (PLAIN.encode("utf-16"), "is not a text file"),
    "Latin-1": ((PLAIN + "# Müller\n").encode("latin-1"), "is not a text file"),
    "cholesterol in mmol/l": (each_line(lambda line: line.replace(line.split(",")[4], "5.8")),
                              "column chol is outside 50 to 900 mg/dl in 40 of 40 rows: is it in another unit?"),
}  # fmt: skip


@pytest.mark.parametrize(("content", "line"), REFUSED.values(), ids=REFUSED)
def test_a_file_in_another_form_is_refused_in_training_and_in_scoring(
    tmp_path: Path, content: bytes, line: str
) -> None:
    opened = source(tmp_path, content)
    for read in (opened.patients, lambda: scored_rows(opened)):
        with pytest.raises(DataError) as caught:
            read()
        assert "processed.cleveland.data" in str(caught.value)
        assert line in str(caught.value)


def test_a_quarter_of_the_cholesterol_in_mmol_is_missing_and_counted(tmp_path: Path) -> None:
    lines = [line.split(",") for line in PLAIN.splitlines()]
    for cells in lines[::4]:
        cells[4] = f"{float(cells[4]) / 38.67:.1f}"
    opened = source(tmp_path, "".join(",".join(cells) + "\n" for cells in lines).encode())
    what = {"chol outside 50 to 900 mg/dl, read as not measured": ROWS // 4}
    cohort = opened.read([item.id for item in opened.patients()])
    assert cohort.excluded == what
    assert np.isnan(cohort.features[:, cohort.task.features.index("chol")]).sum() == ROWS // 4
    assert [dict(part.cleared) for part in read_unlabelled_tables(opened) if part.cleared] == [what]


def test_scoring_needs_no_diagnosis(tmp_path: Path) -> None:
    opened = source(tmp_path, each_line(lambda line: line[:-1] + "?"))
    with pytest.raises(DataError, match="none of its 40 rows can be used"):
        opened.patients()
    assert scored_rows(opened) == 2 * ROWS


@pytest.mark.parametrize(
    "name",
    [
        "processed.basel.data.gz", "processed.basel.data.zip", "processed.basel.data.txt", "processed.basel.csv",
        "processed.st gallen.data", "processed.z\u00fcrich.data", "basel.data.bz2",
    ],
)  # fmt: skip
def test_a_hospital_whose_file_is_not_read_is_not_left_out_without_a_word(tmp_path: Path, name: str) -> None:
    opened = source(tmp_path, PLAIN.encode(), name)
    for read in (opened.patients, lambda: scored_rows(opened)):
        with pytest.raises(DataError, match="is not read: unpack it and call it") as caught:
            read()
        assert name in str(caught.value)


@pytest.mark.parametrize(
    ("column", "value"), [("chol", "999"), ("oldpeak", "9.0"), ("age", "0"), ("age", "12"), ("age", "1950")]
)
def test_codes_for_a_missing_value_are_missing_and_counted(tmp_path: Path, column: str, value: str) -> None:
    lines = [line.split(",") for line in PLAIN.splitlines()]
    for cells in lines[::10]:
        cells[COLUMNS.index(column)] = value
    opened = source(tmp_path, "".join(",".join(cells) + "\n" for cells in lines).encode())
    cohort = opened.read([item.id for item in opened.patients()])
    assert [(what.partition(" ")[0], number) for what, number in cohort.excluded.items()] == [(column, ROWS // 10)]
    assert np.isnan(cohort.features[:, cohort.task.features.index(column)]).sum() == ROWS // 10


def test_an_st_depression_in_millivolts_is_refused(tmp_path: Path) -> None:
    lines = [line.split(",") for line in PLAIN.splitlines()]
    for cells in lines:
        cells[COLUMNS.index("oldpeak")] = f"{float(cells[COLUMNS.index('oldpeak')]) / 10:g}"
    opened = source(tmp_path, "".join(",".join(cells) + "\n" for cells in lines).encode())
    for read in (opened.patients, lambda: scored_rows(opened)):
        with pytest.raises(DataError, match=r"column oldpeak: no value reaches 0\.8 mm: is it in mV"):
            read()


def swapped(one: str, other: str) -> bytes:
    lines = [line.split(",") for line in PLAIN.splitlines()]
    i, j = COLUMNS.index(one), COLUMNS.index(other)
    for cells in lines:
        cells[i], cells[j] = cells[j], cells[i]
    return "\n".join(map(",".join, lines)).encode()


@pytest.mark.parametrize(
    ("one", "other"), [("trestbps", "chol"), ("chol", "thalach"), ("age", "trestbps"), ("age", "thalach")]
)
def test_columns_in_another_order_are_refused(tmp_path: Path, one: str, other: str) -> None:
    opened = source(tmp_path, swapped(one, other))
    for read in (opened.patients, lambda: scored_rows(opened)):
        with pytest.raises(DataError, match=rf"column ({one}|{other})(: its median| is outside)"):
            read()


@pytest.mark.parametrize(
    "copy",
    [
        table(1).replace(".0", ""),
        table(1).replace(",", ", "),
        "\n".join(table(1).splitlines()[:10] + table(5).splitlines()[:30]),
    ],
    ids=["other decimals", "blanks", "a quarter"],
)
def test_a_copy_in_another_spelling_is_refused(tmp_path: Path, copy: str) -> None:
    with pytest.raises(DataError, match="hold the same rows: remove the copy"):
        source(tmp_path, copy.encode(), "processed.basel.data").patients()


def test_rows_that_are_there_twice_are_refused(tmp_path: Path) -> None:
    opened = source(tmp_path, (PLAIN + "\n".join(PLAIN.splitlines()[:8])).encode())
    for read in (opened.patients, lambda: scored_rows(opened)):
        with pytest.raises(DataError, match="8 of its 48 rows are copies of others"):
            read()


def test_a_file_whose_name_ends_in_a_blank_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"processed.basel.data  is not read"):
        source(tmp_path, PLAIN.encode(), "processed.basel.data ").patients()
