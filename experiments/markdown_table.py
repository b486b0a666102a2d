"""Markdown tables, as the documentation quotes them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence


def render_markdown_table(
    header: Sequence[str], rows: Iterable[Sequence[object]], right_aligned: Collection[int] = ()
) -> str:
    r"""Return a Markdown table without a final newline.

    Args:
        header: the titles of the columns.
        rows: the cells of each row; missing last cells are empty.
        right_aligned: indices of the columns that are aligned to the right.

    >>> print(render_markdown_table(["site", "n"], [["north | east", 3], ["south"]], right_aligned=[1]))
    | site | n |
    | --- | ---: |
    | north \| east | 3 |
    | south |  |
    """
    rules = ["---:" if index in right_aligned else "---" for index in range(len(header))]
    lines = [list(header), rules]
    for row in rows:
        cells = [str(cell).replace("|", "\\|") for cell in row]
        lines.append(cells + [""] * (len(header) - len(cells)))
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
