"""The comparison where a score is known, against a slow direct computation over repeated patients."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from client.evaluation.predictions import Predictor
from client.policy import SIMULATION_POLICY
from client.site import Site, load_site
from client.site_context import SiteContext
from common.config import RunConfig
from common.metrics.evaluation import draw_bootstrap_weights
from common.metrics.intervals import tail_probability
from common.metrics.paired_resamples import POOLED
from common.run_folder import RunFolder
from common.seeds import rng_for
from common.task import Task
from experiments.baselines.evaluation import evaluate_baseline
from experiments.baselines.known_scores import SiteModel, evaluate_where_known, load_federated, select_known
from experiments.report.build import build_report
from experiments.report.differences import compare_models
from experiments.report.document.results import ModelDifference, ModelResult, WhereKnown
from experiments.report.pages.html import render_html
from experiments.report.text.today import (
    describe_rival,
    describe_where_unknown,
    find_difference,
    is_often_unknown,
    list_rivals,
    state_today,
)
from experiments.restore import load_outcome
from experiments.runs.run import run_experiment
from experiments.runs.series import summarise_runs
from sites.cohort import Cohort

TASK = Task("death", "multiclass", ("alive", "died"), ("alive", "died"), 0, 0, 0.0, ("score", "model", "known"), ())
CONFIG = RunConfig.model_validate({"name": "x", "evaluation": {"bootstrap": 60}})
PEOPLE = {"north": 40, "south": 30}


def _make_site(name: str, people: int) -> Site:
    """Return a hospital whose persons have two stays each, with inputs of few distinct values that no bin merges."""
    rng = np.random.default_rng(people)
    y = (rng.random(2 * people) < 0.35).astype(np.int64)
    known = rng.random(2 * people) < np.where(y == 1, 0.5, 0.8)
    score, model = (np.clip(np.round(rng.normal(size=2 * people) + y * skill), -3, 3) for skill in (0.8, 1.2))
    names = tuple(f"{name}-{number}" for number in range(people))
    features = np.stack([score, model, known], 1).astype(np.float32)
    owner = np.repeat(np.arange(people), 2)
    return Site.from_cohort(
        name,
        Cohort(
            TASK, np.zeros((len(y), 0, 0), np.float32), features, y, owner, names, names, np.full(len(y), 2, np.int8)
        ),
        synthetic=True,
    )


def _predict(column: int) -> Predictor:
    return lambda cohort: np.stack([np.zeros(len(cohort.y)), cohort.features[:, column]], 1).astype(np.float32)


def _rank(scores: list[float], truth: list[int]) -> float:
    """Return the AUROC by comparing each pair."""
    pairs = [
        1.0 if scores[i] > scores[j] else 0.5 if scores[i] == scores[j] else 0.0
        for i in range(len(truth))
        for j in range(len(truth))
        if truth[i] == 1 and truth[j] == 0
    ]
    return float(np.mean(pairs)) if pairs else np.nan


def _repeat(sites: list[Site], draw: int | None, known: bool) -> list[tuple[float, float, int]]:
    """Return score, model and outcome of each stay, as often as its person is drawn."""
    stays = []
    for site in sites:
        cohort = site.test
        chosen = [i for i in range(len(cohort.y)) if bool(cohort.features[i, 2]) == known]
        people = sorted({cohort.persons[cohort.patient[i]] for i in chosen})
        times = dict.fromkeys(people, 1.0)
        if draw is not None:
            weights = draw_bootstrap_weights(len(people), 60, rng_for(CONFIG.seed, site.name, "bootstrap"))
            times = dict(zip(people, weights[draw], strict=True))
        for i in chosen:
            row = float(cohort.features[i, 0]), float(cohort.features[i, 1]), int(cohort.y[i])
            stays += [row] * int(times[cohort.persons[cohort.patient[i]]])
    return stays


def _interval(values: list[float], people: int) -> tuple[float, float]:
    low, high = np.quantile(values, [tail_probability(people), 1 - tail_probability(people)])
    return float(low), float(high)


def _compare(tmp_path: Path) -> tuple[list[Site], ModelResult, tuple[ModelDifference, ...]]:
    sites = [_make_site(name, people) for name, people in PEOPLE.items()]
    files, known = RunFolder(tmp_path), lambda cohort: cohort.features[:, 2] == 1
    model: SiteModel = lambda site: (_predict(1), site)  # noqa: E731
    both = evaluate_where_known(CONFIG, tmp_path, "today:apache", known, sites, model, None)
    chosen = [select_known(site, known) for site in sites]
    score = evaluate_baseline(CONFIG, tmp_path, "today:apache", TASK, _predict(0), None, chosen)
    everywhere = evaluate_baseline(CONFIG, tmp_path, "federated", TASK, _predict(1), None, sites)
    assert files.resamples("today:apache").is_file()
    rival, federated = (
        ModelResult.model_validate(
            {"name": name, "title": name, "kind": kind, "sites": item["test"]["all"], "pooled": item["pooled"]["all"]}
        )
        for name, kind, item in (("today:apache", "classical", score), ("federated", "federated", everywhere))
    )
    rival = rival.model_copy(update={"unknown": 1, "where_known": WhereKnown.model_validate(both)})
    return sites, rival, compare_models([federated, rival], "auroc", True, tmp_path)


def test_differences_are_those_of_repeated_patients_with_the_score(tmp_path: Path) -> None:
    sites, rival, differences = _compare(tmp_path)
    both = rival.where_known
    assert both is not None
    for site, chosen in [*((site.name, [site]) for site in sites), (POOLED, sites)]:
        (result,) = [item for item in differences if (item.site, item.metric) == (site, "auroc")]
        stays = _repeat(chosen, None, known=True)
        truth = [stay[2] for stay in stays]
        value = _rank([stay[1] for stay in stays], truth) - _rank([stay[0] for stay in stays], truth)
        assert result.figure.value == pytest.approx(value, abs=1e-9)
        drawn = []
        for draw in range(60):
            stays = _repeat(chosen, draw, known=True)
            truth = [stay[2] for stay in stays]
            drawn.append(_rank([stay[1] for stay in stays], truth) - _rank([stay[0] for stay in stays], truth))
        assert (result.figure.low, result.figure.high) == pytest.approx(_interval(drawn, result.patients), abs=1e-6)
    without = _repeat(sites, None, known=False)
    elsewhere = both.federated_elsewhere.pooled
    assert elsewhere is not None
    assert elsewhere.classes["died"].auroc.value == pytest.approx(
        _rank([s[1] for s in without], [s[2] for s in without])
    )


def test_the_shares_of_the_event_with_and_without_the_score_are_counted_and_resampled(tmp_path: Path) -> None:
    sites, rival, _ = _compare(tmp_path)
    both = rival.where_known
    assert both is not None
    for part, known in ((both.known, True), (both.unknown, False)):
        stays = _repeat(sites, None, known)
        assert (part.examples, part.events) == (len(stays), sum(stay[2] for stay in stays))
    people = sum(PEOPLE.values())
    drawn = []
    for draw in range(60):
        counts = {True: [0.0, 0.0], False: [0.0, 0.0]}
        for site in sites:
            cohort, names = site.test, sorted(site.test.persons)
            weights = draw_bootstrap_weights(len(names), 60, rng_for(CONFIG.seed, site.name, "bootstrap"))[draw]
            for i in range(len(cohort.y)):
                times = weights[names.index(cohort.persons[cohort.patient[i]])]
                counts[bool(cohort.features[i, 2])][0] += times * cohort.y[i]
                counts[bool(cohort.features[i, 2])][1] += times
        drawn.append(counts[False][0] / counts[False][1] - counts[True][0] / counts[True][1])
    value = both.unknown.events / both.unknown.examples - both.known.events / both.known.examples
    low, high = _interval(drawn, people)
    result = both.rate_difference
    assert (result.value, result.low, result.high) == pytest.approx((value, low, high))


def test_a_run_compares_where_a_score_is_known_with_the_model_that_it_tested(tmp_path: Path) -> None:
    config = RunConfig.model_validate(
        {
            "name": "known",
            "data": {"dataset": "heart_disease", "scaling": "standard",
                     "options": {"simulated": True, "patients": 60, "protocol": "explicit"}},
            "sites": {"scheme": "natural", "split": "patient"},
            "model": {"name": "logreg"},
            "training": {"loss": "cross_entropy", "optimizer": "sgd", "lr": 0.5, "batch_size": 4096,
                         "momentum": 0.0, "weight_decay": 0.1, "epochs": 1},
            "federation": {"rounds": 25, "choose": "last",
                           "strategy": {"name": "fedper", "options": {"layers": ["out.bias"]}}},
            "evaluation": {"bootstrap": 40, "metric": "auroc", "keep_counts": True},
            "baselines": {"pooled": False, "local": False,
                          "today": {"age_sex": True, "scores": {"test": {"column": "oldpeak"}}}},
        }
    )  # fmt: skip

    class Ignored:
        def handle(self, event: object) -> None:
            pass

    folder = run_experiment(config, tmp_path, Ignored())
    report = build_report(folder)
    assert report.federated is not None
    sites = [load_site(SiteContext(SIMULATION_POLICY, index=i, count=4), config) for i in range(4)]
    everyone = evaluate_where_known(
        config, tmp_path, "today:all", lambda cohort: np.ones(len(cohort.y), bool), sites,
        lambda site: load_federated(config, folder, site), load_outcome(folder)["threshold"],
    )  # fmt: skip
    for site, item in report.federated.sites.items():
        assert everyone["federated"]["sites"][site]["confusion"] == item.confusion
        assert everyone["federated"]["sites"][site]["macro_auroc"]["value"] == item.macro_auroc.value
    (rival,) = [item for item in report.models if item.name == "today:test"]
    at = report.task["features"].index("oldpeak")
    unknown = [site.test.y[np.isnan(site.test.features[:, at])] for site in sites]
    assert rival.where_known is not None
    assert rival.unknown == rival.where_known.unknown.examples == sum(map(len, unknown)) > 0
    assert rival.where_known.unknown.events == sum(int(y.sum()) for y in unknown)
    assert not is_often_unknown(rival)
    share = f"on the {rival.where_known.known.examples} of {report.federated.pooled.examples} "  # type: ignore[union-attr]
    assert share in describe_rival(report, rival)
    text = describe_where_unknown(report, rival)
    assert f"is not known for {rival.unknown} patients" in text
    assert "cannot say which is better for the others" in text
    assert "where it is known" in render_html(report)
    fact = state_today(report)
    assert fact is not None
    assert fact.value.startswith(("Better", "Worse", "No better shown"))
    assert rival.pooled is not None
    assert rival.pooled.examples == rival.where_known.known.examples
    gains = [find_difference(report, item.name, "auroc") for item in list_rivals(report)]
    values = [item.figure.value for item in gains if item is not None and item.figure.value is not None]
    assert len(values) == 2
    assert values == sorted(values), "the first screen names what the model gains least on"
    merged = summarise_runs([({"sites.fold": "0"}, folder)])["merged"][""]
    together = merged["federated where today:test is known"]["(pooled)"]
    alone = rival.where_known.federated.pooled
    assert alone is not None
    assert (together["examples"], together["confusion"]) == (alone.examples, alone.confusion)
    assert together["examples"] == merged["today:test"]["(pooled)"]["examples"]
