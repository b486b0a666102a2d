"""eICU's reader on generated tables, on small ones written by hand, and on tables that are wrong."""

from __future__ import annotations

import gzip
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from common.errors import ConfigError, DataError
from common.sections.data import SitesConfig
from common.settings import validate_settings
from sites import splits
from sites.datasets import eicu
from sites.datasets.eicu import Options, apache, features, hospitals, simulate, tables
from sites.datasets.eicu import hourly as eicu_hours
from sites.datasets.eicu import stays as eicu_stays

RELEASED = {
    "patient": "hospitaldischargeyear hospitaldischargetime24 hospitaldischargeoffset hospitaldischargelocation "
    "hospitaldischargestatus dischargeweight unitdischargetime24 unitdischargeoffset unitdischargelocation "
    "unitdischargestatus",
    "apachePredVar": "diedinhospital dischargelocation",
}
"""What of the tables that are read is known only when the stay is over."""
RESULT = (
    "physicianspeciality physicianinterventioncategory acutephysiologyscore apachescore apacheversion "
    "predictedicumortality actualicumortality predictediculos actualiculos predictedhospitalmortality "
    "actualhospitalmortality predictedhospitallos actualhospitallos preopmi preopcardiaccath ptcawithin24h "
    "unabridgedunitlos unabridgedhosplos actualventdays predventdays unabridgedactualventdays"
)
"""Everything in apachePatientResult but its keys."""

TOO_FAST = "heartrate outside 10 to 300 1/min, read as not measured"


def asked(**changes: object) -> Options:
    return validate_settings(Options, changes, "data.options of eicu")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five simulated hospitals in five regions, the last one's unknown, of about 50 stays each."""
    folder = tmp_path_factory.mktemp("eicu") / "made"
    simulate.generate(folder, hospitals=5, stays=50, seed=3)
    return folder


@pytest.fixture
def mine(made: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(made, tmp_path / "mine"))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("prepared")


