"""Patients of an evaluation whose examples a model was trained on, found by their inputs.

A person keeps no name across folders, but the same examples have the same inputs, whatever their files are called. An
example identifies its patient where no other patient has an equal one. A patient counts as trained on if half of the
examples that identify him or her are among those of the run's training and validation patients. Where inputs are so
coarse that few patients are identified (age and sex alone), equal inputs say nothing, and nobody is counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from client.policy import SIMULATION_POLICY
from client.site import clear_site_cache, load_site, without_detection
from client.site_context import SiteContext
from common.config import RunConfig
from common.errors import WardroundError
from sites import datasets
from sites.cohort import Cohort
from sites.equal_inputs import Keys, example_keys

_NOT_CHECKED = (
    "Whether these patients took part in the model's training could not be checked, because the run's own data {}. If "
    "they did, every figure is too good."
)


def find_overlap(config: RunConfig, name: str, cohorts: Iterable[Cohort]) -> dict[str, str] | None:
    """Return a notice on patients who took part in training, or on why that is not known; None if none did.

    Args:
        config: the model's run.
        name: the model.
        cohorts: the examples it is evaluated on.
    """
    path = config.data.path
    if config.federation.address is not None or path is None or not Path(path).exists():
        return {"level": "warning", "text": _NOT_CHECKED.format("are not on this machine")}
    try:
        trained = np.concatenate([np.zeros(0, np.uint64), *_trained_keys(config, name)])
    except WardroundError:
        return {"level": "warning", "text": _NOT_CHECKED.format("can no longer be read as they were")}
    equal, total = 0, 0
    for cohort in cohorts:
        equal += count_equal_patients(cohort, trained)
        total += len(np.unique(cohort.patient))
    if not equal:
        return None
    text = (
        f"{equal:,} of {total:,} patients have the same inputs as patients that the model was trained or chosen on: "
        "every figure is too good to hold for new patients. Leave them out."
    )
    return {"level": "leak", "text": text}


def count_equal_patients(cohort: Cohort, trained: Keys) -> int:
    """Return how many patients of a cohort are among the trained ones; 0 where inputs identify few patients.

    Args:
        cohort: the examples of an evaluation.
        trained: keys of the examples of training, as `example_keys` gives them, each once for each patient.
    """
    keys, owner = _patient_keys(cohort)
    identifying = _count(keys, keys) == 1
    times = _count(keys, trained)
    identifying &= times <= 1
    people = len(cohort.patients)
    known = np.bincount(owner[identifying], minlength=people)
    equal = (known > 0) & (2 * np.bincount(owner[identifying & (times > 0)], minlength=people) >= known)
    unknown = int((known[np.unique(cohort.patient)] == 0).sum())
    return int(equal.sum()) if equal.sum() > unknown else 0


def _patient_keys(cohort: Cohort) -> tuple[Keys, npt.NDArray[np.int64]]:
    """Return each patient's different keys, and the patient (index) of each."""
    pairs = np.unique(np.stack([cohort.patient.astype(np.uint64), example_keys(cohort)]), axis=1)
    return pairs[1], pairs[0].astype(np.int64)


def _count(keys: Keys, among: Keys) -> npt.NDArray[np.int64]:
    """Return how often each key occurs among others."""
    distinct, counts = np.unique(among, return_counts=True)
    if not len(distinct):
        return np.zeros(len(keys), np.int64)
    at = np.minimum(np.searchsorted(distinct, keys), len(distinct) - 1)
    return np.where(distinct[at] == keys, counts[at], 0)


def _trained_keys(config: RunConfig, name: str) -> Iterator[Keys]:
    """Yield the keys of the training and validation examples of each hospital that a model rests on."""
    config = without_detection(config)
    sites = sorted(datasets.assign_hospitals(datasets.open_source(config, None), config)[0])
    only = name.partition(":")[2] if name.startswith("local:") else None
    for index, site in enumerate(sites):
        if only == site or (only is None and site not in config.sites.external):
            loaded = load_site(SiteContext(SIMULATION_POLICY, index=index, count=len(sites)), config)
            for part in (loaded.train, loaded.validation):
                yield _patient_keys(part)[0]
            clear_site_cache()
