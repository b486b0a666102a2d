"""The first screen: what a clinician or a review board decides on, from counts of patients at the threshold in use."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from common.metrics.figures import FEW_PATIENTS, Evaluation
from common.percent import format_hundred, format_percent
from experiments.report.document.report import Report
from experiments.report.notices import RARE_SHARE
from experiments.report.text.before_use import state_use
from experiments.report.text.cases import (
    MIN_COMPARED,
    MIN_SENSITIVITY,
    CaseCounts,
    count_cases,
    count_events,
    describe_missed,
    list_decided_classes,
    name_events,
)
from experiments.report.text.facts import Fact
from experiments.report.text.findings import FINAL_EVALUATION, explain_missing_test, list_losses
from experiments.report.text.formatting import capitalise, format_count
from experiments.report.text.key_facts import state_privacy
from experiments.report.text.many_hospitals import choose_detailed_hospitals
from experiments.report.text.shares import format_percent_interval, name_examples
from experiments.report.text.thresholds import describe_threshold_origin
from experiments.report.text.today import state_today

DISCLAIMER = "Research software, not a medical device: no treatment may depend on it."


def ask_question(report: Report) -> str:
    """Return the question that the model answers: the data card's, or one made of the titles of the classes."""
    if report.data.question:
        return report.data.question
    titles = [report.class_titles[name] for name in list_decided_classes(report)]
    if not titles:
        return ""
    if report.binary:
        return f"Which cases are “{titles[-1]}”?"
    listed = ", ".join(titles[:6]) + (f" or {len(titles) - 6} more" if len(titles) > 6 else "")
    return f"Which cases are {listed}?"


def state_verdict(report: Report) -> Fact | None:
    """Return how many events are missed; where most are, that comes first and as an alarm."""
    model = report.federated
    if model is None or model.pooled is None:
        return Fact("Events missed", "not known", explain_missing_test(report), "training", True)
    counted = ((name, count_cases(model.pooled, name)) for name in list_decided_classes(report))
    decided = {name: cases for name, cases in counted if cases.events}
    if not decided:
        return Fact("Events missed", "not known", "no test patient has the event", "classes", True)
    if report.binary:
        [(name, cases)] = decided.items()
        most = cases.missed_share > 1 - MIN_SENSITIVITY
        text = f"{cases.missed:,} of {cases.events:,} missed"
        detail = f"{describe_missed(cases)} of those with “{report.class_titles[name]}”"
        if cases.patients < FEW_PATIENTS:
            detail += f"; from {format_count(cases.patients, 'patient')}, few"
        return Fact("Events missed", f"Misses most: {text}" if most else text, detail, "classes", most)
    worst = sorted(decided, key=lambda name: -decided[name].missed_share)
    lost = [name for name in worst if decided[name].missed_share > 1 - MIN_SENSITIVITY]
    listed = lost or worst[:1]
    detail = "; ".join(f"{report.class_titles[name]}: {describe_missed(decided[name])}" for name in worst[:4])
    counts = [f"{decided[name].missed:,} of {decided[name].events:,} {report.class_titles[name]}" for name in listed]
    text = ", ".join(counts[:2])
    return Fact("Missed", f"Misses most: {text}" if lost else f"At worst {text}", detail, "classes", bool(lost))


def state_per_hundred(report: Report) -> Fact | None:
    """Return of 100 cases like the tested ones how many are flagged, rightly and wrongly."""
    model = report.federated
    if model is None or model.pooled is None or not list_decided_classes(report):
        return None
    pooled, words = model.pooled, name_examples(report, model.pooled)
    if not report.binary:
        figure = pooled.accuracy
        if report.task.get("kind") == "multilabel" or figure.value is None:
            return None
        interval = format_percent_interval(figure)
        return Fact(
            f"Of 100 {words} like these",
            f"{format_hundred(figure.value)} get the right class",
            f"{interval or 'no interval'}; {_describe_flagged(report, pooled)}",
            "classes",
        )
    cases = count_cases(pooled, list(pooled.classes)[-1])
    if not cases.total:
        return None
    flagged = cases.hits + cases.wrong
    digits = 1 if min(cases.hits, cases.wrong) < 0.05 * cases.total else 0
    flagged_text, right, wrong, missed = (
        f"{100 * count / cases.total:.{digits}f}" for count in (flagged, cases.hits, cases.wrong, cases.missed)
    )
    value = f"{flagged_text} are flagged: {right} rightly, {wrong} wrongly"
    missed += " are missed"
    interval = format_percent_interval(cases.precision)
    precision = f"of the flagged, {format_percent(cases.precision.value)} rightly"
    detail = f"{missed}; {precision}{f' ({interval})' if interval else ''}"
    return Fact(f"Of 100 {words} like these", value, detail, "thresholds" if has_thresholds(report) else "classes")


def _describe_flagged(report: Report, pooled: Evaluation) -> str:
    """Return of 100 examples of several classes how many are given another class than the first, and how many miss it.

    The first class is what is usual, such as a normal beat; which of the others it is does not count here.
    """
    first, total = next(iter(report.class_titles.values())), sum(map(sum, pooled.confusion))
    if not total:
        return "the most frequent class makes up most of them"
    wrong = sum(pooled.confusion[0][1:])
    missed = sum(row[0] for row in pooled.confusion[1:])
    flagged = wrong + sum(sum(row[1:]) for row in pooled.confusion[1:])
    return (
        f"{format_hundred(flagged / total)} are called other than “{first}”, {format_hundred(wrong / total)} of them "
        f"wrongly; {format_hundred(missed / total)} others are taken for “{first}”"
    )


