"""Which site a stay belongs to: its hospital, or the region of a hospital that is too small.

No person is at two places, and every person left out is counted.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

KEPT_ELSEWHERE = "stays of people who are kept at another site"
SITE_TOO_SMALL = "stays at sites with too few people or one outcome only"


@dataclass(frozen=True)
class SiteAssignment:
    """Where everyone is.

    `site`: of each stay, or none where it is left out for the reason in `why`; `home`: of each hospital;
    `several`: the sites that hold more than one hospital.
    """

    site: tuple[str | None, ...]
    why: tuple[str | None, ...]
    home: Mapping[int, str]
    several: frozenset[str]


def assign_sites(
    hospital: Sequence[int],
    person: Sequence[str],
    died: Sequence[int],
    region: Mapping[int, str],
    by: Literal["hospital", "region"],
    fewest: int,
) -> SiteAssignment:
    """Give every stay to a site.

    A person with stays at several hospitals (or regions) is kept where most of them are; between equals, where the
    first is. A hospital with fewer than `fewest` people, or with one outcome only, joins the others of its region.
    What is then still that small, is left out.
    """
    home = {name: f"hospital-{name}" if by == "hospital" else region[name] for name in region}
    seen: dict[str, Counter[str]] = defaultdict(Counter)
    for where, who in zip(hospital, person, strict=True):
        seen[who][home[where]] += 1
    chosen = {who: places.most_common(1)[0][0] for who, places in seen.items()}
    why = [None if chosen[who] == home[where] else KEPT_ELSEWHERE for where, who in zip(hospital, person, strict=True)]
    small = _small(home, hospital, person, died, why, fewest)
    home |= {name: region[name] for name in region if home[name] in small}
    small = _small(home, hospital, person, died, why, fewest)
    why = [
        SITE_TOO_SMALL if reason is None and home[where] in small else reason
        for where, reason in zip(hospital, why, strict=True)
    ]
    holds: dict[str, set[int]] = defaultdict(set)
    for where, reason in zip(hospital, why, strict=True):
        if reason is None:
            holds[home[where]].add(where)
    return SiteAssignment(
        tuple(home[where] if reason is None else None for where, reason in zip(hospital, why, strict=True)),
        tuple(why),
        home,
        frozenset(name for name, held in holds.items() if len(held) > 1),
    )


def _small(
    home: Mapping[int, str],
    hospital: Sequence[int],
    person: Sequence[str],
    died: Sequence[int],
    why: Sequence[str | None],
    fewest: int,
) -> set[str]:
    people: dict[str, set[str]] = {name: set() for name in home.values()}
    outcomes: dict[str, set[int]] = {name: set() for name in home.values()}
    for where, who, end, reason in zip(hospital, person, died, why, strict=True):
        if reason is None:
            people[home[where]].add(who)
            outcomes[home[where]].add(end)
    return {name for name in people if len(people[name]) < fewest or len(outcomes[name]) < 2}
