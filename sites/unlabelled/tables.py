"""Rows of health records that nobody has labelled, in the form that a model was trained on.

UCI's heart disease: the same `processed.<hospital>.data`, in which the diagnosis may be `?`. Sepsis: the same `.psv`
files, in which the column SepsisLabel may be missing. A row of which every value is missing, and the hours of a patient
before anything was measured, are left out and told, because a score of them would rest on nothing. Any other data set
comes through its own reader, with the rows that this keeps.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sites.datasets import Source
from sites.unlabelled_rows import Exclusion, ScorableRows


def read_unlabelled_tables(source: Source) -> Iterator[ScorableRows]:
    """Yield the rows of a folder, a hospital or some hundred patients at a time.

    Raises:
        DataError: nothing is there, or it is not in the data set's layout.
    """
    own = getattr(source.module, "unlabelled_rows", None)
    if own is None:
        yield _labelled(source)
    else:
        yield from own(source)


def _labelled(source: Source) -> ScorableRows:
    found = source.read([item.id for item in source.patients()])
    left = tuple(Exclusion(why, why, rows=number) for why, number in found.excluded.items())
    index = np.concatenate([np.arange(n) for n in np.bincount(found.patient, minlength=len(found.patients))])
    record = np.asarray(found.patients, dtype=object)[found.patient]
    return ScorableRows(found, {"record": record, "row": index}, left)