def has_thresholds(report: Report) -> bool:
    """Return whether the page can show other thresholds: two classes, and examples counted by groups of scores."""
    model = report.federated
    if model is None or model.pooled is None or not report.binary or report.detecting:
        return False
    calibration = list(model.pooled.classes.values())[-1].calibration
    return calibration is not None and bool(calibration.groups)


def state_threshold(report: Report) -> Fact | None:
    """Return the threshold in use and where it came from."""
    model = report.federated
    if model is None or model.pooled is None:
        return None
    if not report.binary:
        several = report.task.get("kind") == "multiclass" and not report.detecting
        detail = "each example gets the class with the highest score"
        return Fact("Threshold in use", "none", detail, "method") if several else None
    origin = describe_threshold_origin(report)
    if report.detecting and model.threshold is not None:
        return Fact("Threshold in use", f"an anomaly score of {math.exp(model.threshold):.3g}", origin, "method")
    probability = 0.5 if model.threshold is None else 1 / (1 + math.exp(-model.threshold))
    cases = count_cases(model.pooled, list(model.pooled.classes)[-1])
    rare = model.threshold is None and 0 < cases.events < RARE_SHARE * cases.total
    if rare:
        origin += f"; the event is rare ({format_hundred(cases.events / cases.total)} of 100), so few reach it"
    link = "thresholds" if has_thresholds(report) else "method"
    return Fact("Threshold in use", f"a probability of {format_percent(probability)}", origin, link, rare)


def state_most_missed_site(report: Report) -> Fact | None:
    """Return the hospital that misses the largest share of the events, with its counts."""
    model = report.federated
    worst = _find_most_missed(report, model.sites) if model is not None and len(model.sites) > 1 else None
    if worst is None:
        return None
    site, cases, few = worst
    numbers = {item.name: number for number, item in enumerate(report.sites, 1)}
    detailed = site in numbers and site in choose_detailed_hospitals(report)
    link = f"hospital-{numbers[site]}" if detailed else "hospitals"
    return Fact(f"Worst {report.data.site_kind}, by events missed", site, _describe_worst(report, cases) + few, link)


def state_most_missed_group(report: Report) -> Fact | None:
    """Return the group of patients in which the largest share of the events is missed, with its counts."""
    model = report.federated
    if model is None:
        return None
    groups = {
        f"{attribute}: {group}": subset.pooled
        for attribute, subsets in model.groups.items()
        for group, subset in subsets.items()
        if subset.pooled is not None and group != "unknown"
    }
    if not groups:
        detail = "no results by sex or age: evaluation.subgroups asks for them"
        return Fact("Worst group, by events missed", "not reported", detail, "method")
    worst = _find_most_missed(report, groups)
    if worst is None:
        return None
    group, cases, few = worst
    detail = f"{_describe_worst(report, cases)}; the worst of {len(groups)}, partly by accident"
    return Fact("Worst group, by events missed", group, detail + few, "subgroups")


def _find_most_missed(report: Report, evaluations: Mapping[str, Evaluation]) -> tuple[str, CaseCounts, str] | None:
    """Return where the largest share of a class is missed: its name, the counts, and a note if patients are few.

    Places where fewer than MIN_COMPARED patients have the class are considered only if there is no other.
    """
    every = [
        (site, count_events(report, evaluation))
        for site, evaluation in evaluations.items()
        if not set(list_decided_classes(report)) - set(evaluation.classes)
    ]
    every = [(site, cases) for site, cases in every if cases.events]
    many = [item for item in every if item[1].patients >= MIN_COMPARED]
    if not every:
        return None
    site, cases = max(many or every, key=lambda item: (item[1].missed_share, item[1].events))
    smaller = f"; of those with at least {MIN_COMPARED} patients with it" if len(many) < len(every) else ""
    few = f"; from {format_count(cases.patients, 'patient')}, few"
    return site, cases, smaller if many else few if cases.patients < FEW_PATIENTS else ""


def _describe_worst(report: Report, cases: CaseCounts) -> str:
    one = len(list_decided_classes(report)) == 1
    share = describe_missed(cases) if one else format_percent(cases.missed_share)
    return f"{cases.missed:,} of {cases.events:,} {name_events(report)} missed: {share}"


def state_absent_sites(report: Report) -> Fact | None:
    """Return which hospitals took no part."""
    if not report.sites and not report.lost:
        return None
    kind = report.data.site_kind
    trained = {name for line in report.rounds for name, part in line.sites.items() if part.train}
    tested = set(report.federated.sites) if report.federated else set()
    names = dict.fromkeys([*(site.name for site in report.sites), *report.lost])
    absent = [name for name in names if name not in trained and name not in tested]
    if absent:
        reasons = "; ".join(
            f"{name}: {report.lost.get(name, 'no answer').removeprefix(FINAL_EVALUATION)}" for name in absent[:3]
        )
        link = "missing" if list_losses(report) else "hospitals"
        return Fact("Took no part", ", ".join(absent[:5]), reasons, link, True)
    untested = [name for name in names if name not in tested]
    detail = f"not tested: {', '.join(untested[:5])}" if untested and tested else ""
    external = [name for name in names if name in report.external]
    detail = detail or (f"tested only, not trained on: {', '.join(external[:5])}" if external else "")
    label = f"{capitalise(kind)}s that took part"
    return Fact(label, f"all {len(names)}", detail, "hospitals", bool(untested and tested))


DECISION_FACTS: tuple[Callable[[Report], Fact | None], ...] = (
    state_verdict,
    state_per_hundred,
    state_threshold,
    state_use,
    state_most_missed_site,
    state_most_missed_group,
    state_today,
    state_privacy,
    state_absent_sites,
)
"""The facts of the first screen, in order."""


def list_decision_facts(report: Report) -> list[Fact]:
    """Return the facts of the first screen that apply to a report."""
    return [fact for state in DECISION_FACTS if (fact := state(report)) is not None]
