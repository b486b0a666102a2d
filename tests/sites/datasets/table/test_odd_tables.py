"""Tables as programs and people write them: outcomes, numbers, and spellings of patients and hospitals."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from common.errors import DataError
from sites.datasets.table.rows import read_rows
from tests.sites.datasets.table.looking import EVENT, RATE, N, columns, described, has, look, text

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


CODES = ["0", "-7", "777", "9998", "99.9", "-9.9", "-1000", "1e10", "-32768", "65535", "-2147483648", "99999999"]


@pytest.mark.parametrize("name", ["hr", "lab"])
@pytest.mark.parametrize("code", CODES)
def test_any_number_that_looks_like_a_code_is_named(tmp_path: Path, name: str, code: str) -> None:
    values = [code if i % 20 == 1 else rate for i, rate in enumerate(RATE)]
    if code == "99.9":  # lies among the rates
        values = [value if value == code else float(value) / 10 for value in values]
    _, findings, _ = look(tmp_path, {"t.csv": text(columns(hr=RATE) | {name: values})})
    assert has(findings, f"check {name}: {float(code):.15g} in 3 rows looks like a code for missing") or has(
        findings, f"check {name}: {code} in 3 rows looks like a code for missing"
    )


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
