"""Every figure in every resample of the patients, kept in the run's folder.

All models are resampled with the same draws of a site's patients, so the difference of two models' values, one by one,
is a draw of their difference: paired intervals are read off it, between the models of a run (experiments/report) and
between runs on the same patients (`wardround compare`). Written are only figures, not counts, and only where a site
shared its resampled counts.
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
"""Of each figure, by its name in `Evaluation`, its value in each resample, `(resamples,)`."""
Draws = dict[tuple[str, str], Drawn]
"""By table and site (or POOLED)."""


def resample_tables(
    task: Task, tables: Mapping[str, Mapping[str, Counts]], patients: Mapping[str, Mapping[str, int]]
) -> Draws:
    """Return the resampled figures of each table and site, and of all of them where every site shares as many.

    Args:
        task: names the classes.
        tables: each site's counts by table, resampled ones too.
        patients: by table, each site's test patients. Only tables of all patients, of the sites' personal models, and
            of groups of patients are resampled.
    """
    found: Draws = {}
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
        places = [(site, totals[site], shared[site], held[site]) for site in shared]
        if len(shared) == len(held) and len(sizes) == 1:
            (first, *rest), (start, *others) = totals.values(), shared.values()
            places.append((POOLED, sum(rest, first), sum(others, start), sum(held.values())))
        for site, total, drawn, people in places:
            if len(drawn.confusion):
                slow = not name.startswith(GROUP_PREFIX)
                found[name, site] = resample_figures(task, total, drawn, people, slow)
    return found


def resample_figures(task: Task, total: Counts, drawn: Counts, patients: int, slow: bool = True) -> Drawn:
    """Return the resampled values of the metrics of one value; `slow`: also of those that take long (registry)."""
    found = with_event_figures(task, compute_figures(task, total, drawn, patients, slow=slow))
    return {name: sample for name, sample in found.drawn.items() if sample.ndim == 1}


def pack_resamples(found: Draws) -> bytes:
    """Return the file of resampled figures, each `(resamples,)` of float32."""
    return pack_arrays(
        {
            f"{table}\t{site}\t{name}": np.asarray(sample, dtype=np.float32)
            for (table, site), drawn in found.items()
            for name, sample in drawn.items()
        }
    )


def load_resamples(path: Path) -> Draws:
    """Return what a file of `pack` holds; nothing where there is no file.

    Raises:
        DataError: the file is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    found: Draws = {}
    if not path.is_file():
        return found
    try:
        for key, sample in load_file(path).items():
            table, site, name = key.split("\t")
            found.setdefault((table, site), {})[name] = sample.astype(np.float64)
    except (OSError, SafetensorError, ValueError):
        raise DataError(f"{path} is damaged: run again, or remove it to do without paired intervals") from None
    return found
