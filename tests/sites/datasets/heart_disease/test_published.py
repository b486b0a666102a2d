"""UCI's published files: FLamby's rows worked out anew with pandas."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import train_test_split

from common.errors import DataError
from sites.datasets import heart_disease
from sites.datasets.heart_disease import Options
from sites.datasets.heart_disease.rows import ZERO_RETAINED
from tests.sites.datasets.heart_disease.uci_rows import (
    EXPLICIT,
    EXPLICIT_FULL,
    EXPLICIT_SPARSE,
    FLAMBY,
    FLAMBY_FULL,
    everyone,
    f32,
)


@pytest.fixture(scope="module")
def uci() -> Path:
    """The published files."""
    folder = Path(__file__).parents[4] / "data" / "heart-disease"
    if not (folder / "processed.va.data").is_file():
        if os.environ.get("WARDROUND_REQUIRE_DATA") == "1":
            pytest.fail(f"WARDROUND_REQUIRE_DATA=1, but {folder} does not hold the files")
        pytest.skip(f"UCI Heart Disease is not in {folder}")
    return folder


PUBLISHED = {"cleveland": (199, 104), "hungarian": (172, 89), "switzerland": (30, 16), "va": (85, 45)}
CLASSES = {"cleveland": (164, 139), "hungarian": (188, 106), "switzerland": (8, 115), "va": (51, 149)}


@pytest.mark.realdata
@pytest.mark.parametrize("draw", range(5))
def test_the_sizes_that_flamby_publishes(uci: Path, tmp_path: Path, draw: int) -> None:
    result = heart_disease.patients(uci, Options(draw=draw), tmp_path)
    sides = Counter((item.site, item.published) for item in result)
    assert {site: (sides[site, "train"], sides[site, "test"]) for site in PUBLISHED} == PUBLISHED
    assert len(sides) == 8
    excluded = {
        site: heart_disease.read(uci, FLAMBY, [p.id for p in result if p.site == site], tmp_path).excluded
        for site in PUBLISHED
    }
    chol, trestbps = ZERO_RETAINED.format("chol"), ZERO_RETAINED.format("trestbps")
    assert excluded == {
        "cleveland": {},
        "hungarian": {"rows with a missing value": 33},
        "switzerland": {"rows with a missing value": 77, chol: 46},
        "va": {"rows with a missing value": 70, chol: 33, trestbps: 1},
    }


@pytest.mark.realdata
def test_rows_and_inputs_are_flambys(uci: Path, tmp_path: Path) -> None:
    """Worked out anew with pandas: drop three inputs, then rows with a gap; dummies over all hospitals."""
    tables = {}
    for site in PUBLISHED:
        raw = pd.read_csv(uci / f"processed.{site}.data", header=None, na_values="?")
        tables[site] = raw.drop(columns=[10, 11, 12]).dropna()
    whole = pd.concat(tables, names=["site", "row"])
    inputs = pd.get_dummies(whole.drop(columns=13), columns=[2, 6], drop_first=True).astype(np.float32)
    label = (whole[13] > 0).astype(int)
    result = {item.id: item for item in heart_disease.patients(uci, FLAMBY, tmp_path)}
    assert len(result) == len(whole) == 740
    cohort = heart_disease.read(uci, FLAMBY, list(result), tmp_path)
    assert cohort.patients == tuple(f"{site}-{row + 1:04d}" for site, row in whole.index)
    np.testing.assert_array_equal(cohort.features, inputs.to_numpy())
    np.testing.assert_array_equal(cohort.y, label)
    for site in PUBLISHED:
        mine = label.xs(site)
        stratify = mine if mine.nunique() > 1 and mine.value_counts().min() > 2 else None
        _, tested = train_test_split(
            mine.index, test_size=1 - 0.66, train_size=0.66, random_state=43, stratify=stratify
        )
        expected = {f"{site}-{row + 1:04d}" for row in tested}
        assert {name for name, item in result.items() if item.site == site and item.published == "test"} == expected


@pytest.mark.realdata
def test_the_tested_rows_stay_what_they_are(uci: Path, tmp_path: Path) -> None:
    """Fingerprints of the tested lines, which another version of scikit-learn must not change."""
    observed = dict.fromkeys(PUBLISHED, "")
    for site in PUBLISHED:
        lines = [
            int(item.id.partition("-")[2])
            for item in heart_disease.patients(uci, FLAMBY, tmp_path)
            if item.site == site and item.published == "test"
        ]
        observed[site] = hashlib.sha256(",".join(map(str, sorted(lines))).encode()).hexdigest()[:16]
    assert observed == {
        "cleveland": "6611ee7fa5221647",
        "hungarian": "95918feed3f97bde",
        "switzerland": "29cd376bccfbb24e",
        "va": "039ceb0cdff499df",
    }


@pytest.mark.realdata
def test_all_rows_with_the_class_counts_that_uci_publishes(uci: Path, tmp_path: Path) -> None:
    result = heart_disease.patients(uci, EXPLICIT, tmp_path)
    for site, counts in CLASSES.items():
        assert tuple(np.sum([item.examples for item in result if item.site == site], axis=0).tolist()) == counts
    cohort = everyone(uci, EXPLICIT, tmp_path)
    # As awk counts them: zeros of the fourth and fifth column.
    assert cohort.excluded == {"chol of 0, read as not measured": 172, "trestbps of 0, read as not measured": 1}
    swiss = np.asarray([name.startswith("switzerland") for name in cohort.patients])
    assert swiss.sum() == 123
    chol = cohort.task.features.index("chol")
    assert np.isnan(cohort.features[swiss, chol]).all()
    assert (cohort.features[swiss, cohort.task.features.index("chol measured")] == 0).all()
    assert np.nanmin(cohort.features[~swiss, chol]) == 85
    # Lines 102 and 103 of Hungary are equal, and 140 and 188 of Long Beach.
    shared = {(item.id, item.person) for item in result if item.id != item.person}
    assert shared == {("hungarian-0103", "hungarian-0102"), ("va-0188", "va-0140")}


@pytest.mark.realdata
def test_real_rows_read_by_hand(uci: Path, tmp_path: Path) -> None:
    """The first line of Cleveland, the third of Switzerland (35,1,4,?,0,?,0,130,1,?,?,?,7,3)."""
    ids = ["switzerland-0003", "cleveland-0001"]
    result = heart_disease.read(uci, EXPLICIT, ids, tmp_path)
    male = [35, 1, *EXPLICIT_SPARSE[2:]]
    np.testing.assert_array_equal(result.features, f32([male, EXPLICIT_FULL]))
    assert result.y.tolist() == [1, 0]
    one = heart_disease.read(uci, FLAMBY, ids[1:], tmp_path)
    np.testing.assert_array_equal(one.features, f32([FLAMBY_FULL]))
    with pytest.raises(DataError, match="1 of the 1 requested rows are not there, or not used"):
        heart_disease.read(uci, FLAMBY, ids[:1], tmp_path)