def table(folder: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(folder / "eicu-crd-demo" / f"{name}.csv.gz", dtype=str, keep_default_na=False)


def rewrite(folder: Path, name: str, change: Callable[[pd.DataFrame], object]) -> None:
    """Change a table in place, or put what `change` returns in its place."""
    found = table(folder, name)
    changed = change(found)
    found = changed if isinstance(changed, pd.DataFrame) else found
    found.to_csv(folder / "eicu-crd-demo" / f"{name}.csv.gz", index=False)


def everyone(folder: Path, options: Options, store: Path) -> tuple[list[str], dict[str, np.ndarray]]:
    """Return the ids of all stays, and the features of each."""
    ids = [item.id for item in eicu.patients(folder, options, store)]
    return ids, dict(zip(ids, eicu.read(folder, options, ids, store).features, strict=True))


DAY = {
    "urine": 2500, "wbc": 10, "temperature": 37, "respiratoryrate": 20, "sodium": 140, "heartrate": 80, "meanbp": 90,
    "ph": np.nan, "hematocrit": 45, "creatinine": 1, "albumin": 3, "pao2": np.nan, "pco2": np.nan, "bun": 10,
    "glucose": 100, "bilirubin": 1, "fio2": np.nan, "eyes": 4, "motor": 6, "verbal": 5, "meds": 0, "intubated": 0,
    "vent": 0, "dialysis": 0, "age": 40,
}  # fmt: skip
"""A first day that gets no points in APACHE III."""


@pytest.mark.parametrize(
    ("changes", "where", "marks"),
    [
        ({}, "heartrate", 0),
        ({"heartrate": 39.9}, "heartrate", 8),
        ({"heartrate": 140}, "heartrate", 13),
        ({"meanbp": 40}, "meanbp", 15),
        ({"temperature": 33.4}, "temperature", 16),
        ({"respiratoryrate": 5}, "respiratoryrate", 17),
        ({"respiratoryrate": 5, "vent": 1}, "respiratoryrate", 17),
        ({"respiratoryrate": 6, "vent": 1}, "respiratoryrate", 0),
        ({"respiratoryrate": 12, "vent": 1}, "respiratoryrate", 0),
        ({"respiratoryrate": 13, "vent": 1}, "respiratoryrate", 7),
        ({"creatinine": 1.95}, "creatinine", 7),
        ({"creatinine": 1.5, "urine": 409}, "creatinine", 10),
        ({"creatinine": 1.5, "urine": 409, "dialysis": 1}, "creatinine", 4),
        ({"urine": 399}, "urine", 15),
        ({"bun": 17}, "bun", 2),
        ({"albumin": 1.9}, "albumin", 11),
        ({"bilirubin": 8}, "bilirubin", 16),
        ({"glucose": 59}, "glucose", 9),
        ({"age": 85}, "age", 24),
        ({"pao2": 49, "pco2": 40, "fio2": 40, "ph": 7.4}, "oxygen", 15),
        ({"pao2": 49, "pco2": 40, "fio2": 40, "ph": 7.4}, "acid and base", 0),
        # 0.5 * 713 - 40 - 60 = 256.5 mmHg
        ({"pao2": 60, "pco2": 40, "fio2": 50, "ph": 7.4, "intubated": 1}, "oxygen", 9),
        ({"pao2": 60, "pco2": 40, "fio2": 50, "ph": 7.4}, "oxygen", 5),
        ({"ph": 7.1, "pco2": 49}, "acid and base", 12),
        ({"ph": 7.1, "pco2": 50}, "acid and base", 4),
        ({"ph": 7.25, "pco2": 35}, "acid and base", 6),
        ({"ph": 7.45, "pco2": 33}, "acid and base", 0),
        ({"ph": 7.45, "pco2": 36}, "acid and base", 2),
        ({"ph": 7.65, "pco2": 24}, "acid and base", 0),
        ({"ph": 7.65, "pco2": 45}, "acid and base", 12),
        ({"eyes": 1, "verbal": 1, "motor": 1}, "neurologic", 48),
        ({"eyes": 2, "verbal": 1, "motor": 4}, "neurologic", 24),
        ({"verbal": 4, "motor": 5}, "neurologic", 8),
        ({"verbal": 2, "motor": 6}, "neurologic", 10),
        ({"motor": 5}, "neurologic", 3),
        ({"eyes": np.nan, "motor": np.nan, "verbal": np.nan}, "neurologic", np.nan),
        ({"eyes": np.nan, "motor": np.nan, "verbal": np.nan, "meds": 1}, "neurologic", 0),
        ({"wbc": np.nan}, "wbc", np.nan),
    ],
)
def test_points_are_those_of_the_score_sheet(changes: dict[str, float], where: str, marks: float) -> None:
    found = apache.compute_points(pd.DataFrame([DAY | changes]))
    np.testing.assert_array_equal(found[where], [marks])


def test_a_healthy_day_has_no_points_and_what_is_not_measured_adds_none() -> None:
    for changes in ({}, {"wbc": np.nan, "glucose": np.nan, "age": 90}):
        assert apache.physiology_score(apache.compute_points(pd.DataFrame([DAY | changes]))) == [0]


def test_bands_say_how_far_from_normal_a_value_lies_and_on_which_side() -> None:
    extra = dict.fromkeys((*features.PREDICTED, "electivesurgery", "male"), 0)
    rows = [{"heartrate": 38, "bun": 27}, {"heartrate": 70, "bun": 5}, {"heartrate": 130, "bun": np.nan}]
    day = pd.DataFrame([DAY | extra | row for row in rows]).assign(
        admitdiagnosis=["SEPSISGI", None, "S-CABG"], unitadmitsource=["Floor", None, "PACU"]
    )
    found = features.build_features(day, "bands", True, ())
    expected = {
        "heartrate": [38, 70, 130],
        "heartrate below 50": [12, 0, 0],
        "heartrate above 100": [0, 0, 30],
        "log bun": [np.log(28), np.log(6), np.nan],
        "bun above 17": [np.log(11), 0, np.nan],
        "bun measured": [1, 1, 0],
        "sepsis": [1, 0, 0],
        "heart surgery": [0, 0, 1],
        "no diagnosis": [0, 1, 0],
        "from a ward": [1, 0, 0],
        "from surgery": [0, 0, 1],
    }
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, err_msg=name)
    assert "bun below 0" not in found
    assert not any("below -inf" in name or "above inf" in name for name in found)


