"""Simulated hospitals from patients."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import ConfigError, DataError
from common.sections.data import SitesConfig
from sites import splits
from sites.cohort import Patient
from tests.sites.split_patients import everyone, few, list_patients, make_options

schemes = st.builds(
    lambda scheme, count, alpha, skew: make_options(scheme=scheme, count=count, alpha=alpha, skew=skew),
    st.sampled_from(["even", "size", "labels"]),
    st.integers(1, 6),
    st.sampled_from([0.001, 0.1, 1.0, 1000.0]),
    st.sampled_from([0.0, 1.0, 5.0]),
)


@few
@given(everyone(), schemes, st.integers(0, 2**31 - 1))
def test_a_partition_gives_everyone_to_one_hospital_and_cuts_no_one(
    patients: list[Patient], wanted: SitesConfig, seed: int
) -> None:
    persons = {item.person for item in patients}
    if len(persons) < wanted.count:
        with pytest.raises(ConfigError, match=f"sites.count={wanted.count}: only {len(persons)} people"):
            splits.partition_patients(patients, wanted, seed)
        return
    dealt = splits.partition_patients(patients, wanted, seed)
    assert len(dealt) == wanted.count
    assert sorted(name for ids in dealt.values() for name in ids) == sorted(item.id for item in patients)
    total = {item.id: item.person for item in patients}
    homes = [{total[name] for name in ids} for ids in dealt.values()]
    assert all(homes)
    assert sum(len(home) for home in homes) == len(persons)
    assert splits.partition_patients(patients[::-1], wanted, seed) == dealt
    if wanted.scheme == "even":
        assert max(map(len, homes)) - min(map(len, homes)) <= 1


@few
@given(everyone(), st.integers(1, 3), st.integers(0, 1000), st.sampled_from(["even", "size", "labels"]))
def test_a_published_split_is_dealt_on_both_sides(patients: list[Patient], count: int, seed: int, scheme: str) -> None:
    wanted = make_options(scheme=scheme, count=count, split="published")
    remaining, dropped = splits.drop_shared_persons(patients, wanted)
    sides = [{item.person for item in remaining if (item.published == "test") == side} for side in (True, False)]
    if not any(item.published for item in remaining) or min(map(len, sides)) < count:
        with pytest.raises(ConfigError):
            splits.partition_patients(remaining, wanted, seed)
        return
    dealt = splits.partition_patients(remaining, wanted, seed)
    assert sorted(name for ids in dealt.values() for name in ids) == sorted(item.id for item in remaining)
    by_id = {item.id: item for item in remaining}
    for ids in dealt.values():
        assert any(by_id[name].published == "test" for name in ids)
        assert any(by_id[name].published != "test" for name in ids)
    assert len(remaining) + dropped == len(patients)


def test_the_seed_decides_the_partition() -> None:
    patients = list_patients([(5, 1, 1)] * 20)
    for scheme in ("even", "size", "labels"):
        dealt = [splits.partition_patients(patients, make_options(scheme=scheme, count=4), seed) for seed in range(4)]
        assert len({tuple(item.values()) for item in dealt}) == 4


@pytest.mark.parametrize(("skew", "sizes"), [(0.0, [25, 25, 25, 25]), (1.0, [47, 24, 16, 13]), (5.0, [94, 4, 1, 1])])
def test_sizes_fall_as_asked(skew: float, sizes: list[int]) -> None:
    dealt = splits.partition_patients(
        list_patients([(1, 1, 1)] * 100), make_options(scheme="size", count=4, skew=skew), 1
    )
    assert list(dealt) == ["hospital-1", "hospital-2", "hospital-3", "hospital-4"]
    assert [len(ids) for ids in dealt.values()] == sizes
    share = np.array([1, 1 / 2, 1 / 3, 1 / 4]) ** skew
    exact = 1 + 96 * share / share.sum()
    assert np.abs(np.array(sizes) - exact).max() < 1


def test_names_of_many_hospitals_sort_by_number() -> None:
    dealt = splits.partition_patients(list_patients([(1, 0, 0)] * 12), make_options(scheme="even", count=12), 1)
    assert list(dealt) == [f"hospital-{i:02d}" for i in range(1, 13)]


def test_a_small_alpha_concentrates_labels() -> None:
    """Mean share of a class that its largest hospital holds, over seeds; every person has one class."""
    patients = list_patients([(10, 0, 0), (0, 10, 0), (0, 0, 10)] * 12)
    label = {item.id: int(np.argmax(item.examples)) for item in patients}

    def concentration(alpha: float) -> float:
        shares = []
        for seed in range(15):
            dealt = splits.partition_patients(patients, make_options(scheme="labels", count=3, alpha=alpha), seed)
            table = np.array([np.bincount([label[name] for name in ids], minlength=3) for ids in dealt.values()])
            assert table.sum(1).tolist() == [12, 12, 12]
            shares.append((table.max(0) / table.sum(0)).mean())
        return float(np.mean(shares))

    mixed, skewed, extreme = concentration(1000), concentration(1.0), concentration(0.05)
    assert mixed < 0.55
    assert mixed + 0.05 < skewed < extreme - 0.02


def test_natural_hospitals_are_those_of_the_data() -> None:
    patients = [
        Patient("b", "b", (1, 0, 0), site="west"),
        Patient("c", "c", (1, 0, 0), site="east"),
        Patient("a", "a", (1, 0, 0), site="west"),
    ]
    assert splits.partition_patients(patients, make_options(scheme="natural", count=99), 1) == {
        "east": ("c",),
        "west": ("a", "b"),
    }
    with pytest.raises(ConfigError, match=r"has no hospitals; use even, size or labels"):
        splits.partition_patients([*patients, Patient("d", "d", (1, 0, 0))], make_options(scheme="natural"), 1)


def test_a_published_split_needs_one() -> None:
    with pytest.raises(ConfigError, match="has no published split"):
        splits.partition_patients(list_patients([(1, 0, 0)] * 9), make_options(scheme="even", split="published"), 1)


def test_a_recording_twice_or_a_person_at_two_sites_is_refused() -> None:
    with pytest.raises(DataError, match="listed twice"):
        splits.group_by_person([Patient("a", "a", (1,)), Patient("a", "a", (1,))])
    with pytest.raises(DataError, match="at two sites"):
        splits.group_by_person([Patient("a", "p", (1,), site="x"), Patient("b", "p", (1,), site="y")])


def test_who_is_tested_is_dropped_from_training() -> None:
    patients = [
        Patient("201", "p", (1, 0, 0), published="train"),
        Patient("202", "p", (1, 0, 0), published="test"),
        Patient("203", "q", (1, 0, 0), published="train"),
        Patient("204", "p", (1, 0, 0)),
    ]
    remaining, dropped = splits.drop_shared_persons(patients, make_options(split="published"))
    assert [item.id for item in remaining] == ["202", "203"]
    assert dropped == 2
    for other in (
        make_options(split="published", shared_person="keep"),
        make_options(),
        make_options(split="beat-level"),
    ):
        assert splits.drop_shared_persons(patients, other) == (patients, 0)
