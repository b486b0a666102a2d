"""What a report of very many hospitals shows of each, so that its page and folder stay readable."""

from __future__ import annotations

from collections.abc import Sequence

from common.metrics.evaluation import metric_value
from experiments.report.document.report import Report
from experiments.report.text.formatting import higher_is_better

MOST_HOSPITALS = 100
"""Up to this number, every hospital is shown in full."""
DETAILED_HOSPITALS = 40
"""Beyond that number, the plot, the details and the terminal show this many, the worst ones."""


def choose_detailed_hospitals(report: Report) -> frozenset[str]:
    """Return the hospitals that are shown in full: all, or of very many those where the federated model is worst.

    The table of hospitals, sites.csv and report.json hold all of them in any case.
    """
    names = [site.name for site in report.sites]
    if len(names) <= MOST_HOSPITALS:
        return frozenset(names)
    sites = report.federated.sites if report.federated else {}
    sign = 1 if higher_is_better(report.metric) else -1
    values = {name: metric_value(sites[name], report.metric) for name in names if name in sites}
    ranked = sorted((sign * value, name) for name, value in values.items() if value is not None)
    rest = sorted(set(names) - {name for _, name in ranked})
    return frozenset([*(name for _, name in ranked), *rest][:DETAILED_HOSPITALS])


def describe_detailed_hospitals(report: Report) -> str:
    """Return a sentence that says which hospitals are shown, or "" if all are."""
    detailed = len(choose_detailed_hospitals(report))
    if detailed == len(report.sites):
        return ""
    kind = report.data.site_kind
    return (
        f"Of {len(report.sites):,} {kind}s the {detailed} are shown where the federated model is worst; the table of "
        f"{kind}s, sites.csv and report.json hold all."
    )


def list_some(names: Sequence[str], most: int = 10, separator: str = ", ") -> str:
    """Return names for a sentence, the first of very many followed by the number of the others.

    >>> list_some(["north", "south"]), list_some(["a", "b", "c", "d"], most=2)
    ('north, south', 'a, b and 2 more')
    """
    if len(names) <= most:
        return separator.join(names)
    return f"{separator.join(names[:most])} and {len(names) - most:,} more"