@pytest.mark.parametrize("encoding", ["raw", "bands", "points"])
@pytest.mark.parametrize("diagnosis", [True, False])
def test_no_feature_is_a_column_of_the_outcome(encoding: str, diagnosis: bool) -> None:
    options = asked(encoding=encoding, diagnosis=diagnosis, columns=("ejectfx", "admissionweight"))
    named = set(eicu.task(options).features)
    assert len(named) == len(eicu.task(options).features) > 50
    outcomes = set(f"{RELEASED['patient']} {RELEASED['apachePredVar']} {RESULT}".split())
    assert not {name.lower() for name in named} & outcomes


def test_no_feature_tells_the_outcome_alone(made: Path, store: Path) -> None:
    cohort = eicu.read(made, asked(), everyone(made, asked(), store)[0], store)
    for name, values in zip(cohort.task.features, cohort.features.T, strict=True):
        known = ~np.isnan(values)
        if len(np.unique(cohort.y[known])) == 2:
            assert 0.05 < roc_auc_score(cohort.y[known], values[known]) < 0.95, name


def test_features_do_not_move_when_everything_known_later_does(made: Path, mine: Path, store: Path) -> None:
    options = asked(columns=("activetx", "bedcount", "ejectfx", "graftcount", "ima", "midur", "visitnumber"))
    before = eicu_stays.load_stays(made, options, store)

    def spoil(names: str) -> Callable[[pd.DataFrame], None]:
        def change(found: pd.DataFrame) -> None:
            for name in names.split():
                found[name] = found[name].to_numpy()[::-1]

        return change

    def turned(found: pd.DataFrame) -> None:
        spoil(RELEASED["patient"].replace("hospitaldischargestatus", ""))(found)
        found["hospitaldischargestatus"] = found["hospitaldischargestatus"].replace(
            {"Alive": "Expired", "Expired": "Alive"}
        )

    rewrite(mine, "patient", turned)
    rewrite(mine, "apachePredVar", spoil(RELEASED["apachePredVar"]))
    after = eicu_stays.load_stays(mine, options, store)
    assert before.ids == after.ids
    np.testing.assert_array_equal(before.y, 1 - after.y)
    np.testing.assert_array_equal(before.features, after.features)


@pytest.mark.parametrize("name", sorted(set(f"{RELEASED['patient']} {RELEASED['apachePredVar']} {RESULT}".split())))
def test_a_column_of_the_outcome_is_refused_by_name(name: str) -> None:
    for written in (name, f"apachePatientResult.{name}", name.upper()):
        with pytest.raises(ConfigError, match=f"{name} holds the outcome"):
            asked(columns=(written,))


def test_other_columns_are_refused_with_the_right_ones() -> None:
    with pytest.raises(ConfigError, match="no further column uniquepid; choose from activetx, admissionheight"):
        asked(columns=("uniquepid",))
    with pytest.raises(ConfigError, match="twice"):
        asked(columns=("ejectfx", "ejectfx"))


def test_a_further_column_stands_last_with_its_values(made: Path, store: Path) -> None:
    _, found = everyone(made, asked(columns=("hospitaladmitoffset", "ejectfx")), store)
    written = table(made, "patient").set_index("patientunitstayid")["hospitaladmitoffset"].astype(float)
    for name, values in list(found.items())[:20]:
        assert values[-2] == written[name] < 0
        assert np.isnan(values[-1])  # -1


REGION = {1: "west", 2: "west", 3: "south", 4: "south"}


def settled(stays: Sequence[tuple[int, str, int]], by: str, fewest: int) -> hospitals.SiteAssignment:
    hospital, person, died = zip(*stays, strict=True)
    return hospitals.assign_sites(hospital, person, died, REGION, by, fewest)  # type: ignore[arg-type]


def test_a_person_stays_where_most_of_their_stays_are_and_else_where_the_first_is() -> None:
    others = [(1, "a", 0), (1, "b", 1), (3, "c", 0), (3, "d", 1)]
    found = settled([*others, (1, "x", 0), (3, "x", 1), (3, "x", 0), (3, "y", 0), (2, "y", 1)], "region", 1)
    assert found.site[4:] == (None, "south", "south", "south", None)
    assert Counter(found.reason) == {None: 7, hospitals.AT_OTHER_SITE: 2}
    # hospitals 1 and 2 are both in the west: no second site, nobody is left out
    assert None not in settled([*others, (1, "x", 0), (2, "x", 1)], "region", 1).site


