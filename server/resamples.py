"""The resampled values of a run's figures, kept so that another run on the same patients can be compared in pairs.

They are computed from counts that the sites sent anyway, and are far smaller: a number for each figure and resample,
in place of a table of counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from common.errors import DataError
from common.figures import Sampled
from common.messages import ALL, PERSONAL, RESAMPLED
from common.metrics import Counts
from common.sampling import sampled
from common.task import Task

POOLED = "(pooled)"
"""Stands for all sites together, as in sites.csv."""
EVENT = {
    "auroc": ("class_auroc", 1),
    "auprc": ("class_auprc", 1),
    "sensitivity": ("class_recall", 1),
    "specificity": ("class_recall", 0),
    "ppv": ("class_precision", 1),
    "slope": ("class_slope", 0),
    "intercept": ("class_intercept", 0),
}
"""Figures of a task of one event, by their name in an evaluation, and where they stand among the resampled ones."""

Drawn = dict[str, npt.NDArray[np.float64]]


def figures(task: Task, found: Sampled) -> Drawn:
    """Return a model's resampled figures by their name in an evaluation, each `(resamples,)`."""
    drawn = {name: sample for name, sample in found.drawn.items() if sample.ndim == 1}
    if task.binary:
        drawn |= {name: found.drawn[at][:, place] for name, (at, place) in EVENT.items() if at in found.drawn}
    return drawn


def of_tables(
    task: Task, tables: Mapping[str, Mapping[str, Counts]], patients: Mapping[str, int], name: str = ALL
) -> dict[str, Drawn]:
    """Return the resampled figures of each site, and of all of them together where every site shares resamples.

    Args:
        task: names the classes.
        tables: each site's counts by table, resampled ones too.
        patients: each site's test patients.
        name: of the table.
    """
    known = {
        site: (found[name], found[name + RESAMPLED])
        for site, found in sorted(tables.items())
        if name in found and name + RESAMPLED in found
    }
    found = {
        site: figures(task, sampled(task, total, drawn, patients[site]))
        for site, (total, drawn) in known.items()
        if len(drawn.confusion)
    }
    sizes = {len(drawn.confusion) for _, drawn in known.values()}
    if len(known) == len([site for site in tables if name in tables[site]]) and len(sizes) == 1 and sizes != {0}:
        first, *rest = known.values()
        total, drawn = sum((pair[0] for pair in rest), first[0]), sum((pair[1] for pair in rest), first[1])
        found[POOLED] = figures(task, sampled(task, total, drawn, sum(patients[site] for site in known)))
    return found


def pack(task: Task, tables: Mapping[str, Mapping[str, Counts]], patients: Mapping[str, int]) -> bytes:
    """Return a file of the resampled figures of a model and of the sites' personal ones, `(resamples,)` of float32."""
    from safetensors.numpy import save

    return save(
        {
            f"{name}\t{site}\t{metric}": np.asarray(sample, dtype=np.float32, order="C")
            for name in (ALL, PERSONAL)
            for site, drawn in of_tables(task, tables, patients, name).items()
            for metric, sample in drawn.items()
        }
    )


def load(path: Path) -> dict[str, dict[str, Drawn]]:
    """Return what a file of `pack` holds: by table, by site, by figure; nothing where there is no file.

    Raises:
        DataError: it is not whole.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    found: dict[str, dict[str, Drawn]] = {}
    if not path.is_file():
        return found
    try:
        for key, sample in load_file(path).items():
            name, site, metric = key.split("\t")
            found.setdefault(name, {}).setdefault(site, {})[metric] = sample.astype(np.float64)
    except (OSError, SafetensorError, ValueError):
        raise DataError(f"{path} is damaged: run again") from None
    return found
