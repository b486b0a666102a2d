"""The key facts at the top of the page, and the matrix of models and hospitals."""

from __future__ import annotations

import numpy as np
import pytest

from common.metrics import evaluation
from common.metrics.counts import count_predictions
from common.metrics.figures import Calibration, Figure
from common.metrics.resampling import COARSE_FACTOR
from common.task import Task
from experiments.report.build import build_report
from experiments.report.pages.html import render_html
from experiments.report.pages.sections.matrix import build_matrix, has_matrix
from experiments.report.text.key_facts import describe_calibration, list_facts
from tests.experiments.report.pages.test_html import LEAK


def test_key_facts_state_patients_performance_uncertainty_and_worst_hospital(make_run) -> None:
    report = build_report(make_run(synthetic=True))
    result = {fact.label: fact for fact in list_facts(report)}
    figure, item = report.federated.pooled.macro_f1, report.federated.sites["south"]
    assert result["Predicts"].detail == "SYNTHETIC: Toy beats"
    assert (result["Test patients"].value, result["Test patients"].alarm) == ("14", False)
    assert result["Test patients"].detail == "never seen in training; trained on 14 patients of 3 hospitals"
    assert result["Performance"].value == f"{figure.value:.3f}"
    assert result["Uncertainty"].value == f"{figure.low:.2f} to {figure.high:.2f}"
    assert (
        result["Uncertainty"].detail == "95% interval of the macro-F1, over patients; 1 hospital with few test patients"
    )
    assert result["Lowest macro-F1 of a hospital"].value == "south"
    assert result["Lowest macro-F1 of a hospital"].link == "hospital-2"
    assert result["Lowest macro-F1 of a hospital"].detail.startswith(
        f"{item.macro_f1.value:.3f} ({item.macro_f1.low:.2f} to "
    )
    assert result["Lowest macro-F1 of a hospital"].detail.endswith("on 3 test patients, few")
    text = render_html(report)
    assert text.index('<dl class="facts">') < text.index('<section id="summary"')
    assert all(f'<a href="#{fact.link}" class="value' in text for fact in result.values())


def figure(low: float, high: float) -> Figure:
    return Figure(value=(low + high) / 2, low=low, high=high)


@pytest.mark.parametrize(
    ("slope", "level", "said"),
    [
        ((0.8, 1.2), (-0.1, 0.1), "no miscalibration detected"),
        ((0.5, 0.9), (-0.1, 0.1), "too extreme"),
        ((1.1, 1.9), (-0.1, 0.1), "not extreme enough"),
        ((0.8, 1.2), (0.1, 0.3), "too low"),
        ((0.5, 0.9), (-0.3, -0.1), "too extreme and too high"),
    ],
)
def test_probabilities_are_judged_by_slope_and_level(slope, level, said) -> None:
    fine = figure(0.0, 0.1)
    result = Calibration(
        brier=fine, ece=fine, ece_mass=fine, slope=figure(*slope), intercept=fine, large=figure(*level)
    )
    assert describe_calibration(result) == said
    assert describe_calibration(result.model_copy(update={"slope": Figure(value=1.0)})) == ""


def test_the_verdict_means_what_it_says() -> None:
    """Logits twice too large are too extreme, half of them too timid, moved ones too high or too low."""
    task = Task("t", "multiclass", ("N", "V"), ("a", "b"), 1, 8, 125.0, (), ("I",))
    rng = np.random.default_rng(0)
    odds = rng.normal(scale=1.5, size=6000)
    truth = (rng.random(6000) < 1 / (1 + np.exp(-odds))).astype(int)
    patient = np.repeat(np.arange(300), 20)
    for change, said in (
        (odds, "no miscalibration detected"),
        (2 * odds, "too extreme"),
        (odds / 2, "not extreme enough"),
        (odds - 1, "too low"),
        (odds + 1, "too high"),
    ):
        counts = count_predictions(np.stack([np.zeros(6000), change], 1), truth, patient, 300, 1024)
        drawn = evaluation.resample_patients(counts.coarser(COARSE_FACTOR), 200, np.random.default_rng(1))
        item = evaluation.build_evaluation(task, counts.total(), drawn, 300, [300, 300])
        assert describe_calibration(item.classes["V"].calibration) == said


def test_first_screen_says_which_classes_cannot_be_read(make_run) -> None:
    report = build_report(make_run())
    [fact] = [fact for fact in list_facts(report) if fact.label == "Probabilities"]
    parts = {name: part.calibration for name, part in report.federated.pooled.classes.items() if part.calibration}
    bad = [
        name for name, result in parts.items() if describe_calibration(result) not in ("", "no miscalibration detected")
    ]
    assert fact.alarm is bool(bad)
    titles = report.class_titles
    assert all(f"for {titles[name]}" in fact.detail for name in bad)
    assert f"{report.federated.pooled.ece.value:.3f}" in fact.detail


def test_first_screen_of_a_run_without_test_figures_alarms(make_run) -> None:
    result = {fact.label: fact for fact in list_facts(build_report(make_run(status="interrupted")))}
    assert (result["Test patients"].value, result["Performance"].value) == ("none", "not known")
    assert result["Performance"].detail == "the run ended before the final evaluation"
    assert result["Performance"].alarm
    assert "Lowest macro-F1 of a hospital" not in result


def test_patients_seen_in_training_are_never_called_unseen(make_run) -> None:
    result = {fact.label: fact for fact in list_facts(build_report(make_run(notices=(LEAK,))))}
    assert result["Test patients"].alarm
    assert "some of them also seen in training" in result["Test patients"].detail


def test_matrix_holds_every_model_at_every_hospital(make_run) -> None:
    report = build_report(make_run())
    result = build_matrix(report)
    assert [name for name, _ in result.models] == [model.name for model in report.models]
    assert [name for name, _ in result.rows] == ["north", "south", "west"]
    values = [model.sites[site].macro_f1.value for model in report.models for site in model.sites]
    assert (result.worst, result.best) == (min(values), max(values))
    for column, model in enumerate(report.models):
        for name, squares in result.rows:
            square, figure = squares[column], model.sites[name].macro_f1
            assert square.cell.value == figure.value
            assert square.share == pytest.approx((figure.value - min(values)) / (max(values) - min(values)))
            assert (square.own, square.worst) == (model.trained_at == name, model.worst.site == name)
            assert f"{model.title} at {name}: macro-F1 {figure.value:.3f}" in square.hint
            assert square.hint.endswith("patients, few") is (name == "south")
    assert [square.cell.value for square in result.pooled] == [model.pooled.macro_f1.value for model in report.models]


def test_matrix_by_loss_shades_the_lowest_most(make_run) -> None:
    report = build_report(make_run()).model_copy(update={"metric": "loss"})
    result = build_matrix(report)
    best = min((square for _, squares in result.rows for square in squares), key=lambda square: square.cell.value)
    assert (best.cell.value, best.share) == (result.best, 1.0)


def test_one_model_makes_no_matrix(make_run) -> None:
    report = build_report(make_run(baselines=False))
    assert not has_matrix(report)
    assert 'id="matrix"' not in render_html(report)
