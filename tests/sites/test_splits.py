"""Train, validation and test from a hospital's patients."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common import config
from common.errors import LeakError
from common.task import Task
from sites import splits
from sites.cohort import Cohort, Patient
from tests.sites.split_patients import everyone, few, list_patients, make_options

TASK = Task("t", "multiclass", ("N", "S", "V"), ("n", "s", "v"), 1, 2, 125.0, (), ("lead",))


def make_cohort(patients: Sequence[Patient]) -> Cohort:
    """A cohort whose x holds each example's own number."""
    sizes = [sum(item.examples) for item in patients]
    n = sum(sizes)
    y = np.concatenate([np.repeat(np.arange(3), item.examples) for item in patients]) if n else np.zeros(0, int)
    return Cohort(
        TASK,
        np.repeat(np.arange(n, dtype=np.float32), 2).reshape(n, 1, 2),
        np.zeros((n, 0), np.float32),
        y,
        np.repeat(np.arange(len(patients)), sizes),
        tuple(item.id for item in patients),
        tuple(item.person for item in patients),
        np.full(n, -1, np.int8),
    )


def sides(cohort: Cohort) -> dict[int, set[str]]:
    return {
        code: {cohort.persons[i] for i in np.unique(cohort.patient[cohort.split == code])}
        for code in (splits.TRAIN, splits.VALIDATION, splits.TEST)
    }


@few
@given(
    everyone(),
    st.sampled_from([0.0, 0.2, 0.5, 0.9]),
    st.sampled_from([0.01, 0.25, 0.5, 0.99]),
    st.sampled_from(["patient", "published"]),
    st.integers(0, 1000),
)
def test_a_split_loses_nothing_and_cuts_no_one(
    patients: list[Patient], validation: float, test: float, split: str, seed: int
) -> None:
    wanted = make_options(validation=validation, test=test, split=split)
    patients, _ = splits.drop_shared_persons(patients, wanted)
    whole = make_cohort(patients)
    done = splits.assign_split(whole, patients, wanted, seed, "north")
    np.testing.assert_array_equal(done.x, whole.x)
    np.testing.assert_array_equal(done.y, whole.y)
    assert set(done.split.tolist()) <= {0, 1, 2}
    result = list(sides(done).values())
    assert sum(len(side) for side in result) == len(set().union(*result))
    if validation == 0:
        assert result[splits.VALIDATION] == set()
    if split == "published":
        tested = {item.person for item in patients if item.published == "test" and sum(item.examples)}
        assert result[splits.TEST] == tested
    again = splits.assign_split(whole, patients[::-1], wanted, seed, "north")
    np.testing.assert_array_equal(done.split, again.split)


@pytest.mark.parametrize(
    ("count", "validation", "test", "sizes"),
    [
        (40, 0.2, 0.25, [24, 6, 10]),
        (10, 0.2, 0.25, [6, 2, 2]),
        (10, 0.0, 0.25, [8, 0, 2]),
        (3, 0.2, 0.25, [2, 0, 1]),
        (4, 0.2, 0.01, [2, 1, 1]),
        (5, 0.5, 0.99, [1, 0, 4]),
        (2, 0.2, 0.25, [2, 0, 0]),
        (1, 0.5, 0.5, [1, 0, 0]),
    ],
)
def test_shares_of_people_are_as_asked(count: int, validation: float, test: float, sizes: list[int]) -> None:
    patients = list_patients([(3, 2, 1)] * count)
    done = splits.assign_split(
        make_cohort(patients), patients, make_options(validation=validation, test=test), 1, "north"
    )
    assert [len(side) for side in sides(done).values()] == sizes


def test_a_rare_class_is_on_both_sides_where_it_can_be() -> None:
    patients = list_patients([(100, 0, 0)] * 12 + [(100, 9, 0)] * 2 + [(100, 0, 9)] * 2)
    whole = make_cohort(patients)
    for seed in range(5):
        done = splits.assign_split(whole, patients, make_options(validation=0.0, test=0.5), seed, "north")
        for code in (splits.TRAIN, splits.TEST):
            assert set(done.y[done.split == code].tolist()) == {0, 1, 2}


def test_the_seed_and_the_site_decide_who_is_tested() -> None:
    patients = list_patients([(3, 2, 1)] * 20)
    whole = make_cohort(patients)
    tested = {
        frozenset(sides(splits.assign_split(whole, patients, make_options(), seed, site))[splits.TEST])
        for seed in (1, 2)
        for site in ("north", "south")
    }
    assert len(tested) == 4


def test_a_beat_level_split_leaks_and_says_so() -> None:
    patients = list_patients([(40, 20, 10)] * 5)
    done = splits.assign_split(
        make_cohort(patients), patients, make_options(split="beat-level", validation=0.2, test=0.25), 1, "n"
    )
    result = sides(done)
    assert result[splits.TRAIN] & result[splits.TEST]
    assert np.bincount(done.split).tolist() == [210, 52, 88]
    with pytest.raises(LeakError):
        splits.refuse_leaking_split(done, "north")
    assert config.parse_config({"sites": {"split": "beat-level"}}).notices


def test_the_guard_names_the_site_and_never_the_person() -> None:
    patients = list_patients([(2, 0, 0), (2, 0, 0), (2, 0, 0)], ["secret-1", "secret-1", "secret-2"])
    whole = make_cohort(patients)
    splits.refuse_leaking_split(whole.with_split(np.array([0, 0, 0, 0, 2, 2], np.int8)), "north")
    for leak, said in (
        ([0, 0, 2, 2, 0, 0], "train and in test"),
        ([0, 0, 1, 1, 0, 0], "train and in validation"),
        ([1, 1, 1, 1, 1, 2], "validation and in test"),
    ):
        with pytest.raises(LeakError) as caught:
            splits.refuse_leaking_split(whole.with_split(np.array(leak, np.int8)), "north")
        assert str(caught.value).startswith("north: one person is in " + said)
        assert "secret" not in str(caught.value)


