"""The demo as published: counts, rows read by hand, and APACHE's own score against ours."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from common.sections.data import SitesConfig
from common.settings import validate_settings
from sites import splits
from sites.datasets import eicu
from sites.datasets.eicu import Options, apache, features, hospitals
from sites.datasets.eicu import stays as eicu_stays

pytestmark = pytest.mark.realdata

DATA = Path(__file__).resolve().parents[4] / "data"
REGIONS = {"midwest": 733, "south": 671, "west": 461, "northeast": 140, "region-unknown": 200}


@pytest.fixture(scope="module")
def folder() -> Path:
    for name in ("eicu-crd-demo/patient.csv.gz", "yaib-demo/eicu_demo/dyn.parquet"):
        if not (DATA / name).is_file():
            if os.environ.get("WARDROUND_REQUIRE_DATA") == "1":
                pytest.fail(f"WARDROUND_REQUIRE_DATA=1, but {DATA} does not hold {name}")
            pytest.skip(f"{name} is not in {DATA}")
    return DATA / "eicu-crd-demo"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("prepared")


def raw(folder: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(folder / f"{name}.csv.gz")


def test_the_counts_are_those_of_the_release(folder: Path, store: Path) -> None:
    """2,520 stays, 2,205 with APACHE variables, of these 196 deaths and 26 of unknown end."""
    options = Options()
    patients = eicu.patients(folder, options, store)
    excluded: Counter[str] = Counter()
    stays: Counter[str] = Counter()
    deaths = people = 0
    for site in REGIONS:
        mine = [item for item in patients if item.site == site]
        cohort = eicu.read(folder, options, [item.id for item in mine], store)
        excluded += Counter(cohort.excluded)
        left = cohort.excluded[eicu_stays.NO_OUTCOME] + cohort.excluded.get(hospitals.AT_OTHER_SITE, 0)
        stays[site] = len(mine) + left
        deaths += int(cohort.y.sum())
        people += cohort.people()
        assert not cohort.synthetic
    assert stays == REGIONS
    assert excluded == {
        eicu_stays.NO_APACHE: 315,
        eicu_stays.NO_OUTCOME: 26,
        "urine outside 0 to 20000 mL in a day, read as not measured": 1,
        hospitals.AT_OTHER_SITE: 7,
    }
    assert len(patients) == 2520 - 315 - 26 - 7
    assert deaths == 196
    assert people == len({item.person for item in patients}) == 1765
    assert len({item.group for item in patients}) == 186


def test_by_hospital_nobody_is_at_two_and_small_ones_join_their_region(folder: Path, store: Path) -> None:
    patients = eicu.patients(folder, Options(by="hospital"), store)
    splits.refuse_shared_persons(
        {site: {p.person for p in patients if p.site == site} for site in {str(p.site) for p in patients}}
    )
    sizes = Counter(str(item.site) for item in patients)
    own = [site for site in sizes if site.startswith("hospital-")]
    assert set(sizes) - set(own) == set(REGIONS)
    for site in own:
        mine = [item for item in patients if item.site == site]
        assert len({item.person for item in mine}) >= 10
        assert 0 < sum(item.examples[1] for item in mine) < len(mine)
    rows = raw(folder, "patient").set_index("patientunitstayid")
    listed = raw(folder, "hospital").set_index("hospitalid")["region"].fillna("region-unknown").str.lower()
    for item in patients:
        hospital = rows.loc[int(item.id), "hospitalid"]
        assert item.site in (f"hospital-{hospital}", listed[hospital])
        assert item.group == (None if str(item.site).startswith("hospital-") else str(hospital))


def test_rows_read_by_hand(folder: Path, store: Path) -> None:
    cohort = eicu.read(folder, Options(encoding="raw"), ["3352230", "141765"], store)
    assert cohort.age is not None
    assert cohort.sex is not None
    assert cohort.age.tolist() == [41, 87]
    assert cohort.sex.tolist() == [1, 0]
    assert cohort.y.tolist() == [0, 0]
    assert cohort.persons == ("035-10089", "002-1039")
    by_name = dict(zip(cohort.task.features, cohort.features.T.astype(float), strict=True))
    expected = {
        "urine": (3946.4928, np.nan), "wbc": (19.6, 10.2), "temperature": (35.7, 36.2), "respiratoryrate": (39, 39),
        "sodium": (137, 139), "heartrate": (113, 88), "meanbp": (62, 108), "ph": (7.622, np.nan),
        "creatinine": (1.31, 1.04), "albumin": (np.nan, np.nan), "pao2": (178, np.nan), "pco2": (25.3, np.nan),
        "bun": (15, 28), "glucose": (224, 61), "fio2": (100, np.nan), "eyes": (3, 4), "motor": (6, 6), "verbal": (5, 5),
        "ph measured": (1, 0), "intubated": (1, 0), "ventilated on day 1": (1, 0), "after elective surgery": (1, 0),
        "from surgery": (1, 0), "from emergency": (0, 1), "heart surgery": (1, 0), "arrhythmia": (0, 1),
    }  # fmt: skip
    for name, values in expected.items():
        np.testing.assert_allclose(by_name[name], values, rtol=1e-6, err_msg=name)
    points = eicu.read(folder, Options(encoding="points"), ["3352230", "141765"], store)
    result = dict(zip(points.task.features, points.features.T, strict=True))
    total = sum(np.nan_to_num(values) for name, values in result.items() if name.endswith(" points"))
    # 113/min 5, 62 mmHg 7, 35.7 °C 2, 39/min 9, Hct 3, glucose 3, gradient 509.7 mmHg 14, pH 7.62 and 25.3 mmHg 3;
    # of 87 years: 24 for age, 108 mmHg 4, 39/min 9, Hct 3, BUN 7
    np.testing.assert_array_equal(total, [46, 24 + 23])


def test_our_points_are_the_score_that_apache_gave_in_every_scored_stay(folder: Path) -> None:
    """The published score is used here alone: its table holds the outcome and is never read."""
    aps = raw(folder, "apacheApsVar").set_index("patientunitstayid").replace(-1, np.nan)
    scored = raw(folder, "apachePatientResult").query("apacheversion == 'IVa'").set_index("patientunitstayid")
    published = scored["acutephysiologyscore"]
    day = aps.loc[published.index].assign(age=50.0)
    ours = apache.physiology_score(apache.compute_points(day))
    known = published.to_numpy() >= 0
    assert known.sum() >= 1797
    np.testing.assert_array_equal(ours[known], published.to_numpy()[known])


def test_every_source_and_most_diagnoses_have_a_group(folder: Path) -> None:
    sources = set(raw(folder, "patient")["unitadmitsource"].dropna())
    assert sources <= {word for words in features.SOURCES.values() for word in words}
    codes = raw(folder, "apachePredVar")["admitdiagnosis"].dropna()
    starts = [start for group in features.DIAGNOSES.values() for start in group]
    assert codes.str.startswith(tuple(starts)).mean() > 0.7
    every = pd.DataFrame({name: codes.str.startswith(group) for name, group in features.DIAGNOSES.items()})
    assert every.sum(axis=1).max() == 1
    for start in starts:
        assert codes.str.startswith(start).any() or start == "S-TR", start


def test_the_hourly_cohort_joins_whole(folder: Path, store: Path) -> None:
    """1,367 stays and 70 deaths; three are of people who are kept at another region."""
    options = Options(view="hours")
    patients = eicu.patients(folder, options, store)
    cohort = eicu.read(folder, options, [item.id for item in patients], store)
    assert (len(patients), cohort.excluded[hospitals.AT_OTHER_SITE]) == (1364, 3)
    assert cohort.y.sum() == 70
    assert cohort.excluded[eicu_stays.NO_HOURS] == 2520 - 1367
    assert cohort.age is not None
    assert cohort.sex is not None
    np.testing.assert_array_equal(cohort.features[:, 0], cohort.age)
    np.testing.assert_array_equal(cohort.features[:, 1], cohort.sex)
    status = raw(folder, "patient").set_index("patientunitstayid").loc[[int(name) for name in cohort.patients]]
    np.testing.assert_array_equal(cohort.y, (status["unitdischargestatus"] == "Expired").to_numpy())
    end = status["hospitaldischargestatus"].fillna("unknown")[cohort.y == 1].value_counts().to_dict()
    assert end == {"Expired": 66, "Alive": 4}
    plain = eicu.read(folder, Options(view="hours", carry=False, mask=False), ["141765"], store)
    names = plain.task.channel_names
    rate, sugar = plain.x[0, names.index("hr")], plain.x[0, names.index("glu")]
    assert rate[:6].tolist() == [83, 80, 77, 79, 76, 76]
    assert {hour: float(sugar[hour]) for hour in np.flatnonzero(~np.isnan(sugar))} == {10: 61, 12: 89}
    carried = eicu.read(folder, options, ["141765"], store).x[0, names.index("glu")]
    np.testing.assert_array_equal(carried, [np.nan] * 10 + [61] * 2 + [89] * 13)


def test_folds_test_every_stay_once_and_no_hospital_or_person_is_on_both_sides(folder: Path, store: Path) -> None:
    options = Options()
    patients = eicu.patients(folder, options, store)
    for site in REGIONS:
        mine = [item for item in patients if item.site == site]
        cohort = eicu.read(folder, options, [item.id for item in mine], store)
        group = np.array([item.group for item in mine])
        times = np.zeros(len(mine), int)
        for fold in range(5):
            wanted = validate_settings(
                SitesConfig, {"split": "folds", "folds": 5, "fold": fold, "validation": 0.0}, "sites"
            )
            split = splits.assign_split(cohort, mine, wanted, 1, site).split
            times += split == 2
            assert not set(group[split == 2]) & set(group[split == 0])
            persons = np.array(cohort.persons)
            assert not set(persons[split == 2]) & set(persons[split == 0])
        assert (times == 1).all()
