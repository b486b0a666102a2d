"""Rows without a diagnosis, for scoring: `processed.<hospital>.data` in which the diagnosis may be `?`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sites import synthetic_folder
from sites.datasets import Source
from sites.datasets.heart_disease.rows import (
    COLUMNS,
    EXPLICIT_DUMMIES,
    EXPLICIT_NUMBERS,
    FLAMBY_COLUMNS,
    FLAMBY_DUMMIES,
    FLAMBY_NUMBERS,
    INDICATED,
    NEVER_ZERO,
    RANGES,
    _files,
    _inputs,
    _limits,
    _name,
    _outside,
    _table,
)
from sites.unlabelled_rows import NOTHING, Left, Rows, cohort


def rows_of(source: Source) -> Iterator[Rows]:
    """Yield the rows of a folder."""
    what, flamby = source.task(), source.options.protocol == "flamby"
    for site, path in _files(source.folder).items():
        values, lines = _table(path)
        names = [_name(site, line) for line in lines]
        outside = _outside(path, values)
        inputs = [COLUMNS.index(name) for name in (FLAMBY_COLUMNS if flamby else COLUMNS[:-1])]
        why = np.full(len(values), "", dtype=object)
        if flamby:
            for name in RANGES:
                why[outside[:, COLUMNS.index(name)]] = f"{name} {_limits(name)}"
            why[np.isnan(values[:, inputs]).any(1)] = "a value is missing, which data.options.protocol=flamby refuses"
        else:
            values[outside] = np.nan
            for name in NEVER_ZERO:
                values[values[:, COLUMNS.index(name)] == 0, COLUMNS.index(name)] = np.nan
        why[np.isnan(values[:, inputs]).all(1)] = NOTHING
        keep = why == ""
        kept = values[keep]
        if flamby:
            features = _inputs(kept, FLAMBY_NUMBERS, FLAMBY_DUMMIES)
        else:
            measured = ~np.isnan(kept[:, [COLUMNS.index(name) for name in INDICATED]])
            made = _inputs(kept, EXPLICIT_NUMBERS, EXPLICIT_DUMMIES)
            features = np.hstack([made, measured])
        here = tuple(name for name, good in zip(names, keep, strict=True) if good)
        n = len(here)
        rows = cohort(
            what,
            np.zeros((n, 0, 0), np.float32),
            features.astype(np.float32),
            here,
            synthetic_folder.is_marked(source.folder),
            np.arange(n),
        )
        columns = {"record": np.asarray(here, dtype=object), "line": np.asarray(lines)[keep]}
        left = tuple(Left(name, str(text), rows=1) for name, text in zip(names, why, strict=True) if text)
        yield Rows(rows, columns, left, about={"file": path.name})
