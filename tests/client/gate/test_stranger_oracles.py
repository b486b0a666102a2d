"""What a second stranger read out of crafted scores of validation and test patients, one bit a question."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.requests import handle
from client.site import load_site
from common.arrays import Weights
from common.replies import FinalTestReply, ValidateReply
from common.requests import FinalTestRequest, ValidateRequest
from common.scaling import Scaling
from tests.client.gate.stranger import PLAIN, ask_scaling, make_config, make_hospital, train_first

RUN = "a" * 32
STEEP: dict[str, Any] = {**PLAIN, "training__lr": 10.0, "training__epochs": 8, "data__scaling": "standard"}
NETWORK = {"name": "mlp", "options": {"widths": [8], "norm": False, "dropout": 0.0}}


def make_window(
    like: Weights, scaling: Scaling, column: int, middle: float, reach: float, height: float, base: float
) -> Weights:
    """Return weights whose log odds are `base + height` within `reach` of `middle`, and `base` elsewhere."""
    into, bias, out, last = (np.zeros_like(value) for value in like.values())
    edge = 0.8 / scaling.spread[column]
    steep = np.sqrt(abs(height) / edge)
    corners = ((middle - reach, edge), (middle - reach, 0), (middle + reach, edge), (middle + reach, 0))
    for unit, (value, shift) in enumerate(corners):
        into[unit, column] = steep
        bias[unit] = steep * (shift - (value - scaling.centre[column]) / scaling.spread[column])
    out[1, :4] = np.array([1, -1, -1, 1]) * height / edge / steep
    last[1] = base
    return dict(zip(like, (into, bias, out, last), strict=True))


def test_a_histogram_does_not_show_who_is_in_a_window(tmp_path: Path) -> None:
    context = make_hospital(tmp_path, patients=200)
    config = make_config(**STEEP, model=NETWORK, evaluation={"bins": 62, "bootstrap": 0, "recalibrate": []})
    scaling, site = ask_scaling(context), load_site(context, config)
    update = train_first(context, config, scaling, RUN)
    column = site.task.features.index("chol")
    values = site.validation.features[:, column]
    shapes = []
    for windows in find_windows(values, np.ones(len(values), bool)):
        found = set()
        for middle in windows[:8]:
            weights = make_window(update, scaling, column, middle, 1.0, -16, 8)
            request = ValidateRequest(config, round=1, weights=weights, scaling=scaling.to_bytes(), run_id=RUN)
            reply = handle(context, request)
            assert isinstance(reply, ValidateReply)
            found.add(tuple(np.flatnonzero(reply.tables["all"].scores[1].sum(0)).tolist()))
        shapes.append(found)
    assert shapes[0] & shapes[1]  # windows of nobody and of somebody look alike: they stood at different bins each time


def find_windows(values: np.ndarray[Any, Any], who: np.ndarray[Any, Any]) -> tuple[list[float], list[float]]:
    """Return middles of windows with nobody in them, and with one person, of whom `who` is true."""
    middles = np.arange(180, 330, 0.5)
    near, inside = (np.abs(values[:, None] - middles) <= reach for reach in (1.9, 0.9))
    one = (near.sum(0) == 1) & ((inside & who[:, None]).sum(0) == 1)
    return middles[near.sum(0) == 0].tolist(), middles[one].tolist()


@pytest.mark.parametrize("what", ["interval", "fit"])
def test_a_recalibrated_result_does_not_show_who_is_in_a_window(tmp_path: Path, what: str) -> None:
    """Intervals came from exact resamples of test patients, and fits from exact scores of validation patients."""
    context = make_hospital(tmp_path, patients=400, max_tested_models_per_run=12, max_weight_distance=None)
    evaluation = {"bins": 62, "bootstrap": 200, "recalibrate": ["temperature"]}
    config = make_config(**STEEP, model=NETWORK, evaluation=evaluation)
    scaling, site = ask_scaling(context), load_site(context, config)
    update = train_first(context, config, scaling, RUN)
    column = site.task.features.index("chol")
    group = site.test if what == "interval" else site.validation
    values, y = group.features[:, column], group.y
    nobody, somebody = find_windows(values, y == 0)
    height, base = (16, -8) if what == "interval" else (10, -0.03 if (y == 0).mean() > 0.5 else 0.03)
    answers = []
    for middle in (*nobody[:6], *somebody[:6]):
        weights = make_window(update, scaling, column, middle, 1.0, height, base)
        request = FinalTestRequest(config, round=1, weights=weights, scaling=scaling.to_bytes(), run_id=RUN)
        reply = handle(context, request)
        assert isinstance(reply, FinalTestReply)
        if what == "interval":
            recall = reply.report.evaluations["recalibrated temperature"].classes["healthy"].recall
            assert recall.low is not None
            assert recall.value is not None
            answers.append(recall.low < recall.value)
        else:
            scores = reply.tables["recalibrated temperature"].scores[1].sum(0)
            answers.append(abs(int(scores.argmax()) - 30.5) < 2)
    assert len(answers) == 12
    assert answers != [False] * 6 + [True] * 6  # as they were


def test_the_same_weights_under_another_scaling_are_another_question(tmp_path: Path) -> None:
    """Counts kept their errors from one run's scaling to the next, so that a change showed a person in between."""
    context = make_hospital(tmp_path, patients=200)
    config = make_config(**STEEP, model=NETWORK, evaluation={"bins": 62, "bootstrap": 0, "recalibrate": []})
    scaling, site = ask_scaling(context), load_site(context, config)
    column = site.task.features.index("chol")
    centre = scaling.centre.copy()
    centre[column] += 1e-3  # nobody's cholesterol crosses a window's edge by that
    runs = {RUN: scaling, "b" * 32: replace(scaling, centre=centre)}
    updates = [train_first(context, config, sent, run) for run, sent in runs.items()]
    values = site.validation.features[:, column]
    changes = 0
    for middle in np.quantile(values, np.linspace(0.3, 0.7, 8)) + 0.5:
        weights = make_window(updates[0], scaling, column, float(middle), 30, -16, 8)
        answers = []
        for run, sent in runs.items():
            request = ValidateRequest(config, round=1, weights=weights, scaling=sent.to_bytes(), run_id=run)
            reply = handle(context, request)
            assert isinstance(reply, ValidateReply)
            answers.append(reply.tables["all"].confusion)
        changes += not np.array_equal(*answers)
    assert changes >= 4  # with the same errors: none


