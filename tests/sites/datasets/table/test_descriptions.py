"""Descriptions of tables that contradict themselves, or name what is not there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from common.errors import ConfigError
from common.settings import validate_settings
from sites.datasets.table.description import Description, load_description
from sites.datasets.table.rows import read_rows


def describe(**changes: Any) -> Description:
    base: dict[str, Any] = {"outcome": {"column": "died", "values": ["0", "1"]}, "inputs": [{"name": "hr"}]}
    return validate_settings(Description, base | changes, "test")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"age": "died"}, "age: died is the column of the patient, the hospital or the outcome"),
        ({"patient": "who", "age": "who"}, "age: who is the column of the patient"),
        ({"sex": {"column": "died"}}, r"sex.column: died is the column of the patient, the hospital or the outcome"),
        ({"read": {"missing": ["", "0"]}}, "'0' stands for a missing cell, and under outcome.values for a value"),
        ({"read": {"missing": ["F"]}, "sex": {"column": "s"}}, "'F' stands for a missing cell, and under sex"),
        (
            {"inputs": [{"name": "ward", "kind": "category", "values": ["a", "NA"]}]},
            "'NA' stands for a missing cell, and under values of input ward",
        ),
        (
            {"inputs": [{"name": "drug", "kind": "yes_no"}], "read": {"missing": ["no"]}},
            "'no' stands for a missing cell, and under yes_values or no_values of input drug",
        ),
    ],
)
def test_a_word_or_a_column_with_two_meanings_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        describe(**changes)


def test_spaces_around_a_described_value_do_not_count(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("drug,died\nyes ,1\n no,0\n")
    drug = {"name": "drug", "kind": "yes_no", "yes_values": ["yes "], "no_values": [" no"]}
    assert read_rows(tmp_path, describe(inputs=[drug])).features[:, 0].tolist() == [1.0, 0.0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("read: {columns: {hrr: pulse}}", "read.columns: hrr is no column of this description"),
        ("format: true", "format True is not known here"),
    ],
)
def test_a_description_file_names_what_it_knows(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "table.yaml"
    plain = "dataset: table\noutcome: {column: died, values: ['0', '1']}\ninputs: [{name: hr}]\n"
    file.write_text(plain + "read: {columns: {hr: pulse}}\n")
    assert load_description(file).read.columns == {"hr": "pulse"}
    file.write_text(plain + text + "\n")
    with pytest.raises(ConfigError, match=message):
        load_description(file)
