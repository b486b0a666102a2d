"""Units and plausible ranges of columns that occur in many hospitals' tables, by the words of their names.

The ranges are those of sites/datasets/sepsis/columns.py and sites/datasets/eicu/units.py: wide, so that they separate a
wrong unit from a sick patient. The factors between units are molar masses and definitions (for example glucose 180.16
g/mol: 1 mmol/L is 18.016 mg/dL; creatinine 113.12 g/mol: 1 mg/dL is 88.4 µmol/L).
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Unit:
    """A unit in which a column may be written.

    Attributes:
        name: the unit.
        cell: plausible range of a value.
        median: plausible range of the median of a hospital's patients.
    """

    name: str
    cell: tuple[float, float]
    median: tuple[float, float]

    def times(self, factor: float, name: str) -> Unit:
        """Return the unit `name`, in which numbers are `factor` times as large."""
        cell = (round(self.cell[0] * factor, 4), round(self.cell[1] * factor, 4))
        return Unit(name, cell, (self.median[0] * factor, self.median[1] * factor))


def _variable(words: str, *units: Unit) -> tuple[re.Pattern[str], tuple[Unit, ...]]:
    return re.compile(rf"^(?:{words})$"), units


_GLUCOSE = Unit("mg/dL", (10, 3000), (50, 400))
_CREATININE = Unit("mg/dL", (0.05, 50), (0.3, 8))
_UREA_NITROGEN = Unit("mg/dL", (0.5, 400), (4, 120))
_BILIRUBIN = Unit("mg/dL", (0.02, 80), (0.1, 10))
_CHOLESTEROL = Unit("mg/dL", (20, 1500), (80, 400))
_CALCIUM = Unit("mg/dL", (3, 30), (5, 15))
_PRESSURE = Unit("mmHg", (5, 350), (40, 220))
_BLOOD_GAS = Unit("mmHg", (3, 760), (20, 400))
_TEMPERATURE_F = Unit("°F", (59, 113), (90, 106))
VARIABLES = (
    _variable("age|alter", Unit("years", (0, 130), (1, 105))),
    _variable("heart ?rate|hr|pulse|thalach|max heart rate", Unit("beats/min", (10, 400), (40, 190))),
    _variable(
        "(?:sbp|systolic.*|trestbps|bp sys.*|sys bp|dbp|diastolic.*|bp dia.*|map|mean ?bp|mean arterial.*)",
        _PRESSURE,
        _PRESSURE.times(0.133322, "kPa"),
    ),
    _variable("resp|resp(?:iratory)? ?rate|rr", Unit("breaths/min", (1, 150), (8, 60))),
    _variable("temp|temperature|body temp.*", Unit("°C", (15, 45), (32, 42)), _TEMPERATURE_F),
    _variable("spo ?2|sao ?2|o2 ?sat.*|oxygen saturation", Unit("%", (10, 100), (50, 100))),
    _variable("bmi|body mass index", Unit("kg/m²", (8, 120), (14, 50))),
    _variable("weight|body weight", Unit("kg", (0.3, 400), (2, 150)), Unit("lb", (1, 880), (150.1, 330))),
    _variable("height|body height", Unit("cm", (25, 250), (45, 210)), Unit("m", (0.25, 2.5), (0.45, 2.1))),
    _variable("glucose|glu|blood sugar|glc", _GLUCOSE, _GLUCOSE.times(1 / 18.016, "mmol/L")),
    _variable("crea|creatinine|creat|scr|serum creatinine", _CREATININE, _CREATININE.times(88.42, "µmol/L")),
    _variable("bun|urea nitrogen", _UREA_NITROGEN, _UREA_NITROGEN.times(0.357, "mmol/L")),
    _variable("bili|bilirubin|bilirubin total|total bilirubin", _BILIRUBIN, _BILIRUBIN.times(17.1, "µmol/L")),
    _variable("chol|cholesterol|total cholesterol", _CHOLESTEROL, _CHOLESTEROL.times(1 / 38.67, "mmol/L")),
    _variable("ca|calcium", _CALCIUM, _CALCIUM.times(0.2495, "mmol/L")),
    _variable("na|sodium", Unit("mmol/L", (80, 220), (110, 170))),
    _variable("k|potassium", Unit("mmol/L", (0.5, 20), (2, 9))),
    _variable("cl|chloride", Unit("mmol/L", (20, 200), (60, 150))),
    _variable("lactate|lact|lac", Unit("mmol/L", (0.05, 50), (0.2, 8)), Unit("mg/dL", (0.5, 450), (8.1, 110))),
    _variable("crp|c ?reactive protein", Unit("mg/L", (0, 1000), (0, 300))),
    _variable("albumin|alb", Unit("g/dL", (0.3, 8), (1, 6)), Unit("g/L", (3, 80), (10, 60))),
    _variable("hgb|hb|h(?:a?e)moglobin", Unit("g/dL", (1, 30), (4, 22)), Unit("g/L", (10, 300), (40, 220)),
              Unit("mmol/L", (0.6, 19), (2.5, 3.99))),
    _variable("hct|h(?:a?e)matocrit", Unit("%", (3, 80), (12, 65)), Unit("share, 0 to 1", (0.03, 0.8), (0.12, 0.65))),
    _variable("wbc|leu[ck]ocytes|white.*cells?.*", Unit("thousand/µL", (0.05, 500), (0.5, 100))),
    _variable("plt|platelets?|thrombocytes", Unit("thousand/µL", (0.5, 5000), (10, 1500))),
    _variable("inr|inr pt", Unit("ratio", (0.3, 30), (0.7, 8))),
    _variable("ph", Unit("pH", (6.3, 8.2), (6.8, 7.8))),
    _variable("pa?co ?2|pa?o ?2", _BLOOD_GAS, _BLOOD_GAS.times(0.133322, "kPa")),
    _variable("hba1c|a1c", Unit("%", (2, 25), (4, 14)), Unit("mmol/mol", (5, 250), (20, 140))),
    _variable("gcs|glasgow coma.*", Unit("points", (3, 15), (3, 15))),
    _variable("troponin.*", Unit("ng/mL", (0, 1000), (0, 100)), Unit("ng/L", (0, 1_000_000), (100.1, 100_000))),
)  # fmt: skip


_STATED = {
    "mg/dL": "mg ?dl|mg ?%", "mmol/L": "mmol(?: ?l)?", "µmol/L": "(?:µ|u|mic(?:ro)?)mol(?: ?l)?", "g/dL": "g ?dl",
    "g/L": "g ?l", "mg/L": "mg ?l", "ng/mL": "ng ?ml|µg ?l|ug ?l", "ng/L": "ng ?l|pg ?ml", "mmol/mol": "mmol ?mol",
    "kPa": "kpa", "mmHg": "mm ?hg|torr", "°C": "°? ?c|deg(?:rees?)? ?c|celsius",
    "°F": "°? ?f|deg(?:rees?)? ?f|fahrenheit", "kg": "kg|kilograms?", "lb": "lbs?|pounds?", "g": "grams?",
    "cm": "cm", "m": "m|met(?:er|re)s?", "in": "inch(?:es)?", "years": "y|yrs?|years?|jahre",
    "months": "mo|mos|months?|monate", "days": "days?|tage", "beats/min": "bpm|beats ?min",
    "breaths/min": "breaths ?min", "%": "%|pct|percent|prozent", "share, 0 to 1": "share|fraction",
    "thousand/µL": "10\\^?[39] ?[uµ]?l|k ?[uµ]l", "per µL": "(?:per |cells ?)[uµ]l", "kg/m²": "kg ?m(?:2|²)?",
}  # fmt: skip
"""Units as they end the name of a column."""


def _plain_words(column: str) -> str:
    text = column.lower().replace("\N{GREEK SMALL LETTER MU}", "µ").replace("\N{MICRO SIGN}", "µ")
    return re.sub(r"[^a-z0-9µ°%²^]+", " ", text).strip()


def _match_variable(words: str) -> tuple[Unit, ...]:
    return next((units for pattern, units in VARIABLES if pattern.match(words)), ())


def _split_units(column: str) -> dict[str, tuple[Unit, ...]]:
    """Return the units that end the name of a known variable, and the units of that variable."""
    words = _plain_words(column)
    stated = {}
    for name, pattern in _STATED.items():
        match = re.fullmatch(rf"(.+?) (?:in )?({pattern})", words)
        units = _match_variable(match[1]) if match else ()
        if match and units and (len(match[2]) > 1 or name in {unit.name for unit in units}):
            stated[name] = units
    return stated


def stated_units(column: str) -> tuple[str, ...]:
    """Return the units that end the name of a known variable; empty: none.

    >>> stated_units("Temp (°F)"), stated_units("glucose_mmol_l"), stated_units("heart_rate"), stated_units("hb_f")
    (('°F',), ('mmol/L',), (), ())
    """
    return tuple(_split_units(column))


def find_units(column: str) -> tuple[Unit, ...]:
    """Return the units in which a column of this name may be written, the most usual first; empty: not known.

    A unit at the end of the name is the only one that counts.

    >>> [unit.name for unit in find_units("Serum_Creatinine")], [unit.name for unit in find_units("crea_umol_l")]
    (['mg/dL', 'µmol/L'], ['µmol/L'])
    """
    stated = _split_units(column)
    if stated:
        return tuple(unit for name, units in stated.items() for unit in units if unit.name == name)
    return _match_variable(_plain_words(column))


def choose_unit(column: str, median: float) -> Unit | None:
    """Return the first unit in which a median of this size is plausible, or None.

    >>> choose_unit("glucose", 5.6).name, choose_unit("glucose", 104.0).name, choose_unit("glucose mg/dl", 5.6)
    ('mmol/L', 'mg/dL', None)
    """
    for unit in find_units(column):
        if unit.median[0] <= median <= unit.median[1]:
            return unit
    return None