def test_a_small_hospital_joins_its_region_and_a_small_region_is_left_out() -> None:
    stays = [(1, f"a{i}", i % 2) for i in range(6)]
    stays += [(2, f"b{i}", i % 2) for i in range(5)] + [(3, f"c{i}", i % 2) for i in range(3)]
    found = settled(stays, "hospital", 6)
    assert Counter(found.site) == {"hospital-1": 6, None: 8}  # the west without hospital 1 has five people
    assert Counter(found.reason) == {None: 6, hospitals.SITE_TOO_SMALL: 8}
    assert Counter(settled(stays, "hospital", 5).site) == {"hospital-1": 6, "hospital-2": 5, None: 3}
    assert Counter(settled([*stays, (4, "d", 1)], "hospital", 4).site)["south"] == 4


def test_a_hospital_with_one_outcome_joins_its_region() -> None:
    stays = [(1, f"a{i}", i % 2) for i in range(6)] + [(3, f"c{i}", i % 2) for i in range(6)]
    found = settled([*stays, *((4, f"d{i}", 0) for i in range(6)), *((2, f"b{i}", 1) for i in range(6))], "hospital", 3)
    # what is left of the south are the survivors of hospital 4, and of the west the dead of hospital 2
    assert Counter(found.site) == {"hospital-1": 6, "hospital-3": 6, None: 12}
    assert set(found.reason[12:]) == {hospitals.SITE_TOO_SMALL}


def test_what_was_left_out_is_counted_once_over_all_sites(mine: Path, store: Path) -> None:
    def twice(found: pd.DataFrame) -> None:
        home = found.groupby("hospitalid")["uniquepid"].first()
        found.loc[found["uniquepid"] == home.iloc[1], "uniquepid"] = home.iloc[0]

    rewrite(mine, "patient", twice)
    rewrite(mine, "apacheApsVar", lambda found: found.assign(heartrate=["999", *found["heartrate"][1:]]))
    rows = table(mine, "patient")
    unknown = set(rows["patientunitstayid"][rows["hospitaldischargestatus"] == ""])
    scored = set(table(mine, "apacheApsVar")["patientunitstayid"])
    for by in ("region", "hospital"):
        total: Counter[str] = Counter()
        options = asked(by=by)
        patients = eicu.patients(mine, options, store)
        for site in {item.site for item in patients}:
            total += Counter(eicu.read(mine, options, [p.id for p in patients if p.site == site], store).excluded)
        assert total[eicu_stays.NO_APACHE] == len(rows) - len(scored) > 0
        assert total[eicu_stays.NO_OUTCOME] == len(unknown & scored) > 0
        assert total[TOO_FAST] == 1
        assert total[hospitals.AT_OTHER_SITE] >= 1
        assert len(rows) == len(patients) + sum(total.values()) - total[TOO_FAST]


def test_regions_hold_whole_hospitals_that_folds_keep_together(made: Path, mine: Path, store: Path) -> None:
    rewrite(mine, "hospital", lambda found: found.assign(region=["West", "West", "West", "", ""]))
    patients = eicu.patients(mine, asked(), store)
    assert {item.site for item in patients} == {"west", "region-unknown"}
    hospital = table(mine, "patient").set_index("patientunitstayid")["hospitalid"]
    assert all(item.group == hospital[item.id] for item in patients)
    west = [item for item in patients if item.site == "west"]
    cohort = eicu.read(mine, asked(), [item.id for item in west], store)
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
    assert {item.group for item in eicu.patients(made, asked(), store)} == {None}
    assert {item.site for item in eicu.patients(made, asked(by="hospital"), store)} == {
        f"hospital-{60 + 7 * number}" for number in range(5)
    }


