"""Small counts against an onlooker who tries every table that fits what is shown."""

from __future__ import annotations

import numpy as np
import pytest

from sites.disclosure.cell_suppression import HIDDEN, SMALL, VISIBLE, RowSums, format_cells, suppress_cells

MINIMUM = 3


def with_totals(inner: np.ndarray, totals: np.ndarray | None = None) -> np.ndarray:
    """Return counts with their totals: of the rows as given, or else their sums."""
    table = np.column_stack([inner, inner.sum(1) if totals is None else totals])
    return np.vstack([table, table.sum(0)])


def possible(table: np.ndarray, state: np.ndarray, rows: RowSums, top: int) -> np.ndarray:
    """Return all tables `(n, rows + 1, columns + 1)` with counts up to `top` that look the same to an onlooker."""
    height, width = table.shape[0] - 1, table.shape[1] - 1

    def fits(i: int, j: int, values: np.ndarray) -> np.ndarray:
        blank = (j < width and state[i, -1] == SMALL) or (i < height and state[-1, j] == SMALL)
        blank = blank or state[-1, -1] == SMALL
        if state[i, j] == VISIBLE:
            return values == table[i, j]
        if state[i, j] == SMALL:
            return (values > 0) & (values < MINIMUM)
        return values < MINIMUM if blank else values >= MINIMUM

    free = [(i, j) for i in range(height) for j in range(width + (rows != "exact"))]
    every = np.arange(top + 1)
    grids = np.meshgrid(*(every[fits(i, j, every)] for i, j in free), indexing="ij")
    made = np.zeros((grids[0].size, height + 1, width + 1), dtype=int)
    for (i, j), grid in zip(free, grids, strict=True):
        made[:, i, j] = grid.ravel()
    sums = made[:, :height, :width].sum(2)
    keep = np.ones(len(made), dtype=bool)
    if rows == "exact":
        made[:, :height, -1] = sums
    else:
        keep &= (made[:, :height, :width] <= made[:, :height, -1:]).all((1, 2))
    if rows == "at least":
        keep &= (sums >= made[:, :height, -1]).all(1)
    made[:, -1] = made[:, :height].sum(1)
    for i in range(height + 1):
        for j in range(width + 1):
            keep &= fits(i, j, made[:, i, j])
    return made[keep]


def draw(rng: np.random.Generator, shape: tuple[int, int], rows: RowSums, top: int) -> np.ndarray:
    inner = rng.integers(0, top, shape)
    if rows == "exact":
        return with_totals(inner)
    most = inner.sum(1) if rows == "at least" else np.full(len(inner), top)
    return with_totals(inner, rng.integers(inner.max(1), np.maximum(inner.max(1), np.minimum(most, top)) + 1))


SHAPES: dict[RowSums, list[tuple[int, int]]] = {
    "exact": [(2, 2), (3, 2), (2, 3), (1, 3)],
    "at least": [(2, 2), (1, 3)],
    "free": [(2, 2), (1, 3)],
}
CASES = [(rows, shape, seed) for rows, shapes in SHAPES.items() for shape in shapes for seed in range(12)]


@pytest.mark.parametrize(("rows", "shape", "seed"), CASES)
def test_an_onlooker_learns_no_more_than_if_all_were_hidden(rows: RowSums, shape: tuple[int, int], seed: int) -> None:
    table = draw(np.random.default_rng(seed), shape, rows, 6)
    state = suppress_cells(table, MINIMUM, rows)
    assert (state[(table > 0) & (table < MINIMUM)] != VISIBLE).all()
    assert ((table[state == SMALL] > 0) & (table[state == SMALL] < MINIMUM)).all()
    top = 7
    everything = np.where((state == VISIBLE) & (table >= MINIMUM), HIDDEN, state)
    observed, blind = possible(table, state, rows, top), possible(table, everything, rows, top)
    assert (observed == table).all((1, 2)).any()
    for i, j in np.argwhere((state == SMALL) | ((state == HIDDEN) & (table < MINIMUM))):
        assert set(observed[:, i, j]) == set(blind[:, i, j])


def test_a_total_minus_the_rest_gives_nothing_away() -> None:
    table = with_totals(np.array([[3, 40], [20, 50], [30, 60]]))
    assert format_cells(table, suppress_cells(table)) == [
        ["<5", "hidden", 43],
        ["hidden", "hidden", 70],
        [30, 60, 90],
        [53, 150, 203],
    ]
    one = with_totals(np.array([[3, 97]]))
    assert format_cells(one, suppress_cells(one))[-1] == ["<5", "hidden", 100]


def test_two_small_counts_protect_one_another_only_if_their_sum_leaves_room() -> None:
    wide = with_totals(np.array([[2, 40], [3, 40], [20, 40]]))  # 2 + 3 could be 1 + 4 or 4 + 1
    assert (suppress_cells(wide)[:, 0] == [SMALL, SMALL, VISIBLE, VISIBLE]).all()
    tight = with_totals(np.array([[1, 40], [1, 40], [20, 40]]))  # 1 + 1 could be nothing else
    assert (suppress_cells(tight)[:, 0] == [SMALL, SMALL, HIDDEN, VISIBLE]).all()


def test_of_a_hospital_with_few_people_only_that_is_shown() -> None:
    table = with_totals(np.array([[0, 3], [20, 50], [30, 60]]))
    text = format_cells(table, suppress_cells(table))
    assert text[0] == ["hidden", "hidden", "<5"]
    assert text[-1] == ["hidden", "hidden", "hidden"] or text[1:3] != [[20, 50, 70], [30, 60, 90]]


def test_nothing_is_hidden_where_nothing_is_small() -> None:
    table = with_totals(np.array([[0, 5], [17, 8]]))
    assert format_cells(table, suppress_cells(table)) == table.tolist()
    assert (suppress_cells(with_totals(np.array([[1, 2], [3, 4]])), minimum=1) == VISIBLE).all()


def test_of_fewer_people_than_that_in_all_nothing_is_shown() -> None:
    table = with_totals(np.array([[1, 1], [0, 2]]))
    state = suppress_cells(table)
    assert state[-1, -1] == SMALL
    assert (np.delete(state.ravel(), -1) == HIDDEN).all()


def test_a_person_in_several_classes_bounds_a_small_count_from_below() -> None:
    table = np.array([[18, 4, 20], [50, 30, 70], [68, 34, 90]])
    assert suppress_cells(table, rows="at least")[0].tolist() != [
        VISIBLE,
        SMALL,
        VISIBLE,
    ]  # 20 - 18: 2 or more
    assert suppress_cells(table, rows="free")[0].tolist() == [VISIBLE, SMALL, VISIBLE]


def test_many_hospitals_are_quick() -> None:
    rng = np.random.default_rng(0)
    stays = rng.integers(2, 24, 186)
    deaths = rng.binomial(stays, 0.09)
    table = with_totals(np.column_stack([stays - deaths, deaths]))
    state = suppress_cells(table)
    assert (state[-1] == VISIBLE).all()
    assert (state[:-1, 1] == VISIBLE).sum() == (deaths == 0)[stays >= 5].sum() + (deaths >= 5).sum()
