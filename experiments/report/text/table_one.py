"""Table 1 of a report: who the patients of each hospital are; and how they came into the run.

Numbers are those that hospitals state (their counts, and the aggregates by which their data are compared), so a
deployed run shows no more than its hospitals let out. `wardround data describe` prints the same rows from the data.
"""

from __future__ import annotations

from collections.abc import Sequence

from common.percent import format_percent
from common.table_one import TableOneRow, format_people, format_quartiles
from experiments.report.document.report import Report
from experiments.report.document.run import Site, Split
from experiments.report.document.shift import ColumnDescription, SiteColumns
from experiments.report.text.many_hospitals import choose_detailed_hospitals

MIN_PEOPLE = 5
"""Fewest people whose number is shown, where a hospital's own floor is not higher."""
NOT_KNOWN = "–"
RETAINED = "(not left out"
"""Within what is reported with the reasons, but excluded nobody."""
HOSPITALS_PER_TABLE = 6
"""Hospitals side by side in one table, so that it fits the page in print."""
SPLITS: dict[Split, str] = {
    "train": "patients trained on",
    "validation": "patients who chose round and threshold",
    "test": "patients tested on",
}
MAX_REASONS = 30
"""Reasons for exclusion that get a row; the rest are in report.json."""


def list_hospitals(report: Report) -> list[list[Site]]:
    """Return the hospitals of each table, in the report's order."""
    detailed = choose_detailed_hospitals(report)
    chosen = [site for site in report.sites if site.name in detailed]
    return [chosen[first : first + HOSPITALS_PER_TABLE] for first in range(0, len(chosen), HOSPITALS_PER_TABLE)]


def build_flow(report: Report, hospitals: Sequence[Site]) -> list[TableOneRow]:
    """Return how patients came into the run and were used, one row a step, with a cell for each hospital."""
    reasons = sorted({reason for site in report.sites for reason in site.excluded})[:MAX_REASONS]
    rows = [
        TableOneRow(name_reason(reason), tuple(format_excluded(site, reason) for site in hospitals))
        for reason in reasons
    ]
    for split, title in SPLITS.items():
        cells = tuple(_format_split(site, split) for site in hospitals)
        rows.append(TableOneRow(title, cells))
    tested = report.federated.sites if report.federated else {}
    if any(site.name not in tested for site in hospitals) and tested:
        cells = tuple(
            f"{tested[site.name].patients:,}" if site.name in tested else site.lost or "none" for site in hospitals
        )
        rows.append(TableOneRow("patients with a test result", cells))
    return rows


def build_characteristics(report: Report, hospitals: Sequence[Site]) -> list[TableOneRow]:
    """Return what the training patients of each hospital are like: outcomes and inputs; and test patients by group."""
    rows = [
        TableOneRow(_name_class(report, name), tuple(_format_class(site, name) for site in hospitals))
        for name in report.class_titles
    ]
    described = report.shift.sites if report.shift else {}
    names = list(dict.fromkeys(column.name for each in described.values() for column in each.columns))
    by_name = {site: {column.name: column for column in each.columns} for site, each in described.items()}
    for name in names:
        columns = [by_name.get(site.name, {}).get(name) for site in hospitals]
        sizes = [described.get(site.name) for site in hospitals]
        pairs = list(zip(hospitals, columns, sizes, strict=True))
        cells = tuple(_format_column(*pair) for pair in pairs)
        if set(cells) == {NOT_KNOWN}:  # as of hospitals with few people
            continue
        rows.append(TableOneRow(name, cells))
        if any(column.missing_share for each in by_name.values() for column in each.values() if column.name == name):
            rows.append(TableOneRow(f"{name}, missing", tuple(_format_missing(*pair) for pair in pairs)))
    for attribute, groups in (report.federated.groups if report.federated else {}).items():
        for group, subset in groups.items():
            counts = [subset.sites.get(site.name) for site in hospitals]
            cells = tuple(NOT_KNOWN if each is None else f"{each.patients:,}" for each in counts)
            rows.append(TableOneRow(f"{attribute} {group} (test patients)", cells))
    return rows


