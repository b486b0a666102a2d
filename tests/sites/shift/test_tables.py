"""Changes of tables: missing values and other calibrations."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from common.errors import ConfigError
from sites.cohort import SPLITS
from sites.shift import tables
from tests.sites.shift.shift_cohorts import chart, hours, shifted


def test_variables_are_columns_that_belong_together() -> None:
    result = {name: (v.features, v.feature_flags, v.categories) for name, v in tables.table_variables(chart()).items()}
    assert result == {
        "chol": ([0], [1], []),
        "age": ([2], [], []),
        "ph": ([3], [4], []),
        "HR": ([5, 6], [7], []),
        "male": ([8], [], []),
        "cp": ([], [], [9, 10]),
        "bun": ([11], [12], []),
    }


@pytest.mark.parametrize("where", ["all", "train", "test"])
def test_values_go_missing_at_random_and_their_indicators_say_so(where: str) -> None:
    cohort = chart()
    options = {"probability": 0.25, "features": ["chol", "p*", "HR", "cp"], "where": where}
    result, notes = shifted(cohort, missingness=options)
    old, new = cohort.features, result.features
    test = cohort.split == SPLITS.index("test")
    side = {"train": ~test, "test": test, "all": test | True}[where]
    np.testing.assert_array_equal(new[~side], old[~side])
    np.testing.assert_array_equal(new[:, [2, 8]], old[:, [2, 8]])
    lost = np.isnan(new) & ~np.isnan(old)
    for column, flag in ((0, 1), (3, 4)):
        np.testing.assert_array_equal(np.isnan(new[:, column]), new[:, flag] == 0)
        able = side & ~np.isnan(old[:, column])
        assert stats.binomtest(int(lost[:, column].sum()), int(able.sum()), 0.25).pvalue > 0.001
    np.testing.assert_array_equal(lost[:, 5], lost[:, 6])
    assert (new[lost[:, 5], 7] == 0).all()
    np.testing.assert_array_equal(new[~lost[:, 5], 7], old[~lost[:, 5], 7])
    assert abs(np.corrcoef(lost[side][:, 0], lost[side][:, 5])[0, 1]) < 0.1
    had, has = old[:, 9:11].any(1), new[:, 9:11].any(1)
    assert stats.binomtest(int((had & ~has).sum()), int((had & side).sum()), 0.25).pvalue > 0.001
    np.testing.assert_array_equal(new[has, 9:11], old[has, 9:11])
    same = np.isnan(old) | lost | np.isin(np.arange(13), (1, 4, 7, 9, 10))
    np.testing.assert_array_equal(new[~same], old[~same])
    before = int(np.isfinite(old[side][:, [0, 3, 5, 6]]).sum() + had[side].sum())
    gone = int(lost.sum() + (had & ~has).sum())
    assert notes["missingness"].startswith(f"{gone} of {before} measured values of 4 variables taken away")


def test_a_recording_lacks_a_variable_wholly_and_a_panel_goes_together() -> None:
    cohort = chart(each=3)
    result, _ = shifted(cohort, missingness={"probability": 0.4, "by": "patient"})
    gone = np.isnan(result.features[:, [2, 5, 8]]).reshape(-1, 3, 3)
    assert (gone == gone[:, :1]).all()
    for column in gone[:, 0].T:
        assert stats.binomtest(int(column.sum()), len(column), 0.4).pvalue > 0.001
    panel, _ = shifted(cohort, missingness={"probability": 0.4, "features": ["age", "male"], "together": True})
    np.testing.assert_array_equal(np.isnan(panel.features[:, 2]), np.isnan(panel.features[:, 8]))
    assert 0.3 < np.isnan(panel.features[:, 2]).mean() < 0.5


@pytest.mark.parametrize("where", ["all", "test"])
def test_hours_go_missing_once_for_all_windows_over_them(where: str) -> None:
    cohort, _ = hours()
    before = cohort.x.rows.copy()
    result, notes = shifted(cohort, missingness={"probability": 0.3, "where": where})
    np.testing.assert_array_equal(cohort.x.rows, before)
    rows = result.x.rows
    mine = np.append(np.isin(cohort.split, (2,) if where == "test" else (0, 1, 2)), np.zeros(7, bool))
    np.testing.assert_array_equal(rows[~mine], before[~mine])
    gone = np.isnan(rows[mine, 0])
    assert stats.binomtest(int(gone.sum()), int(mine.sum()), 0.3).pvalue > 0.001
    np.testing.assert_array_equal(rows[mine, 1], 1 - gone)
    assert notes["missingness"].startswith(f"{gone.sum()} of {mine.sum()} measured values of HR")
    whole, _ = shifted(cohort, missingness={"probability": 0.3, "by": "patient"})
    lost = [np.isnan(whole.x.rows[:-7][cohort.patient == p, 0]) for p in range(200)]
    assert {one.all() for one in lost} == {True, False}
    assert all(one.all() or not one.any() for one in lost)


def test_hours_in_a_dense_array_go_missing_too() -> None:
    _, cohort = hours()
    result, _ = shifted(cohort, missingness={"probability": 0.3})
    old, new = cohort.x, result.x
    lost = np.isnan(new[:, 0]) & ~np.isnan(old[:, 0])
    assert 0.25 < lost.sum() / (~np.isnan(old[:, 0])).sum() < 0.35
    assert (new[:, 1][lost] == 0).all()
    np.testing.assert_array_equal(new[:, 0][~lost], old[:, 0][~lost])


def test_missingness_that_does_not_fit_is_named() -> None:
    full = chart()
    full = replace(full, task=replace(full.task, missing=False), features=np.nan_to_num(full.features))
    with pytest.raises(ConfigError, match=r"missingness: chart does not allow missing values"):
        shifted(full, missingness={"probability": 0.1})
    with pytest.raises(ConfigError, match=r"missingness\.features: no variable 'cholesterol' \(did you mean chol\?\)"):
        shifted(chart(), missingness={"probability": 0.1, "features": ["cholesterol"]})
    cohort, _ = hours()
    leaky = cohort.with_split((np.arange(len(cohort.y)) % 3).astype(np.int8))
    with pytest.raises(ConfigError, match=r"missingness\.where: use all"):
        shifted(leaky, missingness={"probability": 0.1, "where": "train"})


def test_a_laboratory_reads_on_another_line() -> None:
    cohort = chart()
    scales = {"chol": {"gain": 1.1, "offset": -0.5}, "age": {"offset": 2.0}}
    result, notes = shifted(cohort, calibration={"features": scales, "where": "test"})
    wanted = cohort.features.copy()
    test = cohort.split == 2
    wanted[test, 0] = wanted[test, 0] * 1.1 - 0.5
    wanted[test, 2] += 2
    np.testing.assert_allclose(result.features, wanted, rtol=1e-6)
    assert notes["calibration"].startswith("chol x 1.1 -0.5, age x 1 +2")
    windows, _ = hours()
    moved, _ = shifted(windows, calibration={"features": {"HR": {"gain": 0.5}}})
    np.testing.assert_allclose(moved.x.rows[:-7, 0], windows.x.rows[:-7, 0] / 2, rtol=1e-6)
    np.testing.assert_array_equal(moved.x.rows[-7:], windows.x.rows[-7:])
    with pytest.raises(ConfigError, match=r"calibration\.features: no variable 'chool' \(did you mean chol\?\)"):
        shifted(cohort, calibration={"features": {"chool": {}}})
