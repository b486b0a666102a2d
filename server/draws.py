"""Figures in every resample of the patients, kept in the run's folder.

All models are resampled with the same draws of a site's patients, so the difference of two models' draws, one by one,
is a draw of their difference: that is what paired intervals are read off. Written are only figures, and only where
sites shared their resampled counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from common.errors import DataError
from common.figures import Evaluation, Sampled
from common.messages import ALL, GROUP, PERSONAL, RESAMPLED, Reply
from common.sampling import PLAIN, sampled
from common.task import Task

POOLED = "(pooled)"
"""Stands for all sites together."""
Draws = dict[tuple[str, str], dict[str, npt.NDArray[np.float32]]]
"""By table and site (or POOLED), of each figure by its name in `Evaluation`, its value in each resample."""
EVENT = {"auroc": (1, "auroc"), "auprc": (1, "auprc"), "sensitivity": (1, "recall"), "specificity": (0, "recall")}
"""Figures of an event: the class, and what of it they are."""


def draws(
    task: Task,
    replies: Mapping[str, Reply],
    by_table: Mapping[str, Mapping[str, Evaluation]],
    pooled: Mapping[str, Evaluation],
) -> Draws:
    """Return the draws of what sites answered; a table's pooled ones only where every site shares its resamples."""
    found: Draws = {}
    for name, results in by_table.items():
        if name not in (ALL, PERSONAL) and not name.startswith(GROUP):
            continue
        totals = {site: replies[site].tables[name] for site in results}
        drawn = {s: replies[s].tables[name + RESAMPLED] for s in results if name + RESAMPLED in replies[s].tables}
        for site, counts in sorted(drawn.items()):
            found[name, site] = named(task, sampled(task, totals[site], counts, results[site].patients, judge=False))
        if len(drawn) == len(totals) and len({len(item.confusion) for item in drawn.values()}) == 1:
            (first, *rest), (start, *others) = ([part[s] for s in sorted(part)] for part in (totals, drawn))
            whole = sampled(task, sum(rest, first), sum(others, start), pooled[name].patients, judge=False)
            found[name, POOLED] = named(task, whole)
    return found


def named(task: Task, figures: Sampled) -> dict[str, npt.NDArray[np.float32]]:
    """Return the draws of every figure that is one number, by its name in `Evaluation`."""
    found = {name: figures.drawn[name] for name in PLAIN if name in figures.drawn}
    if task.binary and figures.drawn:
        found |= {name: figures.drawn[f"class_{what}"][:, place] for name, (place, what) in EVENT.items()}
    return {name: values.astype(np.float32) for name, values in found.items()}


def save(path: Path, found: Draws) -> None:
    """Write draws whole or not at all; nothing where there are none."""
    from server.app import save_weights

    arrays = {
        f"{table}\t{site}\t{name}": values for (table, site), part in found.items() for name, values in part.items()
    }
    if arrays:
        save_weights(path, arrays, {})


def load(path: Path) -> Draws:
    """Read what `save` wrote; nothing where it wrote nothing.

    Raises:
        DataError: the file is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    if not path.is_file():
        return {}
    found: Draws = {}
    try:
        arrays: dict[str, Any] = load_file(path)
        for key, values in arrays.items():
            table, site, name = key.split("\t")
            found.setdefault((table, site), {})[name] = values
    except (OSError, SafetensorError, ValueError):
        raise DataError(f"{path} is damaged: run the evaluation again, or remove it to do without intervals") from None
    return found


def file_of(model: str) -> str:
    """Return the name of a model's file in the run's folder."""
    return "draws.safetensors" if model in ("federated", "personal") else f"draws.{model.replace(':', '.')}.safetensors"
