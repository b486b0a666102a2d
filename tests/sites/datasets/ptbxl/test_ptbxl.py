"""PTB-XL: labels against the publishers' own few lines of pandas, people, sites and folds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from common import config
from sites import datasets, splits
from sites.datasets import Source, ptbxl
from tests.sites.datasets.ptbxl.ptbxl_folders import check_against_the_publishers, edit, options, read_all


def test_labels_are_the_publishers(made: Path, prepared: Path) -> None:
    check_against_the_publishers(made, prepared)


def test_a_likelihood_can_be_asked_for_and_zero_stands_for_unknown(copy: Path, prepared: Path) -> None:
    edit(copy, 0, scp_codes="{'NORM': 80.0, 'LVH': 0.0, 'AMI': 50.0, 'IMI': 35.0, 'SR': 100.0}")
    for minimum, labels in ((0, [1, 1, 0, 0, 1]), (1, [1, 1, 0, 0, 0]), (50, [1, 1, 0, 0, 0]), (60, [1, 0, 0, 0, 0])):
        assert read_all(copy, prepared, likelihood=minimum).y[0].tolist() == labels
    assert ptbxl.patients(copy, options(likelihood=90), prepared)[0].examples == (0, 0, 0, 0, 0)


def test_normal_is_norm_alone_or_norm_at_all(copy: Path, prepared: Path) -> None:
    edit(copy, 0, scp_codes="{'NORM': 100.0, 'IRBBB': 100.0}")
    edit(copy, 1, scp_codes="{'NORM': 100.0, 'SR': 0.0}")
    edit(copy, 2, scp_codes="{'IRBBB': 100.0}")
    assert read_all(copy, prepared, task="norm", norm="only").y[:3].tolist() == [1, 0, 1]
    assert read_all(copy, prepared, task="norm", norm="among").y[:3].tolist() == [0, 0, 1]


def test_patients_count_what_is_read(made: Path, prepared: Path) -> None:
    for given in ({}, {"task": "norm"}, {"view": "beats"}, {"view": "beats", "task": "norm"}):
        cohort = read_all(made, prepared, **given)
        for i, item in enumerate(ptbxl.patients(made, options(**given), prepared)):
            mine = cohort.y[cohort.patient == i]
            counts = mine.sum(0) if mine.ndim == 2 else np.bincount(mine, minlength=2)
            assert tuple(counts) == item.examples


def test_age_and_sex_are_turned_to_ours(copy: Path, prepared: Path) -> None:
    table = pd.read_csv(copy / "ptbxl_database.csv")
    edit(copy, 0, age=300, sex=0)
    edit(copy, 1, age="", sex=1)
    edit(copy, 2, age=89, sex="")
    cohort = read_all(copy, prepared)
    np.testing.assert_array_equal(cohort.age[:3], np.asarray([90, np.nan, 89], np.float32))
    assert cohort.sex[:3].tolist() == [1, 0, -1]
    np.testing.assert_array_equal(cohort.age[3:], table.age[3:].to_numpy(np.float32))
    np.testing.assert_array_equal(cohort.sex[3:], 1 - table.sex[3:])


def test_sites_and_folds_are_those_of_the_table(made: Path, prepared: Path) -> None:
    table = pd.read_csv(made / "ptbxl_database.csv")
    result = ptbxl.patients(made, options(), prepared)
    assert [item.site for item in result] == [f"site-{int(n)}" for n in table.site]
    side = {**dict.fromkeys(range(1, 9), "train"), 9: "validation", 10: "test"}
    assert [item.published for item in result] == [side[n] for n in table.strat_fold]
    assert [item.person for item in result] == [f"person-{int(n)}" for n in table.patient_id]
    source = Source(ptbxl, options(), made, prepared)
    run = config.parse_config({"sites": {"scheme": "natural", "split": "published"}})
    dealt, remaining, _ = datasets.assign_hospitals(source, run)
    assert sorted(dealt) == ["site-0", "site-1", "site-2", "site-3"]
    ids = dealt["site-0"]
    done = splits.assign_split(source.read(ids), [p for p in remaining if p.id in ids], run.sites, run.seed, "site-0")
    for name, folds in (("train", range(1, 9)), ("validation", [9]), ("test", [10])):
        there = {done.patients[i] for i in done.part(name).patient}
        rows = table[(table.site == 0) & table.strat_fold.isin(folds)]
        assert there <= {str(n) for n in rows.ecg_id}
        assert there


def test_one_person_at_two_sites_counts_at_the_site_of_most(copy: Path, prepared: Path) -> None:
    """Rows 0-2: two of three at site 7; 3 and 4: one each, row 4 first; 5 and 6: one of them unknown; 7: unknown."""
    fold = pd.read_csv(copy / "ptbxl_database.csv").strat_fold[0]
    for row, (person, site, date) in enumerate(
        [(901, 5, 3), (901, 7, 2), (901, 7, 1), (902, 5, 2), (902, 7, 1), (903, "", 1), (903, 5, 2), (904, "", 1)]
    ):
        edit(copy, row, patient_id=person, site=site, recording_date=f"1990-01-0{date} 10:00:00", strat_fold=fold)
    result = ptbxl.patients(copy, options(), prepared)
    assert [item.site for item in result[:8]] == [
        "site-7", "site-7", "site-7", "site-7", "site-7", "site-5", "site-5", "site-unknown",
    ]  # fmt: skip
    datasets.assign_hospitals(Source(ptbxl, options(), copy, prepared), config.parse_config({}))
    moved = "recordings moved to the site of the person's others (not left out)"
    assert read_all(copy, prepared).excluded[moved] == 3
    assert ptbxl.read(copy, options(), [result[0].id], prepared).excluded == {moved: 1}
    assert moved not in ptbxl.read(copy, options(), [result[1].id], prepared).excluded


def test_small_sites_can_be_taken_together(made: Path, prepared: Path) -> None:
    table = pd.read_csv(made / "ptbxl_database.csv")
    people = table.groupby("site").patient_id.nunique()
    minimum = int(people.sort_values().iloc[1]) + 1
    result = ptbxl.patients(made, options(smallest=minimum), prepared)
    truth = ["site-other" if people[n] < minimum else f"site-{int(n)}" for n in table.site]
    assert [item.site for item in result] == truth
    assert len(set(truth)) == 3
