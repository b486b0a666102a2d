"""The training of one site's model, described before it runs, so that several sites' can run together."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from client.training.loop import Schedule, TrainingResult, train_model
from common.arrays import Weights
from common.sections.training import TrainingConfig
from sites.cohort import Cohort


@dataclass(frozen=True)
class TrainingCall:
    """The arguments of one call of `train_model`, which has them under the same names."""

    model: nn.Module
    train: Cohort
    config: TrainingConfig
    seed: int
    counts: Sequence[int]
    total: int
    schedule: Schedule
    validation: Cohort
    stop: threading.Event | None
    proximal: float
    anchor: Weights | None
    correction: Weights | None
    replaced: float

    def run(self, on_rows: Callable[[Tensor], None] | None = None) -> TrainingResult:
        """Train the model."""
        return train_model(**vars(self), on_rows=on_rows)
