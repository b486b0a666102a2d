"""The report of very many hospitals: all in its tables, the worst in full, and files that stay small."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Sequence

import numpy as np
import pytest

from common.metrics.figures import Figure
from experiments.report.build import build_report
from experiments.report.document.report import Report, from_json, to_json
from experiments.report.document.results import WorstSite
from experiments.report.document.run import Notice
from experiments.report.notices import collect_partial_notices
from experiments.report.pages.html import render_html
from experiments.report.pages.tables import render_csv
from experiments.report.plots.sites import draw_forest_plot
from experiments.report.text.many_hospitals import choose_detailed_hospitals
from tests.experiments.conftest import Make

MANY = [f"ward-{number:03d}" for number in range(120)]


def multiply(report: Report, names: Sequence[str]) -> Report:
    """Return a report with a hospital of each name: copies of the report's, with other values of the metric."""
    assert report.federated is not None
    first = report.sites[0]
    evaluation = report.federated.sites[first.name]
    values = np.random.default_rng(1).permutation(len(names)) / len(names)
    results = {
        name: evaluation.model_copy(update={"macro_f1": Figure(value=float(value))})
        for name, value in zip(names, values, strict=True)
    }
    worst = min(results, key=lambda name: results[name].macro_f1.value or 0.0)
    model = report.federated.model_copy(
        update={"sites": results, "worst": WorstSite(site=worst, metric="macro_f1", value=0.0), "recalibration": {}}
    )
    sites = tuple(first.model_copy(update={"name": name}) for name in names)
    return report.model_copy(update={"sites": sites, "models": (model,)})


@pytest.fixture
def small(make_run: Make) -> Report:
    return build_report(make_run(baselines=False, synthetic=True))


@pytest.fixture
def report(small: Report) -> Report:
    return multiply(small, MANY)


def test_the_worst_hospitals_are_shown(report: Report) -> None:
    detailed = choose_detailed_hospitals(report)
    assert report.federated is not None
    values = {name: item.macro_f1.value or 0.0 for name, item in report.federated.sites.items()}
    assert len(detailed) == 40
    assert max(values[name] for name in detailed) <= min(values[name] for name in set(values) - detailed)
    assert report.federated.worst is not None
    assert report.federated.worst.site in detailed


def test_all_of_a_hundred_are_shown(small: Report) -> None:
    few = MANY[:100]
    assert choose_detailed_hospitals(multiply(small, few)) == frozenset(few)


def test_the_page_lists_all_and_details_some(report: Report) -> None:
    text = render_html(report)
    detailed = choose_detailed_hospitals(report)
    details = set(re.findall(r'<section id="hospital-(\d+)"', text))
    assert details == set(re.findall(r'<a href="#hospital-(\d+)"', text))
    assert {report.sites[int(number) - 1].name for number in details} == detailed
    assert {name for name in MANY if f'<tr data-hospital="{name}"' in text} == set(MANY)
    assert "Of 120 hospitals the 40 are shown where the federated model is worst" in text


def test_the_forest_plot_has_the_shown_hospitals(report: Report) -> None:
    plot = draw_forest_plot(report)
    assert plot is not None
    assert {name for name in MANY if f">{name}" in plot.svg} == choose_detailed_hospitals(report)
    assert plot.canvas.get_figheight() < 20


def test_lines_of_the_table_carry_notices_in_short(report: Report) -> None:
    further = Notice(level="warning", text="Something about a hundred hospitals.")
    text = render_csv(report.model_copy(update={"notices": (*report.notices, further)}))
    lines = list(csv.DictReader(io.StringIO(text)))
    assert {line["notice"] for line in lines} == {"SYNTHETIC, WARNING: see report.json"}
    assert {line["site"] for line in lines if line["subset"] == "all"} == {*MANY, "(pooled)"}


def test_a_long_report_has_no_indentation_and_is_read_as_before(small: Report) -> None:
    report = multiply(small, [f"ward-{number:04d}" for number in range(400)])
    text = to_json(report)
    assert text.count("\n") == 1
    assert from_json(text) == report
    indented = json.dumps(json.loads(text), indent=1)
    assert from_json(indented) == report
    assert len(text) < 0.8 * len(indented)


def test_a_notice_names_ten_hospitals_at_most() -> None:
    notice = collect_partial_notices({"partial": dict.fromkeys(MANY, "missed round 2")})[0]
    assert notice.text.count("missed round 2") == 10
    assert notice.text.endswith("and 110 more")
