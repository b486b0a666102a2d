"""Stays for scoring: the tables of eICU, in which no outcome is read.

Stays that only training excludes are scored too: those of an unknown outcome, at a hospital with few people or one
outcome, or of a person who is kept at another site.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

from sites.datasets import Source
from sites.datasets.eicu import hourly, stays
from sites.unlabelled_rows import ALL_MISSING, Exclusion, ScorableRows, unlabelled_cohort


def read_unlabelled(source: Source) -> Iterator[ScorableRows]:
    """Yield the stays of a folder."""
    loaded = stays.load_stays(source.folder, source.options, source.store, labelled=False)
    excluded: Counter[str] = Counter()
    cleared: Counter[str] = Counter()
    for total, by_hospital in ((excluded, loaded.excluded), (cleared, loaded.cleared)):
        for counts in by_hospital.values():
            total.update(counts)
    task, options = source.task(), source.options
    measured = np.zeros(len(loaded.ids), np.bool_)
    for i, name in enumerate(task.features):
        if name.endswith(" measured"):
            measured |= loaded.features[:, i] == 1
    measured |= np.isfinite(loaded.x).any((1, 2))
    exclusions = [Exclusion(reason, reason, rows=number) for reason, number in excluded.items()]
    exclusions += [Exclusion(loaded.ids[row], ALL_MISSING, rows=1) for row in np.flatnonzero(~measured)]
    cohort = unlabelled_cohort(
        task,
        hourly.build_channels(loaded.x, carry=options.carry, mask=options.mask),
        loaded.features,
        loaded.ids,
        loaded.synthetic,
        np.arange(len(loaded.ids)),
    )
    columns = {"record": np.asarray(loaded.ids, dtype=object)[measured], "hospital": loaded.hospital[measured]}
    yield ScorableRows(cohort.take(measured), columns, tuple(exclusions), cleared=cleared)
