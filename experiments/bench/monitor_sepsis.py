"""Hours of intensive care streamed at the model of sepsis: utility and alarms a patient-day, as the report has them.

Each test patient's file is sent hour by hour to a `Stay`, as a device would send it; after each hour the risk is that
of what is known then. The inputs of an hour of many patients are computed together, only so that it takes minutes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from client.policy import SIMULATION_POLICY
from client.site import load_site
from client.site_context import SiteContext
from common.run_folder import RunFolder
from experiments.monitor.hourly import HourlyModel, Stay
from sites import cache, datasets
from sites.datasets.sepsis.columns import ICULOS, NAMES
from sites.datasets.sepsis.hospitals import load_hospitals
from sites.datasets.sepsis.utility import hourly_utility

BATCH = 1000
"""Patients whose hours are computed together."""


@dataclass(frozen=True)
class Streamed:
    """The hours of some patients.

    Attributes:
        odds: log odds at each hour, one patient after the other.
        label: whether sepsis is near, of each hour.
        first: each patient's first hour in the two.
    """

    odds: npt.NDArray[np.float64]
    label: npt.NDArray[np.uint8]
    first: npt.NDArray[np.int64]


def send_hours(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the table of a stay to which a patient's hours `(hours, columns)` were sent one by one."""
    stay = Stay()
    for row in rows:
        known = np.flatnonzero(np.isfinite(row)).tolist()
        values = {NAMES[column]: float(row[column]) for column in known if column != ICULOS}
        stay.add(int(row[ICULOS]), values)
    return stay.table()


def stream_patients(model: HourlyModel, tables: list[npt.NDArray[np.float32]]) -> list[npt.NDArray[np.float64]]:
    """Return the log odds of each patient after each hour; later hours are not known to it."""
    odds = [np.empty(len(table)) for table in tables]
    for hour in range(1, max(len(table) for table in tables) + 1):
        there = [i for i, table in enumerate(tables) if len(table) >= hour]
        for i, value in zip(there, model.compute_odds([tables[i][:hour] for i in there]).tolist(), strict=True):
            odds[i][hour - 1] = value
    return odds


def list_test_patients(model: HourlyModel, count: int) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield each hospital's name and test patients."""
    config = model.scoring.config
    for index in range(count):
        site = load_site(SiteContext(SIMULATION_POLICY, index=index, count=count), config)
        yield site.name, tuple(site.test.people_names)


def measure_sepsis(run: Path, most: int) -> dict[str, Any]:
    """Return utility and alarms a patient-day of each hospital's test patients, streamed and as the report has them.

    Args:
        run: a run of the data set sepsis, one hospital a folder.
        most: patients of each hospital; all of them are needed to compare with the report.
    """
    model = HourlyModel(run)
    report = json.loads(RunFolder(run).report.read_text(encoding="utf-8"))
    outcome = next(item for item in report["models"] if item["name"] == "federated")
    threshold = float(outcome["threshold"])
    folder = datasets.open_source(model.scoring.config, None).folder
    rows = {}
    for hospital in load_hospitals(folder, cache.cache_folder()):
        edges = np.append(hospital.table.first, len(hospital.table.rows))
        for i, name in enumerate(hospital.table.names):
            rows[name] = (hospital.table, slice(int(edges[i]), int(edges[i + 1])))
    out: dict[str, Any] = {"threshold": threshold}
    for site, names in list_test_patients(model, len(outcome["sites"])):
        chosen = names[:most]
        odds, labels = [], []
        for start in range(0, len(chosen), BATCH):
            part = [rows[name] for name in chosen[start : start + BATCH]]
            odds += stream_patients(model, [send_hours(table.rows[span]) for table, span in part])
            labels += [table.label[span] for table, span in part]
        lengths = np.asarray([len(item) for item in odds])
        streamed = Streamed(np.concatenate(odds), np.concatenate(labels), np.cumsum(lengths) - lengths)
        out[site] = {"patients": len(chosen), "test_patients": len(names)} | summarise(streamed, threshold)
        out[site]["report"] = _read_report(outcome, site)
    return out


def summarise(streamed: Streamed, threshold: float) -> dict[str, float]:
    """Return utility, alarms a patient-day and hours of streamed patients; the threshold is of log odds."""
    alarm = streamed.odds >= threshold
    worth = hourly_utility(streamed.label, streamed.first).astype(np.float64)
    silence, best = worth[:, 0].sum(), worth.max(axis=1).sum()
    achieved = np.where(alarm, worth[:, 1], worth[:, 0]).sum()
    return {
        "hours": len(alarm),
        "utility": round(float((achieved - silence) / (best - silence)), 6),
        "alarms_a_patient_day": round(24 * float(alarm.mean()), 6),
    }


def _read_report(outcome: dict[str, Any], site: str) -> dict[str, float]:
    """Return the same of a report: predicted hours are the second column of its confusion."""
    figures = outcome["sites"][site]
    alarms = sum(row[1] for row in figures["confusion"])
    return {
        "hours": figures["examples"],
        "utility": round(figures["utility"]["value"], 6),
        "alarms_a_patient_day": round(24 * alarms / figures["examples"], 6),
    }
