"""A hospital that is asked for the histograms of trees by a hostile coordinator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.requests import handle
from client.site import load_site
from client.site_context import SiteContext
from common import scaling
from common.arrays import Weights
from common.config import RunConfig
from common.errors import SiteError
from common.replies import GrowReply
from common.requests import GrowRequest, ScalingRequest, TrainRequest, ValidateRequest
from common.tree_plan import draw_trees, plan_run
from common.trees import empty_trees, list_edges
from tests.client.gate.stranger import make_config, make_hospital

RUN = "a" * 32


@pytest.fixture
def hospital(tmp_path: Path) -> SiteContext:
    return make_hospital(tmp_path, patients=300)


def make_run() -> RunConfig:
    options = {"trees": 4, "depth": 2, "bins": 16, "sample": 1.0, "columns": 1.0}
    return make_config(model={"name": "boosting", "options": options}, federation={"rounds": 2}, evaluation__bins=62)


def find_scaling(context: SiteContext, config: RunConfig) -> bytes:
    moments = handle(context, ScalingRequest(config, run_id=RUN)).sums  # type: ignore[attr-defined]
    base = scaling.fit_standard_scaling(dict(moments))
    counts = handle(context, ScalingRequest(config, base.to_bytes(), RUN)).sums["histogram"]  # type: ignore[attr-defined]
    ranked = scaling.fit_quantile_scaling(base, counts)
    return scaling.Scaling(ranked.centre, ranked.spread, ranked.ranks, keeps_missing=True).to_bytes()


def ask(context: SiteContext, config: RunConfig, trees: Weights, number: int = 1, depth: int = 0) -> GrowReply:
    request = GrowRequest(config, number, weights=trees, scaling=find_scaling(context, config), run_id=RUN, depth=depth)
    reply = handle(context, request)
    assert isinstance(reply, GrowReply)
    return reply


def test_each_released_group_holds_the_floors_people_and_is_noisy(hospital: SiteContext) -> None:
    config = make_run()
    trees = empty_trees(plan_run(config, load_site(hospital, config).task))
    one, other = (ask(hospital, config, trees) for _ in range(2))
    held = one.sums["people"]
    assert set(np.unique(held % 5)) == {0.0}
    assert not np.array_equal(one.sums["gradient"], other.sums["gradient"])  # new noise each time
    assert 0 < np.abs(one.sums["gradient"] - other.sums["gradient"]).max() < 10  # of about a person's part, 1/2


def change(name: str, place: Any, value: float) -> Callable[[Weights], None]:
    def apply(trees: Weights) -> None:
        trees[name][place] = value

    return apply


def craft_edge(trees: Weights) -> None:
    """Split one value from another within a bin."""
    trees["feature"][0, 0], trees["threshold"][0, 0] = 0, 0.0123


@pytest.mark.parametrize(
    ("crafted", "number", "depth", "said"),
    [
        (change("feature", (0, 0), 99), 1, 1, "split at other places"),
        (change("value", (0, 0), 1e5), 2, 0, "split at other places"),
        (craft_edge, 1, 1, "split at other places"),
        (change("feature", (0, 0), 0), 1, 0, "not grown yet"),
        (change("missing_left", (0, 0), 1), 3, 0, "none of this run"),
        (change("missing_left", (0, 0), 1), 1, 2, "none of this run"),
        (change("value", (0, 0), 0.5), 2, 0, "not those that this hospital helped to grow|has grown no trees"),
    ],
)
def test_trees_that_no_run_grows_are_refused(
    hospital: SiteContext, crafted: Callable[[Weights], None], number: int, depth: int, said: str
) -> None:
    config = make_run()
    trees = empty_trees(plan_run(config, load_site(hospital, config).task))
    crafted(trees)
    with pytest.raises(SiteError, match=said):
        ask(hospital, config, trees, number, depth)


def test_a_model_is_validated_only_if_it_continues_the_trees_that_grew_here(hospital: SiteContext) -> None:
    config = make_run()
    scale = find_scaling(hospital, config)
    plan = plan_run(config, load_site(hospital, config).task)
    trees = empty_trees(plan)

    def validate(weights: Weights) -> None:
        handle(hospital, ValidateRequest(config, 1, weights=weights, scaling=scale, run_id=RUN))

    with pytest.raises(SiteError, match="has grown no trees"):
        validate(trees)
    ask(hospital, config, trees)
    grown = {name: value.copy() for name, value in trees.items()}
    grown["feature"][:2, 0], grown["threshold"][:2, 0] = 0, list_edges(16)[4]
    grown["value"][:2, 0], grown["value"][:2, 2] = 0.3, -0.2
    validate(grown)
    ask(hospital, config, grown, number=2)
    other = {name: value.copy() for name, value in grown.items()}
    other["value"][0, 0] = 0.4
    with pytest.raises(SiteError, match="not those that this hospital helped to grow"):
        validate(other)


def test_trees_are_not_trained_and_networks_do_not_grow(hospital: SiteContext) -> None:
    config = make_run()
    trees = empty_trees(plan_run(config, load_site(hospital, config).task))
    with pytest.raises(SiteError, match="grown from histograms, not trained"):
        handle(hospital, TrainRequest(config, 1, weights=trees, run_id=RUN))
    network = make_config()
    with pytest.raises(SiteError, match="does not grow from histograms"):
        handle(hospital, GrowRequest(network, 1, weights={}, run_id="b" * 32))


def make_forest_run() -> RunConfig:
    options = {"trees": 8, "depth": 3, "bins": 16}
    return make_config(model={"name": "forest", "options": options}, federation={"rounds": 2}, evaluation__bins=62)


def test_a_forest_is_asked_for_with_the_structure_of_the_seed_alone(hospital: SiteContext) -> None:
    config = make_forest_run()
    plan = plan_run(config, load_site(hospital, config).task)
    trees = draw_trees(plan)
    reply = ask(hospital, config, trees)
    assert {name: value.shape for name, value in reply.sums.items()} == dict.fromkeys(
        ("gradient", "hessian"), (4, 8, 1)
    )
    for name, value in (("feature", 1 - trees["feature"][0, 0]), ("missing_left", 1 - trees["missing_left"][0, 0])):
        crafted = draw_trees(plan)
        crafted[name][0, 0] = value
        with pytest.raises(SiteError, match="split otherwise than the run's seed draws"):
            ask(hospital, config, crafted)
    later = draw_trees(plan)
    later["value"][4, 0] = 0.5
    with pytest.raises(SiteError, match="leaves that this round has not filled yet"):
        ask(hospital, config, later)
    with pytest.raises(SiteError, match="the round or the depth of the message is none of this run's"):
        ask(hospital, config, trees, depth=1)


def test_the_same_question_about_a_forest_has_the_same_errors(hospital: SiteContext) -> None:
    config = make_forest_run()
    trees = draw_trees(plan_run(config, load_site(hospital, config).task))
    one, other = (ask(hospital, config, trees) for _ in range(2))
    assert all(np.array_equal(one.sums[name], other.sums[name]) for name in one.sums)
    trees["base"][:] = 0.25
    assert not np.array_equal(one.sums["hessian"], ask(hospital, config, trees).sums["hessian"])


def test_a_forest_must_continue_the_leaves_that_this_hospital_helped_to_fill(hospital: SiteContext) -> None:
    config = make_forest_run()
    trees = draw_trees(plan_run(config, load_site(hospital, config).task))
    ask(hospital, config, trees)
    trees["value"][:4] = 0.1
    ask(hospital, config, trees, number=2)
    trees["value"][4:] = 0.1
    request = ValidateRequest(config, 2, weights=trees, scaling=find_scaling(hospital, config), run_id=RUN)
    handle(hospital, request)
    trees["value"][1] = -0.1
    with pytest.raises(SiteError, match="are not those that this hospital helped to grow"):
        handle(hospital, replace(request, weights=trees))


def test_sums_of_leaves_with_other_class_weights_have_errors_of_their_own(hospital: SiteContext) -> None:
    """The server states the classes' sizes, by which gradients are weighted: three answers gave exact counts of leaves.

    With one draw of the errors in three sizes, three equations hold two sums and the draw.
    """
    options = {"trees": 40, "depth": 2, "bins": 16}
    config = make_config(model={"name": "forest", "options": options}, federation={"rounds": 1}, evaluation__bins=62,
                         training__weight_power=1.0)  # fmt: skip
    site = load_site(hospital, config)
    trees, sent, answers, rows = draw_trees(plan_run(config, site.task)), find_scaling(hospital, config), [], []
    for counts in ((5, 5), (2, 8), (8, 2)):
        request = GrowRequest(config, 1, trees, sent, run_id=RUN, class_counts=counts, total=10)
        reply = handle(hospital, request)
        again = handle(hospital, request)
        assert isinstance(reply, GrowReply)
        assert isinstance(again, GrowReply)
        assert np.array_equal(reply.sums["gradient"], again.sums["gradient"])  # the same question
        weights = np.array([0.5 / (n / 10) for n in counts])  # of mean 1 over the examples
        rows.append([*weights, weights.max() * 40**0.5])
        answers.append(reply.sums["gradient"].ravel())
    part = 0.5 / (1 - 2 * hospital.policy.replaced_values)  # of a person, before any tree
    counted = np.linalg.solve(np.array(rows), np.array(answers))[:2] / part
    assert (np.abs(counted - np.rint(counted)) < 0.05).mean() < 0.3
