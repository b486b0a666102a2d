from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel
from rich.console import Console

from common.metrics.figures import Alarms, Figure, LeadTimes, OperatingPoint
from common.metrics.patient_counts import count_patients
from common.metrics.registry import CALIBRATION_METRICS
from experiments.report.build import build_report
from experiments.report.pages.tables import CSV_HEADER, POOLED, render_csv, render_terminal_summary
from experiments.report.text.formatting import CLASS_METRICS, METRICS


def _lines(report) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(render_csv(report))))


def _printed(report, width: int = 100) -> str:
    out = Console(width=width, file=io.StringIO())
    out.print(render_terminal_summary(report))
    return out.file.getvalue()


def test_a_name_that_a_spreadsheet_would_run_is_a_text(make_run) -> None:
    report = build_report(make_run())
    model = report.federated
    sites = {"=cmd|'/C calc'!A0" if site == "north" else site: item for site, item in model.sites.items()}
    model = model.model_copy(update={"sites": sites})
    lines = _lines(report.model_copy(update={"models": (model,)}))
    names = {line["site"] for line in lines}
    assert "'=cmd|'/C calc'!A0" in names
    assert not any(value.startswith(("=", "@", "+")) for line in lines for value in line.values())


def test_csv_holds_every_figure_with_all_digits(make_run) -> None:
    report = build_report(make_run())
    lines = _lines(report)
    assert tuple(lines[0]) == CSV_HEADER
    key = ("model", "subset", "site", "class", "metric")
    result = {tuple(line[name] for name in key): line for line in lines}
    assert len(result) == len(lines)
    here = [metric for metric in METRICS if getattr(report.models[0].pooled, metric) is not None]
    assert here == [
        "macro_f1",
        "macro_auroc",
        "macro_auprc",
        "accuracy",
        "loss",
        "brier",
        "ece",
    ]  # the task has three classes
    each = len(here) + 3 * (len(CLASS_METRICS) + len(CALIBRATION_METRICS))
    assert len(lines) == 5 * 2 * 4 * each
    for model in report.models:
        for subset, part in {"all": model, "without patient 7": model.without["patient 7"]}.items():
            for site, item in {**part.sites, POOLED: part.pooled}.items():
                line = result[(model.name, subset, site, "", "macro_f1")]
                assert float(line["value"]) == item.macro_f1.value
                assert (line["patients"], line["examples"]) == (
                    str(count_patients(item, "macro_f1")),
                    str(item.examples),
                )
                low = item.classes["V"].recall.low
                line = result[(model.name, subset, site, "V", "recall")]
                assert line["low"] == ("" if low is None else repr(low))
                assert line["patients"] == str(item.classes["V"].patients)
                line = result[(model.name, subset, site, "V", "slope")]
                slope = item.classes["V"].calibration.slope
                assert line["value"] == ("" if slope.value is None else repr(slope.value))
    missing = result[("federated", "all", "north", "F", "auroc")]
    assert (missing["value"], missing["low"], missing["high"], missing["examples"]) == ("", "", "", "0")


def test_the_terminal_says_why_an_interval_is_missing(make_run) -> None:
    report = build_report(make_run())
    model = report.federated
    assert "accuracy, " not in _printed(report)
    bare = model.pooled.model_copy(update={"accuracy": Figure(value=model.pooled.accuracy.value)})
    changed = report.model_copy(update={"models": (model.model_copy(update={"pooled": bare}),)})
    assert "accuracy, all hospitals: no interval: " in _printed(changed)


def test_csv_carries_the_notices_in_every_line(make_run) -> None:
    lines = _lines(build_report(make_run(synthetic=True)))
    assert {line["synthetic"] for line in lines} == {"yes"}
    assert all(line["notice"].startswith("SYNTHETIC: ") for line in lines)


def test_csv_of_real_data_has_no_notice(make_run) -> None:
    assert {(line["synthetic"], line["notice"]) for line in _lines(build_report(make_run()))} == {("no", "")}


