"""UCI Heart Disease: files that are not what they say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from common.errors import DataError
from sites.datasets import heart_disease
from sites.datasets.heart_disease.rows import COLUMNS
from tests.sites.datasets.heart_disease.uci_rows import (
    EXPLICIT,
    EXPLICIT_FULL,
    EXPLICIT_SPARSE,
    FLAMBY,
    FULL,
    NAN,
    SPARSE,
    everyone,
    f32,
    rows,
    written,
)

BAD = {
    "a column too few": ([FULL, FULL[:-2]], r"line 2 has 13 columns, not the 14 of UCI's processed files \(age, sex,"),
    "a decimal comma": ([FULL.replace("2.3", "2,3")], r"line 1 has 15 columns, not the 14"),
    "a word": ([FULL, "", FULL.replace("233", "high")], r"line 3, column chol: neither a number nor \?"),
    "an empty cell": ([FULL, FULL.replace("233", "")], r"line 2, column chol: neither a number nor \?"),
    "not a number": ([FULL, FULL.replace("233", "nan")], r"line 2, column chol: neither"),
    "an underscore": ([FULL, FULL.replace("233", "2_33")], r"line 2, column chol: neither"),
    "a header": ([",".join(COLUMNS), FULL], r"line 1, column age: neither .* no header line"),
    "a recoded file": ([FULL, FULL.replace(",6,", ",2,")], r"line 2, column thal: not one of UCI's codes 3, 6, 7: is"),
    "half a code": ([FULL, FULL[:-1] + "0.5"], r"line 2, column num: not one of UCI's codes 0, 1, 2, 3, 4"),
    "nothing": ([], r"processed\.north\.data is empty"),
    "only blank lines": (["", "  "], r"processed\.north\.data is empty"),
    "kilopascal": ([row.replace(f",{100 + i},", ",16,") for i, row in enumerate(rows(9))],
                   r"column trestbps is outside 40 to 300 mm Hg in 9 of 9 rows: is it in another unit\? UCI's is mm"),
    "mmol per litre": ([row.replace(",200,", ",5.2,") for row in rows(9)], r"column chol is outside 50 to 900 mg/dl"),
    "months": ([f"{300 + i}" + row[2:] for i, row in enumerate(rows(9))], r"column age is outside 15 to 130 years"),
    "no complete row": ([SPARSE, SPARSE.replace("35", "36", 1)],
                        r"none of its 2 rows can be used \(2 rows with a missing value\): data\.options\.protocol=ex"),
    "no diagnosis": ([FULL[:-1] + "?"], r"none of its 1 rows can be used \(1 rows without a diagnosis\)$"),
}  # fmt: skip


@pytest.mark.parametrize(("content", "said"), BAD.values(), ids=BAD)
def test_a_file_that_is_not_what_it_says_is_named_in_one_line(tmp_path: Path, content: list[str], said: str) -> None:
    folder = written(tmp_path / "data", *content)
    with pytest.raises(DataError, match=said) as caught:
        heart_disease.patients(folder, FLAMBY, tmp_path)
    assert "processed.north.data" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not {"high", "2_33", "233", "2.3"} & set(str(caught.value).split())


def test_missing_is_written_in_two_ways(tmp_path: Path) -> None:
    marked = [row.replace("?", mark) for mark in ("-9", "-9.0") for row in (SPARSE, FULL)]
    result = everyone(written(tmp_path / "data", *marked), EXPLICIT, tmp_path)
    expected = f32([EXPLICIT_SPARSE, EXPLICIT_FULL] * 2)
    np.testing.assert_array_equal(result.features, expected)


def test_age_and_sex_may_be_unknown_and_a_file_may_open_with_a_mark(tmp_path: Path) -> None:
    folder = written(tmp_path / "data", "\ufeff?,?" + FULL[4:] + "\r", FULL + "\r")
    result = everyone(folder, EXPLICIT, tmp_path)
    assert result.age is not None
    assert result.sex is not None
    np.testing.assert_array_equal(result.age, [NAN, 63])
    assert result.sex.tolist() == [-1, 1]
    np.testing.assert_array_equal(result.features, f32([[NAN, NAN, *EXPLICIT_FULL[2:]], EXPLICIT_FULL]))
    assert everyone(folder, FLAMBY, tmp_path).patients == ("north-0002",)


def test_files_that_are_no_hospitals_or_one_hospital_twice(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no data folder"):
        heart_disease.patients(tmp_path / "lost", FLAMBY, tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "reprocessed.hungarian.data").write_text("40 1 2\n")
    (tmp_path / "data" / "cleveland.data").write_text("1 0 63\n")
    with pytest.raises(DataError, match=r"no recordings in .* are called processed\.<hospital>\.data"):
        heart_disease.patients(tmp_path / "data", FLAMBY, tmp_path)
    written(tmp_path / "data", *rows(8))
    assert len(heart_disease.patients(tmp_path / "data", FLAMBY, tmp_path)) == 8
    written(tmp_path / "data", *rows(8, seed=1), name="south")
    assert {item.site for item in heart_disease.patients(tmp_path / "data", FLAMBY, tmp_path)} == {"north", "south"}
    written(tmp_path / "data", *rows(8)[:6], *rows(5, seed=1)[3:], name="east")
    with pytest.raises(DataError, match=r"processed\.east\.data and processed\.north\.data hold the same rows"):
        heart_disease.patients(tmp_path / "data", FLAMBY, tmp_path)
    written(tmp_path / "data", *rows(8, seed=2), name="east")
    written(tmp_path / "data", *rows(8, seed=3), name="EAST")
    with pytest.raises(DataError, match=r"processed\.EAST\.data and processed\.east\.data name one hospital twice"):
        heart_disease.patients(tmp_path / "data", FLAMBY, tmp_path)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    folder = written(tmp_path / "data", FULL)
    (folder / "processed.north.data").write_bytes(b"63,\xff\xfe,1\n")
    with pytest.raises(DataError, match="is not a text file"):
        heart_disease.patients(folder, FLAMBY, tmp_path)
    (folder / "processed.north.data").unlink()
    (folder / "processed.north.data").mkdir()
    with pytest.raises(DataError, match="cannot read"):
        heart_disease.patients(folder, FLAMBY, tmp_path)
