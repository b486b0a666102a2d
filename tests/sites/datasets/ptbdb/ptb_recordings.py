"""Recordings in PTB's layout, written by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from common.settings import validate_settings
from sites.datasets import ptbdb
from sites.ecg.leads import STANDARD
from sites.synthetic_folder import write_recording

INFARCTION = ["age: 61", "sex: male", "Diagnose:", "Reason for admission: Myocardial infarction", "Smoker: yes"]
HEALTHY = ["age: n/a", "sex: female", "Reason for admission: Healthy control"]


def beat_train(seconds: float, rate: float, period: float, height: float = 1.0) -> np.ndarray:
    """Return a clean lead: a narrow wave each period and a small one behind it."""
    t = np.arange(round(seconds * rate)) / rate
    phase = (t - 0.4) % period
    phase = np.minimum(phase, period - phase)
    late = np.abs((t - 0.4) % period - 0.25)
    return height * (np.exp(-0.5 * (phase / 0.012) ** 2) + 0.2 * np.exp(-0.5 * (late / 0.04) ** 2))


def put(folder: Path, name: str, lead: np.ndarray, comments: list[str], rate: int = 125, gain: float = 2000.0) -> Path:
    """Write a recording of all 12 leads, each of them `lead` times its number."""
    stem = folder / name
    stem.parent.mkdir(parents=True, exist_ok=True)
    signal = lead[:, None] * (1 + 0.05 * np.arange(12))
    names = [item.lower() for item in STANDARD]
    write_recording(stem, signal, names, [f"{stem.name}.dat"] * 12, rate=rate, gain=gain, comments=comments)
    return stem.with_suffix(".hea")


def options(**given: Any) -> ptbdb.Options:
    return validate_settings(ptbdb.Options, given, "test")


def read_all(folder: Path, store: Path, **given: Any) -> Any:
    chosen = options(**given)
    return ptbdb.read(folder, chosen, [item.id for item in ptbdb.patients(folder, chosen, store)], store)
