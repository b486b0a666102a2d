"""The site of a stay: its hospital, or the region of a hospital that is too small.

No person is at two sites, and everyone excluded is counted.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

AT_OTHER_SITE = "stays of people who are kept at another site"
SITE_TOO_SMALL = "stays at sites with too few people or one outcome only"


@dataclass(frozen=True)
class SiteAssignment:
    """The site of every stay.

    Attributes:
        site: site of each stay; none where it is excluded.
        reason: why a stay is excluded; none where it is not.
        site_of_hospital: site of each hospital.
        several_hospitals: the sites with more than one hospital.
    """

    site: tuple[str | None, ...]
    reason: tuple[str | None, ...]
    site_of_hospital: Mapping[int, str]
    several_hospitals: frozenset[str]


def assign_sites(
    hospital: Sequence[int],
    person: Sequence[str],
    died: Sequence[int],
    region: Mapping[int, str],
    by: Literal["hospital", "region"],
    min_patients: int,
) -> SiteAssignment:
    """Return the site of every stay.

    A person with stays at several hospitals (or regions) is kept where most of them are; if equal, where the first is.
    A hospital with fewer than `min_patients` people, or with one outcome only, joins the others of its region. A site
    that is still too small is excluded.

    Args:
        hospital: of each stay.
        person: of each stay.
        died: outcome of each stay, 0 or 1.
        region: of each hospital.
        by: what a site is.
        min_patients: the fewest people of a site.
    """
    home = {name: f"hospital-{name}" if by == "hospital" else region[name] for name in region}
    stays_at: dict[str, Counter[str]] = defaultdict(Counter)
    for where, who in zip(hospital, person, strict=True):
        stays_at[who][home[where]] += 1
    home_by_person = {who: counts.most_common(1)[0][0] for who, counts in stays_at.items()}
    reason = [
        None if home_by_person[who] == home[where] else AT_OTHER_SITE
        for where, who in zip(hospital, person, strict=True)
    ]
    small = _small_sites(home, hospital, person, died, reason, min_patients)
    home |= {name: region[name] for name in region if home[name] in small}
    small = _small_sites(home, hospital, person, died, reason, min_patients)
    reason = [
        SITE_TOO_SMALL if why is None and home[where] in small else why
        for where, why in zip(hospital, reason, strict=True)
    ]
    hospitals_by_site: dict[str, set[int]] = defaultdict(set)
    for where, why in zip(hospital, reason, strict=True):
        if why is None:
            hospitals_by_site[home[where]].add(where)
    return SiteAssignment(
        tuple(home[where] if why is None else None for where, why in zip(hospital, reason, strict=True)),
        tuple(reason),
        home,
        frozenset(name for name, members in hospitals_by_site.items() if len(members) > 1),
    )


def _small_sites(
    home: Mapping[int, str],
    hospital: Sequence[int],
    person: Sequence[str],
    died: Sequence[int],
    reason: Sequence[str | None],
    min_patients: int,
) -> set[str]:
    """Return the sites with too few people or one outcome only, of the stays without a reason for exclusion."""
    people: dict[str, set[str]] = {name: set() for name in home.values()}
    outcomes: dict[str, set[int]] = {name: set() for name in home.values()}
    for where, who, outcome, why in zip(hospital, person, died, reason, strict=True):
        if why is None:
            people[home[where]].add(who)
            outcomes[home[where]].add(outcome)
    return {name for name in people if len(people[name]) < min_patients or len(outcomes[name]) < 2}