def test_one_hospitals_own_folder_is_one_site(mine: Path, store: Path) -> None:
    for name in ("patient", "hospital"):
        rewrite(mine, name, lambda found: found[found["hospitalid"] == "67"])
    patients = eicu.patients(mine, asked(by="hospital"), store)
    assert {(item.site, item.group) for item in patients} == {("hospital-67", None)}
    cohort = eicu.read(mine, asked(by="hospital"), [item.id for item in patients], store)
    # the APACHE tables were left whole: rows of others are counted, and not read
    assert cohort.excluded[eicu_stays.NOT_IN_PATIENT_TABLE] > len(patients)
    # the same rows in the folder itself, not below eicu-crd-demo, and not packed
    flat = mine / "flat"
    flat.mkdir()
    for name in ("patient", "hospital", "apacheApsVar", "apachePredVar"):
        text = gzip.decompress((mine / "eicu-crd-demo" / f"{name}.csv.gz").read_bytes())
        (flat / f"{name.lower()}.csv").write_bytes(text)
    assert eicu.patients(flat, asked(by="hospital"), store) == patients


def test_age_sex_and_missing_values_of_a_row(mine: Path, store: Path) -> None:
    ids, _ = everyone(mine, asked(), store)
    chosen = ids[:4]

    def change(found: pd.DataFrame) -> None:
        row = found["patientunitstayid"]
        for name, age, gender in zip(chosen, ("> 89", "17", "", "88"), ("Female", "Male", "", "Other"), strict=True):
            found.loc[row == name, ["age", "gender"]] = [age, gender]

    rewrite(mine, "patient", change)

    def empty(found: pd.DataFrame) -> None:
        found[["albumin", "wbc"]] = ["-1", ""]
        found.loc[found["patientunitstayid"] == chosen[1], "sodium"] = "700"  # no living patient's

    rewrite(mine, "apacheApsVar", empty)
    cohort = eicu.read(mine, asked(encoding="raw"), chosen[::-1], store)
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
    ids, first = everyone(mine, asked(), tmp_path / "store")
    with monkeypatch.context() as patch:
        patch.setattr(tables, "read_table", None)
        again = everyone(mine, asked(by="hospital"), tmp_path / "store")[1]
    same = [name for name in ids if name in again]
    assert len(same) > 100
    np.testing.assert_array_equal(*(np.array([found[name] for name in same]) for found in (first, again)))
    rewrite(mine, "apacheApsVar", lambda found: found.assign(sodium="150"))
    changed = everyone(mine, asked(), tmp_path / "store")[1]
    assert {row[eicu.task(asked()).features.index("sodium")] for row in changed.values()} == {150.0}


def wrong_cell(column: str, value: str) -> Callable[[pd.DataFrame], pd.DataFrame]:
    return lambda found: found.assign(**{column: [value, *found[column][1:]]})


def fahrenheit(found: pd.DataFrame) -> pd.DataFrame:
    celsius = found["temperature"].astype(float)
    return found.assign(temperature=(celsius * 1.8 + 32).where(celsius > 0, -1.0))


BAD = [
    ("patient", lambda t: t.drop(columns="uniquepid"), "patient.csv.gz: no column uniquepid"),
    ("patient", lambda t: pd.concat([t, t[:2]]), "patient.csv.gz: 2 rows repeat the patientunitstayid"),
    ("patient", wrong_cell("patientunitstayid", ""), "patient.csv.gz: 1 rows have no patientunitstayid"),
    ("patient", wrong_cell("hospitalid", "4711"), "patient.csv.gz: 1 stays are at hospitals that hospital.csv.gz does"),
    ("patient", wrong_cell("uniquepid", ""), "rows without uniquepid or hospitalid"),
    ("patient", wrong_cell("age", "4711"), "patient.csv.gz: 1 cells of the column age are not an age"),
    ("patient", wrong_cell("age", "x4711"), "patient.csv.gz: 1 cells of the column age are not an age"),
    ("patient", wrong_cell("hospitaldischargestatus", "x4711"), "hospitaldischargestatus are none of Alive, Expired"),
    ("patient", lambda t: t[:3], "no site has both outcomes and the number of"),
    ("patient", lambda t: t.assign(hospitaldischargestatus="Alive"), "no site has both outcomes and the number of"),
    ("hospital", lambda t: t.drop(columns="region"), "hospital.csv.gz: no column region"),
    ("hospital", lambda t: pd.concat([t, t[:1]]), "hospital.csv.gz: a hospital has two rows"),
    ("apacheApsVar", lambda t: t.drop(columns=["wbc", "ph"]), "apacheApsVar.csv.gz: no column wbc, ph"),
    ("apacheApsVar", wrong_cell("wbc", "x4711"), "apacheApsVar.csv.gz: 1 cells of the column wbc are not numbers"),
    ("apacheApsVar", wrong_cell("wbc", "-4711"), "apacheApsVar.csv.gz: the column wbc holds numbers below 0"),
    ("apacheApsVar", lambda t: pd.concat([t, t[:1]]), "apacheApsVar.csv.gz: 1 rows repeat the patientunitstayid"),
    ("apacheApsVar", fahrenheit, "apacheApsVar.csv.gz: the column temperature cannot be in °C"),
    ("apacheApsVar", lambda t: t.assign(glucose="5.5"), "the column glucose cannot be in mg/dL"),
    ("apacheApsVar", lambda t: t.assign(fio2="0.5"), "the column fio2 cannot be in %"),
    ("apachePredVar", lambda t: t.drop(columns="aids"), "apachePredVar.csv.gz: no column aids"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "change", "line"), BAD, ids=[f"{i}-{line[:40]}" for i, (*_, line) in enumerate(BAD)])
