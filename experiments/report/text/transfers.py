"""What local models lose at other hospitals, as one sentence for all pairs; the numbers are in the table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from experiments.report.document.shift import LeftOutSite, TransferResult
from experiments.report.text.formatting import format_count
from experiments.report.text.many_hospitals import list_some

CAUSES: Mapping[str, str] = MappingProxyType(
    {
        "ranking": "ranking",
        "threshold": "threshold",
        "both": "both",
        "neither": "none shown",
        "unknown": "unclear",
    }
)
"""What was lost, as a cell of the table, in the order of the sentence."""
_SENTENCES = {
    "ranking": "a loss of ranking, which no threshold can recover",
    "threshold": "a loss by the threshold alone, which recalibration recovers",
    "both": "a loss of both ranking and threshold",
    "neither": "no loss",
    "unknown": "too little data to distinguish the causes",
}
_UNNAMED = {"neither", "unknown"}
MOST_NAMED = 6
"""Pairs or hospitals of one cause that the sentence names."""


def summarise_transfers(transfers: Sequence[TransferResult]) -> str:
    """Return which pairs of hospitals show which loss; pairs without a loss are counted alone."""
    return _summarise([(f"{item.trained} at {item.tested}", item.cause) for item in transfers], "pair")


def summarise_left_out(sites: Sequence[LeftOutSite], kind: str) -> str:
    """Return which hospitals lose what if they do not take part; "" if that was not compared.

    Args:
        sites: the hospitals that were left out.
        kind: what a site is, such as region.
    """
    return _summarise([(item.site, item.transfer.cause) for item in sites if item.transfer], kind)


def _summarise(causes: Sequence[tuple[str, str]], kind: str) -> str:
    if not causes:
        return ""
    parts = []
    for cause, sentence in _SENTENCES.items():
        names = [name for name, result in causes if result == cause]
        if names:
            named = "" if cause in _UNNAMED else f" ({list_some(names, MOST_NAMED)})"
            parts.append(f"{len(names):,} with {sentence}{named}")
    return f"Of {format_count(len(causes), kind)}: {'; '.join(parts)}."
