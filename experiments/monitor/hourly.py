"""The risk of sepsis by hour, from vital signs and laboratory values as they come, with what contributes to it.

A patient's hours are turned into inputs by the code that training and `wardround score` use, so that the risk is that
of the batch path. A factor is a measured column; its effect is the log odds with it less those without it: as if it
had never been measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from common.errors import DataError, UsageError
from sites import datasets
from sites.datasets.sepsis import features as sepsis_features
from sites.datasets.sepsis.columns import COLUMNS, ICULOS, N_MEASURED, NAMES
from sites.unlabelled_rows import ScorableRows, unlabelled_cohort

if TYPE_CHECKING:
    from experiments.scoring.score import ScoringModel

FACTORS = 5
MAX_HOURS = 1000
LOINC = {
    "8867-4": "HR", "2708-6": "O2Sat", "59408-5": "O2Sat", "8310-5": "Temp", "8480-6": "SBP", "8478-0": "MAP",
    "8462-4": "DBP", "9279-1": "Resp", "2524-7": "Lactate", "2160-0": "Creatinine", "6690-2": "WBC",
    "777-3": "Platelets", "2345-7": "Glucose", "2823-3": "Potassium", "718-7": "Hgb", "2744-1": "pH",
}  # fmt: skip
"""LOINC's codes of what a FHIR Observation may measure, and the columns; units must be those of the columns."""


@dataclass(frozen=True)
class HourlyRisk:
    """A patient's risk at an hour.

    Attributes:
        hour: hours in intensive care.
        risk: the model's probability.
        factors: the columns with the largest effects, and their effects on the log odds.
    """

    hour: int
    risk: float
    factors: tuple[tuple[str, float], ...]


@dataclass
class Stay:
    """What is known of a patient.

    Attributes:
        values: by hour and column.
        fixed: age and the like.
        cleared: implausible values, which count as not measured.
    """

    values: dict[int, dict[str, float]] = field(default_factory=dict)
    fixed: dict[str, float] = field(default_factory=dict)
    cleared: int = 0

    def add(self, hour: int, values: Mapping[str, float]) -> None:
        """Take values of an hour, none if nothing was measured; a later value of the same hour replaces an earlier one.

        Raises:
            DataError: a column is unknown, or the hour out of range.
        """
        if not 1 <= hour <= MAX_HOURS:
            raise DataError(f"hour: give the hours in intensive care, 1 to {MAX_HOURS}")
        self.values.setdefault(hour, {})
        for name, value in values.items():
            if name not in NAMES or name == NAMES[ICULOS]:
                raise DataError(f"values: unknown column {name[:40]!r}; known are those of the sepsis data set")
            if COLUMNS[NAMES.index(name)].limits.find_implausible(np.asarray([value])).any():
                self.cleared += 1
                continue
            target = self.values.setdefault(hour, {}) if NAMES.index(name) < N_MEASURED else self.fixed
            target[name] = float(value)

    def table(self) -> npt.NDArray[np.float32]:
        """Return `(hours, 40)`, from the first hour to the last, NaN where not measured."""
        first, last = min(self.values), max(self.values)
        rows = np.full((last - first + 1, len(NAMES)), np.nan, dtype=np.float32)
        for name, value in self.fixed.items():
            rows[:, NAMES.index(name)] = value
        rows[:, ICULOS] = np.arange(first, last + 1)
        for hour, values in self.values.items():
            for name, value in values.items():
                rows[hour - first, NAMES.index(name)] = value
        return rows


class HourlyModel:
    """A run's model of sepsis, ready for single patients."""

    def __init__(self, run: Path, name: str = "federated", site: str | None = None) -> None:
        """Load the model.

        Raises:
            DataError: the folder holds no complete model.
            UsageError: it is not one of sepsis, over the view of features.
        """
        from experiments.scoring.score import open_model

        self.scoring: ScoringModel = open_model(run, name, site)
        options: Any = datasets.open_source(self.scoring.config, Path()).options
        if self.scoring.config.data.dataset != "sepsis" or options.view != "features":
            raise UsageError(f"{run}: hourly risks need a model of the data set sepsis, data.options.view=features")

    def assess(self, stay: Stay) -> HourlyRisk:
        """Return a patient's risk at the last hour.

        Raises:
            DataError: nothing was measured.
        """
        if not any(stay.values.values()):
            raise DataError("nothing was measured yet")
        rows = stay.table()
        measured = np.flatnonzero(np.isfinite(rows[:, :N_MEASURED]).any(0))
        odds = self.compute_odds([rows, *(_without(rows, column) for column in measured.tolist())])
        effects = sorted(
            ((NAMES[column], float(odds[0] - odds[i + 1])) for i, column in enumerate(measured.tolist())),
            key=lambda item: -abs(item[1]),
        )
        risk = float(1 / (1 + np.exp(-odds[0])))
        return HourlyRisk(int(rows[-1, ICULOS]), risk, tuple(effects[:FACTORS]))

    def compute_odds(self, tables: Sequence[npt.NDArray[np.float32]]) -> npt.NDArray[np.float64]:
        """Return the log odds at the last hour of each table of some patients, all with the same number of hours."""
        from experiments.scoring.score import score_rows

        task, length = self.scoring.task, len(tables[0])
        first = np.arange(len(tables)) * length
        blocks = sepsis_features.patient_blocks(np.concatenate(tables), first)
        columns = np.concatenate([sepsis_features.compute_features(*block) for block in blocks])
        last = columns[first + length - 1, : len(task.features)]
        cohort = unlabelled_cohort(task, np.zeros((len(last), 0, 0), np.float32), last, ("stay",), False)
        scored = score_rows(self.scoring, ScorableRows(cohort, {}, ()))
        if len(scored.odds) != len(last):
            raise DataError("the model's output is not a finite number")
        return np.asarray(scored.odds[:, 1])


def _without(rows: npt.NDArray[np.float32], column: int) -> npt.NDArray[np.float32]:
    out = rows.copy()
    out[:, column] = np.nan
    return out


def read_observation(resource: Mapping[str, Any]) -> dict[str, float]:
    """Return the columns that a FHIR R4 Observation measures, components included; nobody's identity is read.

    Raises:
        DataError: it is no Observation, or measures nothing that is known.
    """
    if resource.get("resourceType") != "Observation":
        raise DataError("resourceType: an Observation is needed")
    components = resource.get("component", [])
    parts = [resource, *(components if isinstance(components, list) else [])]
    out: dict[str, float] = {}
    for part in (item for item in parts if isinstance(item, dict)):
        code, quantity = part.get("code"), part.get("valueQuantity")
        codings = code.get("coding", []) if isinstance(code, dict) else []
        value = quantity.get("value") if isinstance(quantity, dict) else None
        for coding in codings if isinstance(codings, list) else []:
            name = LOINC.get(str(coding.get("code"))) if isinstance(coding, dict) else None
            if name and isinstance(value, int | float) and not isinstance(value, bool):
                out[name] = float(value)
    if not out:
        raise DataError("the Observation measures nothing that the model uses (LOINC codes in docs/how-to/monitor.md)")
    return out
