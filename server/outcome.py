"""The results of a run's phases: handshake, scaling, rounds and final evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from common.arrays import Weights
from common.metrics.counts import Counts
from common.metrics.explanations import Explanation
from common.metrics.figures import Evaluation, Recalibration
from common.metrics.noisy_counts import NoisyCounts
from common.metrics.paired_resamples import Draws
from common.reports import LatentViewReport, PrivacySpent, TrainReport
from server.events import RoundEvent

SiteCounts = Counts | NoisyCounts
"""A site's counts of predictions: exact, or with noise where evaluation is private."""


@dataclass(frozen=True)
class MergedRound:
    """A round whose updates are merged.

    Attributes:
        round: its number, from 1.
        trained: what each site reported of its training.
        lost: sites without a usable update, with the reason in one line.
        drawn: the sites that were drawn to train; empty: all were asked.
        seconds: as in RoundEvent.
        gains: of trees, as in RoundEvent; such a round is never stored before it is validated.
    """

    round: int
    trained: Mapping[str, TrainReport]
    lost: Mapping[str, str]
    drawn: tuple[str, ...]
    seconds: float
    gains: Mapping[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return its JSON-ready form."""
        trained = {site: report.to_json() for site, report in self.trained.items()}
        named = {"round": self.round, "trained": trained, "lost": dict(self.lost)}
        return named | {"drawn": list(self.drawn), "seconds": self.seconds}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> MergedRound:
        """Return the round that `to_dict` described.

        Raises:
            KeyError, ValueError: it is none.
        """
        trained = {site: TrainReport.model_validate_json(text, strict=True) for site, text in values["trained"].items()}
        return cls(values["round"], trained, values["lost"], tuple(values["drawn"]), values["seconds"])


@dataclass
class Outcome:
    """The results of a run; each phase adds its own, so that they are complete up to a phase that fails.

    Attributes:
        rounds: the rounds so far.
        chosen: the round whose model is chosen; 0: the first model.
        weights: the weights of the chosen model.
        test: figures of the chosen model by table name, then by site.
        pooled: figures of all sites' test patients together, by table name.
        lost: for each site without a usable reply, the last phase in which it was missing and the reason.
        validation: validation counts of the chosen round, by site.
        threshold: decision threshold (log odds) chosen on `validation`; None: the likelier class is predicted.
        tables: counts of the final evaluation by site, then by table name.
        counted: by site, the rounds in which its update was merged into the model.
        suppressed: by table name, the sites that withheld the table and the minimum number of patients they require.
        draws: resampled figures (common/metrics/paired_resamples.py).
        start: where training started from, if from an earlier model.
        recalibration: what recalibration achieves at each site.
        explanations: which inputs move the score at each site.
        latent: statistics of training examples in latent space (common/latent.py); empty: none.
        views: each site's test examples in latent space.
        shift: how different the hospitals' data are, JSON-ready; empty: not measured.
        completed: the last round whose updates are merged.
        current: the weights of that round; empty: there is none.
        merged: that round, if it is still to be validated, which is done with the next round's training.
        resumable: the rounds for which sites keep their state: those that the run may be resumed from, and their best
            rounds.
        missed: by site, each round in which it gave no usable update although it was to train, with the reason.
        spent: by split (validation, test), then by site, the charges so far of its ledger of private evaluation;
            empty: evaluation is not private.
        trained_epsilon: epsilon that each site's ledger stated for this run in the last round that it trained.
        earlier_seconds: duration of the parts of the run before it was resumed.
        resumed: whether this is the later part of a run.
    """

    rounds: list[RoundEvent] = field(default_factory=list)
    chosen: int = 0
    weights: Weights = field(default_factory=dict)
    test: dict[str, dict[str, Evaluation]] = field(default_factory=dict)
    pooled: dict[str, Evaluation] = field(default_factory=dict)
    lost: dict[str, str] = field(default_factory=dict)
    validation: dict[str, SiteCounts] = field(default_factory=dict)
    threshold: float | None = None
    tables: dict[str, Mapping[str, Counts]] = field(default_factory=dict)
    counted: dict[str, list[int]] = field(default_factory=dict)
    suppressed: dict[str, dict[str, int]] = field(default_factory=dict)
    draws: Draws = field(default_factory=dict)
    start: dict[str, Any] = field(default_factory=dict)
    recalibration: dict[str, Recalibration] = field(default_factory=dict)
    explanations: dict[str, Explanation] = field(default_factory=dict)
    latent: bytes = b""
    views: dict[str, LatentViewReport] = field(default_factory=dict)
    shift: dict[str, Any] = field(default_factory=dict)
    completed: int = 0
    current: Weights = field(default_factory=dict)
    merged: MergedRound | None = None
    resumable: set[int] = field(default_factory=set)
    missed: dict[str, list[tuple[int, str]]] = field(default_factory=dict)
    spent: dict[str, dict[str, PrivacySpent]] = field(default_factory=dict)
    trained_epsilon: dict[str, float] = field(default_factory=dict)
    earlier_seconds: float = 0.0
    resumed: bool = False

    def state_round(self, site: str, number: int) -> int:
        """Return the last round up to `number` in which a site's update was merged, whose state it has; 0: none."""
        return max((one for one in self.counted.get(site, []) if one <= number), default=0)

    def state_rounds(self, site: str) -> list[int]:
        """Return the rounds whose state a site must keep, whatever round the run goes on from; ascending."""
        numbers = {self.state_round(site, number) for number in {self.chosen, *self.resumable}}
        return sorted(numbers - {0})
