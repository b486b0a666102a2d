"""The key facts below the first screen: the figures behind the decision, one line each.

A fact is a function of the report, listed in FACTS in the order of the page; it returns None if it does not apply.
"""

from __future__ import annotations

from collections.abc import Callable

from common.metrics.figures import Calibration
from experiments.report.document.report import Report
from experiments.report.text import findings
from experiments.report.text.facts import Fact
from experiments.report.text.formatting import (
    capitalise,
    format_count,
    format_interval,
    format_number,
    higher_is_better,
    make_cell,
    metric_title,
)


def state_task(report: Report) -> Fact | None:
    """Return which classes the model predicts, and from which data."""
    titles = list(report.class_titles.values())
    if not titles:
        return None
    classes = ", ".join(titles[:6]) + (f" and {len(titles) - 6} more" if len(titles) > 6 else "")
    data = report.data.title or str(report.task.get("name", ""))
    if report.data.synthetic and "SYNTHETIC" not in data:
        data = f"SYNTHETIC: {data}"
    return Fact("Predicts", capitalise(classes), data, "data")


def state_patients(report: Report) -> Fact | None:
    """Return how many patients the model was tested on, and how many it was trained on."""
    trained = format_count(findings.sum_over_sites(report, "train", "patients"), "patient")
    hospitals = format_count(len(report.sites), report.data.site_kind)
    model = report.federated
    if model is None or model.pooled is None:
        return Fact("Test patients", "none", f"trained on {trained} of {hospitals}", "hospitals", True)
    overlap = "some of them also seen in training" if report.has("leak") else "never seen in training"
    detail = f"{overlap}; trained on {trained} of {hospitals}"
    people = ", ".join(part for part in (report.data.setting, report.data.years) if part)
    detail += f"; {people}" if people else ""
    return Fact("Test patients", f"{model.pooled.patients:,}", detail, "hospitals", report.has("leak"))


def state_performance(report: Report) -> Fact | None:
    """Return the run's metric over all hospitals."""
    model = report.federated
    if model is None or model.pooled is None:
        return Fact("Performance", "not known", findings.explain_missing_test(report), "training", True)
    cell = make_cell(model.pooled, report.metric)
    return Fact(
        "Performance", cell.text, f"{metric_title(report.metric)}, all {report.data.site_kind}s together", "comparison"
    )


def state_uncertainty(report: Report) -> Fact | None:
    """Return the interval of the run's metric over all hospitals."""
    model = report.federated
    if model is None or model.pooled is None:
        return None
    cell = make_cell(model.pooled, report.metric)
    if not cell.interval:
        return Fact("Uncertainty", "not known", cell.reason or "no interval", "method", True)
    few = [item for item in model.sites.values() if make_cell(item, report.metric).few]
    detail = f"95% interval of the {metric_title(report.metric)}, over patients"
    if few:
        detail += f"; {format_count(len(few), report.data.site_kind)} with few test patients"
    return Fact("Uncertainty", cell.interval, detail, "method")


def state_worst_hospital(report: Report) -> Fact | None:
    """Return the hospital where the model performs worst."""
    model = report.federated
    if model is None or model.worst is None:
        return None
    name, evaluation = model.worst.site, model.sites[model.worst.site]
    cell = make_cell(evaluation, report.metric)
    detail = cell.text + (f" ({cell.interval})" if cell.interval else "")
    detail += f" on {format_count(evaluation.patients, 'test patient')}" + (", few" if cell.few else "")
    number = [site.name for site in report.sites].index(name) + 1
    label = "Lowest" if higher_is_better(report.metric) else "Highest"
    label += f" {metric_title(report.metric)} of a {report.data.site_kind}"
    return Fact(label, name, detail, f"hospital-{number}")


