"""Two reporting checklists, filled in from the run and the data card; what neither knows is "not reported".

TRIPOD+AI: Collins GS et al. 2024, BMJ 385:e078378 (prediction models). DECIDE-AI: Vasey B et al. 2022, Nat Med
28:924-933 (early clinical evaluation of decision support). The topics are named in our own words; the numbers are the
checklists'.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from experiments.report.document.report import Report
from experiments.report.text import decision, findings
from experiments.report.text.cases import count_cases
from experiments.report.text.formatting import capitalise, format_count, make_cell, metric_title
from experiments.report.text.method import describe_method
from experiments.report.text.shares import name_examples
from experiments.report.text.thresholds import describe_threshold_origin

NOT_REPORTED = "not reported"
Answer = Callable[[Report], str]


@dataclass(frozen=True)
class ChecklistItem:
    """One item of a checklist.

    Attributes:
        number: its number in the checklist.
        topic: what it asks for.
        text: the answer of this report, or "not reported".
        link: the section of the page with the details; empty if there is none.
    """

    number: str
    topic: str
    text: str
    link: str = ""

    @property
    def known(self) -> bool:
        """Whether the report answers it."""
        return self.text != NOT_REPORTED


def _setting(report: Report) -> str:
    parts = [report.data.setting, report.data.years and f"recorded {report.data.years}", report.data.sites]
    return "; ".join(part for part in parts if part)


def _participants(report: Report) -> str:
    trained = findings.sum_over_sites(report, "train", "patients")
    tested = report.federated.pooled.patients if report.federated and report.federated.pooled else 0
    return f"{format_count(trained, 'training patient')}, {tested:,} test patients" if trained or tested else ""


def _excluded(report: Report) -> str:
    counts: dict[str, int] = {}
    for site in report.sites:
        for reason, count in site.excluded.items():
            counts[reason] = counts.get(reason, 0) + count
    return "; ".join(f"{reason}: {count:,}" for reason, count in counts.items())


def _model(report: Report) -> str:
    method = describe_method(report)
    return f"{method}, over {format_count(len(report.rounds), 'round')}" if method else ""


def _performance(report: Report) -> str:
    pooled = report.federated.pooled if report.federated else None
    if pooled is None:
        return ""
    cell = make_cell(pooled, report.metric)
    verdict = decision.state_verdict(report)
    text = f"{metric_title(report.metric)} {cell.text}" + (f" ({cell.interval})" if cell.interval else "")
    return text + (f"; {verdict.value}" if verdict else "")


def _heterogeneity(report: Report) -> str:
    fact = decision.state_most_missed_site(report)
    return f"{fact.label}: {fact.value}, {fact.detail}" if fact else ""


def _fairness(report: Report) -> str:
    fact = decision.state_most_missed_group(report)
    return "" if fact is None or fact.value == "not reported" else f"{fact.label}: {fact.value}, {fact.detail}"


def _threshold(report: Report) -> str:
    return f"threshold {describe_threshold_origin(report)}" if report.binary else ""


def _imbalance(report: Report) -> str:
    pooled = report.federated.pooled if report.federated else None
    if pooled is None or not report.binary:
        return ""
    cases = count_cases(pooled, list(pooled.classes)[-1])
    return f"{cases.events:,} of {cases.total:,} {name_examples(report, pooled)} tested have the event"


def _missing(report: Report) -> str:
    return (
        "inputs may be missing; how the model treats them: see the data set's page"
        if report.task.get("missing")
        else ""
    )


def _software(report: Report) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in list(report.run.versions.items())[:2])
    return "; ".join(part for part in (versions, f"commit {report.run.commit}" if report.run.commit else "") if part)


def _question(report: Report) -> str:
    return decision.ask_question(report)


def _nothing(_: Report) -> str:
    return ""


def _data(name: str) -> Answer:
    return lambda report: str(getattr(report.data, name))


def _inputs(report: Report) -> str:
    features, channels = len(report.task.get("features", ())), int(report.task.get("channels", 0) or 0)
    counted = f"{format_count(features, 'input')}, {format_count(channels, 'channel')}" if features or channels else ""
    return "; ".join(part for part in (report.data.inputs, counted) if part)


def _updating(report: Report) -> str:
    methods = sorted(report.federated.recalibrated) if report.federated else []
    return f"recalibration at each {report.data.site_kind}: {', '.join(methods)}" if methods else ""


def _specification(report: Report) -> str:
    return "model.safetensors in the run's folder; model_card.md says how to load it" if report.federated else ""


TRIPOD_AI: tuple[tuple[str, str, Answer, str], ...] = (
    ("1", "title names the study as one of a prediction model", lambda report: report.run.title, ""),
    ("2", "abstract", lambda report: "the summary", "summary"),
    ("3", "health care context, who would use the model, known inequalities", _nothing, ""),
    ("4", "objectives", _question, ""),
    ("5", "source of the data, and when they were recorded", _data("source"), "data"),
    ("6", "setting, eligibility, treatments", _setting, "data"),
    ("7", "preparation and quality of the data", _excluded, "hospital_details"),
    ("8", "outcome, how it was determined, and who determined it", _data("labels"), "data"),
    ("9", "predictors", _inputs, "data"),
    ("10", "sample size, and how it was arrived at", _participants, "hospitals"),
    ("11", "missing data", _missing, "data"),
    ("12", "analysis: split, model, performance measures, differences between clusters", _model, "method"),
    ("13", "class imbalance", _imbalance, "classes"),
    ("14", "fairness: what was done", _fairness, "subgroups"),
    ("15", "output of the model, and thresholds", _threshold, ""),
    ("16", "differences between training and test data", _data("splits"), "data"),
    ("17", "ethical approval and consent", _nothing, ""),
    ("18a", "funding", _nothing, ""),
    ("18b", "conflicts of interest", _nothing, ""),
    ("18c", "protocol", _nothing, ""),
    ("18d", "registration", _nothing, ""),
    ("18e", "availability of the data", _data("licence"), "data"),
    ("18f", "availability of the code", _software, "settings"),
    ("19", "involvement of patients and the public", _nothing, ""),
    ("20", "flow and characteristics of participants", _participants, "hospitals"),
    ("21", "participants and events in development and test", _participants, "hospitals"),
    ("22", "full specification of the model", _specification, "settings"),
    ("23a", "performance with intervals, also in subgroups", _performance, "hospitals"),
    ("23b", "differences of performance between clusters", _heterogeneity, "hospitals"),
    ("24", "updating of the model", _updating, ""),
    ("25", "interpretation, fairness, comparison with other studies", _nothing, ""),
    ("26", "limitations", lambda report: " ".join(notice.text for notice in report.notices), ""),
    ("27", "use in current care: poor inputs, expertise, next steps", _nothing, ""),
)
"""The items: number, topic, what this report knows, and the section with the details."""

DECIDE_AI: tuple[tuple[str, str, Answer, str], ...] = (
    ("1", "title names the study as an early clinical evaluation", _nothing, ""),
    ("2", "intended use: condition, users, place in care", _question, ""),
    ("3", "participants: recruitment of patients and users, training of users", _nothing, ""),
    ("4", "the system: version, inputs, outputs", _model, "settings"),
    ("5", "implementation: settings and workflow", _nothing, ""),
    ("6", "safety and errors: how they are identified", _nothing, ""),
    ("7", "human factors: methods", _nothing, ""),
    ("8", "ethics and fairness: methods", _fairness, "subgroups"),
    ("9", "participants: characteristics", _participants, "hospitals"),
    ("10", "implementation: exposure of users, adherence", _nothing, ""),
    ("11", "changes of the system during the study", _nothing, ""),
    ("12", "agreement of users and system", _nothing, ""),
    ("13", "safety and errors: errors and harm", _performance, "hospitals"),
    ("14", "human factors: usability, learning", _nothing, ""),
    ("15", "support for the intended use", _nothing, ""),
    ("16", "safety: what the results mean", _nothing, ""),
    ("17", "availability of data and code", _software, "settings"),
)


def fill_checklist(report: Report, items: tuple[tuple[str, str, Answer, str], ...]) -> list[ChecklistItem]:
    """Return the items of a checklist with the answers of a report; an answer that it lacks is "not reported"."""
    return [
        ChecklistItem(number, capitalise(topic), answer(report) or NOT_REPORTED, link if answer(report) else "")
        for number, topic, answer, link in items
    ]
