"""What moves a model's score: coefficients of a linear model, and gains of trees, as reports hold them."""

from __future__ import annotations

from pydantic import Field

from common.metrics.figures import Figure, FrozenModel


class Coefficient(FrozenModel):
    """The coefficient of one input.

    Attributes:
        name: the input.
        figure: change of the log odds of the event; its interval is described by `Coefficients.interval`.
        sites: the same of the models that hospitals trained alone.
    """

    name: str
    figure: Figure
    sites: dict[str, Figure] = Field(default_factory=dict)


class Coefficients(FrozenModel):
    """The coefficients of a linear model.

    Attributes:
        unit: of which change of an input they are.
        interval: which interval is given; empty: none.
        note: why there is none; empty if there is one.
        rows: a coefficient for each input, in the order of the inputs.
    """

    unit: str
    interval: str = ""
    note: str = ""
    rows: tuple[Coefficient, ...] = ()