def test_two_parts_of_an_answer_do_not_show_who_is_between_them(tmp_path: Path) -> None:
    """With 61 bins a stretch begins just below the threshold: the number of the cell again showed nobody there."""
    context = make_hospital(tmp_path, patients=200)
    config = make_config(**STEEP, model=NETWORK, evaluation={"bins": 61, "bootstrap": 0, "recalibrate": []})
    scaling, site = ask_scaling(context), load_site(context, config)
    update = train_first(context, config, scaling, RUN)
    column = site.task.features.index("chol")
    values = site.validation.features[:, column]
    same = 0
    for middle in np.quantile(values, np.linspace(0.35, 0.65, 12)) + 0.5:
        weights = make_window(update, scaling, column, float(middle), 40, -16, 8)  # nobody is near the threshold
        request = ValidateRequest(config, round=1, weights=weights, scaling=scaling.to_bytes(), run_id=RUN)
        reply = handle(context, request)
        assert isinstance(reply, ValidateReply)
        table = reply.tables["all"]
        same += np.array_equal(table.scores[1, :, 30:].sum(-1), table.confusion[:, 1])
    assert same <= 8  # with the same errors: 12


def test_the_tables_of_an_answer_have_errors_of_their_own(tmp_path: Path) -> None:
    context = make_hospital(tmp_path, patients=400)
    evaluation = {"bins": 62, "bootstrap": 0, "recalibrate": ["temperature"]}
    config = make_config(**STEEP, model=NETWORK, evaluation=evaluation)
    scaling, site = ask_scaling(context), load_site(context, config)
    update = train_first(context, config, scaling, RUN)
    column = site.task.features.index("chol")
    changes = 0
    for middle in (220, 240, 260):
        weights = make_window(update, scaling, column, middle, 30, -4, 2)
        request = FinalTestRequest(config, round=1, weights=weights, scaling=scaling.to_bytes(), run_id=RUN)
        reply = handle(context, request)
        assert isinstance(reply, FinalTestReply)
        tables = [reply.tables[name].confusion for name in ("all", "recalibrated temperature")]
        changes += not np.array_equal(*tables)  # a temperature changes no prediction
    assert changes
