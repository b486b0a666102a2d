"""Outcomes that people report, stored with the probability that was given at the time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from experiments.monitor.calibration import Calibration, Outcome, read_outcomes
from experiments.monitor.store import INSERT_AUDIT, INSERT_OUTCOME, Store

if TYPE_CHECKING:
    from experiments.monitor.hourly_ward import HourlyWard

NEAR_SECONDS = 0.15
"""How near to a scored beat a reported one is that beat."""


class OutcomeLog:
    """All outcomes of a ward."""

    def __init__(self, store: Store, hourly: HourlyWard | None) -> None:
        """Read the outcomes that are stored."""
        self._store, self._hourly = store, hourly
        self.calibration = Calibration(
            (Outcome(kind, device, at, event), probability)
            for kind, device, at, probability, event in store.read_outcomes()
        )

    def take(self, body: bytes, name: str) -> tuple[int, int]:
        """Take the outcomes of a request in a person's name; return how many, and for how many nothing was predicted.

        Raises:
            DataError: one is malformed, and none was taken.
        """
        taken = 0
        given = read_outcomes(body)
        for outcome in given:
            predicted = self._find(outcome)
            if predicted is None:
                continue
            at, probability = predicted
            own = Outcome(outcome.kind, outcome.device, at, outcome.event)
            self.calibration.add(own, probability)
            values = (own.kind, own.device, own.at, probability, int(own.event), time.time(), name)
            self._store.add(INSERT_OUTCOME, values)
            taken += 1
        if taken:
            self._store.add(INSERT_AUDIT, (time.time(), name, "outcomes", f"{taken} reported"))
        return taken, len(given) - taken

    def _find(self, outcome: Outcome) -> tuple[float, float] | None:
        """Return the hour or second, and the probability, of the prediction that is meant; None: there is none."""
        if outcome.kind == "beat":
            return self._store.find_beat(outcome.device, outcome.at, NEAR_SECONDS)
        risks = self._hourly.risks.get(outcome.device, {}) if self._hourly is not None else {}
        risk = risks.get(round(outcome.at))
        value = risk.risk if risk is not None else self._store.find_risk(outcome.device, round(outcome.at))
        return None if value is None else (float(round(outcome.at)), value)
