"""Simulated hospitals in the layout of YAIB: hourly cohorts of sites/datasets/eicu/simulate.py, a folder each."""

from __future__ import annotations

from pathlib import Path

from sites.datasets.eicu import simulate as eicu_simulate
from sites.synthetic_folder import MARKER, build_folder

VERSION = 1


def generate(folder: Path, *, hospitals: int, stays: int, seed: int) -> None:
    """Write `hospital-1`, `hospital-2`, ... with dyn, sta and outc; the same bytes for the same arguments.

    Raises:
        DataError: the folder holds other data.
    """
    sentence = f"{hospitals} hospitals of about {stays} stays in YAIB's layout, seed {seed}, version {VERSION}"
    with build_folder(folder, sentence) as build:
        if build is None:
            return
        for index in range(hospitals):
            home = build / f"hospital-{index + 1}"
            home.mkdir()
            for name, table in eicu_simulate.draw_hourly_cohort(index, stays, seed).items():
                table.to_parquet(home / f"{name}.parquet", index=False)
            (home / MARKER).write_text(f"SYNTHETIC: one hospital of {sentence}\n")