def explain_table(report: Report) -> str:
    """Return how the table is to be read, in sentences."""
    described, kind = report.shift.sites if report.shift else {}, report.data.site_kind
    text = (
        f"Training patients, unless a row says otherwise. Counts of fewer people than a {kind}'s floor (at least "
        f"{MIN_PEOPLE}), or of all but so few, are not shown."
    )
    if any(each.examples != each.patients for each in described.values()):
        text += " Where patients have several examples, shares and quartiles are of examples."
    if described:
        return text + (
            " Median (lower to upper quartile) from histograms of 40 bins, rounded to about the width of a bin; mean "
            "and standard deviation where bins of too few people are missing from a histogram. Nothing is stated "
            "of fewer than 20 people."
        )
    if report.privacy:
        return text + f" Training was private, so {kind}s sent nothing that describes their inputs."
    return text + f" Inputs are described where the {kind}s' data are compared (evaluation.domain_shift=true)."


def _floor(site: Site) -> int:
    return max(site.min_cell_patients, MIN_PEOPLE)


def _format_split(site: Site, split: Split) -> str:
    part = site.counts.get(split)
    if part is None:
        return NOT_KNOWN
    if part.suppressed:
        return f"<{part.suppressed}"
    return f"{part.patients:,}" + (" (noisy)" if part.deviation else "")


def name_reason(reason: str) -> str:
    """Return a reason for exclusion, or what was only noticed, as the title of a row.

    >>> name_reason("stays of children"), name_reason("recordings without age (not left out)")
    ('excluded: stays of children', 'noticed: recordings without age')
    >>> name_reason("chol of 0 (not left out, as others have it)")
    'noticed: chol of 0 (as others have it)'
    """
    if RETAINED not in reason:
        return f"excluded: {reason}"
    return f"noticed: {reason.replace(f' {RETAINED})', '').replace(f'{RETAINED}, ', '(')}"


def format_excluded(site: Site, reason: str) -> str:
    """Return how many were excluded at a hospital for a reason; of fewer people than its floor that they are few."""
    number = site.excluded.get(reason, 0)
    return f"<{_floor(site)}" if 0 < number < _floor(site) else f"{number:,}"


def _name_class(report: Report, name: str) -> str:
    """Return the title of a class, with the word for what is counted where patients have several examples."""
    parts = [site.counts["train"] for site in report.sites if "train" in site.counts]
    several = any(part.examples != part.patients for part in parts)
    return (
        f"{report.class_titles[name]} ({report.data.examples or 'examples'})" if several else report.class_titles[name]
    )


def _format_class(site: Site, name: str) -> str:
    part = site.counts.get("train")
    number = part.classes.get(name) if part else None
    if part is None or number is None or not part.examples:
        return NOT_KNOWN
    if part.examples != part.patients:
        return f"{number:,} ({format_percent(number / part.examples)})"
    # a class of fewer people than the floor is stated as the floor (client/requests/handshake.py)
    return format_people(number, part.examples, _floor(site) + (site.min_cell_patients > 1))


def _format_column(site: Site, column: ColumnDescription | None, described: SiteColumns | None) -> str:
    if column is None or described is None:
        return NOT_KNOWN
    if column.yes_no:
        return _format_part(site, column.yes, column.yes_share, described)
    if column.quartiles is not None:
        return format_quartiles(*column.quartiles)
    if column.mean is not None and column.deviation is not None:
        return f"mean {column.mean:.3g} (standard deviation {column.deviation:.2g})"
    return NOT_KNOWN


def _format_missing(site: Site, column: ColumnDescription | None, described: SiteColumns | None) -> str:
    if column is None or described is None:
        return NOT_KNOWN
    return _format_part(site, column.missing, column.missing_share, described)


def _format_part(site: Site, number: int | None, share: float | None, described: SiteColumns) -> str:
    """Return a number of people with its share, a share of examples, or that it is of few people or all but few."""
    if share is None:
        return f"few (<{_floor(site)}), or all but few" if described.patients >= _floor(site) else NOT_KNOWN
    return format_percent(share) if number is None else f"{number:,} ({format_percent(share)})"
