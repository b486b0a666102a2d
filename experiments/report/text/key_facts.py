"""What the page opens with: the few facts that a clinician asks for first, each a line of its own.

A fact is a function of the report, in FACTS in the order of the page; it returns None where a run has nothing
to say of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from common.metrics.figures import Calibration
from experiments.report.document.report import Report
from experiments.report.text import findings
from experiments.report.text.formatting import (
    capitalise,
    format_count,
    format_interval,
    format_number,
    make_cell,
    metric_title,
)


@dataclass(frozen=True)
class Fact:
    """One fact. `detail`: what it rests on; `link`: the part of the page that says more; `alarm`: it is bad news."""

    label: str
    value: str
    detail: str = ""
    link: str = ""
    alarm: bool = False


def state_task(report: Report) -> Fact | None:
    """Return what the model tells, and from which data."""
    titles = list(report.class_titles.values())
    if not titles:
        return None
    shown = ", ".join(titles[:6]) + (f" and {len(titles) - 6} more" if len(titles) > 6 else "")
    made_up = "SYNTHETIC: " if report.data.synthetic and "SYNTHETIC" not in report.data.title else ""
    return Fact(
        "What it tells", capitalise(shown), made_up + (report.data.title or str(report.task.get("name", ""))), "data"
    )


def state_patients(report: Report) -> Fact | None:
    """Return how many patients the figures rest on, and how many trained the model."""
    trained = findings.sum_over_sites(report, "train", "patients")
    hospitals = format_count(len(report.sites), "hospital")
    model = report.federated
    if model is None or model.pooled is None:
        return Fact(
            "Patients",
            "none tested",
            f"{format_count(trained, 'patient')} to train on at {hospitals}",
            "hospitals",
            True,
        )
    seen = "tested, some of them also seen in training" if report.has("leak") else "tested, never seen in training"
    detail = f"{seen}; {format_count(trained, 'patient')} trained the model at {hospitals}"
    return Fact("Patients", f"{model.pooled.patients:,}", detail, "hospitals", report.has("leak"))


def state_performance(report: Report) -> Fact | None:
    """Return the figure over all hospitals."""
    model = report.federated
    if model is None or model.pooled is None:
        return Fact("How good", "not known", findings.explain_missing_test(report), "training", True)
    shown = make_cell(model.pooled, report.metric)
    return Fact("How good", shown.text, f"{metric_title(report.metric)}, all hospitals together", "comparison")


def state_uncertainty(report: Report) -> Fact | None:
    """Return how far the figure hangs on who was in the test."""
    model = report.federated
    if model is None or model.pooled is None:
        return None
    shown = make_cell(model.pooled, report.metric)
    if not shown.interval:
        return Fact("How sure", "not known", shown.reason or "no interval", "method", True)
    few = [item for item in model.sites.values() if make_cell(item, report.metric).few]
    detail = "95% interval over patients"
    if few:
        detail += f"; {format_count(len(few), 'hospital')} with few test patients"
    return Fact("How sure", shown.interval, detail, "method")


def state_worst_hospital(report: Report) -> Fact | None:
    """Return the hospital where the model does worst."""
    model = report.federated
    if model is None or model.worst is None:
        return None
    name, item = model.worst.site, model.sites[model.worst.site]
    shown = make_cell(item, report.metric)
    detail = f"{shown.interval and f' ({shown.interval})'} on {format_count(item.patients, 'test patient')}"
    place = [site.name for site in report.sites].index(name) + 1
    return Fact(
        "Worst hospital",
        name,
        format_number(shown.value) + detail + (", few" if shown.few else ""),
        f"hospital-{place}",
    )


def state_calibration(report: Report) -> Fact | None:
    """Return whether the probabilities can be read as such: by slope and level of the event, or of each class."""
    model = report.federated
    parts = {
        report.class_titles.get(name, name): part.calibration
        for name, part in (model.pooled.classes.items() if model and model.pooled else ())
        if part.calibration is not None
    }
    known = {name: found for name, found in parts.items() if describe_calibration(found)}
    if model is None or model.pooled is None or not parts:
        return None
    if not known:
        return Fact("Probabilities", "not known", "no interval of the calibration slope", "calibration")
    bad = {
        name: describe_calibration(found)
        for name, found in known.items()
        if describe_calibration(found) != NO_MISCALIBRATION
    }
    if len(parts) == 1:
        [(_, found)] = known.items()
        shown = format_interval(found.slope)
        detail = (
            f"calibration slope {format_number(found.slope.value)} ({shown}), 1 at best; expected calibration error "
        )
        return Fact(
            "Probabilities",
            capitalise(describe_calibration(found)),
            detail + format_number(found.ece.value),
            "calibration",
            bool(bad),
        )
    mean = f"mean expected calibration error {format_number(model.pooled.ece.value if model.pooled.ece else None)}"
    if not bad:
        return Fact("Probabilities", capitalise(NO_MISCALIBRATION), mean, "calibration")
    said = "; ".join(f"{text} for {name}" for name, text in list(bad.items())[:3])
    more = f"; and {len(bad) - 3} more" if len(bad) > 3 else ""
    value = f"Off for {len(bad)} of {format_count(len(parts), 'class', 'classes')}"
    return Fact("Probabilities", value, f"{said}{more}; {mean}", "calibration", True)


NO_MISCALIBRATION = "no fault seen"


def describe_calibration(found: Calibration) -> str:
    """Return what a class's calibration shows beyond its intervals; "" where it has none.

    A slope below 1 says that probabilities are too far from the middle, above 1 that they are not far enough
    (Van Calster et al. 2019, BMC Medicine 17:230); the intercept at slope 1, that they are too low or too high.
    """
    slope, level = found.slope, found.large
    if slope.low is None or slope.high is None:
        return ""
    said = ["too extreme"] if slope.high < 1 else ["too timid"] if slope.low > 1 else []
    if level.low is not None and level.high is not None and not level.low <= 0 <= level.high:
        said.append("too low" if level.low > 0 else "too high")
    return " and ".join(said) or NO_MISCALIBRATION


def state_privacy(report: Report) -> Fact | None:
    """Return what training promised to the patients of the hospitals."""
    if not report.privacy:
        return Fact("Privacy", "no promise", "training was not differentially private", "method")
    most = max(report.privacy, key=lambda item: item.epsilon_run)
    detail = f"per {most.unit}, at delta {most.delta:g}, the most that a hospital spent ({most.site})"
    if report.has("not-private"):
        return Fact("Privacy", "NOT PRIVATE", "the noise can be taken away", "privacy", True)
    return Fact("Privacy", f"epsilon {most.epsilon_run:.2f}", detail, "privacy")


FACTS: tuple[Callable[[Report], Fact | None], ...] = (
    state_task,
    state_patients,
    state_performance,
    state_uncertainty,
    state_worst_hospital,
    state_calibration,
    state_privacy,
)
"""The facts in the order of the page. A part that measures more adds its own."""


def list_facts(report: Report) -> list[Fact]:
    """Return the facts that this report has."""
    return [found for fact in FACTS if (found := fact(report)) is not None]
