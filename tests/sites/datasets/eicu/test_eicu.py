"""eICU's reader on generated tables: stays, sites, and what is counted as excluded."""

from __future__ import annotations

import gzip
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from common.errors import DataError
from common.sections.data import SitesConfig
from common.settings import validate_settings
from sites import splits
from sites.datasets import eicu
from sites.datasets.eicu import hospitals, tables
from sites.datasets.eicu import stays as eicu_stays
from tests.sites.datasets.eicu.eicu_tables import everyone, make_options, rewrite, table

TOO_FAST = "heartrate outside 10 to 300 1/min, read as not measured"
REGION = {1: "west", 2: "west", 3: "south", 4: "south"}


def resolved(stays: Sequence[tuple[int, str, int]], by: str, fewest: int) -> hospitals.SiteAssignment:
    hospital, person, died = zip(*stays, strict=True)
    return hospitals.assign_sites(hospital, person, died, REGION, by, fewest)  # type: ignore[arg-type]


def test_a_person_stays_where_most_of_their_stays_are_and_else_where_the_first_is() -> None:
    others = [(1, "a", 0), (1, "b", 1), (3, "c", 0), (3, "d", 1)]
    result = resolved([*others, (1, "x", 0), (3, "x", 1), (3, "x", 0), (3, "y", 0), (2, "y", 1)], "region", 1)
    assert result.site[4:] == (None, "south", "south", "south", None)
    assert Counter(result.reason) == {None: 7, hospitals.AT_OTHER_SITE: 2}
    # hospitals 1 and 2 are both in the west: no second site, nobody is left out
    assert None not in resolved([*others, (1, "x", 0), (2, "x", 1)], "region", 1).site


def test_a_small_hospital_joins_its_region_and_a_small_region_is_left_out() -> None:
    stays = [(1, f"a{i}", i % 2) for i in range(6)]
    stays += [(2, f"b{i}", i % 2) for i in range(5)] + [(3, f"c{i}", i % 2) for i in range(3)]
    result = resolved(stays, "hospital", 6)
    assert Counter(result.site) == {"hospital-1": 6, None: 8}  # the west without hospital 1 has five people
    assert Counter(result.reason) == {None: 6, hospitals.SITE_TOO_SMALL: 8}
    assert Counter(resolved(stays, "hospital", 5).site) == {"hospital-1": 6, "hospital-2": 5, None: 3}
    assert Counter(resolved([*stays, (4, "d", 1)], "hospital", 4).site)["south"] == 4


def test_a_hospital_with_one_outcome_joins_its_region() -> None:
    stays = [(1, f"a{i}", i % 2) for i in range(6)] + [(3, f"c{i}", i % 2) for i in range(6)]
    result = resolved(
        [*stays, *((4, f"d{i}", 0) for i in range(6)), *((2, f"b{i}", 1) for i in range(6))], "hospital", 3
    )
    # what is left of the south are the survivors of hospital 4, and of the west the dead of hospital 2
    assert Counter(result.site) == {"hospital-1": 6, "hospital-3": 6, None: 12}
    assert set(result.reason[12:]) == {hospitals.SITE_TOO_SMALL}


def test_what_was_left_out_is_counted_once_over_all_sites(mine: Path, store: Path) -> None:
    def twice(result: pd.DataFrame) -> None:
        home = result.groupby("hospitalid")["uniquepid"].first()
        result.loc[result["uniquepid"] == home.iloc[1], "uniquepid"] = home.iloc[0]

    rewrite(mine, "patient", twice)
    rewrite(mine, "apacheApsVar", lambda result: result.assign(heartrate=["999", *result["heartrate"][1:]]))
    rows = table(mine, "patient")
    unknown = set(rows["patientunitstayid"][rows["hospitaldischargestatus"] == ""])
    scored = set(table(mine, "apacheApsVar")["patientunitstayid"])
    for by in ("region", "hospital"):
        total: Counter[str] = Counter()
        options = make_options(by=by)
        patients = eicu.patients(mine, options, store)
        for site in {item.site for item in patients}:
            total += Counter(eicu.read(mine, options, [p.id for p in patients if p.site == site], store).excluded)
        assert total[eicu_stays.NO_APACHE] == len(rows) - len(scored) > 0
        assert total[eicu_stays.NO_OUTCOME] == len(unknown & scored) > 0
        assert total[TOO_FAST] == 1
        assert total[hospitals.AT_OTHER_SITE] >= 1
        assert len(rows) == len(patients) + sum(total.values()) - total[TOO_FAST]


