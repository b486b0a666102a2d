"""Tables as programs and people write them: times, files, kinds of cells, and descriptions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from common.errors import ConfigError, DataError
from sites.datasets.table.description import load_description
from sites.datasets.table.examine import load_table
from sites.datasets.table.rows import read_rows
from tests.sites.datasets.table.looking import RATE, N, columns, described, has, look, text

# Times


def timed(times: list[Any], name: str = "time") -> str:
    rows = [(who, row) for who in range(12) for row in range(len(times))]
    return text({
        "patient_id": [who for who, _ in rows], name: [times[row] for _, row in rows],
        "hr": [60 + who + row for who, row in rows],
        "died": [int(who % 2 == 0 and row == len(times) - 1) for who, row in rows],
    })  # fmt: skip


@pytest.mark.parametrize("start", [20240129, 1706706000, 1706706000000])
def test_dates_and_seconds_are_no_hours(tmp_path: Path, start: int) -> None:
    description, _, _ = look(tmp_path, {"t.csv": timed([start + i for i in range(4)])})
    with pytest.raises(DataError, match="row 1, column time: more than a million hours"):
        read_rows(tmp_path, description)


@pytest.mark.parametrize(("name", "start"), [("day", 1), ("date", 45322), ("timestamp", 5)])
def test_numbers_of_a_day_or_a_date_are_asked_about(tmp_path: Path, name: str, start: int) -> None:
    _, findings, _ = look(tmp_path, {"t.csv": timed([start + i for i in range(4)], name)})
    assert has(findings, f"wrong {name}: its numbers are read as hours, which its name does not say")


def test_dates_after_2262_are_read(tmp_path: Path) -> None:
    description, _, _ = look(tmp_path, {"t.csv": timed([f"9998-12-31T2{i}:00" for i in range(4)])})
    assert np.diff(read_rows(tmp_path, description).hours[:4]).tolist() == [1, 1, 1]


@pytest.mark.parametrize("start", ["2024-01", "202401", "2024"])
def test_a_month_without_a_day_is_no_time(tmp_path: Path, start: str) -> None:
    times = [start, "2024-02-01", "2024-02-02", "2024-02-03"]
    (tmp_path / "t.csv").write_text(timed(times))
    with pytest.raises(DataError, match="row 1, column time: a month or a year without a day"):
        read_rows(tmp_path, described(patient="patient_id", time={"column": "time", "ahead_hours": 6}))


def clocks(tmp_path: Path, second: str, people: int) -> None:
    zoned = timed([f"2024-01-31T0{i}:00" + ("+01:00" if i < 9 else "") for i in range(4)])
    plain = timed([second.format(5 + i) for i in range(4)])
    lines = plain.splitlines()
    (tmp_path / "a.csv").write_text(zoned)
    other = [f"{int(line.partition(',')[0]) + 12 - people},{line.partition(',')[2]}" for line in lines[1:]]
    (tmp_path / "b.csv").write_text("\n".join([lines[0], *other]))


@pytest.mark.parametrize("second", ["2024-01-31T0{}:00", "{}"])
def test_a_patients_times_with_a_zone_in_one_file_and_without_in_another_are_refused(
    tmp_path: Path, second: str
) -> None:
    description = described(patient="patient_id", time={"column": "time", "ahead_hours": 6}, read={"files": ["*.csv"]})
    clocks(tmp_path, second, people=1)
    with pytest.raises(DataError, match=r"a\.csv and b\.csv: column time: a patient's rows have a date with"):
        read_rows(tmp_path, description)
    clocks(tmp_path, second, people=0)
    assert len(read_rows(tmp_path, description).patients) == 24


# Files


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32", "mac_roman", "cp437", "cp850", "gbk"])
def test_a_text_in_another_encoding_is_refused(tmp_path: Path, encoding: str) -> None:
    wards = {"gbk": ["\u5185\u79d1", "\u5916\u79d1"]}
    content = text(columns(ward=[wards.get(encoding, ["Z\u00fcrich", "Gen\u00e8ve"])[i % 2] for i in range(N)]))
    with pytest.raises(DataError, match="save it as UTF-8"):
        look(tmp_path, {"t.csv": content.encode(encoding)})


def test_a_text_of_two_encodings_is_refused(tmp_path: Path) -> None:
    content = text(columns(ward=["Z\u00fcrich"] * N))
    half = len(content) // 2
    with pytest.raises(DataError, match="some of its words are in UTF-8 and others in another encoding"):
        look(tmp_path, {"t.csv": content[:half].encode() + content[half:].encode("cp1252")})


def test_a_text_that_is_read_as_windows_encoding_is_told(tmp_path: Path) -> None:
    words = ["Z\u00fcrich", "\u00c5lesund", "l\u2019\u00e9t\u00e9", "5 \u00b5g"]
    content = text(columns(ward=[words[i % 4] for i in range(N)]))
    description, findings, _ = look(tmp_path, {"t.csv": content.encode("cp1252")})
    assert has(findings, "check : its text is not UTF-8 and is read as cp1252")
    assert sorted(description.inputs[1].values) == sorted(words)
    (tmp_path / "t.csv").write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=r"in UTF-8, not in cp1252 as read\.encoding"):
        read_rows(tmp_path, description)


# Patients


@pytest.mark.parametrize(("kind", "start"), [(pa.float16(), 2048), (pa.float32(), 2**24), (pa.float64(), 2**53)])
def test_numbers_of_patients_that_are_rounded_are_refused(tmp_path: Path, kind: pa.DataType, start: int) -> None:
    for first, refused in ((start, True), (min(start - N, 10**9), False)):
        numbers = pa.array([float(first + i) for i in range(N)]).cast(kind)
        parquet.write_table(pa.table(columns() | {"patient_id": numbers}), tmp_path / "t.parquet")
        description, findings, _ = _look(tmp_path)
        assert has(findings, "numbers of patients as") == refused
        if refused:
            with pytest.raises(DataError, match=r"numbers of patients as \w+ are rounded from"):
                read_rows(tmp_path, description)
        else:
            assert len(read_rows(tmp_path, description).patients) == N


def _look(folder: Path) -> Any:
    return look(folder, {"t.parquet": (folder / "t.parquet").read_bytes()})


def test_names_that_may_be_one_persons_are_named(tmp_path: Path) -> None:
    people = ["A 1", "A_1", *(f"B{i}" for i in range(N - 2))]
    _, findings, _ = look(tmp_path, {"t.csv": text(columns(patient_id=people))})
    assert has(findings, "check patient_id: 1 names differ only in signs, zeros or 'copy'")


@pytest.mark.parametrize("first", ["sep=;\n", '"sep=;"\n', "\N{BYTE ORDER MARK}SEP=;\n"])
def test_the_first_line_of_excel_is_skipped(tmp_path: Path, first: str) -> None:
    description, findings, _ = look(tmp_path, {"t.csv": first + text(columns(), ";")})
    assert (description.read.delimiter, findings) == (";", [])
    assert read_rows(tmp_path, description).features[:, 0].tolist() == RATE


def test_lines_that_end_as_on_old_macs(tmp_path: Path) -> None:
    description, _, _ = look(tmp_path, {"t.csv": text(columns(), ";", "\r")})
    assert read_rows(tmp_path, description).features[:, 0].tolist() == RATE


@pytest.mark.parametrize("content", ["a b\n1 2\n" * 9, "Export 2024\n\n" + text(columns(), ";")])
def test_a_file_of_one_column_is_named(tmp_path: Path, content: str) -> None:
    with pytest.raises(DataError, match="only one column"):
        look(tmp_path, {"t.csv": content})


@pytest.mark.parametrize("name", ["x\N{LINE SEPARATOR}y", "x\u0085y"])
def test_zeros_of_numbers_stay_after_an_odd_name(tmp_path: Path, name: str) -> None:
    table = {name: list(range(N))} | columns(patient_id=[f"{i:05}" for i in range(N)])
    description, _, _ = look(tmp_path, {"t.csv": text(table)})
    assert read_rows(tmp_path, description).patients[:2] == ("00000", "00001")


@pytest.mark.parametrize(
    ("name", "written"),
    [('"heart\nrate"', "heart rate"), ("a=b", "a b"), ("long " * 14, ("long " * 12).strip()), ("died measured", None)],
)
def test_names_that_no_input_may_have_are_changed(tmp_path: Path, name: str, written: str | None) -> None:
    description, _, _ = look(tmp_path, {"t.csv": text(columns(**{name: RATE[::-1]}))})
    assert description.inputs[-1].name == (written or name)
    assert read_rows(tmp_path, description).features[:, 1].tolist() == RATE[::-1]


def test_a_name_that_an_indicator_takes_is_refused(tmp_path: Path) -> None:
    lab = ["" if i % 5 == 0 else i * 0.5 for i in range(N)]
    with pytest.raises(DataError, match="lab measured occurs twice: rename a column"):
        look(tmp_path, {"t.csv": text(columns(lab=lab, **{"lab measured": RATE[::-1]}))})


def write_parquet(path: Path, **more: Any) -> bytes:
    parquet.write_table(pa.table(columns(**more)), path)
    content = path.read_bytes()
    path.unlink()
    return content


@pytest.mark.parametrize("cells", [[[1, 2]] * N, [{"a": 1}] * N, [b"\xff\xfe"] * N])
def test_columns_of_lists_or_bytes_are_left_out(tmp_path: Path, cells: list[Any]) -> None:
    description, findings, _ = look(tmp_path, {"t.parquet": write_parquet(tmp_path / "x", wave=cells)})
    assert has(findings, "check wave: left out: it holds lists, bytes or durations")
    assert read_rows(tmp_path, description).features[:, 0].tolist() == RATE
    (tmp_path / "t.csv").unlink(missing_ok=True)
    with pytest.raises(DataError, match="column wave holds lists, bytes or durations"):
        read_rows(tmp_path, described(read={"files": ["t.parquet"]}, inputs=[{"name": "wave"}]))


def test_csv_and_parquet_in_one_folder(tmp_path: Path) -> None:
    ids = [i + N + 1 for i in range(N)]
    description, findings, _ = look(
        tmp_path, {"a.csv": text(columns()), "b.parquet": write_parquet(tmp_path / "x", patient_id=ids)}
    )
    assert read_rows(tmp_path, description).hospitals == ("a", "b")
    assert not has(findings, "wrong")


def test_parquet_with_two_columns_of_one_name_is_named(tmp_path: Path) -> None:
    twice = pa.table([RATE, RATE, columns()["died"]], names=["hr", "hr", "died"])
    parquet.write_table(twice, tmp_path / "t.parquet")
    with pytest.raises(DataError, match="two columns are called hr"):
        load_table(tmp_path / "t.parquet")


# The description


@pytest.mark.parametrize("encoding", ["base64", "rot13", "hex", "utf\x00"])
def test_an_encoding_that_is_none_of_texts_is_refused(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "t.csv").write_text(text(columns()))
    with pytest.raises(ConfigError, match="no encoding is called"):
        read_rows(tmp_path, described(read={"encoding": encoding}))


def test_a_pattern_that_names_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"read.files: '.' names no file"):
        read_rows(tmp_path, described(read={"files": ["."]}))


def test_a_folder_without_a_description_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"read.files of the run names it, and the folder has no table.yaml"):
        read_rows(tmp_path, described())
    (tmp_path / "table.yaml").write_text("dataset: table\n")
    with pytest.raises(DataError, match=r"read.files of table.yaml names the files"):
        read_rows(tmp_path, described())


def test_two_columns_read_from_one_are_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(text(columns()))
    with pytest.raises(ConfigError, match="died and hr are read from one column, died"):
        read_rows(tmp_path, described(read={"columns": {"hr": "died"}}))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"patient": "died"}, "died is two of: patient"),
        ({"inputs": [{"name": "hr", "range": [0, 10**400]}]}, "range: a number is too large"),
    ],
)
def test_descriptions_that_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        described(**changes)


def test_a_wrong_value_in_a_list_is_the_only_error(tmp_path: Path) -> None:
    (tmp_path / "table.yaml").write_text(
        "dataset: table\noutcome: {column: died, values: [0, 1]}\ninputs: [{name: hr}]\n"
    )
    with pytest.raises(ConfigError) as error:
        load_description(tmp_path / "table.yaml")
    assert "outcome.values.0" in str(error.value)
    assert "at least" not in str(error.value)
