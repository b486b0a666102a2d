from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from common.errors import DataError
from common.metrics import counts as metrics
from common.metrics import evaluation, paired_resamples
from common.metrics.resampling import COARSER
from common.metrics.table_names import ALL, PERSONAL, RESAMPLED
from common.task import Task

TASK = Task("beats", "multiclass", ("N", "V"), ("a", "b"), 1, 8, 125.0, (), ("I",))


def tables(seed: int, patients: int, draws: int = 20):
    rng = np.random.default_rng(seed)
    who = np.repeat(np.arange(patients), 15)
    truth = rng.choice(2, len(who))
    counts = metrics.count(rng.normal(size=(len(who), 2)) + 2 * np.eye(2)[truth], truth, who, patients, 64)
    drawn = evaluation.resample(counts.coarser(COARSER), draws, np.random.default_rng(0))
    return {ALL: counts.total(), ALL + RESAMPLED: drawn}


def test_resampled_figures_have_the_reports_intervals(tmp_path) -> None:
    each = {"a": tables(1, 6), "b": tables(2, 9)}
    people = {"a": 6, "b": 9}
    path = tmp_path / "x.safetensors"
    path.write_bytes(paired_resamples.pack(paired_resamples.of_tables(TASK, each, {ALL: people})))
    found = {site: drawn for (table, site), drawn in paired_resamples.load(path).items() if table == ALL}
    assert set(found) == {"a", "b", paired_resamples.POOLED}
    results = {
        site: evaluation.summarise(TASK, part[ALL], part[ALL + RESAMPLED], people[site], [people[site]] * 2)
        for site, part in each.items()
    }
    totals, drawn = ({site: part[ALL + more] for site, part in each.items()} for more in ("", RESAMPLED))
    results[paired_resamples.POOLED] = evaluation.pooled(TASK, results, totals, drawn)
    names = {"accuracy", "macro_f1", "auroc", "auprc", "sensitivity", "specificity", "ppv", "loss", "brier", "slope"}
    for site, item in results.items():
        assert names <= set(found[site])
        for name in names:
            shown, sample = getattr(item, name), found[site][name]
            assert sample.shape == (20,)
            alpha = tail(item.patients)
            known = sample[np.isfinite(sample)]  # no slope where a resample is told apart whole
            assert np.quantile(known, [alpha, 1 - alpha]) == pytest.approx([shown.low, shown.high], abs=1e-5)


def tail(patients: int) -> float:
    return float(stats.norm.cdf(stats.t.ppf(0.025, patients - 1) * np.sqrt(patients / (patients - 1))))


def test_no_pooled_resamples_unless_every_site_shares_as_many() -> None:
    for other in ({ALL: tables(2, 9)[ALL]}, tables(2, 9, draws=10)):
        found = paired_resamples.of_tables(TASK, {"a": tables(1, 6), "b": other}, {ALL: {"a": 6, "b": 9}})
        assert (ALL, "a") in found
        assert (ALL, paired_resamples.POOLED) not in found


def test_personal_models_have_their_own() -> None:
    mine, shared = tables(3, 6), tables(1, 6)
    both = shared | {PERSONAL: mine[ALL], PERSONAL + RESAMPLED: mine[ALL + RESAMPLED]}
    found = paired_resamples.of_tables(TASK, {"a": both}, {ALL: {"a": 6}, PERSONAL: {"a": 6}})
    assert {table for table, _ in found} == {ALL, PERSONAL}
    assert not np.array_equal(found[ALL, "a"]["accuracy"], found[PERSONAL, "a"]["accuracy"])


def test_groups_of_patients_are_resampled_and_other_tables_are_not() -> None:
    mine, names = tables(1, 6), (ALL, "group sex=female", "without x")
    every = {name + more: mine[ALL + more] for name in names for more in ("", RESAMPLED)}
    found = paired_resamples.of_tables(TASK, {"a": every}, {name: {"a": 6} for name in names})
    assert {table for table, _ in found} == {ALL, "group sex=female"}
    np.testing.assert_array_equal(found["group sex=female", "a"]["auroc"], found[ALL, "a"]["auroc"])
    assert "slope" in found[ALL, "a"]


def test_no_file_is_no_resamples_and_a_damaged_one_is_named(tmp_path) -> None:
    assert paired_resamples.load(tmp_path / "none.safetensors") == {}
    (tmp_path / "x.safetensors").write_bytes(b"x")
    with pytest.raises(DataError, match=r"x\.safetensors is damaged"):
        paired_resamples.load(tmp_path / "x.safetensors")
