"""Cell suppression: which cells of a table of counts must be hidden, so that no small count of people is disclosed.

A count of 1 to 4 people is shown as `<5`. Where totals would give it away again (a total minus the rest), further cells
are hidden: complementary suppression. Sums over rows and over columns make the table a network in which each cell is an
edge. The values that a reader could deduce for a hidden cell are those it can take when counts move along closed paths
of hidden cells; where these are too few, the cheapest path is hidden too. (Fischetti, Salazar 1999, Math. Program.
84:283-312; Castro 2012, Eur. J. Oper. Res. 216(2):251-261 survey such methods.)
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator
from typing import Literal

import numpy as np
import numpy.typing as npt

VISIBLE, SMALL, HIDDEN = range(3)
"""State of a cell: shown; small, shown as `<5`; hidden, to protect another cell or because its total is small."""

RowSums = Literal["exact", "at least", "free"]
GROUND = -1
Table = npt.NDArray[np.int64]


def suppress_cells(table: Table, minimum: int = 5, rows: RowSums = "exact") -> npt.NDArray[np.int8]:
    """Return the state of each cell of a table of counts of people: VISIBLE, SMALL or HIDDEN.

    Zeros are shown, except in a row or column whose total is small, where nothing but that total is shown. Where the
    rest of the table allows it, a small count could be anything from 1 to `minimum - 1`, and a count below a small
    total anything from 0.

    Args:
        table: `(rows + 1, columns + 1)`; the last row and the last column are the totals, which are shown too.
            Columns add up to their totals, and no cell is above the total of its row.
        minimum: smallest count that may be shown.
        rows: whether a row's cells add up to its total (`exact`), to that or more because a person may count in
            several columns (`at least`), or to anything (`free`).
    """
    network = _Network(np.asarray(table, dtype=np.int64), minimum, rows)
    for cell in network.sensitive_cells():
        network.protect(cell)
    return network.state


def format_cells(table: Table, state: npt.NDArray[np.int8], minimum: int = 5) -> list[list[int | str]]:
    """Return the table with its cells as numbers, `<5` or `hidden`.

    >>> counts = np.array([[3, 40, 43], [20, 50, 70], [23, 90, 113]])
    >>> format_cells(counts, suppress_cells(counts))
    [['<5', 'hidden', 43], ['hidden', 'hidden', 70], [23, 90, 113]]
    """
    texts = {SMALL: f"<{minimum}", HIDDEN: "hidden"}
    return [
        [int(value) if cell == VISIBLE else texts[int(cell)] for value, cell in zip(line, states, strict=True)]
        for line, states in zip(table, state, strict=True)
    ]


class _Network:
    """The table as a network: cells are edges; nodes are rows, columns, and one for what rows do not add up to."""

    def __init__(self, table: Table, minimum: int, rows: RowSums) -> None:
        self.table, self.minimum, self.rows = table, minimum, rows
        self.height, self.width = table.shape[0] - 1, table.shape[1] - 1
        self.state = np.where((table > 0) & (table < minimum), SMALL, VISIBLE).astype(np.int8)
        small = self.state == SMALL
        self.blank = np.zeros(table.shape, dtype=bool)
        self.blank[:, :-1] |= small[:, -1:]
        self.blank[:-1, :] |= small[-1:, :]
        self.state[self.blank] = HIDDEN

    def sensitive_cells(self) -> list[tuple[int, int]]:
        """Return the cells that must not be disclosed."""
        return [(int(i), int(j)) for i, j in np.argwhere((self.state == SMALL) | self.blank)]

    def protect(self, cell: tuple[int, int]) -> None:
        """Hide further cells until the cell could take any of its possible values."""
        low, high = self._bounds(cell)
        for step in (1, -1):
            values = self.table.astype(np.int64).copy()
            excess = self._row_excess(values)
            goal = high if step > 0 else low
            while values[cell] != goal:
                path = self._path(values, excess, cell, step)
                if path is None:
                    break
                for edge, direction in [*path, (cell, step)]:
                    if edge[1] == GROUND:
                        excess[edge[0]] += direction
                        continue
                    values[edge] += direction
                    if self.state[edge] == VISIBLE:
                        self.state[edge] = HIDDEN

    def _bounds(self, cell: tuple[int, int]) -> tuple[int, float]:
        """Return the range that a reader knows for a cell that is not shown."""
        highest = math.inf
        if self.rows != "exact" and cell[1] < self.width and self.state[cell[0], -1] == VISIBLE:
            highest = float(self.table[cell[0], -1])
        if self.blank[cell]:
            return 0, min(self.minimum - 1, highest)
        if self.state[cell] == SMALL:
            return 1, min(self.minimum - 1, highest)
        return self.minimum, highest

    def _row_excess(self, values: Table) -> Table:
        """Return by how much the cells of each row exceed its total."""
        excess: Table = values[:, :-1].sum(1) - values[:, -1]
        return excess

    def _ends(self, cell: tuple[int, int]) -> tuple[int, int]:
        """Return the nodes of an edge: raising the cell by one moves one unit from the first to the second.

        Nodes: rows 0 to height, then columns.
        """
        i, j = cell
        row, column = i, self.height + 1 + j
        return (row, column) if (i == self.height) != (j == self.width) else (column, row)

    def _edges(self, values: Table, excess: Table) -> Iterator[tuple[int, int, tuple[int, int], int, float]]:
        """Yield each direction of an edge: start node, end node, cell, up (1) or down (-1), cost of hiding it."""
        for cell in np.ndindex(*self.table.shape):
            state, value = self.state[cell], int(values[cell])
            cost = 0.0
            if state == VISIBLE:
                if value < self.minimum:  # a zero, which stays shown
                    continue
                margin = (cell[0] == self.height) + (cell[1] == self.width)
                cost = 1 + math.log2(value) + (0, 20, 60)[margin]
            low, high = self._bounds((cell[0], cell[1]))
            tail, head = self._ends((cell[0], cell[1]))
            if value < high:
                yield tail, head, (cell[0], cell[1]), 1, cost
            if value > low:
                yield head, tail, (cell[0], cell[1]), -1, cost
        if self.rows == "exact":
            return
        ground = self.height + self.width + 2
        for i in range(self.height + 1):
            tail, head = (ground, i) if i == self.height else (i, ground)
            yield tail, head, (i, GROUND), 1, 0.0
            if self.rows == "free" or excess[i] > 0:
                yield head, tail, (i, GROUND), -1, 0.0

    def _path(
        self, values: Table, excess: Table, cell: tuple[int, int], step: int
    ) -> list[tuple[tuple[int, int], int]] | None:
        """Return the cheapest path that balances a step of a cell: cells, up (1) or down (-1); None: no path."""
        tail, head = self._ends(cell)
        start, goal = (head, tail) if step > 0 else (tail, head)
        steps: dict[int, list[tuple[int, tuple[int, int], int, float]]] = {}
        for source, target, edge, direction, cost in self._edges(values, excess):
            if edge != cell:
                steps.setdefault(source, []).append((target, edge, direction, cost))
        best: dict[int, float] = {start: 0.0}
        previous: dict[int, tuple[int, tuple[int, int], int]] = {}
        heap = [(0.0, start)]
        while heap:
            spent, node = heapq.heappop(heap)
            if node == goal:
                path = []
                while node != start:
                    node, edge, direction = previous[node]
                    path.append((edge, direction))
                return path
            if spent > best[node]:
                continue
            for target, edge, direction, cost in steps.get(node, ()):
                if (total := spent + cost + 1e-6) < best.get(target, math.inf):
                    best[target], previous[target] = total, (node, edge, direction)
                    heapq.heappush(heap, (total, target))
        return None
