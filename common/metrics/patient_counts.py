"""The number of patients that limits how precise a metric is.

With 16 patients, one of them healthy, the specificity rests on one patient.
"""

from __future__ import annotations

from common.metrics.figures import Evaluation
from common.metrics.registry import METRICS, Basis, find_metric


def count_patients(evaluation: Evaluation, metric: str, class_name: str | None = None) -> int:
    """Return the number of patients that limits a metric (its `basis` in common/metrics/registry.py).

    For patients without a class it is a lower bound if patients have examples of several classes.

    Args:
        evaluation: the results.
        metric: a metric of one value, or of a class.
        class_name: the class; None for metrics of one value.
    """
    if class_name is not None:
        entry = find_metric(f"class_{metric}")
        return evaluation.patients if entry is None else _count_of_class(evaluation, entry.basis, class_name)
    entry = METRICS[metric]
    if entry.class_metric is not None:
        if not evaluation.binary:
            return evaluation.patients
        return count_patients(evaluation, entry.class_metric, list(evaluation.classes)[entry.class_index])
    if entry.basis == "onset":
        return evaluation.lead.patients if evaluation.lead else 0
    occurring = [name for name, part in evaluation.classes.items() if part.examples]
    return min((_count_of_class(evaluation, entry.basis, name) for name in occurring), default=evaluation.patients)


def _count_of_class(evaluation: Evaluation, basis: Basis, name: str) -> int:
    classes, confusion = evaluation.classes, evaluation.confusion
    part, index = classes[name], list(classes).index(name)
    one_class_each = sum(item.examples for item in classes.values()) == evaluation.examples
    multiclass = one_class_each and len(confusion) == len(confusion[0])
    others = evaluation.patients - part.patients  # these have no example of the class
    if multiclass:
        others = max([others, *(item.patients for key, item in classes.items() if key != name)])
    if basis == "predicted":
        row = confusion[index]  # multilabel: true negatives, false positives, false negatives, true positives
        predicted = sum(truth[index] for truth in confusion) if multiclass else row[1] + row[3]
        return min(evaluation.patients, predicted)
    held = {"class": part.patients, "others": others, "fewer": min(part.patients, others)}
    return held.get(basis, evaluation.patients)
