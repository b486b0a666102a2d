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
    INDICATED_COLUMNS,
    PLAUSIBLE_RANGES,
    ZERO_MEANS_MISSING,
    build_inputs,
    describe_limits,
    find_implausible,
    hospital_files,
    read_rows,
    row_id,
)
from sites.unlabelled_rows import ALL_MISSING, Exclusion, ScorableRows, unlabelled_cohort


def read_unlabelled(source: Source) -> Iterator[ScorableRows]:
    """Yield the rows of a folder."""
    what, flamby = source.task(), source.options.protocol == "flamby"
    for site, path in hospital_files(source.folder).items():
        values, lines = read_rows(path)
        names = [row_id(site, line) for line in lines]
        outside = find_implausible(path, values)
        inputs = [COLUMNS.index(name) for name in (FLAMBY_COLUMNS if flamby else COLUMNS[:-1])]
        why = np.full(len(values), "", dtype=object)
        if flamby:
            for name in PLAUSIBLE_RANGES:
                why[outside[:, COLUMNS.index(name)]] = f"{name} {describe_limits(name)}"
            why[np.isnan(values[:, inputs]).any(1)] = "a value is missing, which data.options.protocol=flamby refuses"
        else:
            values[outside] = np.nan
            for name in ZERO_MEANS_MISSING:
                values[values[:, COLUMNS.index(name)] == 0, COLUMNS.index(name)] = np.nan
        why[np.isnan(values[:, inputs]).all(1)] = ALL_MISSING
        keep = why == ""
        kept = values[keep]
        if flamby:
            features = build_inputs(kept, FLAMBY_NUMBERS, FLAMBY_DUMMIES)
        else:
            measured = ~np.isnan(kept[:, [COLUMNS.index(name) for name in INDICATED_COLUMNS]])
            made = build_inputs(kept, EXPLICIT_NUMBERS, EXPLICIT_DUMMIES)
            features = np.hstack([made, measured])
        here = tuple(name for name, good in zip(names, keep, strict=True) if good)
        n = len(here)
        rows = unlabelled_cohort(
            what,
            np.zeros((n, 0, 0), np.float32),
            features.astype(np.float32),
            here,
            synthetic_folder.is_marked(source.folder),
            np.arange(n),
        )
        columns = {"record": np.asarray(here, dtype=object), "line": np.asarray(lines)[keep]}
        left = tuple(Exclusion(name, str(text), rows=1) for name, text in zip(names, why, strict=True) if text)
        yield ScorableRows(rows, columns, left, about={"file": path.name})