def test_regions_hold_whole_hospitals_that_folds_keep_together(made: Path, mine: Path, store: Path) -> None:
    rewrite(mine, "hospital", lambda result: result.assign(region=["West", "West", "West", "", ""]))
    patients = eicu.patients(mine, make_options(), store)
    assert {item.site for item in patients} == {"west", "region-unknown"}
    hospital = table(mine, "patient").set_index("patientunitstayid")["hospitalid"]
    assert all(item.group == hospital[item.id] for item in patients)
    west = [item for item in patients if item.site == "west"]
    cohort = eicu.read(mine, make_options(), [item.id for item in west], store)
    tested = []
    for fold in range(3):
        wanted = validate_settings(
            SitesConfig, {"split": "folds", "folds": 3, "fold": fold, "validation": 0.0}, "sites"
        )
        done = splits.assign_split(cohort, west, wanted, 1, "west")
        sides = {side: {hospital[done.patients[i]] for i in done.part(side).patient} for side in ("train", "test")}
        assert not sides["train"] & sides["test"]
        tested += sorted(sides["test"])
    assert sorted(tested) == sorted(set(hospital[[item.id for item in west]]))
    # a site that is one hospital has nothing to keep together
    assert {item.group for item in eicu.patients(made, make_options(), store)} == {None}
    assert {item.site for item in eicu.patients(made, make_options(by="hospital"), store)} == {
        f"hospital-{60 + 7 * number}" for number in range(5)
    }


def test_one_hospitals_own_folder_is_one_site(mine: Path, store: Path) -> None:
    for name in ("patient", "hospital"):
        rewrite(mine, name, lambda result: result[result["hospitalid"] == "67"])
    patients = eicu.patients(mine, make_options(by="hospital"), store)
    assert {(item.site, item.group) for item in patients} == {("hospital-67", None)}
    cohort = eicu.read(mine, make_options(by="hospital"), [item.id for item in patients], store)
    # the APACHE tables were left whole: rows of others are counted, and not read
    assert cohort.excluded[eicu_stays.NOT_IN_PATIENT_TABLE] > len(patients)
    # the same rows in the folder itself, not below eicu-crd-demo, and not packed
    flat = mine / "flat"
    flat.mkdir()
    for name in ("patient", "hospital", "apacheApsVar", "apachePredVar"):
        text = gzip.decompress((mine / "eicu-crd-demo" / f"{name}.csv.gz").read_bytes())
        (flat / f"{name.lower()}.csv").write_bytes(text)
    assert eicu.patients(flat, make_options(by="hospital"), store) == patients


def test_age_sex_and_missing_values_of_a_row(mine: Path, store: Path) -> None:
    ids, _ = everyone(mine, make_options(), store)
    chosen = ids[:4]

    def change(result: pd.DataFrame) -> None:
        row = result["patientunitstayid"]
        for name, age, gender in zip(chosen, ("> 89", "17", "", "88"), ("Female", "Male", "", "Other"), strict=True):
            result.loc[row == name, ["age", "gender"]] = [age, gender]

    rewrite(mine, "patient", change)

    def empty(result: pd.DataFrame) -> None:
        result[["albumin", "wbc"]] = ["-1", ""]
        result.loc[result["patientunitstayid"] == chosen[1], "sodium"] = "700"  # no living patient's

    rewrite(mine, "apacheApsVar", empty)
    cohort = eicu.read(mine, make_options(encoding="raw"), chosen[::-1], store)
    assert cohort.age is not None
    assert cohort.sex is not None
    np.testing.assert_array_equal(cohort.age[::-1], [90, 17, np.nan, 88])
    assert cohort.sex[::-1].tolist() == [0, 1, -1, -1]
    column = dict(zip(cohort.task.features, cohort.features.T, strict=True))
    np.testing.assert_array_equal(column["age"], cohort.age)
    np.testing.assert_array_equal(column["male"], [np.nan, np.nan, 1, 0])
    for name in ("albumin", "wbc"):
        assert np.isnan(column[name]).all()
        assert not column[f"{name} measured"].any()
    assert np.isnan(column["sodium"][::-1][1])
    assert column["sodium measured"][::-1][1] == 0
    assert cohort.excluded["sodium outside 80 to 220 mmol/L, read as not measured"] == 1
    assert cohort.patients == tuple(chosen[::-1])
    assert cohort.synthetic


def test_a_second_reading_opens_no_table_and_a_changed_table_is_read_again(
    mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids, first = everyone(mine, make_options(), tmp_path / "store")
    with monkeypatch.context() as patch:
        patch.setattr(tables, "read_table", None)
        again = everyone(mine, make_options(by="hospital"), tmp_path / "store")[1]
    same = [name for name in ids if name in again]
    assert len(same) > 100
    np.testing.assert_array_equal(*(np.array([result[name] for name in same]) for result in (first, again)))
    rewrite(mine, "apacheApsVar", lambda result: result.assign(sodium="150"))
    changed = everyone(mine, make_options(), tmp_path / "store")[1]
    assert {row[eicu.task(make_options()).features.index("sodium")] for row in changed.values()} == {150.0}


def test_a_stay_that_is_not_there_is_not_named(made: Path, store: Path) -> None:
    with pytest.raises(DataError, match="a requested stay is not there") as caught:
        eicu.read(made, make_options(), ["4711"], store)
    assert "4711" not in str(caught.value)
