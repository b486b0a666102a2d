"""Marks for few patients, and the words for intervals that cannot be given."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.metrics import counts, evaluation
from common.metrics.figures import Evaluation, Figure
from common.metrics.resampling import COARSE_FACTOR
from common.task import Task
from experiments.report.build import build_report
from experiments.report.document.report import Report
from experiments.report.document.results import GroupGap, ModelResult, Subset
from experiments.report.document.run import Run
from experiments.report.pages.html import render_html
from experiments.report.pages.tables import render_csv
from experiments.report.text.formatting import make_cell

EVENT = Task("artery", "multiclass", ("healthy", "disease"), ("healthy", "disease"), 0, 0, 0.0, ("age",), ())


def evaluate(truth: np.ndarray, spread: float = 2.0) -> Evaluation:
    rng = np.random.default_rng(0)
    n = len(truth)
    logits = np.stack([np.zeros(n), spread * (truth + rng.normal(size=n))], 1)
    each = counts.count_predictions(logits, truth, np.arange(n), n, 1024)
    drawn = evaluation.resample_patients(each.coarser(COARSE_FACTOR), 100, rng)
    return evaluation.build_evaluation(EVENT, each.total(), drawn, n, [int((truth == c).sum()) for c in range(2)])


def make_report(**sites: Evaluation) -> Report:
    model = ModelResult(name="federated", title="Federated model", kind="federated", sites=sites)
    run = Run(id="r", name="r", status="complete")
    return Report(run=run, task=EVENT.to_dict(), models=(model,), metric="accuracy")


def test_a_metric_is_marked_by_the_patients_that_it_rests_on() -> None:
    item = evaluate(np.array([0] + [1] * 15))
    marked = {name: make_cell(item, name).few for name in ("accuracy", "sensitivity", "specificity", "auroc", "brier")}
    assert marked == {"accuracy": False, "sensitivity": False, "specificity": True, "auroc": True, "brier": False}
    assert make_cell(item, "recall", "healthy").few
    assert not make_cell(item, "recall", "disease").few


def test_the_table_counts_the_patients_of_each_metric() -> None:
    lines = [
        line.split(",") for line in render_csv(make_report(zurich=evaluate(np.array([0] + [1] * 15)))).splitlines()
    ]
    patients = {line[4]: line[8] for line in lines if line[3] == ""}
    assert (patients["accuracy"], patients["sensitivity"], patients["specificity"]) == ("16", "15", "1")


def test_a_missing_interval_of_close_scores_is_explained() -> None:
    item = evaluate(np.array([0, 1] * 40), spread=0.05)
    assert "too close together" in make_cell(item, "auroc").reason
    assert make_cell(item, "accuracy").interval
    assert "too close together" in make_cell(item, "auroc", "disease").reason


@pytest.mark.parametrize("pairs", [3, None])
def test_gaps_say_from_how_many_pairs_they_were_chosen(make_run: Callable[..., Path], pairs: int | None) -> None:
    report = build_report(make_run())
    federated: Any = report.federated
    gap = GroupGap(
        attribute="age", site="(pooled)", metric="macro_f1", overall=Figure(value=0.8), lowest="old", highest="young",
        difference=Figure(value=0.25, low=-0.125, high=0.5), ratio=Figure(value=0.5, low=0.3, high=1.1), pairs=pairs,
    )  # fmt: skip
    groups = {"age": {name: Subset(pooled=federated.sites["north"]) for name in ("young", "middle", "old")}}
    model = federated.model_copy(update={"groups": groups, "gaps": (gap,)})
    text = render_html(report.model_copy(update={"models": (model, *report.models[1:])}))
    row = re.search(r"<tr><th scope=\"row\">age</th><td>all hospitals</td><td>macro-F1</td>.*?</tr>", text, re.DOTALL)
    assert row is not None
    assert ("-0.125 to +0.500" in row[0]) is (pairs is not None)
    assert ("no interval" in row[0]) is (pairs is None)
    if pairs:
        assert f">{pairs}</td>" in row[0]
        assert "1 difference, chosen from 3 pairs of groups" in text
