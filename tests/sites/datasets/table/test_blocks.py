"""Files that are read in blocks give what they give as a whole, and columns of many numbers what their texts give."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from common.errors import DataError
from sites.datasets.table import examine, files, simulate, text_files
from sites.datasets.table.columns import NumberColumn, parse_numbers, parse_words
from sites.datasets.table.description import load_description
from sites.datasets.table.examine import load_table
from sites.datasets.table.guess import guess_description
from sites.datasets.table.rows import TableRows, read_rows
from sites.datasets.table.suspicions import add_suspicions


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    simulate.generate(tmp_path / "data", hospitals=3, patients=100, seed=2)
    return tmp_path / "data"


@pytest.fixture
def _blocks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Blocks of some rows."""
    monkeypatch.setattr(text_files, "BLOCK_BYTES", 1000)
    monkeypatch.setattr(files, "BATCH_ROWS", 7)
    return


def assert_same(one: TableRows, other: TableRows) -> None:
    for item in fields(TableRows):
        np.testing.assert_array_equal(getattr(one, item.name), getattr(other, item.name), err_msg=item.name)


def test_rows_read_in_blocks_are_those_of_the_whole_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    description = load_description(folder / "table.yaml")
    whole = read_rows(folder, description)
    monkeypatch.setattr(text_files, "BLOCK_BYTES", 1000)
    assert len(list(files.iterate_batches(folder / "hospitals.csv", description.read))) > 5
    assert_same(read_rows(folder, description), whole)


@pytest.mark.usefixtures("_blocks")
def test_rows_and_ranges_are_judged_over_the_whole_file(folder: Path) -> None:
    description = load_description(folder / "table.yaml")
    path = folder / "hospitals.csv"
    lines = path.read_text().splitlines()
    cells = lines[251].split(",")
    path.write_text("\n".join([*lines[:251], ",".join([*cells[:4], "x", *cells[5:]]), *lines[252:]]))
    with pytest.raises(DataError, match="row 251, column creatinine: not a number"):
        read_rows(folder, description)
    path.write_text("\n".join([*lines[:200], lines[200] + ",1", *lines[201:]]))
    with pytest.raises(DataError, match="row 200 has 10 columns"):
        read_rows(folder, description)
    rows = [line.split(",") for line in lines[1:]]

    def write_with_high(share: int) -> None:
        """Write the rows with values out of range in `share` of each 20 rows."""
        changed = [[*row[:4], "999", *row[5:]] if i % 20 < share else row for i, row in enumerate(rows)]
        path.write_text("\n".join([lines[0], *(",".join(row) for row in changed)]))

    write_with_high(9)  # a little less than half of them
    assert sum(read_rows(folder, description).cleared.sum(0)) == 135
    write_with_high(11)
    with pytest.raises(DataError, match=r"column creatinine: 165 of 300 values are outside 0.05 to 50 mg/dL"):
        read_rows(folder, description)


@pytest.mark.usefixtures("_blocks")
def test_a_line_of_names_alone_has_no_row(tmp_path: Path) -> None:
    for text in ("a,b", "a,b\n"):
        (tmp_path / "t.csv").write_text(text)
        with pytest.raises(DataError, match="it has a line of names and no row"):
            load_table(tmp_path / "t.csv")


def test_columns_of_many_numbers_are_described_as_their_texts_are(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def describe() -> tuple[object, list[object]]:
        table = load_table(folder / "hospitals.csv")
        description = guess_description(table)
        add_suspicions(table, description)
        return description, list(table.findings)

    plain = describe()
    monkeypatch.setattr(examine, "MANY_VALUES", 20)
    monkeypatch.setattr(examine, "BLOCK_ROWS", 64)
    monkeypatch.setattr(text_files, "BLOCK_BYTES", 1000)
    table = load_table(folder / "hospitals.csv")
    assert isinstance(table.columns["creatinine"], NumberColumn)
    assert not isinstance(table.columns["patient"], NumberColumn)  # as 1-00001
    assert describe() == plain


@pytest.mark.usefixtures("_blocks")
def test_a_column_whose_last_row_is_no_number_keeps_its_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examine, "MANY_VALUES", 20)
    rows = [f"{i}.5,{i % 2}" for i in range(400)]
    (tmp_path / "t.csv").write_text("\n".join(["x,y", *rows, "many,1"]))
    column = load_table(tmp_path / "t.csv").columns["x"]
    assert column.values == (*(f"{i}.5" for i in range(400)), "many")
    assert column.codes.tolist() == list(range(401))


