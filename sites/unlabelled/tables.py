"""Rows of health records that need no label, with the inputs that a model was trained on.

A data set with a function `unlabelled_rows` reads them itself: UCI Heart Disease from the same
`processed.<hospital>.data`, in which the diagnosis may be `?`; sepsis from the same `.psv` files, in which the column
SepsisLabel may be missing. Rows without any measured value are excluded and reported, because their score would rest
on nothing. Any other data set is read as for training.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from common.errors import DataError
from sites.code_values import count_code_values
from sites.datasets import Source
from sites.equal_inputs import EQUAL_PEOPLE, count_equal_people
from sites.person_units import count_units_of_people
from sites.spellings import count_alike, loose_spelling
from sites.suspicions import PERHAPS_ALIKE
from sites.unlabelled_rows import Exclusion, ScorableRows


def read_unlabelled_tables(source: Source) -> Iterator[ScorableRows]:
    """Yield the rows of a folder, a hospital or some hundred patients at a time.

    Raises:
        DataError: no data there, or not in the data set's layout; or patients stand in several files, so that they
            would be scored twice, or two people under one name.
    """
    unlabelled_rows = getattr(source.module, "unlabelled_rows", None)
    if unlabelled_rows is None:
        yield _read_as_for_training(source)
        return
    before: set[str] = set()
    alike: Counter[tuple[str, ...]] = Counter()
    bounds = source.bounds()
    for rows in unlabelled_rows(source):
        names = {str(name) for name in rows.cohort.patients}
        if twice := len(names & before):
            raise DataError(
                f"{source.folder}: {twice} patient(s) stand in several files: keep one file of each, or score the "
                "folders one by one"
            )
        before |= names
        suspicions = count_code_values(rows.cohort, bounds) | count_units_of_people(rows.cohort)
        spellings = [loose_spelling(name) for name in names]
        if again := sum(alike[spelling] > 0 for spelling in spellings) + count_alike(spellings):
            suspicions[PERHAPS_ALIKE] = again
        alike.update(spellings)
        if equal := count_equal_people(rows.cohort):
            suspicions[EQUAL_PEOPLE] = equal
        yield replace(rows, suspicions=suspicions)


def _read_as_for_training(source: Source) -> ScorableRows:
    cohort = source.read([item.id for item in source.patients()])
    exclusions = tuple(Exclusion(reason, reason, rows=number) for reason, number in cohort.excluded.items())
    row = np.concatenate([np.arange(n) for n in np.bincount(cohort.patient, minlength=len(cohort.patients))])
    record = np.asarray(cohort.patients, dtype=object)[cohort.patient]
    return ScorableRows(cohort, {"record": record, "row": row}, exclusions)
