"""The report as one HTML page that needs no network, no font and no other file.

Every text is escaped by the template engine; the page's policy lets its own script run and nothing be loaded.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.evaluation import FEW_PATIENTS
from experiments.report import attribution, facts, findings, plots, words
from experiments.report.drawing import Drawn
from experiments.report.matrix import matrix
from experiments.report.model import Report

if TYPE_CHECKING:
    from jinja2 import Environment

HERE = Path(__file__).parent
ROUNDS_SHOWN = 100
"""Runs of more rounds show their curves, and leave the numbers to report.json."""


def _always(_: Report) -> bool:
    return True


@dataclass(frozen=True)
class Section:
    """A part of the page with a heading and an entry in the contents; its body is sections/ID.html.j2.

    `short`: the entry in the contents, where the heading is too long for it; `when`: whether a report has it.
    """

    id: str
    title: str
    short: str = ""
    when: Callable[[Report], bool] = _always

    @property
    def template(self) -> str:
        """The template of its body."""
        return f"sections/{self.id}.html.j2"


SECTIONS = (
    Section("summary", "Summary"),
    Section("hospitals", "Hospitals"),
    Section("comparison", "Comparison of models", "Comparison"),
    Section("matrix", "Every model at every hospital", "Models by hospital", lambda report: matrix(report) is not None),
    Section("differences", "Differences between models", "Differences", lambda report: bool(report.differences)),
    Section("detection", "What is normal, and what is not", "Detection", lambda report: report.detecting),
    Section("classes", "Classes"),
    Section(
        "calibration",
        "Calibration",
        when=lambda report: bool(
            report.federated and any(item.brier is not None for item in report.federated.sites.values())
        ),
    ),
    Section(
        "warning",
        "Alarms and lead times",
        "Alarms",
        lambda report: bool(
            report.federated and any(item.alarms_per_day is not None for item in report.federated.sites.values())
        ),
    ),
    Section(
        "groups", "Groups of patients", "Groups", lambda report: bool(report.federated and report.federated.groups)
    ),
    Section(
        "without",
        "With and without some patients",
        "With and without",
        lambda report: bool(report.federated and report.federated.without),
    ),
    Section(
        "shift",
        "How far the hospitals lie apart",
        "Domain shift",
        lambda report: bool(report.shift and (report.shift.pairs or report.shift.lost)),
    ),
    Section("travel", "From one hospital to another", "Between hospitals", lambda report: bool(report.travel)),
    Section(
        "recalibration",
        "What recalibration wins back",
        "Recalibration",
        lambda report: bool(report.federated and report.federated.recalibration),
    ),
    Section("why", "What the model looks at", when=lambda report: bool(report.explanations)),
    Section("left_out", "Leave one hospital out", "Leave one out", lambda report: bool(report.left_out)),
    Section("training", "Training"),
    Section("privacy", "Privacy", when=lambda report: bool(report.privacy)),
    Section("each", "Each hospital"),
    Section("lost", "What was lost"),
    Section("method", "How the figures are computed", "How it is computed"),
    Section("data", "Data"),
    Section("settings", "Settings and versions", "Settings"),
)
"""The page from top to bottom. A new part is a line here and a file of its own."""
AT_HOSPITAL: tuple[str, ...] = ()
"""Templates that each hospital's part ends with; they see `site`, its number `place` and its figures `item`."""


def html(report: Report, drawn: Mapping[str, Drawn] | None = None) -> str:
    """Return the whole page; `drawn`: its plots, where they are drawn already."""
    from markupsafe import Markup

    found = plots.every(report) if drawn is None else drawn
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            federated=report.federated,
            findings=findings,
            attribution=attribution,
            columns=words.columns(report),
            rounds_shown=ROUNDS_SHOWN,
            facts=facts.facts(report),
            matrix=matrix(report),
            losses=losses(report),
            settings=flat(report.run.config),
            mean_local={metric: findings.mean_local(report, metric) for metric in words.columns(report)},
            sections=[section for section in SECTIONS if section.when(report)],
            at_hospital=AT_HOSPITAL,
            drawn=dict.fromkeys(plots.PLOTS, "") | {name: Markup(plot.svg) for name, plot in found.items()},
            **shared(report, report.run.title or report.run.name),
        )
    )


def environment() -> Environment:
    """Return the engine of the pages' templates; it escapes every text that is put in."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )


def shared(report: Report, title: str) -> dict[str, Any]:
    """Return what every page needs, under a title: the notices of a report, the style, the script."""
    from markupsafe import Markup

    script = (HERE / "report.js").read_text(encoding="utf-8")
    return {
        "page_title": title,
        "report": report,
        "words": words,
        "metric_title": words.title(report.metric),
        "tags": [(level, tag) for level, tag in words.TAGS.items() if report.has(level)],
        "few_patients": FEW_PATIENTS,
        "style": Markup((HERE / "report.css").read_text(encoding="utf-8")),
        "script": Markup(script),
        "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    }


def losses(report: Report) -> list[tuple[str, str, str]]:
    """Return what was lost: who, when and why; a hospital's like failures in several rounds as one."""
    rounds: dict[tuple[str, str], list[int]] = {}
    for line in report.rounds:
        for site, why in line.lost.items():
            rounds.setdefault((site, why), []).append(line.number)
    found = [(site, _rounds(numbers), why) for (site, why), numbers in rounds.items()]
    for site, why in report.lost.items():
        if (site, why) not in rounds:
            when = "final evaluation" if why.startswith(findings.FINAL) else "handshake or training"
            found.append((site, when, why.removeprefix(findings.FINAL)))
    return sorted(found)


def flat(value: Mapping[str, Any], before: str = "") -> list[tuple[str, str]]:
    """Return nested settings as dotted names with their values.

    >>> flat({"seed": 1, "training": {"lr": 0.01}})
    [('seed', '1'), ('training.lr', '0.01')]
    """
    found: list[tuple[str, str]] = []
    for key, item in value.items():
        if isinstance(item, Mapping) and item:
            found += flat(item, f"{before}{key}.")
        else:
            found.append((f"{before}{key}", _setting(item)))
    return found


def _setting(item: Any) -> str:
    if item is None or item in ({}, [], (), ""):
        return "none"
    return ", ".join(str(part) for part in item) if isinstance(item, list | tuple) else str(item)


def _rounds(numbers: list[int]) -> str:
    shown = ", ".join(str(number) for number in numbers[:10])
    more = f" and {len(numbers) - 10} more" if len(numbers) > 10 else ""
    return f"round{'s' if len(numbers) > 1 else ''} {shown}{more}"
