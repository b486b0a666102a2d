"""Scored beats in an irregular rhythm, and how the model agrees with reference beats there and elsewhere."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

NORMAL = ("N", "normal")
"""Names of the class of normal beats; the reference uses AAMI's N."""


@dataclass
class RhythmTally:
    """Counts of scored beats by rhythm.

    Attributes:
        beats: beats whose rhythm was judged.
        irregular: those in an irregular rhythm.
        records: records that have such beats.
        agreement: beats with a reference and a predicted class, by (irregular, normal by reference, called normal).
    """

    beats: int = 0
    irregular: int = 0
    records: int = 0
    agreement: Counter[tuple[bool, bool, bool]] = field(default_factory=Counter)

    def add(self, columns: dict[str, npt.NDArray[Any]], predicted: npt.NDArray[Any]) -> None:
        """Count the beats of a record: its columns `irregular` and, with reference annotations, `reference`."""
        if "irregular" not in columns:
            return
        irregular = columns["irregular"]
        self.beats += len(irregular)
        self.irregular += int(irregular.sum())
        self.records += int(irregular.any())
        reference = columns.get("reference", np.full(len(irregular), ""))
        for flag, truth, called in zip(irregular.tolist(), reference.tolist(), predicted.tolist(), strict=True):
            if truth and called:
                self.agreement[flag, truth in NORMAL, called in NORMAL] += 1

    def summary(self) -> dict[str, Any]:
        """Return the counts, ready for JSON, with a warning if any rhythm is irregular; nothing without beats."""
        if not self.beats:
            return {}
        counts: dict[str, Any] = {"beats": self.beats, "irregular": self.irregular, "records": self.records}
        if self.agreement:
            counts["all beats"] = self._agreement(flags=(False, True))
            counts["regular rhythm"] = self._agreement(flags=(False,))
            counts["irregular rhythm"] = self._agreement(flags=(True,))
        if self.irregular:
            counts["warning"] = (
                f"irregular rhythm, as in atrial fibrillation, around {self.irregular:,} of {self.beats:,} beats "
                f"({self.records:,} record(s)): models of beats call more normal beats abnormal there; "
                "see docs/how-to/score.md"
            )
        return counts

    def _agreement(self, flags: tuple[bool, ...]) -> dict[str, int]:
        def count(normal: bool, called: bool) -> int:
            return sum(self.agreement[flag, normal, called] for flag in flags)

        return {
            "normal": count(True, True) + count(True, False),
            "normal called abnormal": count(True, False),
            "abnormal": count(False, True) + count(False, False),
            "abnormal called abnormal": count(False, False),
        }
