from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from common.errors import DataError
from common.metrics import evaluation, paired_resamples
from common.metrics.counts import count_predictions
from common.metrics.resampling import COARSE_FACTOR
from common.metrics.table_names import ALL_PATIENTS, PERSONAL, RESAMPLED_SUFFIX
from common.task import Task

TASK = Task("beats", "multiclass", ("N", "V"), ("a", "b"), 1, 8, 125.0, (), ("I",))


def tables(seed: int, patients: int, draws: int = 20):
    rng = np.random.default_rng(seed)
    who = np.repeat(np.arange(patients), 15)
    truth = rng.choice(2, len(who))
    counts = count_predictions(rng.normal(size=(len(who), 2)) + 2 * np.eye(2)[truth], truth, who, patients, 1024)
    drawn = evaluation.resample_patients(counts.coarser(COARSE_FACTOR), draws, np.random.default_rng(0))
    return {ALL_PATIENTS: counts.total(), ALL_PATIENTS + RESAMPLED_SUFFIX: drawn}


def test_intervals_from_resampled_figures_equal_the_reports(tmp_path) -> None:
    each = {"a": tables(1, 6), "b": tables(2, 9)}
    people = {"a": 6, "b": 9}
    path = tmp_path / "x.safetensors"
    path.write_bytes(
        paired_resamples.pack_resamples(paired_resamples.resample_tables(TASK, each, {ALL_PATIENTS: people}))
    )
    result = {
        site: drawn for (table, site), drawn in paired_resamples.load_resamples(path).items() if table == ALL_PATIENTS
    }
    assert set(result) == {"a", "b", paired_resamples.POOLED}
    results = {
        site: evaluation.build_evaluation(
            TASK, part[ALL_PATIENTS], part[ALL_PATIENTS + RESAMPLED_SUFFIX], people[site], [people[site]] * 2
        )
        for site, part in each.items()
    }
    totals, drawn = (
        {site: part[ALL_PATIENTS + more] for site, part in each.items()} for more in ("", RESAMPLED_SUFFIX)
    )
    results[paired_resamples.POOLED] = evaluation.pool_evaluations(TASK, results, totals, drawn)
    names = {"accuracy", "macro_f1", "auroc", "auprc", "sensitivity", "specificity", "ppv", "loss", "brier", "slope"}
    for site, item in results.items():
        assert names <= set(result[site])
        for name in names:
            printed, sample = getattr(item, name), result[site][name]
            assert sample.shape == (20,)
            alpha = tail(item.patients)
            known = sample[np.isfinite(sample)]  # no slope where a resample is told apart whole
            assert np.quantile(known, [alpha, 1 - alpha]) == pytest.approx([printed.low, printed.high], abs=1e-5)


def tail(patients: int) -> float:
    return float(stats.norm.cdf(stats.t.ppf(0.025, patients - 1) * np.sqrt(patients / (patients - 1))))


def test_pooled_resamples_need_equally_many_from_every_site() -> None:
    for other in ({ALL_PATIENTS: tables(2, 9)[ALL_PATIENTS]}, tables(2, 9, draws=10)):
        result = paired_resamples.resample_tables(
            TASK, {"a": tables(1, 6), "b": other}, {ALL_PATIENTS: {"a": 6, "b": 9}}
        )
        assert (ALL_PATIENTS, "a") in result
        assert (ALL_PATIENTS, paired_resamples.POOLED) not in result


def test_personal_models_have_resamples_of_their_own() -> None:
    mine, shared = tables(3, 6), tables(1, 6)
    both = shared | {PERSONAL: mine[ALL_PATIENTS], PERSONAL + RESAMPLED_SUFFIX: mine[ALL_PATIENTS + RESAMPLED_SUFFIX]}
    result = paired_resamples.resample_tables(TASK, {"a": both}, {ALL_PATIENTS: {"a": 6}, PERSONAL: {"a": 6}})
    assert {table for table, _ in result} == {ALL_PATIENTS, PERSONAL}
    assert not np.array_equal(result[ALL_PATIENTS, "a"]["accuracy"], result[PERSONAL, "a"]["accuracy"])


def test_groups_of_patients_are_resampled_and_other_tables_are_not() -> None:
    mine, names = tables(1, 6), (ALL_PATIENTS, "group sex=female", "without x")
    every = {name + more: mine[ALL_PATIENTS + more] for name in names for more in ("", RESAMPLED_SUFFIX)}
    result = paired_resamples.resample_tables(TASK, {"a": every}, {name: {"a": 6} for name in names})
    assert {table for table, _ in result} == {ALL_PATIENTS, "group sex=female"}
    np.testing.assert_array_equal(result["group sex=female", "a"]["auroc"], result[ALL_PATIENTS, "a"]["auroc"])
    assert "slope" in result[ALL_PATIENTS, "a"]


def test_no_file_is_no_resamples_and_a_damaged_one_is_named(tmp_path) -> None:
    assert paired_resamples.load_resamples(tmp_path / "none.safetensors") == {}
    (tmp_path / "x.safetensors").write_bytes(b"x")
    with pytest.raises(DataError, match=r"x\.safetensors is damaged"):
        paired_resamples.load_resamples(tmp_path / "x.safetensors")
