from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from common.metrics import counts, evaluation, registry
from common.metrics.counts import Counts
from common.metrics.figures import Alarms, Calibration, ClassFigures, Evaluation, Figure, is_derived
from common.metrics.registry import ALARM_METRICS, CALIBRATION_METRICS, CLASS_METRICS, METRICS, SELECTABLE, Metric
from common.sections.evaluation import EvaluationConfig
from common.task import Task

TASK = Task("t", "multiclass", ("no", "yes"), ("no", "yes"), 0, 0, 0.0, ("a",), (), utility=True)


def counted(patients: int = 6) -> Counts:
    """Counts by patient, with utility, time and lead times, so that every metric can be computed."""
    rng = np.random.default_rng(3)
    truth = rng.integers(0, 2, 240)
    logits = np.stack([np.zeros(240), 2 * truth - 1 + rng.normal(0, 1.5, 240)], axis=1)
    return counts.count_predictions(
        logits,
        truth,
        np.arange(240) % patients,
        patients,
        1024,
        worth=np.stack([-truth, 1 - truth], axis=1).astype(float),
        hours=np.ones(240),
        until=np.where(truth == 1, 3.0, np.nan),
    )


def evaluated() -> Evaluation:
    by_patient = counted()
    drawn = evaluation.resample_patients(by_patient.coarser(16), 50, np.random.default_rng(1))
    return evaluation.build_evaluation(TASK, by_patient.total(), drawn, 6, [6, 6])


def test_every_metric_is_computed_and_within_its_range() -> None:
    result = evaluated()
    for name, metric in METRICS.items():
        figure = result.figure(name)
        assert figure is not None, name
        assert figure.value is not None, name
        for value in (figure.value, figure.low, figure.high):
            assert value is not None, name
            assert metric.low is None or value >= metric.low, name
            assert metric.high is None or value <= metric.high, name


def test_fields_of_classes_are_those_of_the_registry() -> None:
    assert set(CLASS_METRICS) <= set(ClassFigures.model_fields)
    assert set(CALIBRATION_METRICS) == set(Calibration.model_fields) - {"groups", "curve", "points"}
    assert {name.removeprefix("alarms_") for name in ALARM_METRICS} == set(Alarms.model_fields) - {"hours"}


def test_entries_are_whole() -> None:
    for name, metric in METRICS.items():
        assert metric.name == name
        assert metric.title
        assert (metric.compute is None) == (metric.class_metric is not None)
        if metric.selectable:  # what the counts hold is known only after training
            assert metric.requires in ("nothing", "event", "utility", "probabilities")


@pytest.mark.parametrize(
    ("name", "values", "worst"),
    [
        ("auroc", [0.9, 0.7, 0.8], 0.7),
        ("loss", [0.2, 0.5, 0.3], 0.5),
        ("slope", [0.9, 1.3, 1.0], 1.3),
        ("ece", [], None),
    ],
)
def test_each_metric_knows_which_values_are_better(name: str, values: list[float], worst: float | None) -> None:
    metric = METRICS[name]
    assert metric.worst(values) == worst
    assert all(metric.is_better(value, worst) for value in values if worst is not None and value != worst)


def test_the_configuration_accepts_the_selectable_metrics_alone() -> None:
    for name in SELECTABLE:
        assert EvaluationConfig(metric=name).metric == name
    with pytest.raises(ValidationError, match="macro_f1"):
        EvaluationConfig.model_validate({"metric": "warned"})


def test_a_metric_without_a_field_is_a_key_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    recall = Metric("macro_recall", "macro recall", lambda s: s.macro(s.recall))
    npv = Metric("npv", "negative predictive value", class_metric="precision", class_index=0)
    for metric in (recall, npv):
        monkeypatch.setitem(registry.METRICS, metric.name, metric)
    result = evaluated()
    again = Evaluation.model_validate_json(result.model_dump_json())
    assert again == result
    figure = again.figure("macro_recall")
    assert figure is not None
    assert figure.value == pytest.approx(np.mean([part.recall.value for part in result.classes.values()]))
    assert figure.low is not None
    assert again.figure("npv") == result.classes["no"].precision
    assert not is_derived("npv")
    assert is_derived("auroc")


@pytest.mark.parametrize("key", ["speed", "auroc"])
def test_a_key_that_is_no_metric_is_refused(key: str) -> None:
    raw = evaluated().model_dump() | {key: Figure(value=1.0).model_dump()}
    with pytest.raises(ValidationError, match=f"unknown metric {key}"):
        Evaluation.model_validate(raw)
