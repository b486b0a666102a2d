"""The 41 columns of the PhysioNet/CinC Challenge 2019, their units, and the limits of a plausible value.

Units as the organisers print them (Reyna et al., Crit Care Med 48(2):210-217, 2020, table of variables). The limits are
wide and our own: they separate a wrong unit (°F, kPa, µmol/L) from a sick patient, and do not tidy the data.
"""

from __future__ import annotations

from dataclasses import dataclass

INF = float("inf")


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        name: its name in the first line of a file.
        unit: its unit.
        cell: limits of a value; one outside counts as not measured.
        median: limits of a hospital's median; one outside refuses the hospital, which must use another unit.
    """

    name: str
    unit: str
    cell: tuple[float, float] = (0, INF)
    median: tuple[float, float] = (-INF, INF)


VITALS = (
    Column("HR", "beats/min", (0, 400), (40, 160)),
    Column("O2Sat", "%", (0, 100), (80, 100)),
    Column("Temp", "°C", (10, 60), (30, 45)),
    Column("SBP", "mmHg", (0, 400), (60, 200)),
    Column("MAP", "mmHg", (0, 400), (40, 150)),
    Column("DBP", "mmHg", (0, 400), (30, 120)),
    Column("Resp", "breaths/min", (0, 150), (8, 40)),
    Column("EtCO2", "mmHg", (0, 200), (10, 80)),
)
LABS = (
    Column("BaseExcess", "mmol/L", (-100, 100), (-20, 20)),
    Column("HCO3", "mmol/L", (0, 100), (8, 45)),
    Column("FiO2", "share, 0 to 1", (0, 1), (0.2, 1)),
    Column("pH", "pH", (6, 8.5), (6.9, 7.7)),
    Column("PaCO2", "mmHg", (0, 300), (15, 90)),
    Column("SaO2", "%", (0, 100), (40, 100)),
    Column("AST", "IU/L"),
    Column("BUN", "mg/dL", median=(2, 120)),
    Column("Alkalinephos", "IU/L"),
    Column("Calcium", "mg/dL", median=(3.5, 16)),
    Column("Chloride", "mmol/L", median=(60, 150)),
    Column("Creatinine", "mg/dL", median=(0.1, 15)),
    Column("Bilirubin_direct", "mg/dL"),
    Column("Glucose", "mg/dL", median=(35, 600)),
    Column("Lactate", "mmol/L", median=(0.2, 12)),
    Column("Magnesium", "mg/dL", median=(1.1, 6)),
    Column("Phosphate", "mg/dL", median=(1.5, 15)),
    Column("Potassium", "mmol/L", median=(1.5, 9)),
    Column("Bilirubin_total", "mg/dL", median=(0.05, 10)),
    Column("TroponinI", "ng/mL"),
    Column("Hct", "%", (0, 100), (10, 70)),
    Column("Hgb", "g/dL", (0, 100), (3, 25)),
    Column("PTT", "s", median=(10, 200)),
    Column("WBC", "thousand/µL", median=(0.5, 100)),
    Column("Fibrinogen", "mg/dL", median=(30, 1500)),
    Column("Platelets", "thousand/µL", median=(10, 1500)),
)
DEMOGRAPHICS = (
    Column("Age", "years", (0, 130), (14, 100)),
    Column("Gender", "0 female, 1 male", (0, 1)),
    Column("Unit1", "1: medical intensive care", (0, 1)),
    Column("Unit2", "1: surgical intensive care", (0, 1)),
    Column("HospAdmTime", "hours from admission to intensive care back to that to hospital", (-INF, INF)),
    Column("ICULOS", "hours in intensive care", (0, INF)),
)
COLUMNS = (*VITALS, *LABS, *DEMOGRAPHICS)
NAMES = tuple(column.name for column in COLUMNS)
LABEL = "SepsisLabel"
N_MEASURED = len(VITALS) + len(LABS)
AGE, GENDER, UNIT1, UNIT2, HOSP_ADM_TIME, ICULOS = range(N_MEASURED, len(COLUMNS))
