"""Differences between models and gaps between groups, in the report of a run's folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from common.metrics import paired_resamples
from common.metrics.intervals import tail_probability
from common.run_folder import RunFolder
from experiments.report import differences
from experiments.report.build import build_report


@pytest.fixture(name="folder")
def _folder(make_run) -> Path:
    """A run whose federated model has groups of patients, and draws of some figures."""
    folder: Path = make_run()
    for name in ("federated.json", "baselines.json"):
        raw = json.loads((folder / name).read_text())
        one = raw if name == "federated.json" else raw["models"][0]
        for group, patients in (("female", 9), ("male", 7), ("unknown", 6)):
            sites = json.loads(json.dumps(one["test"]["all"]))
            for item in sites.values():
                item["patients"] = patients
                item["accuracy"]["value"] = {"female": 0.9, "male": 0.6, "unknown": 0.1}[group]
            sites["north"]["patients"] = 3 if group == "male" else patients
            one["test"][f"group sex={group}"] = sites
            one["pooled"][f"group sex={group}"] = sites["south"]
        one["suppressed"] = {"group sex=other": {"north": 5}}
        (folder / name).write_text(json.dumps(raw))
    rng = np.random.default_rng(1)
    for model in ("federated", "pooled"):
        result = {
            ("all", site): {"accuracy": rng.random(50).astype(np.float32)}
            for site in ("south", paired_resamples.POOLED)
        }
        for group in ("female", "male"):
            result[f"group sex={group}", "south"] = {"accuracy": rng.random(50).astype(np.float32)}
        RunFolder(folder).resamples(model).write_bytes(paired_resamples.pack_resamples(result))
    return folder


def test_differences_are_paired_where_there_are_draws_and_say_why_where_not(folder: Path) -> None:
    report = build_report(folder)
    result = {(item.model, item.site, item.metric): item for item in report.differences}
    ours, other = report.model("federated"), report.model("pooled")
    one, two = (
        paired_resamples.load_resamples(RunFolder(folder).resamples(name))["all", "south"]["accuracy"]
        for name in ("federated", "pooled")
    )
    item = result["pooled", "south", "accuracy"]
    assert item.figure.value == pytest.approx(ours.sites["south"].accuracy.value - other.sites["south"].accuracy.value)
    share = tail_probability(item.patients)
    ends = np.quantile(one.astype(float) - two.astype(float), [share, 1 - share])
    assert [item.figure.low, item.figure.high] == pytest.approx(ends.tolist())
    assert item.note == ""
    bare = result["pooled", "west", "accuracy"]
    assert bare.figure.low is None
    assert bare.note == differences.NO_RESAMPLES
    assert {site for name, site, _ in result if name == "pooled"} == {*ours.sites, paired_resamples.POOLED}
    assert {site for name, site, _ in result if name == "local:west"} == {"west"}
    assert not any(name == "federated" for name, *_ in result)


def test_models_of_an_early_warning_are_compared_by_utility(folder: Path) -> None:
    """The utility is a metric of its own for such a task alone; its difference is paired as the others are."""
    rng = np.random.default_rng(2)
    drawn = {}
    for name, value in (("federated", 0.42), ("pooled", 0.40)):
        path = folder / ("federated.json" if name == "federated" else "baselines.json")
        raw = json.loads(path.read_text())
        one = raw if name == "federated" else raw["models"][0]
        one["test"]["all"]["south"]["utility"] = {"value": value, "low": None, "high": None}
        path.write_text(json.dumps(raw))
        drawn[name] = rng.random(50).astype(np.float32)
        samples = {("all", "south"): {"utility": drawn[name]}}
        RunFolder(folder).resamples(name).write_bytes(paired_resamples.pack_resamples(samples))
    models = build_report(folder).models
    compared = differences.compare_models(models, "auroc", True, folder)
    [item] = [item for item in compared if item.metric == "utility"]
    assert (item.model, item.site) == ("pooled", "south")
    assert item.figure.value == pytest.approx(0.02)
    share = tail_probability(item.patients)
    ends = np.quantile(drawn["federated"].astype(float) - drawn["pooled"].astype(float), [share, 1 - share])
    assert [item.figure.low, item.figure.high] == pytest.approx(ends.tolist())


def test_gaps_are_between_groups_of_enough_patients(folder: Path) -> None:
    report = build_report(folder)
    result = {(gap.site, gap.metric): gap for gap in report.model("federated").gaps}
    gap = result["south", "accuracy"]
    assert (gap.lowest, gap.highest) == ("male", "female")
    assert gap.difference.value == pytest.approx(0.3)
    assert gap.ratio.value == pytest.approx(0.6 / 0.9)
    drawn = paired_resamples.load_resamples(RunFolder(folder).resamples("federated"))
    female, male = (drawn[f"group sex={name}", "south"]["accuracy"].astype(float) for name in ("female", "male"))
    share = tail_probability(16)
    ends = np.quantile(female - male, [share, 1 - share])
    assert (gap.difference.low, gap.difference.high) == pytest.approx(tuple(ends))
    assert gap.pairs == 1
    assert result["west", "accuracy"].difference.low is None
    assert ("north", "accuracy") not in result
    assert result[paired_resamples.POOLED, "accuracy"].difference.value == pytest.approx(0.3)


def test_a_suppressed_group_is_in_the_report(folder: Path) -> None:
    groups = build_report(folder).model("federated").groups["sex"]
    assert groups["other"].suppressed == {"north": 5}
    assert set(groups) == {"female", "male", "unknown", "other"}
