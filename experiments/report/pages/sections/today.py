"""The federated model against what is used today: a score, or age and sex alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from experiments.report.differences import list_compared_metrics
from experiments.report.document.report import Report
from experiments.report.pages.section import Section
from experiments.report.text.today import describe_rival, describe_where_unknown, find_difference, list_rivals


def _build(report: Report) -> Mapping[str, Any]:
    metrics = list_compared_metrics(report.metric, report.binary)
    rivals = list_rivals(report)
    return {
        "metrics": metrics,
        "rivals": [
            {
                "model": rival,
                "sentences": " ".join((describe_rival(report, rival), describe_where_unknown(report, rival))).strip(),
                "both": rival.where_known,
                "differences": [find_difference(report, rival.name, name) for name in metrics],
            }
            for rival in rivals
        ],
        "sites": [
            (site, rival, difference, compared.get(site))
            for rival in rivals
            for compared in [(rival.where_known.federated if rival.where_known else report.federated or rival).sites]
            for site in rival.sites
            if (difference := find_difference(report, rival.name, report.metric, site)) is not None
        ],
    }


SECTION = Section(
    "today",
    "Against what is used today",
    "Used today",
    after="hospitals",
    applies=lambda report: bool(list_rivals(report)),
    build=_build,
    appendix=False,
)
