"""The features and the utility of one patient, the slow and obvious way: one hour, one column at a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

SIGNS = ["HR", "O2Sat", "Temp", "SBP", "MAP", "DBP", "Resp"]
LABS = ["HCO3", "pH", "BUN", "Creatinine", "Glucose", "Lactate", "Potassium", "Hgb", "WBC", "Platelets"]
STAYS = [12, 24, 36, 48, 60, 72, 96, 120, 168]


def frame(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, sep="|")


def features(patient: pd.DataFrame) -> pd.DataFrame:
    """Return every feature by name, a row an hour."""
    measured = list(patient.columns[:34])
    hours = []
    for t in range(len(patient)):
        now: dict[str, float] = {}
        for name in measured:
            past = patient[name].iloc[: t + 1]
            observed = past.dropna()
            now[name] = observed.iloc[-1] if len(observed) else np.nan
            if name in LABS:
                now[f"{name} change"] = observed.iloc[-1] - observed.iloc[-2] if len(observed) > 1 else np.nan
            now[f"{name} recency"] = 1 / (1 + t - observed.index[-1]) if len(observed) else 0
            now[f"{name} times in 24 h"] = past.iloc[-24:].notna().sum()
            if name in SIGNS:
                six = past.ffill().iloc[-6:].dropna()
                for what, value in {"low": six.min(), "high": six.max(), "mean": six.mean()}.items():
                    now[f"{name} 6 h {what}"] = value
                now[f"{name} 6 h sd"] = six.std(ddof=0)
                before = past.iloc[: t - 5].dropna() if t >= 6 else observed.iloc[:0]
                now[f"{name} 6 h trend"] = now[name] - before.iloc[-1] if len(before) else np.nan
        now["shock index"] = now["HR"] / now["SBP"]
        now["pulse pressure"] = now["SBP"] - now["DBP"]
        for over, under in (("BUN", "Creatinine"), ("O2Sat", "FiO2"), ("SaO2", "FiO2")):
            now[f"{over}/{under}"] = now[over] / now[under] if now[under] > 0 else np.nan
        now["SIRS"] = sum(
            [
                now["Temp"] < 36 or now["Temp"] > 38,
                now["HR"] > 90,
                now["Resp"] > 20 or now["PaCO2"] < 32,
                now["WBC"] < 4 or now["WBC"] > 12,
            ]
        )
        points = [np.searchsorted([-150, -100, -50, -20], -now["Platelets"]), now["MAP"] < 70]
        points += [np.searchsorted([1.2, 2, 6, 12], now["Bilirubin_total"], side="right")]
        points += [np.searchsorted([1.2, 2, 3.5, 5], now["Creatinine"], side="right")]
        known = [now["Platelets"], now["MAP"], now["Bilirubin_total"], now["Creatinine"]]
        now["organ points"] = sum(int(p) for p, value in zip(points, known, strict=True) if not np.isnan(value))
        row = patient.iloc[t]
        now |= {"Age": row["Age"], "male": row["Gender"]}
        now |= {name: row[name] for name in ("Unit1", "Unit2", "HospAdmTime", "ICULOS")}
        now["unit unknown"] = float(np.isnan(row["Unit1"]) and np.isnan(row["Unit2"]))
        for limit in STAYS:
            now[f"ICULOS over {limit} h"] = float(row["ICULOS"] > limit)
        hours.append(now)
    return pd.DataFrame(hours)


def worth(label: list[int], hour: int, alarm: bool) -> float:
    """Return what an alarm or silence is worth at one hour of a patient, from the organisers' definition."""
    if 1 not in label:
        return -0.05 if alarm else 0.0
    away = hour - (label.index(1) + 6)
    if away > 3:
        return 0.0
    if alarm:
        return max((away + 12) / 6, -0.05) if away <= -6 else (3 - away) / 9
    return 0.0 if away <= -6 else -2 * (away + 6) / 9
