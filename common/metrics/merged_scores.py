"""Whether score bins merge scores that differ, so that metrics of their order are not those of the scores.

All that leaves a hospital are histograms of scores. A model whose scores all lie within a few bins, or beyond the
range of the bins, orders its examples, but the histograms do not: an AUROC of 0.7 may come out as 0.5. In a simulation
the two are compared, and a figure that the bins change is refused. A hospital does not compare, because what it would
say rests on exact scores; it states the most by which ties in the bins that leave can change the AUROC.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from common.metrics.counts import auprc, auroc, class_log_odds, ratio
from common.metrics.early_warning import Floats, Ints
from common.metrics.figures import Evaluation

MAX_SHIFT = 0.01
"""Difference of an AUROC or AUPRC on score bins from that of the scores that is allowed with any number of examples."""
SHARE_OF_ERROR = 0.25
"""The same as a share of the metric's standard error, which is larger where there are few examples."""
MERGED = "no AUROC, AUPRC, calibration slope and operating points of"
WHY_MERGED = "its scores lie too close together or beyond log odds of 16 for the score bins (evaluation.bins)"
FEWEST_PEOPLE = 30
"""People with the class, and without it, below which the bins that leave a hospital give no AUROC."""
WHY_FEW = (
    f"too few people: the coarse score bins that leave a site need at least {FEWEST_PEOPLE} test patients with "
    "the class and as many without it"
)
PEOPLE_ERROR = 4.0
"""Divided by the smaller of these numbers: the typical error of an AUROC from such bins (docs/reference/report.md)."""
NOTED_ERROR = 0.04
TIES = "score bins tie"
"""Start of notes, by which they are recognised."""


def find_merged_classes(logits: npt.ArrayLike, truth: Ints, scores: Ints) -> npt.NDArray[np.bool_]:
    """Return the classes whose AUROC or AUPRC the score bins change, `(classes,)`.

    A change counts if it exceeds MAX_SHIFT and SHARE_OF_ERROR of the largest standard error that the metric can have,
    sqrt(v (1 - v) / n) with the smaller number n of examples, with the class or without it (of AUROC: Bamber 1975,
    J Math Psychol 12(4):387-415).

    Args:
        logits: `(examples, classes)`.
        truth: `(examples,)`, class indices; or `(examples, classes)` of 0 and 1.
        scores: histograms of the same examples, `(classes, 2, bins)`.
    """
    z = np.asarray(logits, dtype=np.float64)
    several = truth.ndim == 2
    odds = z if several else class_log_odds(z)
    own = truth.astype(np.bool_) if several else truth[:, None] == np.arange(z.shape[1])
    merged = np.zeros(z.shape[1], np.bool_)
    fewest = scores.sum(-1).min(-1)
    for position, (value, has) in enumerate(zip(odds.T, own.T, strict=True)):
        exact = count_different_scores(value, has)[None]
        for metric in (auroc, auprc):
            right, binned = metric(exact)[0], metric(scores[position : position + 1])[0]
            error = np.sqrt(right * (1 - right) / max(int(fewest[position]), 1))
            merged[position] |= abs(right - binned) > max(MAX_SHIFT, SHARE_OF_ERROR * error)  # NaN: not found
    return merged


def find_few_classes(scores: Ints, growth: float = 1.0) -> npt.NDArray[np.bool_]:
    """Return the classes of which the bins that leave a hospital hold too few people, `(classes,)`.

    A bin of few people holds a number that is not theirs, and the others go to the fullest bin.

    Args:
        scores: histograms of people, `(classes, 2, bins)`.
        growth: of the errors of counts; as many times more people are needed.
    """
    return np.asarray(scores.sum(-1).min(-1) < FEWEST_PEOPLE * growth)


def describe_few(classes: Sequence[str], scores: Ints, growth: float = 1.0) -> list[str]:
    """Return a note on each class whose AUROC is off by more than NOTED_ERROR because few people are in the bins."""
    fewest = np.maximum(scores.sum(-1).min(-1), 1)
    return [
        f"{TIES} scores of {name} and count few people inexactly: its AUROC is typically off by "
        f"{PEOPLE_ERROR * growth / n:.2f}"
        for name, n in zip(classes, fewest.tolist(), strict=True)
        if n >= FEWEST_PEOPLE * growth and PEOPLE_ERROR * growth / n > NOTED_ERROR
    ]


def count_different_scores(scores: Floats, own: npt.NDArray[np.bool_]) -> Ints:
    """Return the histogram of scores with a bin for each value that occurs, `(2, values)`."""
    values, index = np.unique(scores, return_inverse=True)
    return np.stack([np.bincount(index[own == side], minlength=len(values)) for side in (False, True)])


def bound_tie_error(scores: Ints) -> Floats:
    """Return the most by which an order within bins can change the AUROC of each class, `(classes,)`.

    It is half the share of pairs, of an example with the class and one without, that are in one bin.

    Args:
        scores: `(classes, 2, bins)`.
    """
    sides = scores.astype(np.float64)
    return ratio((sides[:, 0] * sides[:, 1]).sum(-1), sides[:, 0].sum(-1) * sides[:, 1].sum(-1)) / 2


def describe_merged(name: str, few: bool = False) -> str:
    """Return the note on a class whose scores the bins merge, or of which they hold too few people."""
    return f"{MERGED} {name}: {WHY_FEW if few else WHY_MERGED}"


def describe_ties(classes: Sequence[str], scores: Ints, without: npt.NDArray[np.bool_] | None = None) -> list[str]:
    """Return a note on each class whose AUROC ties in the bins that leave a hospital can change by over MAX_SHIFT.

    Args:
        classes: the classes.
        scores: `(classes, 2, bins)`.
        without: `(classes,)`, classes that have no AUROC and so no note; None: all have one.
    """
    left_out = np.zeros(len(classes), np.bool_) if without is None else without
    return [
        f"{TIES} scores of {name}: its AUROC is that of the scores to within {bound:.2f}"
        for name, bound, absent in zip(classes, bound_tie_error(scores), left_out, strict=True)
        if bound > MAX_SHIFT and not absent
    ]


def has_ties_note(item: Evaluation) -> bool:
    """Return whether the figures of an evaluation come from bins that leave a hospital and tie scores."""
    return any(note.startswith(TIES) for note in item.notes)


def read_merged_reasons(item: Evaluation) -> list[str]:
    """Return for each class why the notes of an evaluation say that it has no AUROC; "": they do not say so."""
    starts = [f"{MERGED} {name}: " for name in item.classes]
    return [next((note[len(start) :] for note in item.notes if note.startswith(start)), "") for start in starts]


def read_merged_classes(item: Evaluation) -> npt.NDArray[np.bool_]:
    """Return the classes that the notes of an evaluation say are merged, `(classes,)`."""
    return np.array([reason != "" for reason in read_merged_reasons(item)], dtype=np.bool_)


def rests_on_few(results: Mapping[str, Evaluation]) -> bool:
    """Return whether a site's figures are missing because its bins hold too few people."""
    return any(WHY_FEW in read_merged_reasons(item) for item in results.values())


def find_classes_merged_at_most(results: Mapping[str, Evaluation]) -> npt.NDArray[np.bool_]:
    """Return the classes that are merged at sites with more than half of the patients, `(classes,)`."""
    each = list(results.values())
    people = np.array([item.patients for item in each])
    return np.asarray(people @ np.stack([read_merged_classes(item) for item in each]) * 2 > people.sum())
