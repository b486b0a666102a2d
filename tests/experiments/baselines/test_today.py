"""What is used today: age and sex alone, columns of tables, and points for bands, against their own definitions."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from common.config import RunConfig
from common.errors import SiteError
from common.sections.today import ScoreConfig
from common.task import Task
from experiments.baselines.today import build_score, fit_age_sex, fit_score
from experiments.report.build import build_report
from experiments.report.document.results import ModelDifference
from experiments.report.pages.html import render_html
from experiments.report.text.today import judge_difference, state_today
from sites.cohort import Cohort

TASK = Task("death", "multiclass", ("alive", "died"), ("alive", "died"), 0, 0, 0.0, ("rate", "score"), ())


def make_cohort(age: np.ndarray, sex: np.ndarray, y: np.ndarray, features: np.ndarray | None = None) -> Cohort:
    n = len(y)
    names = tuple(str(number) for number in range(n))
    given = np.zeros((n, 2)) if features is None else features
    task = replace(TASK, missing=bool(np.isnan(given).any()))
    return Cohort(
        task, np.zeros((n, 0, 0), np.float32), given.astype(np.float32), y.astype(np.int64), np.arange(n), names, names,
        np.zeros(n, np.int8), age=age.astype(np.float32), sex=sex.astype(np.int8),
    )  # fmt: skip


def test_age_and_sex_give_the_probabilities_that_made_the_outcomes() -> None:
    rng = np.random.default_rng(3)
    age, sex = rng.uniform(20, 90, 20_000), rng.integers(0, 2, 20_000)
    true = -4 + 0.05 * age + 0.8 * sex
    y = rng.random(20_000) < 1 / (1 + np.exp(-true))
    age[::50] = np.nan
    cohort = make_cohort(age, sex, y)
    logits = fit_age_sex(cohort)(cohort)
    known = np.isfinite(age)
    assert np.abs((logits[:, 1] - logits[:, 0] - true)[known]).mean() < 0.1
    assert np.isfinite(logits).all()
    with pytest.raises(SiteError, match="one outcome"):
        fit_age_sex(make_cohort(age, sex, np.zeros(20_000)))


def test_a_probability_of_a_table_is_taken_as_it_is_and_points_keep_their_order(tmp_path: Path) -> None:
    rows = ["stay,version,p", "0,IV,0.9", "0,IVa,0.25", "1,IVa,-1", "2,IVa,0.75", "9,IVa,0.1"]
    (tmp_path / "table.csv").write_text("\n".join(rows))
    config = RunConfig.model_validate({"name": "x", "data": {"path": str(tmp_path)}})
    given = {"file": "table.csv", "id": "stay", "column": "p", "where": {"version": "IVa"}, "scale": "probability"}
    score = ScoreConfig.model_validate(given)
    cohort = make_cohort(np.full(3, 50), np.zeros(3), np.array([0, 1, 1]))
    read = build_score(score, config)
    assert read(cohort) == pytest.approx([0.25, np.nan, 0.75], nan_ok=True)
    known = cohort.take(np.array([True, False, True]))
    logits = fit_score(score, read, known)(known)
    assert 1 / (1 + np.exp(-logits[:, 1])) == pytest.approx([0.25, 0.75], abs=1e-6)
    for change in ({"file": "no.csv"}, {"column": "q"}):
        with pytest.raises(SiteError, match=r"cannot read|no column q"):
            build_score(ScoreConfig.model_validate(given | change), config)


def test_two_rows_of_one_stay_are_refused_and_an_infinite_score_is_unknown(tmp_path: Path) -> None:
    config = RunConfig.model_validate({"name": "x", "data": {"path": str(tmp_path)}})
    score = ScoreConfig.model_validate({"file": "table.csv", "id": "stay", "column": "p"})
    cohort = make_cohort(np.array([50.0, 60.0]), np.array([0, 1]), np.array([0, 1]))
    (tmp_path / "table.csv").write_text(f"stay,p\n{cohort.patients[0]},inf\n{cohort.patients[1]},3\n")
    assert np.isnan(build_score(score, config)(cohort)).tolist() == [True, False]
    (tmp_path / "table.csv").write_text(f"stay,p\n{cohort.patients[0]},1\n {cohort.patients[0]} ,2\n")
    with pytest.raises(SiteError, match="two rows of one stay"):
        build_score(score, config)


def test_points_are_those_of_the_bands_of_news_for_a_heart_rate() -> None:
    news = {"edges": (41, 51, 91, 111, 131), "points": (3, 1, 0, 1, 2, 3)}
    score = ScoreConfig.model_validate({"points": {"rate": news}})
    rate = np.array([40, 41, 50, 51, 90, 91, 110, 111, 130, 131, np.nan])
    features = np.stack([rate, np.zeros(11)], 1)
    cohort = make_cohort(np.full(11, 50), np.zeros(11), np.arange(11) % 2, features)
    read = build_score(score, RunConfig(name="x"))
    assert read(cohort).tolist() == [3, 1, 1, 0, 0, 1, 1, 2, 2, 3, 0]  # Royal College of Physicians 2017
    with pytest.raises(SiteError, match="no input age"):
        build_score(ScoreConfig(column="age"), RunConfig(name="x"))(cohort)


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"column": "a", "points": {"a": {"edges": (1,), "points": (0, 1)}}},
        {"points": {"a": {"edges": (1,), "points": (0,)}}},
        {"points": {"a": {"edges": (2, 1), "points": (0, 1, 2)}}},
        {"file": "x.csv", "points": {"a": {"edges": (1,), "points": (0, 1)}}},
    ],
)
def test_settings_that_make_no_score_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ScoreConfig.model_validate(wrong)


def _difference(metric: str, low: float, high: float) -> ModelDifference:
    figure = {"value": (low + high) / 2, "low": low, "high": high}
    return ModelDifference.model_validate(
        {"model": "today:x", "site": "(pooled)", "metric": metric, "patients": 9, "figure": figure, "note": ""}
    )


def test_better_is_said_only_where_the_interval_excludes_0() -> None:
    assert judge_difference(_difference("auroc", 0.01, 0.1)) == "better than"
    assert judge_difference(_difference("auroc", -0.01, 0.1)) == "not shown to differ from"
    assert judge_difference(_difference("auroc", -0.2, -0.1)) == "worse than"
    assert judge_difference(_difference("brier", -0.2, -0.1)) == "better than"


def test_the_first_screen_compares_with_the_best_of_today_or_says_that_nothing_is_compared(
    make_run: Callable[..., Path],
) -> None:
    folder = make_run()
    report = build_report(folder)
    many = state_today(report)
    assert many is not None
    assert many.detail == "baselines.today compares tasks of two classes only"
    two = {**report.task, "classes": ["N", "V"], "class_titles": ["normal", "event"]}
    binary = report.model_copy(update={"task": two})
    fact = state_today(binary)
    assert fact is not None
    assert fact.value == "not compared"
    baselines = json.loads((folder / "baselines.json").read_text())
    rival = {**baselines["models"][0], "name": "today:apache", "title": "APACHE", "kind": "classical", "unknown": 40}
    (folder / "baselines.json").write_text(json.dumps({"models": [rival]}))
    report = build_report(folder)
    fact = state_today(report.model_copy(update={"task": two}))
    assert fact is not None
    assert (fact.value, fact.alarm) == ("Not decided", True)
    assert "not known for 40 of 280 test examples" in fact.detail
    judged = {"auroc": (0.01, 0.1), "sensitivity": (-0.4, -0.1), "specificity": (0.0, 0.2)}
    differences = tuple(
        _difference(metric, low, high).model_copy(update={"model": "today:apache"})
        for metric, (low, high) in judged.items()
    )
    models = tuple(item.model_copy(update={"unknown": 0}) for item in report.models)
    changed = {"task": two, "metric": "auroc", "differences": differences, "models": models}
    fact = state_today(report.model_copy(update=changed))
    assert fact is not None
    assert (fact.value, fact.alarm) == ("Better at ranking, but finds fewer", True)
    assert "finds fewer of the events: sensitivity -0.250 (-0.400 to -0.100), specificity +0.100" in fact.detail
    alone = [item.model_copy(update={"name": "today:age_sex"}) for item in models if item.name == "today:apache"]
    gain = (differences[0].model_copy(update={"model": "today:age_sex"}),)
    fact = state_today(report.model_copy(update={**changed, "models": (models[0], *alone), "differences": gain}))
    assert fact is not None
    assert (fact.value, fact.alarm) == ("No score compared", True), "age and sex alone are no practice"
    page = render_html(report)
    assert "Against what is used today" in page
    assert "federated minus this" in page
