"""The public value range of each input of the sepsis challenge; noisy sums clip values to it.

From textbooks' reference intervals of adults, widened to what intensive care sees daily; never from these patients.
They are narrower than the limits of sites/datasets/sepsis/columns.py, because a wider range needs more noise.
"""

from __future__ import annotations

VARIABLE_RANGES = {
    "HR": (40, 140), "O2Sat": (85, 100), "Temp": (34.5, 39.5), "SBP": (70, 190), "MAP": (45, 130), "DBP": (30, 110),
    "Resp": (6, 36), "EtCO2": (15, 60), "BaseExcess": (-15, 15), "HCO3": (12, 36), "FiO2": (0.2, 1), "pH": (7.15, 7.6),
    "PaCO2": (20, 70), "SaO2": (60, 100), "AST": (0, 400), "BUN": (0, 80), "Alkalinephos": (0, 300),
    "Calcium": (6, 11), "Chloride": (90, 120), "Creatinine": (0, 6), "Bilirubin_direct": (0, 8),
    "Glucose": (50, 300), "Lactate": (0, 8), "Magnesium": (1.2, 3), "Phosphate": (1, 7), "Potassium": (2.8, 5.8),
    "Bilirubin_total": (0, 12), "TroponinI": (0, 20), "Hct": (18, 48), "Hgb": (6, 16), "PTT": (20, 100), "WBC": (0, 30),
    "Fibrinogen": (80, 700), "Platelets": (0, 500),
}  # fmt: skip
"""Range of each measured variable, in the unit of sites/datasets/sepsis/columns.py."""
OTHER_RANGES = {
    "shock index": (0.3, 1.5), "pulse pressure": (15, 110), "BUN/Creatinine": (0, 50), "O2Sat/FiO2": (90, 480),
    "SaO2/FiO2": (80, 480), "SIRS": (0, 4), "organ points": (0, 8), "Age": (18, 95), "HospAdmTime": (-200, 0),
    "ICULOS": (0, 120),
}  # fmt: skip


def range_of_input(name: str) -> tuple[float, float]:
    """Return the range of an input by its name (sites/datasets/sepsis/features.py); 0 to 1 for a 0/1 input.

    >>> range_of_input("HR"), range_of_input("HR 6 h trend"), range_of_input("HR times in 24 h")
    ((40, 140), (-50.0, 50.0), (0, 24))
    """
    if name in OTHER_RANGES:
        return OTHER_RANGES[name]
    variable, _, statistic = name.partition(" ")
    if variable not in VARIABLE_RANGES:
        return 0, 1
    low, high = VARIABLE_RANGES[variable]
    width = high - low
    if statistic in ("", "6 h low", "6 h high", "6 h mean"):
        return low, high
    if statistic in ("change", "6 h trend"):
        return -width / 2, width / 2
    return {"6 h sd": (0, width / 4), "times in 24 h": (0, 24)}.get(statistic, (0, 1))
