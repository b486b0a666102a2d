"""Which inputs move a model's score at a site, as reports hold it."""

from __future__ import annotations

from pydantic import Field

from common.metrics.figures import FrozenModel


class MeanSignal(FrozenModel):
    """Mean signal of a class and mean importance of its samples.

    Attributes:
        patients: patients behind the means.
        signal: `(channels, samples)`, in the data set's units.
        importance: `(channels, samples)`, mean absolute attribution.
    """

    patients: int
    signal: tuple[tuple[float, ...], ...]
    importance: tuple[tuple[float, ...], ...]


class Explanation(FrozenModel):
    """Which inputs move a model's score at a site: mean absolute attributions (client/evaluation/attribution.py).

    Attributes:
        method: how attributions were computed.
        patients: patients behind the means.
        features: mean attribution by feature.
        channels: mean attribution by channel.
        classes: mean signal and importance by class.
        suppressed: classes withheld because too few patients have them.
    """

    method: str
    patients: int
    features: dict[str, float] = Field(default_factory=dict)
    channels: dict[str, float] = Field(default_factory=dict)
    classes: dict[str, MeanSignal] = Field(default_factory=dict)
    suppressed: tuple[str, ...] = ()
