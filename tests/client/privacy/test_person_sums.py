"""What one person changes of a private evaluation before the noise, and on what a person's outputs depend."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from client.evaluation.person_sums import compute_shares, predict_by_person, select_groups
from client.privacy.private_evaluation import join_weighted_sums
from common.errors import SiteError
from common.private_evaluation import build_layout
from common.task import Task
from sites.cohort import Cohort
from tests.client.privacy.test_private_evaluation import private


class Linear(nn.Module):
    """Logits from the features alone."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.out = nn.Linear(width, classes)

    def forward(self, x: Tensor, features: Tensor) -> Tensor:
        logits: Tensor = self.out(features)
        return logits


def people_of_many_sizes(classes: int, kind: str) -> Cohort:
    """Eight people with 1 to 9 examples; some of them in two recordings."""
    rng = np.random.default_rng(classes)
    owner = np.repeat(np.arange(10), [1, 1, 2, 3, 9, 5, 1, 4, 2, 2])
    names = tuple("abcdefgh" + "ab")  # the last two recordings are of the first two people
    labels = (len(owner), classes) if kind == "multilabel" else len(owner)
    truth = rng.integers(0, 2 if kind == "multilabel" else classes, labels)
    classes_ = tuple("pqrstuvw"[:classes])
    task = Task("t", kind, classes_, classes_, 0, 0, 0.0, ("one", "two"), ())  # type: ignore[arg-type]
    return Cohort(
        task, np.zeros((len(owner), 0, 0), np.float32), rng.normal(size=(len(owner), 2)).astype(np.float32), truth,
        owner, tuple(f"r{i}" for i in range(10)), names, np.full(len(owner), 2, np.int8),
        age=rng.uniform(20, 90, 10).astype(np.float32), sex=rng.integers(-1, 2, 10).astype(np.int8),
    )  # fmt: skip


@pytest.mark.parametrize(("classes", "kind"), [(2, "multiclass"), (4, "multiclass"), (3, "multilabel")])
@pytest.mark.parametrize("grouped", [False, True])
def test_one_person_changes_the_vector_before_noise_by_norm_one_at_most(classes: int, kind: str, grouped: bool) -> None:
    groups = {"evaluation__subgroups": {"sex": True, "age": [40, 65]}} if grouped else {}
    config = private(evaluation__bins=16, training__device="cpu", **groups)
    whole = people_of_many_sizes(classes, kind)
    torch.manual_seed(1)
    model = Linear(2, classes)
    layout = build_layout(config, whole.task, "test", personal=False)

    def vector(cohort: Cohort) -> np.ndarray:
        return join_weighted_sums(
            compute_shares(model, cohort, config).sum_tables(select_groups(cohort, config)), layout
        )

    everybody, norms = vector(whole), []
    for person in sorted(set(whole.persons)):
        rest = whole.take(np.asarray([whole.persons[i] != person for i in whole.patient]))
        norms.append(float(np.linalg.norm(everybody - vector(rest))))
    assert max(norms) <= 1 + 1e-12
    single = [norm for norm, name in zip(norms, sorted(set(whole.persons)), strict=True) if name == "g"]
    assert single == [pytest.approx(1.0)]  # who has one example moves it by all that is charged
    assert min(norms) < 0.9  # others are spread over cells


def test_a_persons_outputs_do_not_depend_on_who_else_is_there() -> None:
    """In a common batch, other people change the last digits, which weights can turn into other bins."""
    rng = np.random.default_rng(0)
    owner = np.repeat(np.arange(40), 3)
    names, wide = tuple(f"p{i:02}" for i in range(40)), tuple(f"f{i}" for i in range(301))
    task = Task("t", "multiclass", ("a", "b"), ("a", "b"), 0, 0, 0.0, wide, ())
    values = rng.normal(size=(120, 301)).astype(np.float32)
    whole = Cohort(task, np.zeros((120, 0, 0), np.float32), values, owner % 2, owner, names, names,
                   np.full(120, 2, np.int8))  # fmt: skip
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(301, 64), nn.Linear(64, 2))
    taken = nn.ModuleList([model])

    class Features(nn.Module):
        def forward(self, x: Tensor, features: Tensor) -> Tensor:
            logits: Tensor = taken[0](features)
            return logits

    def predict(people: int) -> np.ndarray:
        rows = [np.arange(3 * position, 3 * position + 3) for position in range(people)]
        return predict_by_person(Features(), whole.take(whole.patient < people), rows, private())

    everybody = predict(40)
    for people in (1, 2, 3, 7, 20):
        np.testing.assert_array_equal(predict(people), everybody[: 3 * people])


def test_an_output_that_is_not_finite_refuses_nothing() -> None:
    class Overflowing(Linear):
        def forward(self, x: Tensor, features: Tensor) -> Tensor:
            logits = super().forward(x, features)
            return torch.where(features[:, :1] > 1, logits * float("inf"), logits)

    whole = people_of_many_sizes(2, "multiclass")
    model = Overflowing(2, 2)
    shares = compute_shares(model, whole, private())
    np.testing.assert_allclose(shares.confusion.sum((1, 2)), 1.0)
    with torch.no_grad():
        model.out.weight[0, 0] = float("nan")
    with pytest.raises(SiteError, match="a weight is not a finite number"):
        compute_shares(model, whole, private())
