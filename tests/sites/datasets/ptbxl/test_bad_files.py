"""PTB-XL: tables, signals and options that are wrong are named."""

from __future__ import annotations

import ast
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from common.errors import ConfigError
from sites.datasets import ptbxl
from sites.datasets.ptbxl import recordings as ptbxl_records
from sites.ecg.signals import read_leads
from tests.refusals import refused
from tests.sites.datasets.ptbxl.ptbxl_folders import edit, options, read_all

BAD_CELLS: list[tuple[dict[str, object], tuple[str, ...]]] = [
    ({"ecg_id": 1}, ("line 4", "ecg_id appears twice")),
    ({"ecg_id": "1.5"}, ("line 4", "ecg_id is not a whole number")),
    ({"patient_id": ""}, ("line 4", "patient_id is not a whole number")),
    ({"patient_id": "Meier"}, ("line 4", "patient_id is not a number")),
    ({"age": "sixty"}, ("line 4", "age is not a number")),
    ({"age": 222}, ("line 4", "age is not a number of years")),
    ({"sex": 2}, ("line 4", "sex is neither 0 (male) nor 1 (female)")),
    ({"site": "north"}, ("line 4", "site is not a number")),
    ({"strat_fold": 11}, ("line 4", "strat_fold is not 1 to 10")),
    ({"strat_fold": ""}, ("line 4", "strat_fold is not 1 to 10")),
    ({"scp_codes": "NORM"}, ("line 4", "scp_codes does not hold statements")),
    ({"scp_codes": "{'NORM': 'high'}"}, ("line 4", "scp_codes does not hold statements")),
    ({"scp_codes": "{'XYZ': 100.0}"}, ("line 4", "a statement of scp_codes is not in scp_statements.csv")),
    ({"filename_lr": "records100/00000/00001_lr"}, ("line 4", "filename_lr appears twice")),
    ({"filename_lr": "../../other/00001_lr"}, ("line 4", "filename_lr does not name a file below this folder")),
    ({"filename_hr": ""}, ("line 4", "filename_hr does not name a file below this folder")),
    ({"filename_lr": "records100/00000/lost"}, ("no header", "lost.hea")),
    ({"filename_lr": "records100/00000/99999_lr"}, ("line 4", "filename_lr names the file of another ecg_id")),
    ({"filename_lr": "./records100/00000/00001_lr"}, ("line 4", "filename_lr appears twice")),
    ({"ecg_id": "02"}, ("line 4", "ecg_id appears twice")),
    ({"ecg_id": "9007199254740993"}, ("line 4", "ecg_id is not a whole number below 2^53")),
    ({"scp_codes": "{'NORM': 1000.0}"}, ("line 4", "scp_codes does not hold statements")),
    ({"scp_codes": "{'NORM': 1e400}"}, ("line 4", "scp_codes does not hold statements")),
    ({"scp_codes": "{'NORM': True}"}, ("line 4", "scp_codes does not hold statements")),
]


@pytest.mark.parametrize(
    ("cells", "said"), BAD_CELLS, ids=[f"{next(iter(c))}-{i}" for i, (c, _) in enumerate(BAD_CELLS)]
)
def test_a_bad_cell_is_named_by_line_and_column(
    copy: Path, tmp_path: Path, cells: dict[str, object], said: tuple[str, ...]
) -> None:
    edit(copy, 2, **cells)
    text = refused(lambda: ptbxl.patients(copy, options(), tmp_path), *said)
    for value in ("Meier", "sixty", "222", "north", "XYZ", "high"):
        assert value not in text


def test_bad_tables_and_folders_are_named(copy: Path, tmp_path: Path) -> None:
    refused(lambda: ptbxl.patients(tmp_path / "lost", options(), tmp_path), f"no data folder {tmp_path / 'lost'}")
    (tmp_path / "empty").mkdir()
    refused(lambda: ptbxl.patients(tmp_path / "empty", options(), tmp_path), "no recordings in", "ptbxl_database.csv")
    refused(lambda: ptbxl.read(copy, options(), [], tmp_path), "no recordings of")
    refused(lambda: ptbxl.read(copy, options(), ["1", "77777"], tmp_path), "1 recordings to read are not in")
    database = copy / "ptbxl_database.csv"
    table = pd.read_csv(database, dtype=str)
    table.drop(columns=["site", "strat_fold"]).to_csv(database, index=False)
    refused(lambda: ptbxl.patients(copy, options(), tmp_path), "has no column site, strat_fold")
    table.iloc[:0].to_csv(database, index=False)
    refused(lambda: ptbxl.patients(copy, options(), tmp_path), "no recordings in", "has no rows")
    database.write_bytes(b"\xff\xfe\x00nonsense\n\x00")
    refused(lambda: ptbxl.patients(copy, options(), tmp_path), "is not a table")
    table.to_csv(database, index=False)
    (copy / "scp_statements.csv").write_text(",diagnostic,diagnostic_class\nNORM,1.0,HEALTHY\n")
    refused(
        lambda: ptbxl.patients(copy, options(), tmp_path), "scp_statements.csv, line 2: diagnostic_class is none of"
    )
    (copy / "scp_statements.csv").unlink()
    refused(lambda: ptbxl.patients(copy, options(), tmp_path), "no recordings in", "scp_statements.csv")