def test_terminal_shows_notices_first_then_hospitals_and_the_worst(make_run) -> None:
    report = build_report(make_run(synthetic=True))
    text = _printed(report)
    assert text.index("SYNTHETIC") < text.index("north")
    assert "south (worst)" in text
    assert f"{report.federated.pooled.macro_f1.value:.3f}" in text
    assert "missing response: west: no answer within 9 s" in text
    assert max(len(line) for line in text.splitlines()) <= 100
    assert "…" not in text


def test_terminal_takes_names_as_text(make_run) -> None:
    assert "[red]x[/blue]" in _printed(build_report(make_run(rename=("south", "[red]x[/blue]"))))


@pytest.mark.parametrize("rounds", [0, 2])
def test_terminal_of_an_interrupted_run(make_run, rounds) -> None:
    text = _printed(build_report(make_run(status="interrupted", rounds=rounds, planned=8)))
    assert ("Interrupted after round 2 of 8" if rounds else "Interrupted before the first round") in text
    assert "n/a" in text


def test_csv_leaves_no_figure_of_an_evaluation_out(make_run) -> None:
    """Every number of type Figure in report.json's federated model at a hospital stands in a line of the table."""
    report = build_report(make_run())
    part = report.federated.sites["north"].classes["V"]
    changes = {
        "operating": (OperatingPoint(at=0.9, sensitivity=Figure(value=0.111), specificity=Figure(value=0.222)),),
        "alarms": Alarms(hours=9.0, per_day=Figure(value=3.33), false_per_hour=Figure(value=4.44)),
    }
    more = {
        "classes": report.federated.sites["north"].classes | {"V": part.model_copy(update=changes)},
        "lead": LeadTimes(patients=6, warned=Figure(value=0.555), hours=Figure(value=6.66), histogram=(1,)),
        "utility": Figure(value=0.777),
    }
    item = report.federated.sites["north"].model_copy(update=more)
    federated = report.federated.model_copy(update={"sites": {"north": item}})
    report = report.model_copy(update={"models": (federated,)})

    def walk(value: Any) -> Iterator[float]:
        if isinstance(value, Figure):
            if value.value is not None:
                yield value.value
        elif isinstance(value, BaseModel):
            for name in type(value).model_fields:
                if name not in ("groups", "curve"):  # of the two diagrams: points of a plot
                    yield from walk(getattr(value, name))
        elif isinstance(value, dict | tuple):
            for part in value.values() if isinstance(value, dict) else value:
                yield from walk(part)

    wanted = list(walk(item))
    printed = {
        float(line["value"])
        for line in _lines(report)
        if (line["model"], line["subset"], line["site"]) == ("federated", "all", "north") and line["value"]
    }
    assert {0.111, 0.222, 3.33, 4.44, 0.555, 6.66, 0.777} <= set(wanted)
    assert not set(wanted) - printed


@pytest.mark.parametrize("metric", ["macro_f1", "macro_auprc"])
@pytest.mark.parametrize("width", [60, 80, 100])
def test_a_narrow_terminal_shows_the_run_s_own_metric_uncut(make_run, metric: str, width: int) -> None:
    report = build_report(make_run()).model_copy(update={"metric": metric})
    text = _printed(report, width)
    figure = getattr(report.federated.pooled, metric)
    assert f"{figure.value:.3f} ({figure.low:.2f} to {figure.high:.2f})" in text
    assert "…" not in text
    assert max(len(line.rstrip()) for line in text.splitlines()) <= width
    assert METRICS[metric] in text.splitlines()[1]


@pytest.mark.parametrize("width", [20, 30, 40, 50])
def test_a_very_narrow_terminal_wraps_and_cuts_nothing(make_run, width: int) -> None:
    report = build_report(make_run())
    lines = [line.rstrip() for line in _printed(report, width).splitlines()]
    assert max(map(len, lines)) <= width
    text = " ".join(lines).replace("\N{DAGGER}", "")
    for evaluation in (report.federated.pooled, *report.federated.sites.values()):
        figure = getattr(evaluation, report.metric)
        assert f"{figure.value:.3f} ({figure.low:.2f} to {figure.high:.2f}), {evaluation.patients} patients" in text
