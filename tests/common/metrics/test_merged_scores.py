"""Scores that the bins merge are found by comparison with scikit-learn, and no wrong figure is given."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from common.metrics.counts import Counts, auprc, auroc, count_predictions, locate_bins
from common.metrics.evaluation import build_evaluation, pool_evaluations, resample_patients
from common.metrics.figures import Evaluation
from common.metrics.merged_scores import (
    WHY_FEW,
    WHY_MERGED,
    bound_tie_error,
    count_different_scores,
    describe_merged,
    describe_ties,
    find_merged_classes,
    has_ties_note,
    read_merged_reasons,
)
from common.metrics.resampling import coarse_factor
from common.task import Task
from experiments.report.document.results import ModelResult
from experiments.report.notices import collect_ranking_notices
from experiments.report.text.formatting import make_cell

TASK = Task("t", "multiclass", ("quiet", "event"), ("", ""), 0, 0, 0.0, ("x",), ())
PATIENTS, EXAMPLES = 60, 5


def draw(seed: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return log odds, truth and patient of examples that a model separates a little."""
    rng = np.random.default_rng(seed)
    owner = np.repeat(np.arange(PATIENTS), EXAMPLES)
    truth = (rng.random(len(owner)) < 0.3).astype(np.int64)
    return rng.normal(0, 1, len(owner)) + truth - 1, truth, owner


def count(odds: np.ndarray, truth: np.ndarray, bins: int = 1024) -> Counts:
    logits = np.stack([np.zeros(len(odds)), odds], 1)
    return count_predictions(logits, truth, np.zeros(len(odds), np.int64), 1, bins).total()


def evaluate(odds: np.ndarray, truth: np.ndarray, owner: np.ndarray, bins: int = 1024) -> Evaluation:
    logits = np.stack([np.zeros(len(odds)), odds], 1)
    each = count_predictions(logits, truth, owner, PATIENTS, bins, coarse=coarse_factor(bins))
    total = count(odds, truth, bins)
    merged = find_merged_classes(logits, truth, total.scores)
    drawn = resample_patients(each, 200, np.random.default_rng(0))
    return build_evaluation(TASK, total, drawn, PATIENTS, [PATIENTS, PATIENTS], operating=(0.9,), merged=merged)


def test_metrics_of_a_bin_for_each_score_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(3)
    odds = np.round(rng.normal(size=200), 1)  # with ties
    own = rng.random(200) < 0.4
    exact = count_different_scores(odds, own)[None]
    assert auroc(exact)[0] == pytest.approx(roc_auc_score(own, odds), abs=1e-12)
    assert auprc(exact)[0] == pytest.approx(average_precision_score(own, odds), abs=1e-12)


def test_one_class_alone_is_not_merged() -> None:
    odds, truth, _ = draw()
    nothing = np.zeros_like(truth)
    logits = np.stack([np.zeros(len(odds)), odds], 1)
    assert not find_merged_classes(logits, nothing, count(odds, nothing).scores).any()
    assert not find_merged_classes(logits[:0], nothing[:0], count(odds[:0], nothing[:0]).scores).any()


WIDE = {"as they are": (1.0, 0.0), "twenty times as far apart": (5.0, 0.0), "moved by 12": (1.0, 12.0)}
MERGED = {
    "a thousandth as far apart": (0.001, 0.0), "a hundredth": (0.01, 0.0), "a hundred times as far": (100.0, 0.0),
    "moved above 16": (1.0, 20.0), "moved below -16": (1.0, -18.0),
}  # fmt: skip


@pytest.mark.parametrize(("factor", "shift"), WIDE.values(), ids=WIDE)
def test_scores_that_the_bins_keep_apart_have_their_area_and_an_interval(factor: float, shift: float) -> None:
    odds, truth, owner = draw()
    area = evaluate(odds * factor + shift, truth, owner).classes["event"].auroc
    assert area.value == pytest.approx(roc_auc_score(truth, odds), abs=0.01)
    assert area.low is not None


@pytest.mark.parametrize(("factor", "shift"), MERGED.values(), ids=MERGED)
def test_scores_that_the_bins_merge_have_no_figure_and_a_reason(factor: float, shift: float) -> None:
    odds, truth, owner = draw()
    moved = odds * factor + shift
    assert abs(auroc(count(moved, truth).scores)[1] - roc_auc_score(truth, odds)) > 0.01
    item = evaluate(moved, truth, owner)
    event = item.classes["event"]
    for figure in (event.auroc, event.auprc, item.auroc, item.macro_auroc, event.operating[0].sensitivity):
        assert figure is not None
        assert (figure.value, figure.low, figure.high) == (None, None, None)
    assert item.accuracy.value == pytest.approx(((moved > 0) == truth).mean())
    assert item.accuracy.low is not None
    assert describe_merged("event") in item.notes
    assert not any("no intervals of AUROC" in note for note in item.notes)
    for cell in (make_cell(item, "auroc"), make_cell(item, "auroc", "event")):
        assert cell.text == "n/a"
        assert cell.reason.startswith("not known: the scores lie too close together")
    assert Evaluation.model_validate_json(item.model_dump_json()) == item


