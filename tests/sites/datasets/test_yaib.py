"""The hourly layout of YAIB: any hospital's three files, with eICU's inputs, and what is refused."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from common.config import parse_config
from common.errors import DataError
from sites import datasets
from sites.cohort import Cohort
from sites.datasets import eicu, yaib
from sites.datasets.eicu import hourly
from sites.datasets.yaib import Options, simulate
from sites.unlabelled.tables import read_unlabelled_tables
from sites.unlabelled_rows import ScorableRows

DATA = Path(__file__).resolve().parents[3] / "data"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    simulate.generate(tmp_path / "data", hospitals=2, stays=40, seed=1)
    return tmp_path / "data"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


def whole(folder: Path, store: Path, options: Options | None = None) -> Cohort:
    options = options or Options()
    return yaib.read(folder, options, [item.id for item in yaib.patients(folder, options, store)], store)


def scored(folder: Path, store: Path) -> list[ScorableRows]:
    source = datasets.open_source(parse_config({"data": {"dataset": "yaib"}}), folder)
    return list(read_unlabelled_tables(replace(source, store=store)))


def rewrite(path: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    change(pd.read_parquet(path)).to_parquet(path, index=False)


def test_inputs_and_labels_are_those_of_the_files(folder: Path, store: Path) -> None:
    cohort = whole(folder, store, Options(carry=False, mask=False))
    start = 0
    for home in sorted(folder.glob("hospital-*")):
        dyn, sta, outc = (pd.read_parquet(home / f"{name}.parquet") for name in ("dyn", "sta", "outc"))
        part = slice(start, start + len(sta))
        assert cohort.patients[part] == tuple(f"{home.name}-{stay}" for stay in sta["stay_id"])
        np.testing.assert_array_equal(cohort.y[part], outc["label"])
        np.testing.assert_array_equal(cohort.x[part, 22], dyn["hr"].to_numpy(np.float32).reshape(-1, 25))  # type: ignore[index]
        np.testing.assert_array_equal(cohort.features[part, 0], sta["age"].astype(np.float32))
        assert cohort.sex is not None
        np.testing.assert_array_equal(cohort.sex[part], sta["sex"].map({"Female": 0, "Male": 1}))
        start += len(sta)
    assert start == len(cohort.y)
    assert {item.site for item in yaib.patients(folder, Options(), store)} == {"hospital-1", "hospital-2"}


def test_one_hospitals_own_folder_is_read_as_among_the_others(folder: Path, store: Path) -> None:
    own = yaib.patients(folder / "hospital-2", Options(), store)
    assert {item.site for item in own} == {None}
    alone = whole(folder / "hospital-2", store)
    among = yaib.read(folder, Options(), [item.id for item in own], store)
    np.testing.assert_array_equal(alone.x, among.x)
    assert alone.excluded == among.excluded


def test_the_task_is_that_of_eicu_s_hours() -> None:
    assert yaib.task(Options()) == eicu.task(eicu.Options(view="hours"))
    assert set(yaib.bounds(Options())) >= set(yaib.task(Options()).channel_names)


def test_scoring_reads_no_outcome(folder: Path, store: Path) -> None:
    trained = whole(folder, store)
    for path in folder.glob("*/outc.parquet"):
        path.unlink()
    rows = scored(folder, store)
    assert [len(part.cohort.y) for part in rows] == np.bincount([name[9] == "2" for name in trained.patients]).tolist()
    np.testing.assert_array_equal(np.concatenate([part.cohort.x for part in rows]), trained.x)  # type: ignore[misc]
    with pytest.raises(DataError, match=r"outc\.parquet"):
        whole(folder, store)


def test_a_stay_without_a_measured_value_has_no_score(folder: Path, store: Path) -> None:
    path = folder / "hospital-1" / "dyn.parquet"
    first = int(pd.read_parquet(path)["stay_id"].iloc[0])
    rewrite(path, lambda t: t.assign(**{name: t[name].where(t["stay_id"] != first) for name in hourly.CHANNELS}))
    rows = scored(folder, store)[0]
    assert [(item.record, item.reason) for item in rows.exclusions] == [
        (f"hospital-1-{first}", "every value is missing")
    ]
    assert f"hospital-1-{first}" not in rows.cohort.patients


def test_hours_may_be_numbers(folder: Path, store: Path) -> None:
    before = whole(folder, store)
    for path in folder.glob("*/dyn.parquet"):
        rewrite(path, lambda t: t.assign(time=t["time"] / pd.Timedelta(hours=1)))
    np.testing.assert_array_equal(whole(folder, store).x, before.x)


WRONG: dict[str, tuple[str, Callable[[pd.DataFrame], pd.DataFrame], str]] = {
    "another unit": ("dyn", lambda t: t.assign(temp=t["temp"] * 1.8 + 32), "the column temp cannot be in °C"),
    "no column": ("dyn", lambda t: t.drop(columns="glu"), "no column glu"),
    "weight in pounds": ("sta", lambda t: t.assign(weight=t["weight"] * 2.2), "weight cannot be in kg"),
    "height in inches": ("sta", lambda t: t.assign(height=t["height"] / 2.54), "height cannot be in cm"),
    "an hour missing": ("dyn", lambda t: t[1:], "1 stays do not have 25 hours"),
    "a stay twice": ("sta", lambda t: pd.concat([t, t[:1]]), "1 rows repeat the stay_id"),
    "another label": ("outc", lambda t: t.assign(label=3), "the column label holds other than 0 and 1"),
    "sex in other words": ("sta", lambda t: t.assign(sex="woman"), "cells of the column sex are none of"),
}


@pytest.mark.parametrize(("name", "change", "line"), WRONG.values(), ids=WRONG)
def test_a_wrong_file_is_one_clear_line(
    folder: Path, store: Path, name: str, change: Callable[[pd.DataFrame], pd.DataFrame], line: str
) -> None:
    path = folder / "hospital-2" / f"{name}.parquet"
    rewrite(path, change)
    with pytest.raises(DataError, match=line) as caught:
        yaib.patients(folder, Options(), store)
    assert str(path.parent) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_implausible_hour_is_missing_and_counted_where_its_stay_is_read(folder: Path, store: Path) -> None:
    options = Options(carry=False, mask=False)
    before = whole(folder, store, options)

    def change(table: pd.DataFrame) -> pd.DataFrame:
        table.loc[3, ["glu", "temp"]] = 5.5, 98.6
        return table

    rewrite(folder / "hospital-1" / "dyn.parquet", change)
    first, second = (
        yaib.read(folder, options, [name], store).excluded for name in (before.patients[0], before.patients[1])
    )
    what = {"glu outside 10 to 3000 mg/dL, read as not measured", "temp outside 15 to 45 °C, read as not measured"}
    assert what <= set(first)
    assert not what & set(second)


OTHER_UNITS = {"bili": 13.7, "hgb": 6.5, "bun": 6.4, "neut": 0.8, "ca": 2.2, "phos": 1.1, "crea": 0.09, "lact": 16.0}
"""µmol/L, mmol/L, mmol/L, a share, mmol/L, mmol/L, mmol/L, mg/dL."""


@pytest.mark.parametrize(("column", "value"), OTHER_UNITS.items())
def test_a_unit_that_only_many_patients_reveal_is_refused(folder: Path, store: Path, column: str, value: float) -> None:
    rewrite(folder / "hospital-1" / "dyn.parquet", lambda t: t.assign(**{column: value}))
    for read in (whole, scored):
        with pytest.raises(DataError, match=f"the column {column} cannot be in"):
            read(folder, store)


def test_a_code_for_missing_is_missing_and_counted(folder: Path, store: Path) -> None:
    rewrite(folder / "hospital-1" / "dyn.parquet", lambda t: t.assign(alp=t["alp"].where(t["alp"].isna(), 999.0)))
    assert any(what == "alp of 999 or the like, a code, read as not measured" for what in whole(folder, store).excluded)


def test_a_hospital_whose_tables_are_of_another_kind_is_not_left_out_without_a_word(folder: Path, store: Path) -> None:
    dyn = folder / "hospital-2" / "dyn.parquet"
    pd.read_parquet(dyn).to_csv(dyn.with_suffix(".csv"))
    dyn.unlink()
    for read in (whole, scored):
        with pytest.raises(DataError, match=r"hospital-2 holds \w+\.\w+, but no dyn\.parquet"):
            read(folder, store)


@pytest.mark.realdata
def test_the_demo_is_read_as_eicu_reads_it(store: Path) -> None:
    """1,367 stays and 70 deaths, with the inputs that eICU's view of the hours has of the same stays."""
    if not (DATA / "yaib-demo").is_dir():
        if os.environ.get("WARDROUND_REQUIRE_DATA") == "1":
            pytest.fail(f"WARDROUND_REQUIRE_DATA=1, but {DATA} does not hold yaib-demo")
        pytest.skip(f"yaib-demo is not in {DATA}")
    cohort = whole(DATA / "yaib-demo", store)
    assert (len(cohort.y), int(cohort.y.sum()), cohort.synthetic) == (1367, 70, False)
    wanted = eicu.Options(view="hours", min_patients=1)
    patients = eicu.patients(DATA / "eicu-crd-demo", wanted, store)
    same = eicu.read(DATA / "eicu-crd-demo", wanted, [item.id for item in patients], store)
    row = {name.removeprefix("eicu_demo-"): i for i, name in enumerate(cohort.patients)}
    mine = cohort.take(np.asarray([row[name] for name in same.patients]))
    np.testing.assert_array_equal(mine.x, same.x)  # type: ignore[arg-type]
    np.testing.assert_array_equal(mine.features, same.features)
    np.testing.assert_array_equal(mine.y, same.y)


@pytest.mark.parametrize(("low", "high"), [("dbp", "sbp"), ("map", "sbp"), ("dbp", "map")])
def test_pressures_that_are_turned_round_are_refused(folder: Path, store: Path, low: str, high: str) -> None:
    home = sorted(path for path in folder.iterdir() if path.is_dir())[0]
    rewrite(home / "dyn.parquet", lambda table: table.rename(columns={low: high, high: low}))
    for read in (whole, scored):
        with pytest.raises(DataError, match=r"\w+ is mostly larger than \w+: are the two columns turned round"):
            read(folder, store)


def test_numbers_for_the_sex_are_refused(folder: Path, store: Path) -> None:
    home = sorted(path for path in folder.iterdir() if path.is_dir())[0]
    rewrite(home / "sta.parquet", lambda table: table.assign(sex=1))
    with pytest.raises(DataError, match="cells of the column sex are none of f, female"):
        whole(folder, store)
