"""Features of eICU's first day, against APACHE's score sheet; no feature is a column of the outcome."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from common.errors import ConfigError
from sites.datasets import eicu
from sites.datasets.eicu import apache, features
from sites.datasets.eicu import stays as eicu_stays
from tests.sites.datasets.eicu.eicu_tables import everyone, make_options, rewrite, table

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
    result = apache.compute_points(pd.DataFrame([DAY | changes]))
    np.testing.assert_array_equal(result[where], [marks])


def test_a_healthy_day_has_no_points_and_what_is_not_measured_adds_none() -> None:
    for changes in ({}, {"wbc": np.nan, "glucose": np.nan, "age": 90}):
        assert apache.physiology_score(apache.compute_points(pd.DataFrame([DAY | changes]))) == [0]


def test_bands_say_how_far_from_normal_a_value_lies_and_on_which_side() -> None:
    extra = dict.fromkeys((*features.PREDICTED, "electivesurgery", "male"), 0)
    rows = [{"heartrate": 38, "bun": 27}, {"heartrate": 70, "bun": 5}, {"heartrate": 130, "bun": np.nan}]
    day = pd.DataFrame([DAY | extra | row for row in rows]).assign(
        admitdiagnosis=["SEPSISGI", None, "S-CABG"], unitadmitsource=["Floor", None, "PACU"]
    )
    result = features.build_features(day, "bands", True, ())
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
        np.testing.assert_allclose(result[name], values, err_msg=name)
    assert "bun below 0" not in result
    assert not any("below -inf" in name or "above inf" in name for name in result)


@pytest.mark.parametrize("encoding", ["raw", "bands", "points"])
@pytest.mark.parametrize("diagnosis", [True, False])
def test_no_feature_is_a_column_of_the_outcome(encoding: str, diagnosis: bool) -> None:
    options = make_options(encoding=encoding, diagnosis=diagnosis, columns=("ejectfx", "admissionweight"))
    named = set(eicu.task(options).features)
    assert len(named) == len(eicu.task(options).features) > 50
    outcomes = set(f"{RELEASED['patient']} {RELEASED['apachePredVar']} {RESULT}".split())
    assert not {name.lower() for name in named} & outcomes


def test_no_feature_reveals_the_outcome_alone(made: Path, store: Path) -> None:
    cohort = eicu.read(made, make_options(), everyone(made, make_options(), store)[0], store)
    for name, values in zip(cohort.task.features, cohort.features.T, strict=True):
        known = ~np.isnan(values)
        if len(np.unique(cohort.y[known])) == 2:
            assert 0.05 < roc_auc_score(cohort.y[known], values[known]) < 0.95, name


def test_features_do_not_move_when_everything_known_later_does(made: Path, mine: Path, store: Path) -> None:
    options = make_options(columns=("activetx", "bedcount", "ejectfx", "graftcount", "ima", "midur", "visitnumber"))
    before = eicu_stays.load_stays(made, options, store)

    def spoil(names: str) -> Callable[[pd.DataFrame], None]:
        def change(result: pd.DataFrame) -> None:
            for name in names.split():
                result[name] = result[name].to_numpy()[::-1]

        return change

    def turned(result: pd.DataFrame) -> None:
        spoil(RELEASED["patient"].replace("hospitaldischargestatus", ""))(result)
        result["hospitaldischargestatus"] = result["hospitaldischargestatus"].replace(
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
            make_options(columns=(written,))


def test_other_columns_are_refused_with_the_right_ones() -> None:
    with pytest.raises(ConfigError, match="no further column uniquepid; choose from activetx, admissionheight"):
        make_options(columns=("uniquepid",))
    with pytest.raises(ConfigError, match="twice"):
        make_options(columns=("ejectfx", "ejectfx"))


def test_a_further_column_stands_last_with_its_values(made: Path, store: Path) -> None:
    _, result = everyone(made, make_options(columns=("hospitaladmitoffset", "ejectfx")), store)
    written = table(made, "patient").set_index("patientunitstayid")["hospitaladmitoffset"].astype(float)
    for name, values in list(result.items())[:20]:
        assert values[-2] == written[name] < 0
        assert np.isnan(values[-1])  # -1