def test_too_few_people_in_the_bins_is_a_reason_of_its_own() -> None:
    odds, truth, _ = draw()
    total = count(odds, truth)
    both = np.array([True, True])
    item = build_evaluation(TASK, total, None, 40, (40, 12), merged=both, few=True)
    assert read_merged_reasons(item) == [WHY_FEW, WHY_FEW]
    assert "at least 30 test patients with the class and as many without it" in make_cell(item, "auroc").reason
    assert not any("too close together" in note for note in item.notes)
    pooled = pool_evaluations(TASK, {"a": item, "b": item}, {"a": total, "b": total}, {})
    assert read_merged_reasons(pooled) == [WHY_FEW, WHY_FEW]
    model = ModelResult(name="federated", title="Federated", kind="federated", sites={"a": item})
    assert collect_ranking_notices([model])[-1].text.endswith(f"(Federated: a): {WHY_FEW}.")


def test_a_sensitivity_without_the_event_says_that_there_was_none() -> None:
    odds, truth, _ = draw()
    item = build_evaluation(TASK, count(odds, truth * 0), None, 40, (40, 0))
    assert make_cell(item, "sensitivity").reason == "no examples of event among these patients"
    assert make_cell(item, "specificity").text != "n/a"


def test_ties_are_not_stated_of_a_class_without_an_area() -> None:
    scores = count(*draw()[:2]).scores[:, :, :1] * 0 + 50  # all in one bin
    assert len(describe_ties(TASK.classes, scores)) == 2
    assert len(describe_ties(TASK.classes, scores, np.array([False, True]))) == 1


def test_pooled_figures_are_refused_where_most_patients_have_merged_scores() -> None:
    odds, truth, owner = draw()
    right, wrong = evaluate(odds, truth, owner), evaluate(odds + 20, truth, owner)
    for other, refused in ((wrong, True), (right, False)):
        results = {"a": other, "b": other, "c": wrong}
        totals = {site: count(odds + (20 if item is wrong else 0), truth) for site, item in results.items()}
        pooled = pool_evaluations(TASK, results, totals, {})
        assert (pooled.classes["event"].auroc.value is None) == refused
        assert (describe_merged("event") in pooled.notes) == refused


def test_a_notice_names_the_model_the_class_and_the_hospitals() -> None:
    odds, truth, owner = draw()
    sites = {"a": evaluate(odds, truth, owner), "b": evaluate(odds * 0.001, truth, owner)}
    model = ModelResult(name="federated", title="Federated", kind="federated", sites=sites)
    texts = [item.text for item in collect_ranking_notices([model])]
    assert texts[-1] == (
        f"No AUROC, AUPRC, calibration slope and operating points of event (Federated: b): {WHY_MERGED}."
    )
    assert collect_ranking_notices([model.model_copy(update={"sites": {"a": sites["a"]}})]) == []
    assert collect_ranking_notices([model.model_copy(update={"kind": "local"})]) == [], "the tables say it of others"


@pytest.mark.parametrize("factor", [1.0, 0.3, 0.05, 0.001, 100.0])
@pytest.mark.parametrize("bins", [1024, 62, 16])
def test_ties_change_the_area_by_no_more_than_their_bound(factor: float, bins: int) -> None:
    odds, truth, _ = draw()
    scores = count(odds * factor, truth, bins).scores
    bound = bound_tie_error(scores)[1]
    assert abs(auroc(scores)[1] - roc_auc_score(truth, odds)) <= bound + 1e-12
    best = count_different_scores(locate_bins(odds * factor, bins) + 0.5 * truth, truth == 1)[None]  # order within bins
    assert auroc(best)[0] - auroc(scores)[1] == pytest.approx(bound)
    notes = describe_ties(TASK.classes, scores)
    assert len(notes) == 2 * (bound > 0.01)
    assert all(f"to within {bound:.2f}" in note for note in notes)


def test_a_hospitals_ties_are_noted_and_the_pooled_ones_computed_from_all_counts() -> None:
    odds, truth, owner = draw()
    item = evaluate(odds, truth, owner, bins=62)
    total = count(odds, truth, 62)
    noted = item.model_copy(update={"notes": tuple(describe_ties(TASK.classes, total.scores))})
    assert has_ties_note(noted)
    pooled = pool_evaluations(TASK, {"a": noted, "b": noted}, {"a": total, "b": total}, {})
    assert set(describe_ties(TASK.classes, (total + total).scores)) <= set(pooled.notes)
    assert not has_ties_note(pool_evaluations(TASK, {"a": item}, {"a": total}, {}))


@pytest.mark.parametrize("values", [[0.0], [-1.0, 1.0], [-20.0, 20.0], [-0.01, 0.012]])
def test_few_different_scores_are_truly_tied(values: list[float]) -> None:
    odds, truth, owner = draw()
    few = np.asarray(values)[np.clip(np.searchsorted(np.quantile(odds, [0.5]), odds), 0, len(values) - 1)]
    item = evaluate(few, truth, owner)
    assert item.classes["event"].auroc.value == pytest.approx(roc_auc_score(truth, few), abs=1e-9)
    assert describe_merged("event") not in item.notes


def test_few_bins_merge_scores_that_lie_close() -> None:
    odds, truth, owner = draw()
    assert describe_merged("event") in evaluate(odds * 0.05, truth, owner, bins=64).notes
