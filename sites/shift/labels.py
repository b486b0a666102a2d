"""Wrong labels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from sites.cohort import Cohort
from sites.shift.site_shift import IN_WORDS, Notes, SiteShift, class_index, selected_rows


def mislabel(cohort: Cohort, at: SiteShift, notes: Notes) -> Cohort:
    """Return the cohort with wrong labels, drawn for each example or each recording.

    The wrong class is drawn evenly from the other classes (symmetric noise; Frenay, Verleysen 2014, IEEE TNNLS
    25(5):845-869, noise completely at random). In a multilabel task each label is flipped independently.
    """
    option = at.options.label_noise
    if option is None:
        return cohort
    if cohort.task.utility and option.where != "train":
        raise at.error("label_noise.where", "use train: the utility of an alarm is computed from the true labels")
    to = None if option.to is None else class_index(cohort, option.to, at, "label_noise.to")
    multilabel = cohort.task.kind == "multilabel"
    labels = len(cohort.task.classes) if multilabel else 1
    others = 2 if multilabel else len(cohort.task.classes)
    wrong = np.zeros((len(cohort.y), labels), dtype=np.bool_)
    step = np.zeros((len(cohort.y), labels), dtype=np.int64)
    order = np.argsort(cohort.patient, kind="stable")
    edges = np.searchsorted(cohort.patient[order], np.arange(len(cohort.patients) + 1))
    for index, name in enumerate(cohort.patients):
        rows = order[edges[index] : edges[index + 1]]
        rng = at.rng("label_noise", name)
        size = (len(rows) if option.by == "example" else 1, labels)
        wrong[rows] = rng.random(size) < option.probability
        step[rows] = rng.integers(1, others, size)
    wrong &= selected_rows(cohort, option.where)[:, None]
    y = cohort.y.reshape(len(cohort.y), labels)
    new: npt.NDArray[np.int64]
    if to is None:
        new = np.where(wrong, (y + step) % others, y)
    elif multilabel:
        new = y.copy()
        new[wrong[:, to], to] = 1
    else:
        new = np.where(wrong, to, y)
    changed, among = int((new != y).any(1).sum()), int(selected_rows(cohort, option.where).sum())
    notes["label_noise"] = f"labels of {changed} of {among} examples changed{IN_WORDS[option.where]}"
    return replace(cohort, y=new.reshape(cohort.y.shape))
