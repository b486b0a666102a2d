"""The parameters of sites/datasets/eicu/simulate.py: near the demo's, our own, and of no real patients."""

from __future__ import annotations

REGIONS = ("Midwest", "South", "West", "Northeast", "")

DAY: dict[str, tuple[float, float, float, float, bool]] = {
    "urine": (7.4, 0.6, -0.675, 1.0, True),
    "wbc": (2.3, 0.4, 0.225, 0.9, True),
    "temperature": (36.5, 0.5, -0.525, 0.8, False),
    "respiratoryrate": (24, 10, 7.5, 0.8, False),
    "sodium": (138, 4, 3.75, 0.5, False),
    "heartrate": (98, 22, 16.5, 0.9, False),
    "meanbp": (80, 26, -24, 0.75, False),
    "ph": (7.38, 0.06, -0.09, 0.9, False),
    "hematocrit": (34, 6, -2.25, 1.0, False),
    "creatinine": (0.1, 0.45, 0.45, 1.0, True),
    "albumin": (3.1, 0.6, -0.375, 1.0, False),
    "pao2": (4.7, 0.45, -0.3, 1.0, True),
    "pco2": (41, 9, 6, 0.5, False),
    "bun": (3.0, 0.55, 0.525, 1.0, True),
    "glucose": (4.9, 0.35, 0.3, 0.9, True),
    "bilirubin": (-0.3, 0.7, 0.525, 1.0, True),
    "fio2": (48, 18, 21, 1.0, False),
}
"""Each variable of the first day: centre and spread at severity 0, shift for each unit of severity above 0, share of
the stays that shift to this side (the others shift to the opposite), whether all these are of its logarithm."""
BOUNDS = {"urine": (0, 9000), "temperature": (28, 41.5), "respiratoryrate": (4, 60), "sodium": (105, 175),
          "heartrate": (25, 205), "meanbp": (40, 190), "ph": (6.9, 7.65), "hematocrit": (13, 56), "albumin": (1.2, 5.1),
          "pao2": (28, 500), "pco2": (12, 100), "fio2": (21, 100), "glucose": (20, 950), "wbc": (0.1, 80),
          "creatinine": (0.2, 18), "bun": (3, 170), "bilirubin": (0.1, 33)}  # fmt: skip
GASES = ("ph", "pao2", "pco2", "fio2")
BEDSIDE = ("temperature", "respiratoryrate", "heartrate", "meanbp")
DIAGNOSES = {
    "SEPSISPULM": 0.4, "SEPSISUTI": 0.0, "CARDARREST": 1.4, "DKA": -2.0, "ODSEDHYP": -1.5, "CVASTROKE": 0.4,
    "AMI": -0.3, "CHF": 0.1, "RHYTHATR": -0.4, "PNEUMBACT": 0.1, "EMPHYSBRON": -0.1, "UGIBLEED": -0.3,
    "TRAUMHEAD": 0.0, "S-CABG": -1.2, "S-GIPERFOR": 0.3, "": -0.2,
}  # fmt: skip
"""Admission diagnosis -> added to the logit of death."""
CHRONIC = {
    "aids": (0.003, 0.6), "hepaticfailure": (0.015, 0.8), "lymphoma": (0.008, 0.5), "metastaticcancer": (0.025, 0.9),
    "leukemia": (0.01, 0.6), "immunosuppression": (0.03, 0.4), "cirrhosis": (0.02, 0.5), "diabetes": (0.22, 0.0),
}  # fmt: skip
"""Chronic disease -> frequency, and added to the logit of death."""
INTERCEPT, SEVERITY, AGE = -2.9, 1.3, 0.035
"""The logit of death at age 65 and severity 0, and its slopes for severity and years."""
VITAL = {
    "hr": (85, 15, 8, 0.95), "resp": (19, 4.5, 2.5, 0.85), "o2sat": (97, 2, -1.0, 0.9), "sbp": (121, 18, -9, 0.88),
    "dbp": (65, 12, -5, 0.88), "map": (81, 13, -7, 0.88), "temp": (36.8, 0.5, -0.15, 0.28),
    "urine": (150, 80, -35, 0.2), "glu": (150, 45, 12, 0.18), "fio2": (45, 14, 9, 0.12),
}  # fmt: skip
"""Hourly vital signs: centre, spread, shift for each unit of severity, probability of being measured in an hour."""
LABS = {
    "alb": (2.9, 0.5, -0.2), "alp": (97, 30, 8), "alt": (45, 15, 8), "ast": (55, 18, 14), "be": (-0.5, 4, -2),
    "bicar": (24, 4, -1.6), "bili": (1.0, 0.4, 0.4), "bili_dir": (0.5, 0.3, 0.2), "bnd": (9, 5, 2), "bun": (26, 9, 7),
    "ca": (8.3, 0.6, -0.1), "cai": (1.1, 0.08, -0.02), "ck": (300, 120, 90), "ckmb": (8, 4, 2), "cl": (104, 5, 0.5),
    "crea": (1.4, 0.5, 0.4), "crp": (170, 70, 30), "fgn": (330, 110, -15), "hgb": (10.8, 1.9, -0.4),
    "inr_pt": (1.4, 0.25, 0.2), "k": (4.1, 0.5, 0.1), "lact": (1.9, 0.6, 0.9), "lymph": (12, 6, -1), "mch": (30, 2, 0),
    "mchc": (33, 1.2, 0), "mcv": (91, 6, 0), "methb": (0.5, 0.2, 0), "mg": (2, 0.3, 0), "na": (138, 5, 0.6),
    "neut": (76, 10, 2), "pco2": (42, 9, 2), "ph": (7.37, 0.06, -0.03), "phos": (3.4, 0.9, 0.3), "plt": (200, 60, -15),
    "po2": (115, 40, -8), "ptt": (42, 10, 4), "tnt": (0.4, 0.2, 0.2), "wbc": (12, 4, 1.4),
}  # fmt: skip
"""Hourly laboratory values: centre, spread, shift; they are measured every few hours, all at once."""
HOURLY_BOUNDS = {
    "be": (-25, 25), "bnd": (0, 100), "fio2": (21, 100), "hgb": (4, 20), "lymph": (0, 100), "neut": (0, 100),
    "o2sat": (50, 100), "pco2": (10, 120), "ph": (6.8, 7.7), "po2": (30, 500), "alb": (0.9, 5.5), "glu": (20, 900),
}  # fmt: skip
"""Limits of an hourly value; the others are 0 or more."""
