"""The two-sample test: what people who do not differ give, what people who do, and rows of unequal hospitals."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from threadpoolctl import threadpool_info, threadpool_limits  # type: ignore[import-untyped]

from common import config
from experiments.baselines import two_sample_test
from experiments.baselines.two_sample_test import SampledRows, compute_null_range, pair_auroc

RUN = config.parse_config({"name": "pair", "data": {"dataset": "synthetic"}, "evaluation": {"bootstrap": 50}})


def make_hospital(people: int, rows: int, shift: float, seed: int) -> SampledRows:
    """Return rows of people who differ much from one another, and by `shift` from those of another hospital."""
    rng = np.random.default_rng(seed)
    own = rng.normal(shift, 1.0, (people, 3))
    person = np.repeat(np.arange(people), rows)
    return (own[person] + rng.normal(0, 0.2, (len(person), 3))).astype(np.float32), person


@pytest.mark.slow
@pytest.mark.parametrize(("one", "other"), [(4, 5), (10, 10), (30, 12)])
def test_the_format_null_range_is_that_of_shuffled_people(one: int, other: int) -> None:
    rng = np.random.default_rng(1)
    hospital = np.repeat([0, 1], [one, other])
    shuffled = [roc_auc_score(hospital, rng.permutation(len(hospital))) for _ in range(2000)]
    np.testing.assert_allclose(compute_null_range(one, other), np.quantile(shuffled, [0.025, 0.975]), atol=0.03)


def test_people_who_do_not_differ_lie_in_the_format_null_range() -> None:
    low, high = compute_null_range(4, 4)
    values = []
    for draw in range(20):
        figure = pair_auroc(make_hospital(4, 30, 0, 2 * draw), make_hospital(4, 30, 0, 2 * draw + 1), draw, RUN)
        assert figure is not None
        assert figure.value is not None
        values.append(figure.value)
    assert sum(low <= value <= high for value in values) >= 18
    assert min(values) < 0.35  # so far below 0.5 is chance, too


def test_people_who_differ_lie_beyond_it() -> None:
    figure = pair_auroc(make_hospital(20, 20, 0, 1), make_hospital(20, 20, 2.5, 2), 1, RUN)
    assert figure is not None
    assert figure.value is not None
    assert figure.value > compute_null_range(20, 20)[1]


@pytest.mark.parametrize(("people", "threads"), [(20, {1}), (220, {2})])
def test_one_thread_grows_the_trees_of_few_rows(
    people: int, threads: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With more, they wait for each other: 20 s in place of 1 on a busy machine."""
    counted = set()

    class Trees:
        def __init__(self, **_: object) -> None:
            pass

        def fit(self, x: np.ndarray, _: np.ndarray) -> Trees:
            counted.update(pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "openmp")
            return self

        def decision_function(self, x: np.ndarray) -> np.ndarray:
            return x[:, 0]

    monkeypatch.setattr(two_sample_test, "HistGradientBoostingClassifier", Trees)
    with threadpool_limits(2):
        pair_auroc(make_hospital(people, 10, 0, 1), make_hospital(people, 10, 0, 2), 1, RUN)
    assert counted == threads


def test_as_many_rows_of_each_hospital_and_all_people() -> None:
    small, large = make_hospital(5, 10, 0, 1), make_hospital(6, 50, 0, 2)
    drawn = two_sample_test._draw_equal_rows(small, large, np.random.default_rng(1))
    assert [len(person) for _, person in drawn] == [50, 50]
    assert [len(set(person.tolist())) for _, person in drawn] == [5, 6]
    np.testing.assert_array_equal(drawn[0][0], small[0])