def test_bad_signal_files_are_named(copy: Path, tmp_path: Path) -> None:
    home = copy / "records100" / "00000"
    data = home / "00002_lr.dat"
    whole = data.read_bytes()
    data.write_bytes(whole[:-10])
    refused(lambda: ptbxl.patients(copy, options(), tmp_path), "00002_lr.dat is truncated, 23990 of 24000 bytes")
    data.unlink()
    refused(lambda: ptbxl.patients(copy, options(), tmp_path), "names the signal file 00002_lr.dat")
    data.write_bytes(whole)
    header = home / "00002_lr.hea"
    header.write_text(header.read_text().replace("12 100 1000", "12 250 1000"))
    refused(lambda: ptbxl.patients(copy, options(), tmp_path), "1000 samples at 250 Hz, not 10 s at 100 Hz")


def test_options_that_cannot_be(tmp_path: Path) -> None:
    for given, said in (
        ({"view": "beats", "leads": ["I", "II", "V1"]}, "the view beats takes one or two"),
        ({"leads": ["I", "I"]}, "one of them is listed twice"),
        ({"rate": 250}, "rate"),
        ({"leads": ["MLII"]}, "leads"),
    ):
        with pytest.raises(ConfigError, match=said):
            options(**given)
    folder = ptbxl.default_folder(options(simulated=True, patients=8), tmp_path, 1)
    assert (folder / "ptbxl_database.csv").is_file()


def test_a_second_reading_opens_no_signal_and_a_changed_file_does(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = read_all(copy, tmp_path)
    counted = Counter[str]()
    real = read_leads

    def counting(*given: Any) -> Any:
        counted["signals"] += 1
        return real(*given)

    monkeypatch.setattr(ptbxl_records, "read_leads", counting)
    np.testing.assert_array_equal(read_all(copy, tmp_path).x, first.x)
    assert counted["signals"] == 0
    header = copy / "records100" / "00000" / "00002_lr.hea"
    header.write_text(header.read_text().replace("1000/mV", "500/mV"))
    changed = read_all(copy, tmp_path)
    assert counted["signals"] > 0
    np.testing.assert_allclose(changed.x[changed.patient == 1], 2 * first.x[first.patient == 1], rtol=1e-6)
    edit(copy, 0, age=44)
    assert read_all(copy, tmp_path).age[0] == 44


def test_likelihoods_as_shares_are_refused(made: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(made, tmp_path / "copy")
    path = folder / "ptbxl_database.csv"
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    table["scp_codes"] = [
        str({code: value / 100 for code, value in ast.literal_eval(cell).items()}) for cell in table["scp_codes"]
    ]
    table.to_csv(path, index=False)
    refused(lambda: ptbxl.patients(folder, options(), tmp_path), "the likelihoods of scp_codes are at most 1")


def test_a_person_of_two_sexes_is_of_none_and_counted(copy: Path, tmp_path: Path) -> None:
    table = pd.read_csv(copy / "ptbxl_database.csv", dtype=str, keep_default_na=False)
    for row, sex in ((2, 0), (3, 1)):
        edit(copy, row, patient_id=table["patient_id"][2], sex=sex, strat_fold=1, scp_codes="{'NORM': 100.0}")
    cohort = read_all(copy, tmp_path)
    assert cohort.sex is not None
    assert cohort.sex[2:4].tolist() == [-1, -1]
    assert cohort.excluded["recordings of a person with both sexes, read as unknown (not left out)"] == 2


def test_a_person_in_two_folds_is_refused(copy: Path, tmp_path: Path) -> None:
    edit(copy, 2, patient_id=777, strat_fold=1)
    edit(copy, 3, patient_id=777, strat_fold=10)
    refused(
        lambda: ptbxl.patients(copy, options(), tmp_path),
        "line 4",
        "strat_fold differs from that of the person's other",
    )


def test_statements_that_contradict_themselves_are_refused(copy: Path, tmp_path: Path) -> None:
    path = copy / "scp_statements.csv"
    whole = path.read_text()
    path.write_text(whole.replace(",1.0,", ",,", 1))
    refused(lambda: ptbxl.patients(copy, options(), tmp_path), "diagnostic_class is stated, but diagnostic is not 1")
    path.write_text(whole + whole.splitlines()[1] + "\n")
    refused(lambda: ptbxl.patients(copy, options(), tmp_path), "a statement appears twice")
