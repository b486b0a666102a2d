"""Resampled figures: every metric in every resample of the patients, stored in the run's folder.

All models are resampled with the same draws of a site's patients, so that the difference of two models in one resample
is a draw of their difference. This gives paired intervals between the models of a run (experiments/report) and between
runs on the same patients (`wardround compare`). Stored are figures, not counts, and only of sites that share resamples.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from common.errors import DataError
from common.files import pack_arrays
from common.metrics.counts import Counts
from common.metrics.resampling import compute_figures, with_event_figures
from common.metrics.table_names import ALL_PATIENTS, GROUP_PREFIX, PERSONAL, RESAMPLED_SUFFIX
from common.task import Task

POOLED = "(pooled)"
"""Stands for all sites together, as in sites.csv."""

Drawn = dict[str, npt.NDArray[np.float64]]
"""Values in each resample, `(resamples,)`, by metric."""
Draws = dict[tuple[str, str], Drawn]
"""Resampled figures by table and site (or POOLED)."""


def resample_tables(
    task: Task, tables: Mapping[str, Mapping[str, Counts]], patients: Mapping[str, Mapping[str, int]]
) -> Draws:
    """Return the resampled figures of each table and site, and pooled where all sites share equally many resamples.

    Args:
        task: names the classes.
        tables: each site's counts by table, with their resampled counts.
        patients: number of test patients by table and site. Only tables of all patients, of the sites' personal
            models, and of groups of patients are resampled.
    """
    draws: Draws = {}
    for name, held in patients.items():
        if name not in (ALL_PATIENTS, PERSONAL) and not name.startswith(GROUP_PREFIX):
            continue
        shared = {
            site: tables[site][name + RESAMPLED_SUFFIX]
            for site in sorted(held)
            if name + RESAMPLED_SUFFIX in tables[site]
        }
        totals = {site: tables[site][name] for site in shared}
        sizes = {len(counts.confusion) for counts in shared.values()}
        rows = [(site, totals[site], shared[site], held[site]) for site in shared]
        if len(shared) == len(held) and len(sizes) == 1:
            (first, *rest), (start, *others) = totals.values(), shared.values()
            rows.append((POOLED, sum(rest, first), sum(others, start), sum(held.values())))
        for site, total, drawn, people in rows:
            if len(drawn.confusion):
                slow = not name.startswith(GROUP_PREFIX)
                draws[name, site] = resample_figures(task, total, drawn, people, slow)
    return draws


def resample_figures(task: Task, total: Counts, drawn: Counts, patients: int, slow: bool = True) -> Drawn:
    """Return the values of all metrics of one value in each resample.

    Args:
        task: names the classes.
        total: counts without leading axis.
        drawn: resampled counts.
        patients: number of patients.
        slow: whether to include the metrics that are marked as slow.
    """
    figures = with_event_figures(task, compute_figures(task, total, drawn, patients, slow=slow))
    return {name: sample for name, sample in figures.drawn.items() if sample.ndim == 1}


def pack_resamples(draws: Draws) -> bytes:
    """Return the content of a file of resampled figures, as float32."""
    return pack_arrays(
        {
            f"{table}\t{site}\t{name}": np.asarray(sample, dtype=np.float32)
            for (table, site), drawn in draws.items()
            for name, sample in drawn.items()
        }
    )


def load_resamples(path: Path) -> Draws:
    """Return the resampled figures of a file; none where there is no file.

    Raises:
        DataError: the file is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    draws: Draws = {}
    if not path.is_file():
        return draws
    try:
        for key, sample in load_file(path).items():
            table, site, name = key.split("\t")
            draws.setdefault((table, site), {})[name] = sample.astype(np.float64)
    except (OSError, SafetensorError, ValueError):
        raise DataError(f"{path} is damaged: run again, or remove it to continue without paired intervals") from None
    return draws
