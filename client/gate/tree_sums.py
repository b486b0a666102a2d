"""Protection of people in the histograms from which trees are grown.

A bin's sums over few people are about those people: their gradient is their outcome, and the bin their value. From the
trees and histograms of federated boosters other participants rebuild most of the data (Di Gennaro et al. 2025,
TimberStrike, arXiv:2506.07605). So in what leaves a hospital

- neighbouring bins are merged until each holds the floor's people, and so is the bin of missing values; the sums stand
  in the last bin of those that were merged;
- a node with fewer people than the floor gives zeros;
- each sum has noise, whose standard deviation is `update_noise` times the largest part that one person has in the node:
  two nodes that differ by one person do not show that person's part;
- numbers of people are off by `count_noise`, and multiples of `round_counts_to`.

People are counted as the sum of the shares of their examples, which is at most their number, so a bin of the floor's
people may be merged all the same. This is not differential privacy: a server that asks often averages the noise away,
so a run's messages count as rounds of training.
"""

from __future__ import annotations

import numpy as np

from client.policy import SitePolicy
from client.training.histograms import NodeSums
from common.replies import Sums
from common.trees import Floats


def release_node_sums(sums: NodeSums, policy: SitePolicy, rng: np.random.Generator) -> Sums:
    """Return sums as they may leave a hospital.

    Args:
        sums: exact ones.
        policy: `min_cell_patients` is the floor.
        rng: generator of the noise; a hospital seeds it from the operating system.
    """
    floor = policy.min_cell_patients
    moved = merge_cells(sums.people, floor)
    gradient, hessian = (_add_up(values, moved) for values in (sums.gradient, sums.hessian))
    people = _add_up(sums.people[..., None], moved)[..., 0]
    enough = sums.people.sum(2) >= floor * (1 - 1e-9)
    here = (people > 0) & enough[..., None]
    for which, values in enumerate((gradient, hessian)):
        deviation = policy.update_noise * sums.largest[:, which][:, None, None, None]
        values += rng.normal(size=values.shape) * deviation
        values *= here[..., None]
    off = people + rng.normal(size=people.shape) * policy.count_noise
    grain = policy.round_counts_to
    rounded = np.maximum(np.rint(off / grain) * grain, 0.0) * here
    return {"gradient": gradient, "hessian": hessian, "people": rounded}


def merge_cells(people: Floats, floor: float) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """Return for each cell of histograms `(nodes, columns, cells)` the cell in which its sums stand.

    From the left, cells are merged until each group has `floor` people; a rest joins the group before it. The last
    cell, of missing values, stays alone if it has enough people, and else joins the first group.
    """
    nodes, columns, cells = people.shape
    group = np.zeros((nodes, columns, cells), np.int64)
    inside, current = np.zeros((nodes, columns)), np.zeros((nodes, columns), np.int64)
    need = floor * (1 - 1e-9)
    for cell in range(cells - 1):
        full = inside >= need
        current, inside = current + full, np.where(full, 0.0, inside)
        inside = inside + people[..., cell]
        group[..., cell] = current
    short = (inside < need) & (current > 0)
    group[..., :-1] -= (group[..., :-1] == current[..., None]) & short[..., None]
    last = np.zeros((nodes, columns, cells), np.int64)
    at, into = np.arange(nodes)[:, None], np.arange(columns)[None]
    for cell in range(cells - 1):
        last[at, into, group[..., cell]] = cell
    target = np.take_along_axis(last, group, axis=2)
    target[..., -1] = np.where(people[..., -1] >= need, cells - 1, target[..., 0])
    return target


def _add_up(values: Floats, target: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> Floats:
    """Return values `(nodes, columns, cells, outputs)` added up in the cells that `target` names."""
    out = np.zeros_like(values)
    at, into = np.indices(target.shape[:2])
    for cell in range(target.shape[2]):
        out[at, into, target[..., cell]] += values[:, :, cell]
    return out
