"""eICU's tables as hospitals export them: other units, other spellings, two copies, and what scoring does not need."""

from __future__ import annotations

import bz2
import gzip
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from common.config import parse_config
from common.errors import DataError
from common.settings import validate_settings
from sites import datasets
from sites.cohort import Cohort
from sites.datasets import Source, eicu
from sites.datasets.eicu import Options, simulate
from sites.unlabelled.tables import read_unlabelled_tables
from sites.unlabelled_rows import ScorableRows

Edit = Callable[[pd.DataFrame], pd.DataFrame]


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("eicu") / "generated"
    simulate.generate(folder, hospitals=3, stays=60, seed=1)
    return folder


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


def options(**changes: object) -> Options:
    return validate_settings(Options, {"by": "hospital", "min_patients": 5, "encoding": "raw"} | changes, "test")


def copy(generated: Path, target: Path, table: str = "", edit: Edit | None = None, name: str = "") -> Path:
    """Return a copy of the tables, one of them edited, under another file name if given."""
    target.mkdir()
    for path in (generated / "eicu-crd-demo").glob("*.csv.gz"):
        frame = pd.read_csv(path, dtype=str, keep_default_na=False)
        if path.name != f"{table}.csv.gz":
            (target / path.name).write_bytes(path.read_bytes())
            continue
        frame = edit(frame) if edit else frame
        text = frame.to_csv(index=False).encode()
        name = name or path.name
        (target / name).write_bytes(gzip.compress(text) if name.lower().endswith(".gz") else text)
    return target


def whole(folder: Path, store: Path, **changes: object) -> Cohort:
    wanted = options(**changes)
    return eicu.read(folder, wanted, [item.id for item in eicu.patients(folder, wanted, store)], store)


def scored(folder: Path, store: Path, **changes: object) -> ScorableRows:
    raw = {"data": {"dataset": "eicu", "options": options(**changes).model_dump(mode="json")}}
    source: Source = replace(datasets.open_source(parse_config(raw), folder), store=store)
    (rows,) = read_unlabelled_tables(source)
    return rows


WRONG: dict[str, tuple[str, Edit, str]] = {
    "two spellings": ("patient", lambda t: t.assign(AGE=t["age"]), "2 columns are called age, in some spelling"),
    "a column twice": (
        "patient",
        lambda t: t.set_axis([name if name != "wardid" else "age" for name in t], axis=1),
        "2 columns are called age",
    ),
    "a stay with a fraction": (
        "apacheApsVar",
        lambda t: t.assign(patientunitstayid=t["patientunitstayid"] + ".5"),
        "cells of the column patientunitstayid are not whole numbers",
    ),
    "a hospital with a fraction": (
        "patient",
        lambda t: t.assign(hospitalid=t["hospitalid"] + ".5"),
        "cells of the column hospitalid are not whole numbers",
    ),
}


@pytest.mark.parametrize(("table", "edit", "line"), WRONG.values(), ids=WRONG)
def test_what_is_ambiguous_is_refused(
    generated: Path, tmp_path: Path, store: Path, table: str, edit: Edit, line: str
) -> None:
    folder = copy(generated, tmp_path / "case", table, edit)
    for read in (whole, scored):
        with pytest.raises(DataError, match=line) as caught:
            read(folder, store)
        assert f"{table}.csv.gz: " in str(caught.value)


def test_two_copies_of_a_table_are_refused(generated: Path, tmp_path: Path, store: Path) -> None:
    folder = copy(generated, tmp_path / "case")
    (folder / "patient.csv").write_bytes(gzip.decompress((folder / "patient.csv.gz").read_bytes())[:2000])
    with pytest.raises(DataError, match=r"patient\.csv and patient\.csv\.gz are two copies of one table; remove one"):
        whole(folder, store)


SAME: dict[str, tuple[str, Edit, str]] = {
    "upper-case names": ("patient", lambda t: t.rename(columns=str.upper), ""),
    "upper-case file": ("patient", lambda t: t, "PATIENT.CSV.GZ"),
    "not packed": ("apacheApsVar", lambda t: t, "apacheapsvar.CSV"),
    "stays as 1.0": ("apacheApsVar", lambda t: t.assign(patientunitstayid=t["patientunitstayid"] + ".0"), ""),
    "a column of text": ("patient", lambda t: t.assign(note='a, "b"\nc'), ""),
    "missing as -1.0": ("apacheApsVar", lambda t: t.assign(albumin=t["albumin"].replace("-1.0", "-1")), ""),
    "a byte order mark": ("patient", lambda t: t.rename(columns={t.columns[0]: "\ufeff" + t.columns[0]}), ""),
}


@pytest.mark.parametrize(("table", "edit", "name"), SAME.values(), ids=SAME)
def test_what_means_the_same_is_read_alike(
    generated: Path, tmp_path: Path, store: Path, table: str, edit: Edit, name: str
) -> None:
    folder = copy(generated, tmp_path / "case", table, edit, name)
    plain, cohort = whole(generated, store), whole(folder, store)
    np.testing.assert_array_equal(cohort.features, plain.features)
    assert cohort.patients == plain.patients


def unknown_outcome(table: pd.DataFrame) -> pd.DataFrame:
    status = table["hospitaldischargestatus"]
    return table.assign(hospitaldischargestatus=status.where(table.index >= 9, ""))


