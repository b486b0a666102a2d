"""What a simulated hospital may do otherwise than its data say: the options of `shift`, one Section each.

Each option says by `where` whose examples it changes: `all`, `train` (training and validation patients, what the
hospital learns from) or `test`. An option that is not named changes nothing. docs/reference/simulated_shift.md
gives usual values with their sources; sites/shift does it.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from common.settings import Section

Where = Literal["all", "train", "test"]


class Gain(Section):
    """The amplifier is off calibration: every lead of a recording times one factor."""

    factor: float = Field(ge=0.05, le=20)
    spread: float = Field(0.0, ge=0, le=1, description="between recordings: standard deviation of the factor's log")
    where: Where = "all"


class Wander(Section):
    """The baseline moves with breathing and skin: slow sinusoids of 0.05 to 0.5 Hz."""

    mv: float = Field(ge=0, le=5, description="root mean square, mV")
    where: Where = "all"


class Hum(Section):
    """The mains couple into the leads: one sinusoid, its phase drawn for each recording and lead."""

    mv: float = Field(ge=0, le=5, description="amplitude, mV")
    mains: Literal[50, 60] = Field(50, description="Hz")
    where: Where = "all"


class Emg(Section):
    """Muscles are heard: Gaussian noise from 20 Hz to the Nyquist limit."""

    mv: float = Field(ge=0, le=5, description="root mean square, mV")
    where: Where = "all"


class LeadSwap(Section):
    """The electrodes of both arms are exchanged (12 leads), or the two channels (records of two leads)."""

    probability: float = Field(ge=0, le=1, description="of a recording")
    where: Where = "all"


class SamplingRate(Section):
    """The recorder samples more slowly: what lies above half its rate is lost."""

    hz: float = Field(ge=20, le=10_000, description="below the rate of the data")
    where: Where = "all"


class Resolution(Section):
    """The recorder's converter is coarse: values are rounded to steps of `range_mv / 2**bits`, and clipped."""

    bits: int = Field(ge=2, le=24)
    range_mv: float = Field(10.0, gt=0, le=1000, description="from the lowest to the highest value, mV")
    where: Where = "all"


class Signal(Section):
    """What one unit of the signal is, and what the data set did to it, for the options in mV."""

    unit_mv: float | None = Field(
        None, gt=0, le=100, description="mV of one unit; none: 1.5 where sites/ecg/beats.py scaled the beats, else 1"
    )
    band: tuple[float, float] | None = Field(
        None,
        description="filter, Hz, that the data passed and so disturbances pass too; none: 0.5 to 40 in "
        "the window view of sites/ecg/beats.py, else no filter",
    )

    @model_validator(mode="after")
    def _check_band(self) -> Signal:
        if self.band is not None and not 0 < self.band[0] < self.band[1]:
            raise ValueError("band: give the lower edge and the higher one, Hz, as in [0.5, 40]")
        return self


class LabelNoise(Section):
    """Some labels are wrong: another class at random, or `to`; multilabel: a label is turned, or `to` is set."""

    probability: float = Field(ge=0, le=1)
    to: str | None = Field(None, description="the class that is written instead; none: any other")
    by: Literal["example", "patient"] = Field("example", description="patient: all labels of a recording alike")
    where: Where = "train"


class Prevalence(Section):
    """People are left out, never added, until the wanted share has at least one example of a class."""

    share: float = Field(ge=0, le=1)
    of: str | None = Field(None, description="the class; none: the event of a task of two classes")
    where: Where = "all"


class AgeMix(Section):
    """People are left out until the wanted share of those with a known age is older."""

    older: float = Field(ge=0, le=1, description="share of people of age `from_age` or more")
    from_age: float = Field(65.0, ge=0, le=120, description="years")
    where: Where = "all"


class SexMix(Section):
    """People are left out until the wanted share of those with a known sex is women."""

    women: float = Field(ge=0, le=1)
    where: Where = "all"


class Missingness(Section):
    """More values are missing: NaN, and 0 in the indicator `NAME measured` where the data set has one."""

    probability: float = Field(ge=0, le=1, description="that a value, or a recording's variable, goes missing")
    features: tuple[str, ...] = Field((), description="variables, or patterns such as lab*; none: all")
    by: Literal["value", "patient"] = Field("value", description="patient: a recording lacks the variable wholly")
    together: bool = Field(False, description="the variables go missing together, as one panel of a laboratory")
    where: Where = "all"


class Scale(Section):
    """A straight line: `gain * value + offset`."""

    gain: float = Field(1.0, gt=0, le=1000)
    offset: float = Field(0.0, description="in the variable's own units")


class Calibration(Section):
    """A laboratory or device reads otherwise: a variable of an EHR times `gain`, plus `offset`."""

    features: dict[str, Scale] = Field(description="variable: {gain, offset}")
    where: Where = "all"


class ShiftConfig(Section):
    """How one hospital differs, in simulation only; `*` stands for all of them, option by option.

    `where`: whose examples an option changes: all, `train` (training and validation patients) or `test`.
    See docs/reference/simulated_shift.md for usual values and their sources.
    """

    age_mix: AgeMix | None = None
    sex_mix: SexMix | None = None
    prevalence: Prevalence | None = None
    label_noise: LabelNoise | None = None
    lead_swap: LeadSwap | None = None
    wander: Wander | None = None
    hum: Hum | None = None
    emg: Emg | None = None
    gain: Gain | None = None
    sampling_rate: SamplingRate | None = None
    resolution: Resolution | None = None
    signal: Signal | None = None
    calibration: Calibration | None = None
    missingness: Missingness | None = None
