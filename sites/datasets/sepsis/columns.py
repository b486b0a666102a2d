"""The 41 columns of the PhysioNet/CinC Challenge 2019, their units, and the limits of a plausible value.

Units as the organisers print them (Reyna et al., Crit Care Med 48(2):210-217, 2020, table of variables). The limits are
wide and our own: they separate a wrong unit (°F, kPa, µmol/L) from a sick patient, and do not tidy the data.
"""

from __future__ import annotations

from dataclasses import dataclass

from sites.plausible_values import INF, Limits


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        name: its name in the first line of a file.
        limits: its unit, and the limits of a value and of a hospital's median (sites/plausible_values.py).
    """

    name: str
    limits: Limits


def _column(name: str, unit: str, cell: tuple[float, float], median: tuple[float, float] = (-INF, INF)) -> Column:
    return Column(name, Limits(unit, cell, median))


VITALS = (
    _column("HR", "beats/min", (10, 400), (40, 160)),
    _column("O2Sat", "%", (10, 100), (80, 100)),
    _column("Temp", "°C", (15, 45), (30, 45)),
    _column("SBP", "mmHg", (10, 350), (60, 200)),
    _column("MAP", "mmHg", (10, 350), (40, 150)),
    _column("DBP", "mmHg", (5, 350), (30, 120)),
    _column("Resp", "breaths/min", (1, 150), (8, 40)),
    _column("EtCO2", "mmHg", (1, 200), (10, 80)),
)
LABS = (
    _column("BaseExcess", "mmol/L", (-50, 50), (-20, 20)),
    _column("HCO3", "mmol/L", (2, 80), (8, 45)),
    _column("FiO2", "share, 0 to 1", (0.1, 1), (0.2, 1)),
    _column("pH", "pH", (6.3, 8.2), (6.9, 7.7)),
    _column("PaCO2", "mmHg", (8, 250), (15, 90)),
    _column("SaO2", "%", (10, 100), (40, 100)),
    _column("AST", "IU/L", (1, 50_000), (5, 2000)),
    _column("BUN", "mg/dL", (0.5, 400), (9, 120)),
    _column("Alkalinephos", "IU/L", (1, 20_000), (15, 1000)),
    _column("Calcium", "mg/dL", (0.5, 30), (6, 16)),  # B has ionised calcium, mmol/L, in a fifth of its cells
    _column("Chloride", "mmol/L", (20, 200), (60, 150)),
    _column("Creatinine", "mg/dL", (0.05, 50), (0.4, 15)),
    _column("Bilirubin_direct", "mg/dL", (0.005, 60), (0.01, 8)),
    _column("Glucose", "mg/dL", (10, 3000), (60, 400)),
    _column("Lactate", "mmol/L", (0.05, 50), (0.2, 8)),
    _column("Magnesium", "mg/dL", (0.1, 20), (1.1, 6)),
    _column("Phosphate", "mg/dL", (0.1, 30), (1.8, 15)),
    _column("Potassium", "mmol/L", (0.5, 20), (1.5, 9)),
    _column("Bilirubin_total", "mg/dL", (0.02, 80), (0.05, 5)),
    _column("TroponinI", "ng/mL", (0, 1000), (0, 50)),
    _column("Hct", "%", (3, 80), (10, 70)),
    _column("Hgb", "g/dL", (1, 30), (8, 25)),
    _column("PTT", "s", (5, 400), (10, 200)),
    _column("WBC", "thousand/µL", (0.05, 500), (0.5, 100)),
    _column("Fibrinogen", "mg/dL", (5, 3000), (30, 1500)),
    _column("Platelets", "thousand/µL", (0.5, 5000), (10, 1500)),
)
DEMOGRAPHICS = (
    _column("Age", "years", (0, 130), (14, 100)),
    Column("Gender", Limits("0 female, 1 male", (0, 1), whole=True)),
    Column("Unit1", Limits("1: medical intensive care", (0, 1), whole=True)),
    Column("Unit2", Limits("1: surgical intensive care", (0, 1), whole=True)),
    _column(
        "HospAdmTime", "hours from admission to intensive care back to that to hospital", (-9000, 1000), (-2000, 0.5)
    ),
    Column("ICULOS", Limits("hours in intensive care", (0, INF), codes=False)),
)
COLUMNS = (*VITALS, *LABS, *DEMOGRAPHICS)
NAMES = tuple(column.name for column in COLUMNS)
LABEL = "SepsisLabel"
N_MEASURED = len(VITALS) + len(LABS)
AGE, GENDER, UNIT1, UNIT2, HOSP_ADM_TIME, ICULOS = range(N_MEASURED, len(COLUMNS))
