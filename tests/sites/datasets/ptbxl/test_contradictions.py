"""PTB-XL: a table that lost rows, and statements that the rest of the table contradicts, are counted."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest

from sites.datasets.ptbxl.contradictions import CONTRADICTED, NOT_NAMED
from tests.sites.datasets.ptbxl.ptbxl_folders import read_all

ROOT = Path(__file__).resolve().parents[4]


@pytest.mark.parametrize("kept", [slice(None, None, 2), slice(None, 7)])
def test_rows_that_were_lost_are_counted_by_their_files(copy: Path, tmp_path: Path, kept: slice) -> None:
    database = copy / "ptbxl_database.csv"
    table = pd.read_csv(database, dtype=str, keep_default_na=False)
    assert NOT_NAMED not in read_all(copy, tmp_path).excluded
    table.iloc[kept].to_csv(database, index=False)
    assert read_all(copy, tmp_path).excluded[NOT_NAMED] == len(table) - len(table.iloc[kept])


def make_texts(folder: Path) -> pd.DataFrame:
    """Give each recording of a table the report and stage that fit its statements, and return the table."""
    path = folder / "ptbxl_database.csv"
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    table["scp_codes"] = ["{'NORM': 100.0, 'SR': 0.0}" if i % 2 else "{'IMI': 100.0}" for i in range(len(table))]
    table["report"] = ["sinusrhythmus normales ekg" if i % 2 else "inferiorer infarkt" for i in range(len(table))]
    table["infarction_stadium1"] = ["" if i % 2 else "Stadium III" for i in range(len(table))]
    table.to_csv(path, index=False)
    return table


def test_statements_of_two_recordings_that_were_exchanged_are_counted(copy: Path, tmp_path: Path) -> None:
    table = make_texts(copy)
    assert CONTRADICTED not in read_all(copy, tmp_path).excluded
    for columns in (["scp_codes"], ["scp_codes", "report"]):
        changed = table.copy()
        for name in columns:
            changed.loc[[2, 3], name] = table.loc[[3, 2], name].to_numpy()
        changed.to_csv(copy / "ptbxl_database.csv", index=False)
        assert read_all(copy, tmp_path).excluded[CONTRADICTED] == (2 if columns == ["scp_codes"] else 1)


def test_a_normal_report_that_says_otherwise_is_no_contradiction(copy: Path, tmp_path: Path) -> None:
    table = make_texts(copy)
    table["report"] = "sinus rhythm. t abnormal. otherwise normal ecg."
    table["infarction_stadium1"] = "unknown"
    table.to_csv(copy / "ptbxl_database.csv", index=False)
    assert CONTRADICTED not in read_all(copy, tmp_path).excluded


@pytest.mark.realdata
def test_the_published_table_contradicts_itself_nowhere(tmp_path: Path) -> None:
    real = ROOT / "data" / "ptb-xl"
    if not (real / "ptbxl_database.csv").is_file():
        pytest.skip(f"PTB-XL is not in {real}")
    few = tmp_path / "few"
    shutil.copytree(real / "records100" / "00000", few / "records100" / "00000")
    shutil.copy(real / "scp_statements.csv", few)
    pd.read_csv(real / "ptbxl_database.csv", dtype=str, keep_default_na=False).to_csv(
        few / "ptbxl_database.csv", index=False
    )
    assert not {CONTRADICTED, NOT_NAMED} & set(read_all(few, tmp_path / "store").excluded)
