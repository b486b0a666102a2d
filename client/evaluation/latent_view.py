"""What a site shows of a model that reconstructs: aggregates of latent space, and single examples where it may.

The plane is that of the two directions of most variance of all sites' training examples. Of the site's test examples
leave counts by cell and class, of cells that hold examples of enough people. Examples themselves, beside what the
model made of them, leave where the site's data are generated, or its policy says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from client.evaluation.anomaly_scores import Detector
from client.policy import SitePolicy
from client.training.batches import choose_device, iterate_outputs
from common.latent import LatentStatistics
from sites.cohort import Cohort

if TYPE_CHECKING:
    from client.site import Site

GRID_CELLS, GRID_REACH = 24, 4.0
"""Cells along each axis, and how far these reach, in standard deviations; what lies beyond is in the last cells."""


def build_latent_view(detector: Detector, site: Site, policy: SitePolicy, latent: bytes) -> dict[str, Any]:
    """Return counts by class and cell, and how many examples stand in cells that are not told; JSON-ready."""
    test = site.test
    errors, found = detector.measure(test)
    place = assign_cells(
        LatentStatistics.from_bytes(latent).plane(np.nan_to_num(found, nan=1e6, posinf=1e6, neginf=-1e6))
    )
    person = np.unique(np.asarray(test.persons, dtype=object)[test.patient], return_inverse=True)[1]
    counts, hidden = {}, {}
    for name, rows in select_class_rows(test).items():
        held = np.bincount(place[rows], minlength=GRID_CELLS**2)
        people = np.bincount(np.unique(np.stack([place[rows], person[rows]]), axis=1)[0], minlength=GRID_CELLS**2)
        told = np.where(people >= policy.min_cell_patients, held, 0)
        counts[name] = {int(cell): int(told[cell]) for cell in np.flatnonzero(told)}
        hidden[name] = int(held.sum() - told.sum())
    view: dict[str, Any] = {"cells": GRID_CELLS, "reach": GRID_REACH, "counts": counts, "hidden": hidden}
    shares = site.synthetic or policy.share_examples
    if shares and detector.config.model.name != "tabular_autoencoder":
        view["examples"] = build_reconstruction_examples(detector, test, errors)
    return view


def assign_cells(plane: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Return each point's cell, `CELLS * row + column`: the first direction runs along a row."""
    along = np.clip((plane + GRID_REACH) * (GRID_CELLS / (2 * GRID_REACH)), 0, GRID_CELLS - 1).astype(np.int64)
    return along[:, 1] * GRID_CELLS + along[:, 0]


def select_class_rows(test: Cohort) -> dict[str, npt.NDArray[np.bool_]]:
    """Return which examples are normal, and which have each abnormal class."""
    found = {test.task.classes[0]: test.y == 0}
    if test.kinds is not None:
        found |= dict(zip(test.task.against, test.kinds.T, strict=True))
    return {name: rows for name, rows in found.items() if rows.any()}


def build_reconstruction_examples(
    detector: Detector, test: Cohort, errors: npt.NDArray[np.float64]
) -> list[dict[str, Any]]:
    """Return the best, the median and the worst reconstructed example of each class, beside what was made of it."""
    chosen, about = [], []
    for name, rows in select_class_rows(test).items():
        order = np.flatnonzero(rows)[np.argsort(errors[rows], kind="stable")]
        for which, at in (("best", 0), ("median", len(order) // 2), ("worst", -1)):
            chosen.append(int(order[at]))
            about.append({"class": name, "which": which, "error": float(f"{errors[order[at]]:.4g}")})
    device = choose_device(detector.config.training.device)
    found = next(iterate_outputs(detector.model, test.take(np.asarray(chosen)), device))[0]

    def rounded(part: torch.Tensor) -> list[Any]:
        listed: list[Any] = np.round(part.nan_to_num().double().cpu().numpy(), 4).tolist()
        return listed

    wanted, made = rounded(found.wanted), rounded(found.signal)
    return [{**item, "wanted": wanted[i], "made": made[i]} for i, item in enumerate(about)]