def test_a_leak_in_a_published_split_is_refused_unless_it_is_kept_on_purpose() -> None:
    patients = [
        Patient("201", "p", (4, 1, 1), published="train"),
        Patient("202", "p", (4, 1, 1), published="test"),
        Patient("203", "q", (4, 1, 1), published="train"),
    ]
    whole = make_cohort(patients)
    with pytest.raises(LeakError):
        splits.assign_split(whole, patients, make_options(split="published", validation=0.0), 1, "north")
    remaining = splits.assign_split(
        whole, patients, make_options(split="published", shared_person="keep", validation=0.0), 1, "n"
    )
    assert sides(remaining) == {0: {"p", "q"}, 1: set(), 2: {"p"}}


def test_a_person_at_two_hospitals_is_refused_without_a_name() -> None:
    splits.refuse_shared_persons({"north": {"a", "b"}, "south": {"c"}})
    with pytest.raises(LeakError, match="one person is at north and at south") as caught:
        splits.refuse_shared_persons({"south": {"secret"}, "north": {"a", "secret"}})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("split", ["patient", "beat-level"])
def test_a_limit_thins_training_alone(split: str) -> None:
    patients = list_patients([(30, 20, 10)] * 10)
    whole = make_cohort(patients)
    full = splits.assign_split(whole, patients, make_options(split=split), 1, "north")
    thin = splits.assign_split(whole, patients, make_options(split=split, limit=50), 1, "north")
    assert len(thin.part("train").y) == 50
    for name in ("validation", "test"):
        np.testing.assert_array_equal(thin.part(name).x, full.part(name).x)
    assert set(thin.part("train").x[:, 0, 0]) <= set(full.part("train").x[:, 0, 0])
    again = splits.assign_split(whole, patients, make_options(split=split, limit=50), 1, "north")
    np.testing.assert_array_equal(thin.x, again.x)
    loose = splits.assign_split(whole, patients, make_options(split=split, limit=10_000), 1, "north")
    np.testing.assert_array_equal(loose.x, full.x)
    assert len(np.unique(thin.part("train").patient)) > 3


@pytest.mark.parametrize("split", ["patient", "beat-level"])
def test_a_share_of_labels_thins_training_alone_and_says_so(split: str) -> None:
    patients = list_patients([(30, 20, 10)] * 10)
    whole = make_cohort(patients)
    full = splits.assign_split(whole, patients, make_options(split=split), 1, "north")
    count = len(full.part("train").y)
    observed: set[float] = set()
    for share, remaining in ((1e-6, 1), (0.1, round(count / 10)), (0.5, round(count / 2)), (1.0, count)):
        thin = splits.assign_split(whole, patients, make_options(split=split, label_share=share), 1, "north")
        here = set(thin.part("train").x[:, 0, 0].tolist())
        assert len(thin.part("train").y) == remaining
        assert observed <= here  # fewer labels are some of more
        assert thin.excluded.get(splits.UNLABELLED, 0) == count - remaining
        for name in ("validation", "test"):
            np.testing.assert_array_equal(thin.part(name).x, full.part(name).x)
        observed = here


def test_folds_keep_groups_and_persons_whole_and_cover_everyone_once() -> None:
    rng = np.random.default_rng(3)
    patients = [
        Patient(f"r{i:03d}", f"p{i // 2:02d}", (2, 1, 1), group=f"h{rng.integers(0, 12)}" if i % 3 else None)
        for i in range(60)
    ]
    tested: dict[str, int] = {}
    for fold in range(4):
        done = splits.assign_split(
            make_cohort(patients), patients, make_options(split="folds", folds=4, fold=fold), 7, "north"
        )
        for i, item in enumerate(patients):
            codes = set(done.split[done.patient == i].tolist())
            assert len(codes) == 1
            if codes == {splits.TEST}:
                assert item.id not in tested
                tested[item.id] = fold
    assert len(tested) == 60
    for one in patients:
        for other in patients:
            if one.person == other.person or (one.group and one.group == other.group):
                assert tested[one.id] == tested[other.id]


def test_folds_without_groups_are_even_and_another_draw_is_another_split() -> None:
    patients = list_patients([[2, 1, 0]] * 30)
    observed = []
    for draw in (0, 0, 1):
        done = splits.assign_split(
            make_cohort(patients), patients, make_options(split="folds", folds=3, draw=draw), 7, "north"
        )
        test = np.unique(done.patient[done.split == splits.TEST])
        assert len(test) == 10
        observed.append(tuple(test))
    assert observed[0] == observed[1] != observed[2]


def test_a_published_validation_side_is_the_validation_side() -> None:
    sides = ["train"] * 6 + ["validation"] * 2 + ["test"] * 2
    patients = [Patient(f"r{i}", f"r{i}", (1, 1, 1), published=side) for i, side in enumerate(sides)]
    done = splits.assign_split(
        make_cohort(patients), patients, make_options(split="published", validation=0.5), 1, "north"
    )
    assert [int(done.split[done.patient == i][0]) for i in range(10)] == [0] * 6 + [1] * 2 + [2] * 2
    dealt = splits.partition_patients(patients, make_options(split="published", scheme="even", count=2), 1)
    for ids in dealt.values():
        assert sorted(sides[int(name[1:])] for name in ids) == ["test"] + ["train"] * 3 + ["validation"]