def test_a_wrong_table_is_one_clear_line(
    mine: Path, store: Path, name: str, change: Callable[[pd.DataFrame], pd.DataFrame], line: str
) -> None:
    rewrite(mine, name, change)
    with pytest.raises(DataError) as caught:
        eicu.patients(mine, asked(), store)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "4711" not in str(caught.value)


def test_a_missing_or_damaged_table_is_one_clear_line(mine: Path, store: Path) -> None:
    with pytest.raises(DataError, match="no data folder"):
        eicu.patients(mine / "nowhere", asked(), store)
    path = mine / "eicu-crd-demo" / "apachePredVar.csv.gz"
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"not gzip"):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"apachePredVar.csv.gz: cannot be read as a table"):
            eicu.patients(mine, asked(), store)
    path.unlink()
    with pytest.raises(DataError, match=r"no table apachePredVar.csv.gz"):
        eicu.patients(mine, asked(), store)


def test_a_stay_that_is_not_there_is_not_named(made: Path, store: Path) -> None:
    with pytest.raises(DataError, match="a requested stay is not there") as caught:
        eicu.read(made, asked(), ["4711"], store)
    assert "4711" not in str(caught.value)


def hourly(folder: Path, name: str) -> Path:
    return folder / "yaib-demo" / "eicu_demo" / f"{name}.parquet"


def test_hours_are_those_of_the_files_carried_forward_and_masked(made: Path, store: Path) -> None:
    options = asked(view="hours")
    patients = eicu.patients(made, options, store)
    cohort = eicu.read(made, options, [item.id for item in patients], store)
    plain = eicu.read(made, asked(view="hours", carry=False, mask=False), cohort.patients, store)
    assert cohort.x.shape == (len(patients), 96, 25)
    assert plain.x.shape == (len(patients), 48, 25)
    written, label = pd.read_parquet(hourly(made, "dyn")), pd.read_parquet(hourly(made, "outc"))
    dead = dict(zip(label["stay_id"].astype(str), label["label"], strict=True))
    assert [dead[name] for name in cohort.patients] == cohort.y.tolist()
    for place in range(0, len(patients), 40):
        rows = written[written["stay_id"] == int(cohort.patients[place])].sort_values("time")
        for number, channel in enumerate(eicu_hours.CHANNELS):
            last = np.nan
            for hour, value in enumerate(rows[channel].astype(np.float32)):
                last = last if np.isnan(value) else value
                assert cohort.x[place, number, hour] == last or np.isnan(last)
                assert np.isnan(cohort.x[place, number, hour]) == np.isnan(last)
                assert cohort.x[place, 48 + number, hour] == (not np.isnan(value))
                assert np.array_equal(plain.x[place, number, hour], value, equal_nan=True)
    assert cohort.task.channel_names[22] == "hr"
    assert cohort.task.channel_names[48 + 22] == "hr measured"
    assert cohort.age is not None
    np.testing.assert_array_equal(cohort.features[:, 0], cohort.age)
    outside = len(table(made, "patient")) - len(label)
    assert cohort.excluded[eicu_stays.NO_HOURS] == outside > 0


