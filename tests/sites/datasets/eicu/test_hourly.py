"""The hourly cohort of eICU, on generated files and on files that are wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from common.errors import DataError
from sites.datasets import eicu
from sites.datasets.eicu import hourly as eicu_hours
from sites.datasets.eicu import stays as eicu_stays
from tests.sites.datasets.eicu.eicu_tables import make_options, rewrite, table


def hourly(folder: Path, name: str) -> Path:
    return folder / "yaib-demo" / "eicu_demo" / f"{name}.parquet"


def test_hours_are_those_of_the_files_carried_forward_and_masked(made: Path, store: Path) -> None:
    options = make_options(view="hours")
    patients = eicu.patients(made, options, store)
    cohort = eicu.read(made, options, [item.id for item in patients], store)
    plain = eicu.read(made, make_options(view="hours", carry=False, mask=False), cohort.patients, store)
    assert cohort.x.shape == (len(patients), 96, 25)
    assert plain.x.shape == (len(patients), 48, 25)
    written, label = pd.read_parquet(hourly(made, "dyn")), pd.read_parquet(hourly(made, "outc"))
    dead = dict(zip(label["stay_id"].astype(str), label["label"], strict=True))
    assert [dead[name] for name in cohort.patients] == cohort.y.tolist()
    for position in range(0, len(patients), 40):
        rows = written[written["stay_id"] == int(cohort.patients[position])].sort_values("time")
        for number, channel in enumerate(eicu_hours.CHANNELS):
            last = np.nan
            for hour, value in enumerate(rows[channel].astype(np.float32)):
                last = last if np.isnan(value) else value
                assert cohort.x[position, number, hour] == last or np.isnan(last)
                assert np.isnan(cohort.x[position, number, hour]) == np.isnan(last)
                assert cohort.x[position, 48 + number, hour] == (not np.isnan(value))
                assert np.array_equal(plain.x[position, number, hour], value, equal_nan=True)
    assert cohort.task.channel_names[22] == "hr"
    assert cohort.task.channel_names[48 + 22] == "hr measured"
    assert cohort.age is not None
    np.testing.assert_array_equal(cohort.features[:, 0], cohort.age)
    outside = len(table(made, "patient")) - len(label)
    assert cohort.excluded[eicu_stays.NO_HOURS] == outside > 0


def test_the_hourly_cohort_is_read_inside_the_folder_or_next_to_it(mine: Path, store: Path) -> None:
    options = make_options(view="hours")
    inside = eicu.patients(mine, options, store)
    assert eicu.patients(mine / "eicu-crd-demo", options, store) == inside  # beside
    (mine / "yaib-demo").rename(mine / "elsewhere")
    with pytest.raises(DataError, match="no hourly cohort: put yaib-demo"):
        eicu.patients(mine, options, store)


def drop_rows(result: pd.DataFrame) -> pd.DataFrame:
    return result[3:]


HOURLY = [
    ("dyn", drop_rows, "dyn.parquet: 1 stays do not have 25 hours"),
    ("dyn", lambda t: t.drop(columns="hr"), "dyn.parquet: no column hr"),
    ("dyn", lambda t: t.assign(hr=t["hr"].astype(str)), "dyn.parquet: the column hr does not hold numbers"),
    ("dyn", lambda t: t.assign(temp=t["temp"] * 1.8 + 32), "dyn.parquet: the column temp cannot be in °C"),
    ("dyn", lambda t: t.assign(time=t["time"] * 2), "dyn.parquet: the hours of a stay do not run from 0 to 24"),
    ("dyn", lambda t: t.assign(time=t["hr"].astype(str)), "the column time does not hold times from admission"),
    ("sta", lambda t: pd.concat([t, t[:1]]), "sta.parquet: 1 rows repeat the stay_id"),
    ("outc", drop_rows, "dyn, sta and outc do not hold the same stays"),
    ("outc", lambda t: t.assign(label=2), "the column label holds other than 0 and 1"),
]


@pytest.mark.parametrize(("name", "change", "line"), HOURLY, ids=[line for *_, line in HOURLY])
def test_a_wrong_hourly_file_is_one_clear_line(
    mine: Path, store: Path, name: str, change: Callable[[pd.DataFrame], pd.DataFrame], line: str
) -> None:
    path = hourly(mine, name)
    change(pd.read_parquet(path)).to_parquet(path, index=False)
    with pytest.raises(DataError) as caught:
        eicu.patients(mine, make_options(view="hours"), store)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_or_damaged_hourly_file_is_one_clear_line(mine: Path, store: Path) -> None:
    path = hourly(mine, "outc")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match=r"outc.parquet: cannot be read as a table"):
        eicu.patients(mine, make_options(view="hours"), store)
    path.unlink()
    with pytest.raises(DataError, match=r"outc.parquet"):
        eicu.patients(mine, make_options(view="hours"), store)


def test_hourly_stays_that_no_patient_row_has_are_counted(mine: Path, store: Path) -> None:
    before = eicu.patients(mine, make_options(view="hours"), store)
    rewrite(mine, "patient", lambda result: result[~result["patientunitstayid"].isin([item.id for item in before[:2]])])
    after = eicu.patients(mine, make_options(view="hours"), store)
    assert after == before[2:]
    cohort = eicu.read(mine, make_options(view="hours"), [item.id for item in after], store)
    assert cohort.excluded[eicu_stays.NOT_IN_PATIENT_TABLE] == 2