def state_calibration(report: Report) -> Fact | None:
    """Return whether the scores can be read as probabilities: for the event, or for each class."""
    model = report.federated
    calibrations = {
        report.class_titles.get(name, name): part.calibration
        for name, part in (model.pooled.classes.items() if model and model.pooled else ())
        if part.calibration is not None
    }
    if model is None or model.pooled is None or not calibrations:
        return None
    known = {name: text for name, item in calibrations.items() if (text := describe_calibration(item))}
    if not known:
        return Fact("Probabilities", "not known", "no interval of the calibration slope", "calibration")
    bad = {name: text for name, text in known.items() if text != NO_MISCALIBRATION}
    if len(calibrations) == 1:
        [(name, text)] = known.items()
        slope, error = calibrations[name].slope, calibrations[name].ece
        detail = (
            f"calibration slope {format_number(slope.value)} ({format_interval(slope)}), ideally 1; "
            f"expected calibration error {format_number(error.value)}"
        )
        return Fact("Probabilities", capitalise(text), detail, "calibration", bool(bad))
    mean = f"mean expected calibration error {format_number(model.pooled.ece.value if model.pooled.ece else None)}"
    if not bad:
        return Fact("Probabilities", capitalise(NO_MISCALIBRATION), mean, "calibration")
    named = "; ".join(f"{text} for {name}" for name, text in list(bad.items())[:3])
    more = f"; and {len(bad) - 3} more" if len(bad) > 3 else ""
    value = f"Miscalibrated for {len(bad)} of {format_count(len(calibrations), 'class', 'classes')}"
    return Fact("Probabilities", value, f"{named}{more}; {mean}", "calibration", True)


NO_MISCALIBRATION = "no miscalibration detected"


def describe_calibration(calibration: Calibration) -> str:
    """Return which miscalibration the intervals of slope and intercept show; empty if there is no interval.

    A slope below 1 means that the probabilities are too extreme, above 1 that they are not extreme enough
    (Van Calster et al. 2019, BMC Medicine 17:230); the intercept at slope 1 shows whether they are too low or too high.
    """
    slope, level = calibration.slope, calibration.large
    if slope.low is None or slope.high is None:
        return ""
    faults = ["too extreme"] if slope.high < 1 else ["not extreme enough"] if slope.low > 1 else []
    if level.low is not None and level.high is not None and not level.low <= 0 <= level.high:
        faults.append("too low" if level.low > 0 else "too high")
    return " and ".join(faults) or NO_MISCALIBRATION


def state_privacy(report: Report) -> Fact | None:
    """Return the privacy guarantee of training."""
    if not report.privacy:
        detail = "training was not differentially private: what the model reveals of a training patient is not limited"
        return Fact("Privacy", "no guarantee", detail, "method")
    most = max(report.privacy, key=lambda item: item.epsilon_run)
    if report.has("not-private"):
        return Fact("Privacy", "NOT PRIVATE", "the noise can be removed", "privacy", True)
    detail = f"per {most.unit} at delta {most.delta:g}; the highest of all {report.data.site_kind}s ({most.site})"
    return Fact("Privacy", f"epsilon {most.epsilon_run:.2f}", detail, "privacy")


def state_counts(report: Report) -> Fact | None:
    """Return the fact how test patients were counted: exactly, coarsened, or with noise."""
    tested = [item for item in report.evaluation_privacy if item.split == "test"]
    if not tested:
        minimum = max((site.min_cell_patients for site in report.sites), default=1)
        detail = f"those of fewer than {minimum} patients suppressed, no epsilon" if minimum > 1 else ""
        return Fact("Counts of test patients", "coarsened" if minimum > 1 else "exact", detail, "method")
    most = max(tested, key=lambda item: item.epsilon_run)
    if report.has("not-private"):
        return Fact("Counts of test patients", "NOT PRIVATE", "the noise can be removed", "privacy", True)
    detail = f"per person at delta {most.delta:g}; the highest of all {report.data.site_kind}s ({most.site})"
    return Fact("Counts of test patients", f"noisy, epsilon {most.epsilon_run:.2f}", detail, "privacy")


FACTS: tuple[Callable[[Report], Fact | None], ...] = (
    state_task,
    state_patients,
    state_performance,
    state_uncertainty,
    state_worst_hospital,
    state_calibration,
    state_counts,
)
"""The facts in the order of the page."""


def list_facts(report: Report) -> list[Fact]:
    """Return the facts that apply to a report."""
    return [fact for state in FACTS if (fact := state(report)) is not None]
