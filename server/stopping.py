"""The end of a run before its last round: rounds without a better validation (`federation.patience`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from common.config import RunConfig
from server.events import Event, Listener
from server.outcome import Outcome


@dataclass(frozen=True)
class StoppedEvent(Event):
    """The run trains no further rounds, because its validation has not improved for `patience` rounds.

    Attributes:
        round: the last round that was trained.
        rounds: the most rounds that the run would have trained.
        chosen: the best round, whose model is tested.
        patience: rounds without a better validation.
        metric: the metric that compares the rounds.
    """

    name: ClassVar[str] = "stopped"
    round: int
    rounds: int
    chosen: int
    patience: int
    metric: str

    def fields(self) -> dict[str, object]:
        """Return the event's JSON keys and values, without its name."""
        return {
            "round": self.round,
            "rounds": self.rounds,
            "chosen": self.chosen,
            "patience": self.patience,
            "metric": self.metric,
        }


def has_converged(config: RunConfig, outcome: Outcome) -> bool:
    """Return whether the rounds so far end with `federation.patience` rounds that were no better than the best.

    It follows from what a checkpoint holds, so a run that is resumed stops after the same round.
    """
    patience = config.federation.patience
    return patience > 0 and outcome.completed - outcome.chosen >= patience


def stop_training(config: RunConfig, outcome: Outcome, listen: Listener) -> bool:
    """Return whether a run trains no further round although some are left, and report it."""
    if not has_converged(config, outcome):
        return False
    wanted = config.federation
    listen(StoppedEvent(outcome.completed, wanted.rounds, outcome.chosen, wanted.patience, config.selection_metric))
    return True
