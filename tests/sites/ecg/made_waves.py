"""Generated waves of an ECG with the places of their beats, for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import wfdb

RATE = 360.0


def make_waves(seed: int, seconds: int = 60) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Return a lead in mV and the samples of its R peaks: irregular beats of P, QRS and T waves."""
    rng = np.random.default_rng(seed)
    at = np.cumsum(rng.normal(0.8, 0.07, int(seconds / 0.8)))
    at = at[at < seconds - 1]
    time = np.arange(seconds * RATE) / RATE
    lead = rng.normal(0, 0.01, len(time))
    for peak in at.tolist():
        for height, delay, width in ((0.15, -0.17, 0.02), (1.2, 0.0, 0.012), (0.3, 0.28, 0.05)):
            lead += height * np.exp(-0.5 * ((time - peak - delay) / width) ** 2)
    return lead.astype(np.float32), np.rint(at * RATE).astype(np.int64)


def write_recording(
    folder: Path, name: str, lead: npt.NDArray[np.float32], sample: npt.NDArray[np.int64], gain: float = 500.0
) -> None:
    """Write a lead MLII with normal beats as a WFDB recording."""
    wfdb.wrsamp(
        name, fs=RATE, units=["mV"], sig_name=["MLII"], p_signal=lead[:, None].astype(float), fmt=["16"],
        adc_gain=[gain], baseline=[0], write_dir=str(folder),
    )  # fmt: skip
    wfdb.wrann(name, "atr", sample, symbol=["N"] * len(sample), write_dir=str(folder))
