"""Tables as programs and people write them: other words, codes, separators, spellings and kinds of cells."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from common.errors import ConfigError, DataError
from common.settings import validate_settings
from sites.datasets.table.description import Description, load_description
from sites.datasets.table.examine import Table, load_table
from sites.datasets.table.guess import guess_description
from sites.datasets.table.rows import read_rows
from sites.datasets.table.suspicions import add_suspicions

N = 60
EVENT = [i * 7 % 3 == 0 for i in range(N)]
RATE = [60 + i * 37 % 50 for i in range(N)]


def columns(**changes: list[Any]) -> dict[str, list[Any]]:
    return {"patient_id": list(range(1, N + 1)), "hr": RATE, "died": [int(event) for event in EVENT]} | changes


def text(table: dict[str, list[Any]], delimiter: str = ",", end: str = "\n") -> str:
    lines = [table, *zip(*table.values(), strict=True)]
    return "".join(delimiter.join(map(str, line)) + end for line in lines)


def look(folder: Path, files: dict[str, str | bytes], **roles: Any) -> tuple[Description, list[str], Table]:
    """Return the description of some files, the findings as `level column: text`, and the table."""
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    table = load_table(folder / next(iter(files)) if len(files) == 1 else folder)
    description = guess_description(table, **roles)
    add_suspicions(table, description)
    return description, [f"{item.level} {item.column}: {item.text}" for item in table.findings], table


def has(findings: list[str], words: str) -> bool:
    return any(words in finding for finding in findings)


# The outcome


@pytest.mark.parametrize(
    ("event", "other"),
    [
        ("ja", "nein"), ("Ja", "Nein"), ("J", "N"), ("ja", "nee"), ("oui", "non"), ("sim", "não"),
        ("décédé", "vivant"), ("morto", "vivo"), ("abnormal", "normal"), ("case", "control"), ("died", "survived"),
        ("1", "0"), ("1", "-1"), ("t", "f"), ("+", "-"), ("pos", "neg"),
    ],
)  # fmt: skip
def test_the_event_is_told_by_words_of_several_languages(tmp_path: Path, event: str, other: str) -> None:
    died = [event if is_event else other for is_event in EVENT]
    description, findings, _ = look(tmp_path, {"t.csv": text(columns(died=died))})
    assert description.outcome.values == (other, event)
    assert not has(findings, "which of its two values")
    assert read_rows(tmp_path, description).y.tolist() == [int(is_event) for is_event in EVENT]


@pytest.mark.parametrize(("one", "two"), [("A", "L"), ("1", "2"), ("да", "нет"), ("X", "O")])
def test_an_event_that_no_word_tells_is_asked_for(tmp_path: Path, one: str, two: str) -> None:
    _, findings, _ = look(tmp_path, {"t.csv": text(columns(died=[one if event else two for event in EVENT]))})
    assert has(findings, "check died: which of its two values is the event")


@pytest.mark.parametrize(
    "files",
    [
        {"t.csv": text(columns(died=[["Yes", "yes"][i % 2] if e else "no" for i, e in enumerate(EVENT)]))},
        {"a.csv": text(columns()), "b.csv": text(columns(died=[float(event) for event in EVENT]))},
    ],
)
def test_a_class_in_two_spellings_is_refused(tmp_path: Path, files: dict[str, str | bytes]) -> None:
    with pytest.raises(DataError, match=r"column died: some of its . values differ only in case"):
        look(tmp_path, files)


@pytest.mark.parametrize("code", ["9", "-9", "99"])
def test_a_code_among_the_classes_is_named(tmp_path: Path, code: str) -> None:
    died = [code if i % 20 == 5 else int(event) for i, event in enumerate(EVENT)]
    _, findings, _ = look(tmp_path, {"t.csv": text(columns(died=died))})
    assert has(findings, f"check died: {code} looks like a code for missing")


# Numbers


@pytest.mark.parametrize(
    ("delimiter", "form"),
    [("\t", "{:,}"), (",", '"{:,}"'), (";", "{:,}")],
)
def test_a_sign_for_thousands_is_asked_for(tmp_path: Path, delimiter: str, form: str) -> None:
    content = text(columns(platelets=[form.format(900 + i * 131) for i in range(N)]), delimiter)
    _, findings, _ = look(tmp_path, {"t.csv": content})
    assert has(findings, "check platelets: 1,234 is read as a little more than 1")


def test_thousands_as_germans_write_them(tmp_path: Path) -> None:
    content = text(columns(platelets=[f"{1200 + i * 131:,}".replace(",", ".") for i in range(N)]), ";")
    _, findings, _ = look(tmp_path, {"t.csv": content})
    assert has(findings, "check platelets: 1.234 is read as a little more than 1")


def test_three_decimals_that_are_plausible_are_not_asked_for(tmp_path: Path) -> None:
    content = text(columns(pH=[f"7,{301 + i}" for i in range(N)]), ";")
    _, findings, _ = look(tmp_path, {"t.csv": content})
    assert findings == []


@pytest.mark.parametrize("code", ["-1.7976931348623157e+308", "8.98846567431158e+307", "1e39"])
def test_a_number_beyond_float32_is_no_number(tmp_path: Path, code: str) -> None:
    lab = [code if i % 10 == 1 else i for i in range(N)]
    description, findings, _ = look(tmp_path, {"t.csv": text(columns(lab=lab))})
    assert has(findings, "wrong lab: 6 cells are not numbers, the first in row 2")
    with pytest.raises(DataError, match="row 2, column lab: not a number"):
        read_rows(tmp_path, description)


@pytest.mark.parametrize(("code", "rest"), [("-999.0", 0.1), ("-1", 1), ("99", 0.05), ("88", 0.05), ("9999.00", 1)])
def test_a_code_for_missing_is_named_as_it_is_written(tmp_path: Path, code: str, rest: float) -> None:
    lab = [code if i % 10 == 1 else i * rest for i in range(N)]
    _, findings, _ = look(tmp_path, {"t.csv": text(columns(lab=lab))})
    assert has(findings, f"check lab: {code} in 6 rows looks like a code for missing")


def test_dates_as_whole_numbers_are_no_input(tmp_path: Path) -> None:
    days = [f"2024{1 + i % 12:02}{1 + i % 28:02}" for i in range(N)]
    description, findings, _ = look(tmp_path, {"t.csv": text(columns(admitted=days))})
    assert has(findings, "note admitted: left out: dates are no input")
    assert [item.name for item in description.inputs] == ["hr"]


@pytest.mark.parametrize("cell", ["{}%", "{} kg", "1'{:03}", "{}\N{NO-BREAK SPACE}000"])
def test_numbers_with_units_or_signs_are_left_out_with_the_reason(tmp_path: Path, cell: str) -> None:
    _, findings, _ = look(tmp_path, {"t.csv": text(columns(lab=[cell.format(i) for i in range(N)]))})
    assert has(findings, "if they are numbers, write them without units")


# Patients and hospitals


@pytest.mark.parametrize(
    ("one", "other"),
    [("{:03}", "{}"), ("{}.0", "{}"), ("a{}", "A{}"), ("\u00e9{}", "e\u0301{}"), ("{}\u200b", "{}"), ("p  {}", "p {}")],
)
def test_a_patient_in_two_spellings_is_refused(tmp_path: Path, one: str, other: str) -> None:
    names = [(one if i % 2 else other).format(i // 2 + 1) for i in range(N)]
    died = [i // 2 % 2 for i in range(N)]
    description, findings, _ = look(tmp_path, {"t.csv": text(columns(patient_id=names, died=died))})
    assert has(findings, f"wrong : patients: {N // 2} patients are written in several ways")
    with pytest.raises(DataError, match="30 patients are written in several ways"):
        read_rows(tmp_path, description)


def test_the_same_number_at_two_hospitals_may_be_written_differently(tmp_path: Path) -> None:
    names = [f"{i // 2 + 1:03}" if i % 2 else i // 2 + 1 for i in range(N)]
    hospital = [["north", "south"][i % 2] for i in range(N)]
    description, _, _ = look(tmp_path, {"t.csv": text(columns(patient_id=names, hospital=hospital))})
    assert len(read_rows(tmp_path, description).patients) == N


def test_a_hospital_in_two_spellings_is_refused(tmp_path: Path) -> None:
    hospital = [["Basel", "BASEL", "Bern"][i % 3] for i in range(N)]
    description, findings, _ = look(tmp_path, {"t.csv": text(columns(hospital=hospital))})
    assert has(findings, "differ only in spelling")
    with pytest.raises(DataError, match="differ only in spelling"):
        read_rows(tmp_path, description)


PEOPLE = {"hr": RATE, "died": [int(event) for event in EVENT]}
OTHERS = PEOPLE | {"hr": [rate + 0.5 for rate in RATE]}


@pytest.mark.parametrize(
    "files",
    [
        {"north.2019.csv": text(PEOPLE), "north.2020.csv": text(OTHERS)},
        {"north.csv": text(PEOPLE), "north.csv.gz": gzip.compress(text(PEOPLE).encode())},
    ],
)
def test_files_that_would_be_one_hospital_are_refused(tmp_path: Path, files: dict[str, str | bytes]) -> None:
    description, findings, _ = look(tmp_path, files)
    assert has(findings, "wrong : ")
    assert has(findings, "would be one hospital")
    with pytest.raises(DataError, match="would be one hospital"):
        read_rows(tmp_path, description)


def test_files_of_one_name_in_several_folders_are_refused(tmp_path: Path) -> None:
    for name, table in (("a", PEOPLE), ("b", OTHERS)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "data.csv").write_text(text(table))
    with pytest.raises(DataError, match=r"a/data\.csv and b/data\.csv .* one hospital"):
        read_rows(tmp_path, described(read={"files": ["*/data.csv"], "hospital_from": "file"}))


def test_files_of_another_kind_are_named(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = dict.fromkeys(("bern.xlsx", "zug.csv.zip", "uri.csv.xz"), b"PK")
    _, findings, _ = look(tmp_path, {"basel.csv": text(columns()), "more/chur.csv": text(columns())} | files)
    assert has(findings, "left out, because only CSV and Parquet files of this folder are read: bern.xlsx, more/, uri")


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


# Files


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
    assert has(findings, "check wave: left out: it holds lists or bytes")
    assert read_rows(tmp_path, description).features[:, 0].tolist() == RATE
    (tmp_path / "t.csv").unlink(missing_ok=True)
    with pytest.raises(DataError, match="column wave holds lists or bytes"):
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


def described(**changes: Any) -> Description:
    raw = {"outcome": {"column": "died", "values": ["0", "1"]}, "inputs": [{"name": "hr"}]} | changes
    return validate_settings(Description, raw, "test")


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
