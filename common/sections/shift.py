"""The sections of `shift`: changes to a simulated hospital's data, one class for each kind of shift.

`where` says whose examples a shift changes: `all`, `train` (training and validation patients) or `test`. A shift that
is not named changes nothing. docs/reference/simulated_shift.md gives usual values with their sources; sites/shift
applies them.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from common.settings import Section

Where = Literal["all", "train", "test"]


class Gain(Section):
    """A miscalibrated amplifier: all leads of a recording are multiplied by one factor."""

    factor: float = Field(ge=0.05, le=20, description="the factor; its median where `spread` is above 0")
    spread: float = Field(
        0.0, ge=0, le=1, description="standard deviation of the factor's logarithm between recordings"
    )
    where: Where = "all"


class Wander(Section):
    """Baseline wander from breathing and electrodes: slow sinusoids of 0.05 to 0.5 Hz."""

    mv: float = Field(ge=0, le=5, description="root mean square, mV")
    where: Where = "all"


class Hum(Section):
    """Mains interference: one sinusoid, with a random phase for each recording and lead."""

    mv: float = Field(ge=0, le=5, description="amplitude, mV")
    mains: Literal[50, 60] = Field(50, description="frequency of the mains, Hz")
    where: Where = "all"


class Emg(Section):
    """Muscle artefacts: Gaussian noise from 20 Hz to the Nyquist frequency."""

    mv: float = Field(ge=0, le=5, description="root mean square, mV")
    where: Where = "all"


class LeadSwap(Section):
    """Exchanged electrodes: those of both arms (12 leads), or the two channels (records of two leads)."""

    probability: float = Field(ge=0, le=1, description="share of recordings affected")
    where: Where = "all"


class SamplingRate(Section):
    """A lower sampling rate: frequencies above half of it are lost."""

    hz: float = Field(ge=20, le=10_000, description="sampling rate, below that of the data")
    where: Where = "all"


class Resolution(Section):
    """A coarse converter: values are rounded to steps of `range_mv / 2**bits` and clipped to the range."""

    bits: int = Field(ge=2, le=24, description="bits of the converter")
    range_mv: float = Field(
        10.0, gt=0, le=1000, description="from the lowest to the highest value of the converter, mV"
    )
    where: Where = "all"


class Signal(Section):
    """Unit of the signal and its filter, for the shifts that are given in mV."""

    unit_mv: float | None = Field(
        None,
        gt=0,
        le=100,
        description="mV of one unit of the signal; none: 1.5 where sites/ecg/beats.py scaled the beats, else 1",
    )
    band: tuple[float, float] | None = Field(
        None,
        description="pass band of the data's filter, Hz, which disturbances pass too; none: 0.5 to 40 in the window "
        "view "
        "of sites/ecg/beats.py, else no filter",
    )

    @model_validator(mode="after")
    def _check_band(self) -> Signal:
        if self.band is not None and not 0 < self.band[0] < self.band[1]:
            raise ValueError("band: give the lower and the upper edge in Hz, as in [0.5, 40]")
        return self


class LabelNoise(Section):
    """Wrong labels: replaced by a random other class, or by `to`; multilabel: a label is inverted, or `to` is set."""

    probability: float = Field(ge=0, le=1, description="probability that a label is wrong")
    to: str | None = Field(None, description="the class that replaces the label; none: any other class")
    by: Literal["example", "patient"] = Field(
        "example", description="unit that gets wrong labels; patient: all labels of a recording change together"
    )
    where: Where = "train"


class Prevalence(Section):
    """Prevalence: people are removed until the wanted share of them has at least one example of a class."""

    share: float = Field(ge=0, le=1, description="wanted share of people")
    class_name: str | None = Field(None, description="the class; none: the event of a task of two classes")
    where: Where = "all"


class AgeMix(Section):
    """Age distribution: people are removed until the wanted share of those with a known age is older."""

    older: float = Field(ge=0, le=1, description="wanted share of people of age `from_age` or more")
    from_age: float = Field(65.0, ge=0, le=120, description="people of this age (years) and above count as older")
    where: Where = "all"


class SexMix(Section):
    """Sex distribution: people are removed until the wanted share of those with a known sex is women."""

    women: float = Field(ge=0, le=1, description="wanted share of women")
    where: Where = "all"


class Missingness(Section):
    """Missing values: set to NaN, and to 0 in the indicator `NAME measured` where the data set has one."""

    probability: float = Field(
        ge=0, le=1, description="probability that a value is missing; by patient: that a variable of a recording is"
    )
    features: tuple[str, ...] = Field((), description="variables, or patterns such as lab*; empty: all")
    by: Literal["value", "patient"] = Field(
        "value", description="patient: all values of the variable are missing in a recording"
    )
    together: bool = Field(False, description="the variables are missing together, as a laboratory panel is")
    where: Where = "all"


class Scale(Section):
    """A linear change: `gain * value + offset`."""

    gain: float = Field(1.0, gt=0, le=1000, description="factor of the value")
    offset: float = Field(0.0, description="added to the value, in its own units")


class Calibration(Section):
    """A laboratory or device that measures differently: a linear change of variables of health records."""

    features: dict[str, Scale] = Field(description="changes by variable: {gain, offset}")
    where: Where = "all"


class ShiftConfig(Section):
    """How one hospital differs, in simulation only; `*` stands for all of them, shift by shift.

    `where` says whose examples a shift changes: all, `train` (training and validation patients) or `test`.
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
