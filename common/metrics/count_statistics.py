"""Counts of predictions with the quantities that several metrics share.

`CountStatistics` is what the `compute` function of an entry of common/metrics/registry.py receives. Each quantity is
computed once, on first use. Arrays keep the leading axes of the counts `(...)`, so that one call serves all resamples.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
import numpy.typing as npt

from common.metrics import calibration, counts, early_warning
from common.metrics.calibration import ScoreHistogram
from common.metrics.counts import Counts
from common.metrics.early_warning import Floats, Ints
from common.task import Task


def count_examples(item: Counts, multilabel: bool) -> npt.NDArray[np.int64]:
    """Return the number of examples `(...)`: a multilabel confusion matrix counts each once for each label."""
    each = item.confusion.sum((-2, -1))
    return np.asarray(each[..., 0] if multilabel else each, dtype=np.int64)


class CountStatistics:
    """Counts of one model, and per-class and overall quantities derived from them.

    Attributes:
        task: names the classes.
        counts: counts `(...)`.
        multilabel: whether each class is a separate label.
        present: `(classes,)`, classes that have examples in the unresampled counts.
        separable: `(classes,)`, classes of which there are examples with and without them in the unresampled counts.
        start: statistics of similar counts, whose calibration fits are the starting point of the iteration; None: zero.
    """

    def __init__(self, task: Task, item: Counts, whole: Counts, start: CountStatistics | None = None) -> None:
        """Take counts and, as `whole`, the unresampled counts, which define the classes that exist."""
        self.task = task
        self.counts = item
        self.multilabel = task.kind == "multilabel"
        support = counts.class_totals(whole.confusion, self.multilabel)[2]
        self.present = support > 0
        self.separable = self.present & (support < int(count_examples(whole, self.multilabel)))
        self.start = start

    def macro(self, per_class: Floats) -> Floats:
        """Return the mean `(...)` of a per-class quantity over the classes that have examples."""
        return counts.macro_mean(per_class, self.present)

    def macro_ranking(self, per_class: Floats) -> Floats:
        """Return the mean `(...)` of a per-class quantity over the classes that some but not all examples have."""
        return counts.macro_mean(per_class, self.separable)

    @cached_property
    def examples(self) -> Ints:
        """Number of examples behind the counts, with the leading axes `(...)` of the counts."""
        return count_examples(self.counts, self.multilabel)

    @cached_property
    def precision(self) -> Floats:
        """Precision of each class `(..., classes)`."""
        return counts.precision(self.counts.confusion, self.multilabel)

    @cached_property
    def recall(self) -> Floats:
        """Recall (sensitivity) of each class `(..., classes)`."""
        return counts.recall(self.counts.confusion, self.multilabel)

    @cached_property
    def f1(self) -> Floats:
        """F1 of each class `(..., classes)`."""
        return counts.f1(self.counts.confusion, self.multilabel)

    @cached_property
    def auroc(self) -> Floats:
        """Area under the ROC curve of each class `(..., classes)`."""
        return counts.auroc(self.counts.scores)

    @cached_property
    def auprc(self) -> Floats:
        """Average precision of each class `(..., classes)`."""
        return counts.auprc(self.counts.scores)

    @cached_property
    def accuracy(self) -> Floats:
        """Share of examples predicted right `(...)`."""
        return counts.accuracy(self.counts.confusion, self.multilabel)

    @cached_property
    def loss(self) -> Floats:
        """Mean loss of an example `(...)`; of an anomaly score the mean over normal examples."""
        size = self.counts.confusion[..., 0, :].sum(-1) if self.task.anomaly else self.examples
        return np.asarray(self.counts.loss / np.where(size > 0, size, np.nan), dtype=np.float64)

    @cached_property
    def utility(self) -> Floats:
        """Normalised utility `(...)`; needs a task with a utility."""
        return counts.normalised_utility(self.counts.utility)

    @property
    def scored(self) -> slice:
        """The classes whose probabilities are judged: of two classes only the second, the event."""
        return slice(1, 2) if self.task.binary else slice(None)

    @cached_property
    def histogram(self) -> ScoreHistogram:
        """Score histograms `(..., scored classes, 2, bins)`."""
        return ScoreHistogram(self.counts.scores[..., self.scored, :, :])

    @cached_property
    def brier(self) -> Floats:
        """Brier score of each scored class `(..., scored)`."""
        return calibration.brier(self.histogram)

    @cached_property
    def ece(self) -> Floats:
        """Expected calibration error over groups of equal width `(..., scored)`."""
        return calibration.expected_calibration_error(self.histogram)

    @cached_property
    def ece_mass(self) -> Floats:
        """Expected calibration error over groups of equal size `(..., scored)`."""
        return calibration.expected_calibration_error(self.histogram, mass=True)

    @cached_property
    def calibration_line(self) -> tuple[Floats, Floats]:
        """Calibration slope and intercept, each `(..., scored)`."""
        start = None if self.start is None else self.start.calibration_line
        return calibration.calibration_line(self.histogram, start)

    @cached_property
    def calibration_in_the_large(self) -> Floats:
        """Calibration intercept at slope 1 `(..., scored)`."""
        start = None if self.start is None else self.start.calibration_in_the_large
        return calibration.calibration_in_the_large(self.histogram, start)

    @cached_property
    def alarms_per_day(self) -> Floats:
        """Predictions of each scored class per patient-day `(..., scored)`; needs the duration of examples."""
        _, called, _ = (part[..., self.scored] for part in counts.class_totals(self.counts.confusion))
        return counts.ratio(24 * called, self.counts.time.sum(-1)[..., None])

    @cached_property
    def false_per_hour(self) -> Floats:
        """Wrong predictions of each scored class per hour without that class `(..., scored)`."""
        hits, called, _ = (part[..., self.scored] for part in counts.class_totals(self.counts.confusion))
        hours = self.counts.time.sum(-1)[..., None] - self.counts.time[..., self.scored]
        return counts.ratio(called - hits, hours)

    @cached_property
    def warned(self) -> Floats:
        """Share of the patients with the event who were warned of it `(...)`; needs the event's onset."""
        return counts.ratio(self.counts.lead[..., 1:].sum(-1), self.counts.lead[..., 0])

    @cached_property
    def lead_hours(self) -> Floats:
        """Median hours from the first warning to the event `(...)`."""
        return early_warning.median_lead_time(self.counts.lead)
