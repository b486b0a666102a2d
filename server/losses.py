"""Sites without a usable reply: who missed which round and why, and whether the run goes on without them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from common.errors import BUDGET_SPENT, EngineError
from common.sections.training import FederationConfig
from server.outcome import Outcome

NOT_NAMED = "not named in federation.expect"
"""Why a site does not take part that the run was asked to leave out: no loss."""


def stop_on_loss(wanted: FederationConfig, when: str, lost: Mapping[str, str]) -> None:
    """End a run that must not go on without a site (`federation.on_lost`).

    A privacy budget that is spent is no loss: `privacy.on_budget` says what follows from it.

    Args:
        wanted: the federation's section of the configuration.
        when: the part of the run.
        lost: the sites without a usable reply, with the reason in one line.

    Raises:
        EngineError: names the sites.
    """
    gone = {site: why for site, why in lost.items() if why != NOT_NAMED and not why.startswith(BUDGET_SPENT)}
    if gone and wanted.stops_on_loss:
        each = "; ".join(f"{site}: {why}" for site, why in sorted(gone.items()))
        raise EngineError(f"{when}: {each} (federation.on_lost=continue goes on without)")


def describe_partial(outcome: Outcome, rounds: int) -> dict[str, str]:
    """Return the sites that did not take part in all of a run that they belong to, and what they missed and why.

    Args:
        outcome: what the run gave.
        rounds: rounds of the run.
    """
    partial: dict[str, list[str]] = {}
    for site, missed in outcome.missed.items():
        by_reason: dict[str, list[int]] = {}
        for number, why in missed:
            by_reason.setdefault(why, []).append(number)
        texts = [f"{why} in {describe_rounds(numbers)}" for why, numbers in by_reason.items()]
        partial[site] = [f"missed {len(missed)} of {rounds} rounds: {'; '.join(texts)}"]
    for site, why in outcome.lost.items():
        if why != NOT_NAMED and not why.startswith("round "):
            partial.setdefault(site, []).append(why)
    return {site: "; ".join(texts) for site, texts in sorted(partial.items())}


def describe_rounds(numbers: Iterable[int]) -> str:
    """Return rounds in words, with those that follow one another as a range.

    >>> describe_rounds([2, 4, 5, 6]), describe_rounds([3])
    ('rounds 2, 4 to 6', 'round 3')
    """
    spans: list[list[int]] = []
    for number in sorted(numbers):
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    texts = [str(first) if first == last else f"{first} to {last}" for first, last in spans]
    return f"round{'s' if len(spans) > 1 or spans[0][0] != spans[0][1] else ''} {', '.join(texts)}"
