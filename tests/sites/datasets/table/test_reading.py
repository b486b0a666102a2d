"""Own tables: other ways of writing give the same values, and what cannot be read is named, without its value."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from common.errors import ConfigError, DataError
from common.settings import validate_settings
from sites.datasets import table
from sites.datasets.table.columns import parse_numbers
from sites.datasets.table.description import Description
from sites.datasets.table.rows import read_rows

RAW: dict[str, Any] = {
    "read": {"files": ["*.csv"], "hospital": "hospital"},
    "patient": "patient",
    "age": "age",
    "sex": {"column": "sex"},
    "outcome": {"column": "died", "values": ["0", "1"]},
    "inputs": [
        {"name": "age", "unit": "years", "range": [0, 130]},
        {"name": "crea", "unit": "mg/dL", "range": [0.1, 30], "indicator": True},
        {"name": "smoker", "kind": "yes_no"},
        {"name": "ward", "kind": "category", "values": ["icu", "main"]},
    ],
}
HEADER = "patient,hospital,age,sex,crea,smoker,ward,died"
LINES = [
    "007,a,61,F,1.5,yes,icu,1",
    "8,a,70,M,,no,main,0",
    "9,b,55.5,male,0.75,1,,0",
    "10,b,,F,2,NA,icu,1",
]
EXPECTED = [
    [61, 1.5, 1, 1, 1, 0],
    [70, np.nan, 0, 0, 0, 1],
    [55.5, 0.75, 1, 1, np.nan, np.nan],
    [np.nan, 2, 1, np.nan, 1, 0],
]


def described(**changes: Any) -> Description:
    return validate_settings(Description, RAW | changes, "test")


def write(folder: Path, text: str, name: str = "t.csv", encoding: str = "utf-8") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(text.encode(encoding))
    return folder


def make_rows(folder: Path, **changes: Any) -> Any:
    return read_rows(folder, described(**changes))


def check(rows: Any) -> None:
    np.testing.assert_allclose(rows.features, np.asarray(EXPECTED, np.float32))
    assert rows.patients == ("007", "8", "9", "10")
    assert [rows.hospitals[i] for i in rows.hospital] == ["a", "a", "b", "b"]
    assert rows.y.tolist() == [1, 0, 0, 1]
    assert rows.sex.tolist() == [0, 1, 1, 0]


def test_a_table_is_read_as_it_says(tmp_path: Path) -> None:
    check(make_rows(write(tmp_path, "\n".join([HEADER, *LINES]))))


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "latin-1"])
def test_delimiters_and_encodings(tmp_path: Path, delimiter: str, encoding: str) -> None:
    text = "\r\n".join([HEADER, *LINES]).replace(",", delimiter) + "\r\n"
    read = {"files": ["*.csv"], "hospital": "hospital", "delimiter": delimiter, "encoding": encoding}
    check(make_rows(write(tmp_path, text, encoding=encoding), read=read))


def test_decimal_commas(tmp_path: Path) -> None:
    text = "\n".join([HEADER, *LINES]).replace(",", ";").replace(".", ",")
    read = {"files": ["*.csv"], "hospital": "hospital", "delimiter": ";", "decimal": ","}
    check(make_rows(write(tmp_path, text), read=read))


def test_quotes_spaces_blank_lines_and_gzip(tmp_path: Path) -> None:
    quoted = [",".join(f'" {cell} "' for cell in line.split(",")) for line in LINES]
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress("\n\n".join([HEADER, *quoted]).encode()))
    check(make_rows(tmp_path, read={"files": ["*.csv.gz"], "hospital": "hospital"}))


def test_parquet_with_types_of_its_own(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "patient": ["007", "8", "9", "10"], "hospital": ["a", "a", "b", "b"], "age": [61, 70, 55.5, None],
            "sex": pd.Categorical(["F", "M", "male", "F"]), "crea": np.asarray([1.5, np.nan, 0.75, 2], np.float32),
            "smoker": pd.array([True, False, True, None], dtype="boolean"), "ward": ["icu", "main", None, "icu"],
            "died": [1, 0, 0, 1],
        }
    )  # fmt: skip
    frame.to_parquet(tmp_path / "t.parquet")
    check(make_rows(tmp_path, read={"files": ["*.parquet"], "hospital": "hospital"}))


def test_a_file_a_hospital_and_names_of_its_own(tmp_path: Path) -> None:
    header = "patient,age,sex,KREA,smoker,ward,died"
    for name, rows in (("a", LINES[:2]), ("b", LINES[2:])):
        own = [",".join(cell for i, cell in enumerate(line.split(",")) if i != 1) for line in rows]
        write(tmp_path, "\n".join([header, *own]), f"{name}.csv")
    check(make_rows(tmp_path, read={"files": ["*.csv"], "hospital_from": "file", "columns": {"crea": "KREA"}}))


def test_whether_a_value_was_measured_is_not_stored_beside_it(tmp_path: Path) -> None:
    rows = make_rows(write(tmp_path, "\n".join([HEADER, *LINES])))
    assert rows.values.shape == (4, 5)
    np.testing.assert_array_equal(rows.values, rows.features[:, [0, 1, 3, 4, 5]])
    np.testing.assert_array_equal(rows.take_features(np.asarray([2, 0])), rows.features[[2, 0]])


def test_implausible_cells_become_missing_and_are_counted(tmp_path: Path) -> None:
    rows = make_rows(write(tmp_path, "\n".join([HEADER, *LINES, "11,b,61,F,9999,no,icu,0"])))
    assert np.isnan(rows.features[4, 1])
    assert rows.features[4, 2] == 0
    assert rows.reasons == ("crea outside 0.1 to 30 mg/dL, read as not measured",)
    assert rows.cleared.sum() == 1


def test_rows_that_cannot_be_used_are_counted_by_hospital(tmp_path: Path) -> None:
    more = ["11,b,61,F,1,no,icu,", ",b,61,F,1,no,icu,0", "12,,61,F,1,no,icu,0", "13,a,,F,,,,0"]
    rows = make_rows(write(tmp_path, "\n".join([HEADER, *LINES, *more])))
    counts = dict(zip(rows.exclusions, rows.excluded.sum(0).tolist(), strict=True))
    assert counts == {
        "rows without an outcome": 1,
        "rows without a patient": 1,
        "rows without a hospital": 1,
        "rows in which no input was measured": 1,
    }
    assert len(rows.y) == 4


SECRET = "4711"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (f"11,b,61,F,<{SECRET},no,icu,0", r"t.csv: row 5, column crea: not a number"),
        (f"11,b,61,F,1,{SECRET},icu,0", r"row 5, column smoker: a value that yes_values and no_values"),
        (f"11,b,61,F,1,no,{SECRET},0", r"row 5, column ward: a value that values of input ward do not name"),
        (f"11,b,61,F,1,no,icu,{SECRET}", r"row 5, column died: none of the 2 values of the outcome"),
        (f"11,b,61,{SECRET},1,no,icu,0", r"row 5, column sex: neither female nor male"),
        (f"11,b,61,F,1,no,icu,0,{SECRET}", r"row 5 has 9 columns, and the line of names 8"),
        (f'11,b,"{SECRET},F,1,no,icu,0', r"is the delimiter right, and is every quote closed|has \d columns"),
        ("8,b,61,F,1,no,icu,0", r"1 patients are at more than one hospital"),
    ],
)
def test_what_cannot_be_read_is_named_without_its_value(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        make_rows(write(tmp_path, "\n".join([HEADER, *LINES, line])))
    assert SECRET not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_another_unit_is_refused_by_column(tmp_path: Path) -> None:
    lines = [f"{i},a,50,F,{88 * (1 + i % 3)},no,icu,{i % 2}" for i in range(9)]
    with pytest.raises(
        DataError, match=r"column crea: 9 of 9 values are outside 0.1 to 30 mg/dL: is it in another unit"
    ):
        make_rows(write(tmp_path, "\n".join([HEADER, *lines])))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        (HEADER, "no row can be used"),
        (HEADER.replace("crea", "Crea") + "\n" + LINES[0], "no column crea; the nearest name is Crea"),
        (HEADER.replace("crea", "age") + "\n" + LINES[0], "no column crea|2 columns are called age"),
        (HEADER.replace(",", ";") + "\n" + LINES[0].replace(",", ";"), "only one column at all: is the delimiter ','"),
        ("a\x00b,\x00\n1,2\n", "not a text file in utf-8"),
    ],
)
def test_files_that_are_no_table_of_this_kind(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        make_rows(write(tmp_path, text))


def test_a_folder_without_the_file_and_a_pattern_that_leaves_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no file \*.csv in"):
        make_rows(tmp_path)
    with pytest.raises(DataError, match="no data folder"):
        make_rows(tmp_path / "absent")
    with pytest.raises(ConfigError, match="leaves the data folder"):
        make_rows(tmp_path, read={"files": ["../*.csv"]})


def test_numbers_agree_with_python(tmp_path: Path) -> None:
    texts = ["1", "-2.5", "+3e-2", ".5", "1e400", "", "nan", "inf", "0x1", "1 2", "१", "1_0", "1e", "--1"]
    plain = [1.0, -2.5, 0.03, 0.5, *[np.nan] * 10]
    np.testing.assert_array_equal(parse_numbers(texts), plain)


def test_a_hospitals_own_description_holds(tmp_path: Path) -> None:
    run = described()
    with pytest.raises(ConfigError, match=r"no table.yaml: a run reads only the columns"):
        table.check_site_folder(tmp_path, run)

    def own(text: str) -> None:
        (tmp_path / "table.yaml").write_text(text)

    base = (
        "dataset: table\npatient: patient\nage: age\nsex: {column: sex}\noutcome: {column: died, values: ['0', '1']}\n"
        "inputs:\n  - {name: age, unit: years, range: [0, 130]}\n  - {name: smoker, kind: yes_no}\n"
        "  - {name: ward, kind: category, values: [icu, main]}\n  - {name: other}\n"
    )
    crea = "  - {name: crea, unit: mg/dL, range: [0.1, 30], indicator: true}\n"
    own(base + crea)
    table.check_site_folder(tmp_path, run)  # the hospital may describe more than a run asks for
    own(base)
    with pytest.raises(ConfigError, match="has no input crea"):
        table.check_site_folder(tmp_path, run)
    own(base + crea.replace("mg/dL", "µmol/L"))
    with pytest.raises(ConfigError, match=r"differs from the run's description in inputs.crea.unit"):
        table.check_site_folder(tmp_path, run)
    own((base + crea).replace("column: died", "column: hiv"))
    with pytest.raises(ConfigError, match=r"differs from the run's description in outcome.column"):
        table.check_site_folder(tmp_path, run)


def test_a_hospital_in_another_unit_is_refused_in_a_file_of_several(tmp_path: Path) -> None:
    def text(west: float) -> str:
        lines = [f"n{i},north,61,F,1.5,yes,icu,{i % 2}" for i in range(60)]
        lines += [f"w{i},west,61,F,{west},yes,icu,{i % 2}" for i in range(20)]
        return "\n".join([HEADER, *lines])

    with pytest.raises(DataError, match=r"column crea: most values of hospital west are outside 0.1 to 30 mg/dL"):
        make_rows(write(tmp_path / "mixed", text(132.6)))
    assert make_rows(write(tmp_path / "converted", text(1.5))).cleared.sum() == 0


def test_few_odd_values_of_a_small_hospital_are_no_other_unit(tmp_path: Path) -> None:
    lines = [f"n{i},north,61,F,1.5,yes,icu,{i % 2}" for i in range(60)]
    lines += [f"w{i},west,61,F,132.6,yes,icu,{i % 2}" for i in range(19)]
    assert make_rows(write(tmp_path / "few", "\n".join([HEADER, *lines]))).cleared.sum() == 19