def test_the_hourly_cohort_may_lie_inside_or_beside_and_nowhere_else(mine: Path, store: Path) -> None:
    options = asked(view="hours")
    inside = eicu.patients(mine, options, store)
    assert eicu.patients(mine / "eicu-crd-demo", options, store) == inside  # beside
    (mine / "yaib-demo").rename(mine / "elsewhere")
    with pytest.raises(DataError, match="no hourly cohort: put yaib-demo"):
        eicu.patients(mine, options, store)


def drop_rows(found: pd.DataFrame) -> pd.DataFrame:
    return found[3:]


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
        eicu.patients(mine, asked(view="hours"), store)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_or_damaged_hourly_file_is_one_clear_line(mine: Path, store: Path) -> None:
    path = hourly(mine, "outc")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match=r"outc.parquet: cannot be read as a table"):
        eicu.patients(mine, asked(view="hours"), store)
    path.unlink()
    with pytest.raises(DataError, match=r"outc.parquet"):
        eicu.patients(mine, asked(view="hours"), store)


def test_hourly_stays_that_no_patient_row_has_are_counted(mine: Path, store: Path) -> None:
    before = eicu.patients(mine, asked(view="hours"), store)
    rewrite(mine, "patient", lambda found: found[~found["patientunitstayid"].isin([item.id for item in before[:2]])])
    after = eicu.patients(mine, asked(view="hours"), store)
    assert after == before[2:]
    cohort = eicu.read(mine, asked(view="hours"), [item.id for item in after], store)
    assert cohort.excluded[eicu_stays.NOT_IN_PATIENT_TABLE] == 2


def test_generated_hospitals_are_the_same_again_and_say_what_they_are(made: Path, tmp_path: Path) -> None:
    simulate.generate(tmp_path / "again", hospitals=5, stays=50, seed=3)
    files = sorted(path.relative_to(made) for path in made.rglob("*") if path.is_file())
    assert len(files) == 10
    for path in files:
        assert (made / path).read_bytes() == (tmp_path / "again" / path).read_bytes(), path
    assert "SYNTHETIC" in (made / "SYNTHETIC").read_text()
    simulate.generate(made, hospitals=5, stays=50, seed=3)  # left alone
    with pytest.raises(DataError, match="holds other data than requested"):
        simulate.generate(made, hospitals=5, stays=50, seed=4)
    assert not [path for path in tmp_path.iterdir() if path.name != "again"]


def test_without_a_folder_the_hospitals_are_simulated_only_when_asked(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.path: name the folder of eicu"):
        eicu.default_folder(asked(), tmp_path, 1)
    folder = eicu.default_folder(asked(simulated=True, hospitals=2, stays=20), tmp_path, 1)
    assert (folder / "SYNTHETIC").is_file()
    assert eicu.default_folder(asked(simulated=True, hospitals=2, stays=20), tmp_path, 1) == folder


def test_files_without_the_marker_are_not_called_synthetic(mine: Path, store: Path) -> None:
    for path in mine.rglob("SYNTHETIC"):
        path.unlink()
    ids, _ = everyone(mine, asked(), store)
    assert not eicu.read(mine, asked(), ids, store).synthetic


def test_simulated_deaths_can_be_learnt_from_the_day_and_from_the_hours(tmp_path: Path, store: Path) -> None:
    """Trained on half of the hospitals, tested on the others; what is not measured counts as the mean."""
    simulate.generate(tmp_path / "more", hospitals=8, stays=150, seed=1)
    for options in (asked(by="hospital"), asked(by="hospital", view="hours")):
        patients = eicu.patients(tmp_path / "more", options, store)
        cohort = eicu.read(tmp_path / "more", options, [item.id for item in patients], store)
        inputs = cohort.features
        if options.view == "hours":
            assert isinstance(cohort.x, np.ndarray)
            inputs = np.concatenate([inputs, cohort.x[:, :, -1]], axis=1)
        sites = sorted({str(item.site) for item in patients})
        held = np.array([item.site in sites[::2] for item in patients])
        mean, spread = np.nanmean(inputs[~held], 0), np.nanstd(inputs[~held], 0)
        inputs = np.nan_to_num((inputs - mean) / np.where(spread > 0, spread, 1))
        model = LogisticRegression(C=0.01, max_iter=500).fit(inputs[~held], cohort.y[~held])
        auroc = roc_auc_score(cohort.y[held], model.decision_function(inputs[held]))
        assert (0.75 if options.view == "day" else 0.65) < auroc < 0.95
