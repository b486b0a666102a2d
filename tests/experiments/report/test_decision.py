"""The first screen, against counts made by hand."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest

from common.metrics import evaluation
from common.metrics.counts import count_predictions
from common.metrics.resampling import COARSE_FACTOR
from common.percent import format_hundred
from common.task import Task
from experiments.report.build import build_report
from experiments.report.document.report import Report
from experiments.report.pages.html import render_html
from experiments.report.text.cases import CaseCounts, count_cases, describe_missed
from experiments.report.text.decision import ask_question, list_decision_facts
from experiments.report.text.facts import Fact
from experiments.report.text.groups import describe_groups_missed
from tests.experiments.report.plots.test_calibration import BEATS, make_report

EVENT = Task("death", "multiclass", ("alive", "died"), ("left alive", "died"), 0, 0, 0.0, ("age",), ())


def score_patients(found: int, missed: int, wrong: int, right: int, seed: int = 0) -> Any:
    """Return an evaluation of patients of one example each, with these decisions at a probability of one half."""
    truth = np.repeat([1, 1, 0, 0], [found, missed, wrong, right])
    odds = np.repeat([1.5, -1.5, 1.5, -2.5], [found, missed, wrong, right])
    size = len(truth)
    counts = count_predictions(np.stack([np.zeros(size), odds], 1), truth, np.arange(size), size, 1024)
    drawn = evaluation.resample_patients(counts.coarser(COARSE_FACTOR), 200, np.random.default_rng(seed))
    held = [int((truth == 0).sum()), int((truth == 1).sum())]
    return evaluation.build_evaluation(EVENT, counts.total(), drawn, size, held, curves=True)


def make_event_run(
    folder: Path,
    sites: dict[str, tuple[int, int, int, int]],
    groups: dict[str, tuple[int, int, int, int]] | None = None,
    data: dict[str, Any] | None = None,
    settings: dict[str, Any] | None = None,
    lost: dict[str, str] | None = None,
) -> Path:
    """Write a run whose hospitals have these patients found, missed, wrongly flagged and rightly left alone."""
    folder.mkdir(parents=True, exist_ok=True)
    tables = {"all": {name: score_patients(*cases) for name, cases in sites.items()}}
    pooled = {"all": score_patients(*(sum(column) for column in zip(*sites.values(), strict=True)))}
    for name, cases in (groups or {}).items():
        tables[f"group {name}"] = {"north": score_patients(*cases)}
        pooled[f"group {name}"] = score_patients(*cases)
    part = {"patients": 9, "examples": 9, "classes": [5, 4]}
    hello = {"task": EVENT.to_dict(), "synthetic": False, "counts": dict.fromkeys(("train", "test"), part)}
    outcome = {
        "status": "complete",
        "task": EVENT.to_dict(),
        "sites": dict.fromkeys(sites, hello),
        "lost": lost or {},
        "test": {key: {name: item.model_dump() for name, item in table.items()} for key, table in tables.items()},
        "pooled": {key: item.model_dump() for key, item in pooled.items()},
    }
    about = {
        "format": 2,
        "id": "run-1",
        "name": "run",
        "title": "Toy deaths",
        "config": {"evaluation": {"metric": "auroc", **(settings or {})}, "federation": {"rounds": 1}},
        "data": {"title": "Toy", **(data or {})},
        "status": "complete",
    }
    (folder / "federated.json").write_text(json.dumps(outcome), encoding="utf-8")
    (folder / "run.json").write_text(json.dumps(about), encoding="utf-8")
    return folder


def read_facts(report: Report) -> dict[str, Fact]:
    return {fact.label: fact for fact in list_decision_facts(report)}


RARE = {"north": (2, 20, 1, 200), "south": (1, 9, 3, 100)}


def test_a_model_that_misses_most_events_says_so_first(tmp_path: Path) -> None:
    report = build_report(make_event_run(tmp_path, RARE))
    first, *_ = list_decision_facts(report)
    assert (first.label, first.value, first.alarm) == ("Events missed", "Misses most: 29 of 32 missed", True)
    assert first.detail.startswith("90.6%, 95% interval ")
    assert 'class="alarm"><dt>Events missed' in render_html(report).split('<dl class="facts decision">')[1][:60]


def test_a_model_that_finds_most_events_opens_without_an_alarm(tmp_path: Path) -> None:
    report = build_report(make_event_run(tmp_path, {"north": (20, 2, 1, 200), "south": (9, 1, 3, 100)}))
    first, *_ = list_decision_facts(report)
    assert (first.value, first.alarm) == ("3 of 32 missed", False)


def test_of_a_hundred_patients_the_parts_are_counts_divided_by_all(tmp_path: Path) -> None:
    facts = read_facts(build_report(make_event_run(tmp_path, RARE)))
    fact = facts["Of 100 patients like these"]
    assert fact.value == "2.1 are flagged: 0.9 rightly, 1.2 wrongly"  # 7, 3 and 4 of 336
    assert fact.detail.startswith("8.6 are missed; of the flagged, 43% rightly (95% interval ")
    half = build_report(make_event_run(tmp_path / "half", {"north": (30, 10, 20, 40)}))
    assert read_facts(half)["Of 100 patients like these"].value == "50 are flagged: 30 rightly, 20 wrongly"


def test_likelier_alarms_only_for_a_rare_event(tmp_path: Path) -> None:
    fact = read_facts(build_report(make_event_run(tmp_path, RARE)))["Threshold in use"]
    assert fact.value == "a probability of 50%"
    assert fact.detail == (
        "not chosen: the likelier of the two outcomes; the event is rare (9.5 of 100), so few reach it"
    )
    assert fact.alarm
    common = build_report(make_event_run(tmp_path / "common", {"north": (30, 10, 20, 40)}))
    assert not read_facts(common)["Threshold in use"].alarm


def test_the_worst_hospital_and_group_are_those_that_miss_most_among_large_ones(tmp_path: Path) -> None:
    groups = {"sex=female": (7, 8, 1, 30), "sex=male": (95, 21, 9, 60), "age=under 40": (1, 4, 0, 9)}
    sites = {"north": (20, 5, 3, 40), "south": (10, 10, 3, 40), "tiny": (0, 4, 1, 5)}
    facts = read_facts(build_report(make_event_run(tmp_path, sites, groups)))
    assert facts["Worst hospital, by events missed"].value == "south"
    assert facts["Worst hospital, by events missed"].detail.startswith("10 of 20 events missed: 50%, 95% interval ")
    assert facts["Worst group, by events missed"].value == "sex: female"
    assert facts["Worst group, by events missed"].detail.startswith("8 of 15 events missed: 53%, 95% interval ")
    assert "the worst of 3" in facts["Worst group, by events missed"].detail


def test_of_several_classes_the_first_screen_says_what_is_flagged_and_missed_of_100() -> None:
    report, raw = make_report(BEATS, {"north": 9, "south": 6})
    facts = read_facts(report)
    assert facts["Threshold in use"].value == "none"
    truth = np.concatenate([raw[site][1] for site in ("north", "south")])
    called = np.concatenate([raw[site][0].argmax(1) for site in ("north", "south")])
    shares = [np.mean(called != 0), np.mean((called != 0) & (truth == 0)), np.mean((called == 0) & (truth != 0))]
    flagged, wrong, missed = (format_hundred(float(share)) for share in shares)
    [fact] = [fact for label, fact in facts.items() if label.startswith("Of 100 ")]
    assert fact.value == f"{format_hundred(float(np.mean(called == truth)))} get the right class"
    assert fact.detail.endswith(
        f"; {flagged} are called other than “normal”, {wrong} of them wrongly; {missed} others are taken for “normal”"
    )


def test_the_summary_counts_what_is_missed_in_every_group_and_selects_none(tmp_path: Path) -> None:
    groups = {"sex=female": (7, 8, 1, 30), "sex=male": (95, 21, 9, 60), "age=under 40": (1, 4, 0, 9)}
    report = build_report(make_event_run(tmp_path, {"north": (98, 29, 10, 90)}, groups))
    assert describe_groups_missed(report) == ["Missed events, by sex. Female: 8 of 15; male: 21 of 116."]
    text = render_html(report)
    assert "Missed events, by sex. Female: 8 of 15; male: 21 of 116." in text
    table = text[text.index("By sex, all hospitals together") :]
    assert "female" in table[: table.index("</table>")]
    assert describe_groups_missed(build_report(make_event_run(tmp_path / "b", RARE))) == []
    names = ["80 and over", "unknown", "40 to under 65", "under 40", "100 and over"]
    groups = {f"age={name}": (7, 8, 1, 30) for name in names} | {"age=under 40": (1, 3, 0, 5)}
    report = build_report(make_event_run(tmp_path / "c", RARE, groups))
    [text] = describe_groups_missed(report)
    assert text == (
        "Missed events, by age. Under 40: 3 of 4 (from 4 patients, few); 40 to under 65: 8 of 15; "
        "80 and over: 8 of 15; 100 and over: 8 of 15; unknown: 8 of 15."
    )


def test_without_groups_the_page_says_that_none_were_reported(tmp_path: Path) -> None:
    assert (
        read_facts(build_report(make_event_run(tmp_path, RARE)))["Worst group, by events missed"].value
        == "not reported"
    )


def test_hospitals_without_part_are_named_with_the_reason(tmp_path: Path) -> None:
    facts = read_facts(build_report(make_event_run(tmp_path, RARE, lost={"east": "no answer within 9 s"})))
    fact = facts["Took no part"]
    assert (fact.value, fact.detail, fact.alarm) == ("east", "east: no answer within 9 s", True)
    every = read_facts(build_report(make_event_run(tmp_path, RARE)))["Hospitals that took part"]
    assert (every.value, every.alarm) == ("all 2", False)


def test_the_question_is_the_cards_or_made_of_the_event(tmp_path: Path) -> None:
    asked = build_report(make_event_run(tmp_path, RARE, data={"question": "Who will die?", "site_kind": "region"}))
    assert "<h1>Who will die?</h1>" in render_html(asked)
    assert "Worst region, by events missed" in read_facts(asked)
    assert ask_question(build_report(make_event_run(tmp_path / "old", RARE))) == "Which cases are “died”?"


def test_every_page_says_that_it_is_no_medical_device(tmp_path: Path, make_run) -> None:
    for report in (build_report(make_event_run(tmp_path, RARE)), build_report(make_run(status="interrupted"))):
        assert re.search(r'<p class="disclaimer">Research software, not a medical device', render_html(report))


@pytest.mark.parametrize("patients", [1, 5, 30])
def test_where_all_or_none_are_missed_the_interval_is_exact(patients: int) -> None:
    flat = evaluation.Figure(value=0.0, low=0.0, high=0.0)
    for found, missed in ((0, patients), (patients, 0)):
        low, high = binomtest(missed, patients).proportion_ci(method="exact")
        text = describe_missed(CaseCounts(found, missed, 0, 99, flat, flat, patients))
        result = [float(number) for number in re.findall(r"([\d.]+)%", text.split("interval")[1])]
        assert result == pytest.approx([100 * low, 100 * high], abs=0.5)


def test_several_classes_are_counted_each_against_the_rest(make_run) -> None:
    report = build_report(make_run())
    pooled = report.federated.pooled
    cases = count_cases(pooled, "V")
    matrix = np.asarray(pooled.confusion)
    assert (cases.hits, cases.events) == (matrix[1, 1], matrix[1].sum())
    assert cases.wrong == matrix[:, 1].sum() - matrix[1, 1]
    assert cases.missed_share == pytest.approx(1 - pooled.classes["V"].recall.value)


def test_the_worst_hospital_of_several_classes_misses_most_of_all_but_the_first(make_run) -> None:
    report = build_report(make_run())
    shares = {}
    for name, item in report.federated.sites.items():
        matrix = np.asarray(item.confusion)[1:]
        shares[name] = 1 - sum(matrix[at, at + 1] for at in range(len(matrix))) / matrix.sum()
    fact = read_facts(report)["Worst hospital, by events missed"]
    assert fact.value == max(shares, key=lambda name: shares[name])
    assert "examples of all classes but normal missed" in fact.detail