def test_a_column_of_numbers_has_codes_and_texts() -> None:
    column = NumberColumn(np.array([2.5, np.nan, 1.0, 2.5]))
    assert column.values == ("1", "2.5")
    assert column.codes.tolist() == [1, -1, 0, 1]
    assert column.present.tolist() == [True, False, True, True]
    assert column.different == 2
    assert column.positions([("2.5",)]).tolist() == [0, -1, -2, 0]


def test_texts_are_parsed_alike_by_arrow_and_by_hand() -> None:
    import pyarrow as pa

    texts = ["1", "-2.5", "+3", "1e5", ".5", "5.", "1E-3", "007"]
    np.testing.assert_array_equal(parse_words(pa.array(texts)), [float(text) for text in texts])
    odd = [*texts, "x", "inf", "1_0", "0x1", ""]
    np.testing.assert_array_equal(parse_words(pa.array(odd)), parse_numbers(odd))
    np.testing.assert_array_equal(parse_words(pa.array(["1,5", "2"]), ","), [1.5, 2.0])
    assert np.isnan(parse_words(pa.array(["1e999"]))).all()


@pytest.mark.usefixtures("_blocks")
def test_a_plus_in_the_last_row_makes_a_minus_an_answer(tmp_path: Path) -> None:
    rows = [f"{i}.5,-" for i in range(400)]
    path = tmp_path / "t.csv"
    path.write_text("\n".join(["x,y", *rows]))
    assert load_table(path).columns["y"].values == ()
    path.write_text("\n".join(["x,y", *rows, "1,+"]))
    table = load_table(path)
    assert table.columns["y"].values == ("-", "+")
    assert table.reading.missing == ("",)


@pytest.mark.usefixtures("_blocks")
@pytest.mark.parametrize(
    ("cell", "held"),
    [("{}", False), ("{}.0", False), ("007{}", False), ("1;234", False), ("{}.25", True)],
    ids=["whole", "whole with a point", "zeros", "no numbers", "fractions"],
)
def test_texts_that_say_more_than_their_numbers_are_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cell: str, held: bool
) -> None:
    monkeypatch.setattr(examine, "MANY_VALUES", 20)
    rows = [f"{cell.format(i)},{i % 2}" for i in range(400)]
    (tmp_path / "t.csv").write_text("\n".join(["x,y", *rows]))
    assert isinstance(load_table(tmp_path / "t.csv").columns["x"], NumberColumn) is held


@pytest.mark.usefixtures("_blocks")
def test_codes_for_missing_and_thousands_are_found_among_many_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examine, "MANY_VALUES", 20)
    rows = [f"{i % 2};{'-999,0' if i % 50 == 0 else f'{i},5'};{i},5" for i in range(400)]
    (tmp_path / "t.csv").write_text("\n".join(["died;a;b", *rows]))
    table = load_table(tmp_path / "t.csv")
    guess_description(table)
    assert isinstance(table.columns["a"], NumberColumn)
    assert any(item.column == "a" and item.text.startswith("-999,0 in 8 rows") for item in table.findings)
    rows = [f"{i % 2};{1 + i // 99},{100 + i}" for i in range(400)]
    (tmp_path / "u.csv").write_text("\n".join(["died;a", *rows]))
    table = load_table(tmp_path / "u.csv")
    guess_description(table)
    assert any(item.column == "a" and "separates thousands" in item.text for item in table.findings)