@pytest.mark.parametrize("view", ["day", "hours"])
def test_scoring_needs_no_outcome_and_leaves_out_no_one_for_training_s_reasons(
    generated: Path, tmp_path: Path, store: Path, view: str
) -> None:
    def edit(table: pd.DataFrame) -> pd.DataFrame:
        stays = table.drop(columns="hospitaldischargestatus")
        return stays.assign(uniquepid=stays["uniquepid"].iloc[0])

    folder = copy(generated, tmp_path / "case", "patient", edit)
    hourly = tmp_path / "yaib-demo" / "eicu_demo"
    hourly.mkdir(parents=True)
    for name in ("dyn", "sta"):
        path = generated / "yaib-demo" / "eicu_demo" / f"{name}.parquet"
        (hourly / path.name).write_bytes(path.read_bytes())
    with pytest.raises(DataError):
        whole(folder, store, view=view)
    rows = scored(folder, store, view=view)
    blank = copy(generated, tmp_path / "blank", "patient", unknown_outcome) if view == "day" else generated
    plain = whole(blank, store, view=view)
    index = {name: i for i, name in enumerate(rows.cohort.patients)}
    assert len(index) > len(plain.patients) or view == "hours"
    mine = rows.cohort.take(np.asarray([index[name] for name in plain.patients]))
    np.testing.assert_array_equal(mine.features, plain.features)
    np.testing.assert_array_equal(mine.x, plain.x)  # type: ignore[arg-type]
    assert not [item for item in rows.exclusions if "outcome" in item.reason or "another site" in item.reason]


def as_bytes(generated: Path, table: str) -> bytes:
    return gzip.decompress((generated / "eicu-crd-demo" / f"{table}.csv.gz").read_bytes())


UNREADABLE: dict[str, tuple[str, str, Callable[[bytes], bytes], str]] = {
    "split by ;": ("patient", ".csv", lambda b: b.replace(b",", b";"), "no column patientunitstayid"),
    "decimal commas": (
        "apacheApsVar", ".csv", lambda b: b.replace(b",", b";").replace(b".", b","), "cannot be read as a table",
    ),
    "a comma more in a row": (
        "patient", ".csv", lambda b: b.replace(b",Emergency", b",Ward, Emergency", 1), "a row has 30 cells",
    ),
    "a cell less in a row": (
        "apacheApsVar", ".csv", lambda b: b[:-1].rpartition(b",")[0] + b"\n", "a row has 25 cells, the first 26",
    ),
    "a cell more in every row": (
        "patient", ".csv", lambda b: b.replace(b"\n", b",\n").replace(b",\n", b"\n", 1), "a row has 30 cells",
    ),
    "packed by bzip2": ("patient", ".csv.gz", bz2.compress, "cannot be read as a table"),
    "truncated": ("patient", ".csv.gz", lambda b: gzip.compress(b)[:-200], "cannot be read as a table"),
    "UTF-16": ("patient", ".csv", lambda b: b.decode().encode("utf-16"), "cannot be read as a table"),
    "Latin-1": (
        "patient", ".csv", lambda b: b.replace(b"Emergency Department", b"Urg\xeances"), "cannot be read as a table",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("table", "suffix", "edit", "line"), UNREADABLE.values(), ids=UNREADABLE)
def test_a_table_in_another_form_is_refused(
    generated: Path,
    tmp_path: Path,
    store: Path,
    table: str,
    suffix: str,
    edit: Callable[[bytes], bytes],
    line: str,
) -> None:
    folder = copy(generated, tmp_path / "case")
    (folder / f"{table}.csv.gz").unlink()
    (folder / f"{table}{suffix}").write_bytes(edit(as_bytes(generated, table)))
    for read in (whole, scored):
        with pytest.raises(DataError) as caught:
            read(folder, store)
        assert str(caught.value).startswith(f"{folder / table}{suffix}: ")
        assert line in str(caught.value)


def test_a_packed_table_is_recognised_by_its_content(generated: Path, store: Path, tmp_path: Path) -> None:
    plain = scored(copy(generated, tmp_path / "plain"), store)
    for case, name, pack in (("packed", "patient.csv", gzip.compress), ("not", "patient.csv.gz", bytes)):
        folder = copy(generated, tmp_path / case)
        content = gzip.decompress((folder / "patient.csv.gz").read_bytes())
        (folder / "patient.csv.gz").unlink()
        (folder / name).write_bytes(pack(content))
        np.testing.assert_array_equal(scored(folder, store).cohort.features, plain.cohort.features)


def test_spaces_and_case_make_no_other_person_source_or_outcome(generated: Path, store: Path, tmp_path: Path) -> None:
    plain = whole(copy(generated, tmp_path / "plain"), store)

    def spaced(frame: pd.DataFrame) -> pd.DataFrame:
        padded = [f" {who} " if i % 2 else who for i, who in enumerate(frame["uniquepid"])]
        source = frame["unitadmitsource"].str.upper() + " "
        return frame.assign(uniquepid=padded, unitadmitsource=source, gender=frame["gender"].str.upper() + " ")

    odd = whole(copy(generated, tmp_path / "odd", "patient", spaced), store)
    assert odd.persons == plain.persons
    assert len(set(odd.persons)) < len(odd.persons)
    np.testing.assert_array_equal(odd.features, plain.features)
