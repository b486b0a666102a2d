"""The challenge's published files: counts, cells and features against a reading without any of our code."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from sites.cohort import Cohort
from sites.datasets import sepsis
from sites.datasets.sepsis import Options, utility
from sites.datasets.sepsis.columns import LABEL
from tests.sites.datasets.sepsis import sepsis_slow

pytestmark = pytest.mark.realdata

PATIENTS = {"A": 18_319, "B": 18_005}


@pytest.fixture(scope="module")
def folder() -> Path:
    folder = Path(__file__).resolve().parents[4] / "data" / "challenge-2019"
    if not (folder / "training" / "training_setA").is_dir():
        if os.environ.get("WARDROUND_REQUIRE_DATA") == "1":
            pytest.fail(f"WARDROUND_REQUIRE_DATA=1, but {folder} does not hold the patients")
        pytest.skip(f"the challenge's patients are not in {folder}")
    return folder


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("prepared")


@pytest.fixture(scope="module")
def cohorts(folder: Path, store: Path) -> dict[str, Cohort]:
    patients = sepsis.patients(folder, Options(), store)
    return {
        site: sepsis.read(folder, Options(), [item.id for item in patients if item.site == site], store)
        for site in PATIENTS
    }


def test_counts_are_those_of_the_files(folder: Path, cohorts: dict[str, Cohort]) -> None:
    for site, cohort in cohorts.items():
        files = [path for path in (folder / "training" / f"training_set{site}").iterdir() if path.suffix == ".psv"]
        assert len(cohort.patients) == len(files) == PATIENTS[site]
        lines = sum(path.read_bytes().count(b"\n") - 1 for path in files)
        assert len(cohort.y) == lines
        assert cohort.people() == PATIENTS[site]
        assert not cohort.synthetic
    assert {site: dict(cohort.excluded) for site, cohort in cohorts.items()} == {
        "A": {
            "BaseExcess outside -50 to 50 mmol/L, read as not measured": 1,
            "HCO3 outside 2 to 80 mmol/L, read as not measured": 2,
            "FiO2 outside 0.1 to 1 share, 0 to 1, read as not measured": 230,
            "Potassium outside 0.5 to 20 mmol/L, read as not measured": 1,
        },
        "B": {
            "Temp outside 15 to 45 °C, read as not measured": 2,
            "FiO2 outside 0.1 to 1 share, 0 to 1, read as not measured": 65,
        },
    }
    assert {site: cohort.class_counts() for site, cohort in cohorts.items()} == {
        "A": (695_772, 15_347),
        "B": (675_476, 9_853),
    }


@pytest.mark.parametrize("site", ["A", "B"])
def test_features_and_utility_of_some_patients_equal_a_slow_reading(
    folder: Path, cohorts: dict[str, Cohort], site: str
) -> None:
    cohort = cohorts[site]
    assert cohort.utility is not None
    assert cohort.age is not None
    sick = np.unique(cohort.patient[cohort.y == 1])
    for i in (0, 1, 9_000, len(cohort.patients) - 1, *sick[[0, 50, 400, -1]].tolist()):
        frame = sepsis_slow.frame(folder / "training" / f"training_set{site}" / f"{cohort.patients[i]}.psv")
        mine = cohort.take(cohort.patient == i)
        np.testing.assert_array_equal(mine.y, frame[LABEL])
        assert cohort.age[i] == np.float32(frame["Age"].iloc[0])
        few = min(len(frame), 60)
        slow = sepsis_slow.features(frame.iloc[:few])
        for j, name in enumerate(cohort.task.features):
            np.testing.assert_allclose(mine.features[:few, j], slow[name], rtol=1e-4, atol=1e-3, err_msg=name)
        label = frame[LABEL].tolist()
        expected = [[sepsis_slow.worth(label, t, alarm) for alarm in (False, True)] for t in range(len(label))]
        assert mine.utility is not None
        np.testing.assert_allclose(mine.utility, expected, atol=1e-6)


def test_alarms_by_the_labels_have_the_utility_of_a_plain_loop(cohorts: dict[str, Cohort]) -> None:
    cohort = cohorts["B"]
    assert cohort.utility is not None
    labels = np.split(cohort.y, np.flatnonzero(np.diff(cohort.patient)) + 1)
    observed = best = inaction = 0.0
    for label in labels:
        if not label.any():
            continue  # neither alarms nor anything to gain
        hours = label.tolist()
        start = hours.index(1) + 6
        for t, sick in enumerate(hours):
            observed += sepsis_slow.worth(hours, t, bool(sick))
            best += sepsis_slow.worth(hours, t, start - 12 <= t <= start + 3)
            inaction += sepsis_slow.worth(hours, t, False)
    expected = (observed - inaction) / (best - inaction)
    assert utility.normalised_utility(cohort.utility, cohort.y) == pytest.approx(expected, rel=1e-5)


def test_the_two_hospitals_measure_differently(cohorts: dict[str, Cohort]) -> None:
    """EtCO2 was never recorded at A; blood gases were drawn five times as often there as at B."""
    names = cohorts["A"].task.features
    measured = {
        site: {
            name: float((cohort.features[:, names.index(f"{name} recency")] == 1).mean()) for name in ("EtCO2", "pH")
        }
        for site, cohort in cohorts.items()
    }
    assert measured["A"]["EtCO2"] == 0 < measured["B"]["EtCO2"]
    assert measured["A"]["pH"] > 5 * measured["B"]["pH"]
