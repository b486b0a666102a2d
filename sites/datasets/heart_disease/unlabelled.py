"""Rows for scoring: files `processed.<hospital>.data` in which the diagnosis may be `?`."""

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
    ZERO_RETAINED,
    build_inputs,
    describe_limits,
    find_implausible,
    hospital_files,
    read_rows,
    row_id,
)
from sites.unlabelled_rows import ALL_MISSING, Exclusion, ScorableRows, unlabelled_cohort


def read_unlabelled(source: Source) -> Iterator[ScorableRows]:
    """Yield the rows of a folder, a hospital at a time."""
    task, flamby = source.task(), source.options.protocol == "flamby"
    for site, path in hospital_files(source.folder).items():
        values, lines = read_rows(path)
        names = [row_id(site, line) for line in lines]
        implausible = find_implausible(path, values)
        inputs = [COLUMNS.index(name) for name in (FLAMBY_COLUMNS if flamby else COLUMNS[:-1])]
        reason = np.full(len(values), "", dtype=object)
        cleared = {
            f"{name} {describe_limits(name)}, read as not measured": implausible[:, COLUMNS.index(name)]
            for name in PLAUSIBLE_RANGES
        } | {f"{name} of 0, read as not measured": values[:, COLUMNS.index(name)] == 0 for name in ZERO_MEANS_MISSING}
        if flamby:
            for name in PLAUSIBLE_RANGES:
                reason[implausible[:, COLUMNS.index(name)]] = f"{name} {describe_limits(name)}"
            reason[np.isnan(values[:, inputs]).any(1)] = (
                "a value is missing, which data.options.protocol=flamby refuses"
            )
        else:
            values[implausible] = np.nan
            for name in ZERO_MEANS_MISSING:
                values[values[:, COLUMNS.index(name)] == 0, COLUMNS.index(name)] = np.nan
        reason[np.isnan(values[:, inputs]).all(1)] = ALL_MISSING
        keep = reason == ""
        included = values[keep]
        if flamby:
            features = build_inputs(included, FLAMBY_NUMBERS, FLAMBY_DUMMIES)
        else:
            measured = ~np.isnan(included[:, [COLUMNS.index(name) for name in INDICATED_COLUMNS]])
            values_and_codes = build_inputs(included, EXPLICIT_NUMBERS, EXPLICIT_DUMMIES)
            features = np.hstack([values_and_codes, measured])
        records = tuple(name for name, good in zip(names, keep, strict=True) if good)
        n = len(records)
        cohort = unlabelled_cohort(
            task,
            np.zeros((n, 0, 0), np.float32),
            features.astype(np.float32),
            records,
            synthetic_folder.is_marked(source.folder),
            np.arange(n),
        )
        columns = {"record": np.asarray(records, dtype=object), "line": np.asarray(lines)[keep]}
        excluded = tuple(Exclusion(name, str(text), rows=1) for name, text in zip(names, reason, strict=True) if text)
        if flamby:
            cleared = {ZERO_RETAINED.format(name): values[:, COLUMNS.index(name)] == 0 for name in ZERO_MEANS_MISSING}
        counts = {what: int((cells & keep).sum()) for what, cells in cleared.items()}
        yield ScorableRows(
            cohort,
            columns,
            excluded,
            about={"file": path.name},
            cleared={what: number for what, number in counts.items() if number},
        )
