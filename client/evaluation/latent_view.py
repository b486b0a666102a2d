"""Aggregates of an autoencoder's latent space at a site, and single examples if they may leave.

The plane is spanned by the two directions of largest variance of all sites' training examples. Counts of the site's
test examples by cell and class leave, of cells that hold examples of enough people. Examples and their reconstructions
leave if the site's data are generated, or its policy allows it (`share_examples`).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from client.evaluation.anomaly_scores import Detector
from client.policy import SitePolicy
from client.site import Site
from client.training.batches import choose_device, iterate_outputs
from common.latent import LatentStatistics
from common.models._reconstruct import as_reconstruction
from common.reports import LatentViewReport, ReconstructedExample
from sites.cohort import Cohort

GRID_CELLS, GRID_REACH = 24, 4.0
"""Cells along each axis, and the axes' half length in standard deviations; the outermost cells include all beyond."""


def build_latent_view(detector: Detector, site: Site, policy: SitePolicy, latent: bytes) -> LatentViewReport:
    """Return the number of test examples by class and cell, and how many are in suppressed cells.

    Args:
        detector: the autoencoder.
        site: with its inputs scaled as the model takes them.
        policy: the site's.
        latent: statistics of all sites' latent space (common/latent.py).
    """
    test = site.test
    errors, values = detector.measure(test)
    cell = assign_cells(
        LatentStatistics.from_bytes(latent).plane(np.nan_to_num(values, nan=1e6, posinf=1e6, neginf=-1e6))
    )
    person = np.unique(np.asarray(test.persons, dtype=object)[test.patient], return_inverse=True)[1]
    counts, hidden = {}, {}
    for name, rows in select_class_rows(test).items():
        examples = np.bincount(cell[rows], minlength=GRID_CELLS**2)
        people = np.bincount(np.unique(np.stack([cell[rows], person[rows]]), axis=1)[0], minlength=GRID_CELLS**2)
        reported = np.where(people >= policy.min_cell_patients, examples, 0)
        counts[name] = {int(i): int(reported[i]) for i in np.flatnonzero(reported)}
        hidden[name] = int(examples.sum() - reported.sum())
    shares = (site.synthetic or policy.share_examples) and detector.config.model.name != "tabular_autoencoder"
    return LatentViewReport(
        cells=GRID_CELLS,
        reach=GRID_REACH,
        counts=counts,
        hidden=hidden,
        examples=build_reconstruction_examples(detector, test, errors) if shares else None,
    )


def assign_cells(plane: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Return the cell of each point, `GRID_CELLS * row + column`.

    Args:
        plane: `(points, 2)`; the first coordinate gives the column, the second the row.
    """
    along = np.clip((plane + GRID_REACH) * (GRID_CELLS / (2 * GRID_REACH)), 0, GRID_CELLS - 1).astype(np.int64)
    return along[:, 1] * GRID_CELLS + along[:, 0]


def select_class_rows(test: Cohort) -> dict[str, npt.NDArray[np.bool_]]:
    """Return the masks of normal examples and of each abnormal class, without those that no example has."""
    masks = {test.task.classes[0]: test.y == 0}
    if test.kinds is not None:
        masks |= dict(zip(test.task.against, test.kinds.T, strict=True))
    return {name: rows for name, rows in masks.items() if rows.any()}


def build_reconstruction_examples(
    detector: Detector, test: Cohort, errors: npt.NDArray[np.float64]
) -> tuple[ReconstructedExample, ...]:
    """Return the best, the median and the worst reconstructed example of each class, with the reconstruction."""
    chosen: list[int] = []
    about: list[dict[str, str | float]] = []
    for name, rows in select_class_rows(test).items():
        order = np.flatnonzero(rows)[np.argsort(errors[rows], kind="stable")]
        for which, at in (("best", 0), ("median", len(order) // 2), ("worst", -1)):
            chosen.append(int(order[at]))
            about.append({"class": name, "which": which, "error": float(f"{errors[order[at]]:.4g}")})
    device = choose_device(detector.config.training.device)
    output = as_reconstruction(next(iterate_outputs(detector.model, test.take(np.asarray(chosen)), device))[0])
    assert output.wanted is not None  # the view is of models of signals
    assert output.signal is not None

    def to_lists(signals: torch.Tensor) -> list[list[list[float]]]:
        values: list[list[list[float]]] = np.round(signals.nan_to_num().double().cpu().numpy(), 4).tolist()
        return values

    return tuple(
        ReconstructedExample.model_validate({**item, "wanted": wanted, "made": made}, strict=False)
        for item, wanted, made in zip(about, to_lists(output.wanted), to_lists(output.signal), strict=True)
    )
