"""Sums of predictions over people, each of whom counts once: what a private evaluation adds noise to.

A model's outputs for a person are computed from that person's rows alone, in batches of their own: in a common batch,
the last digits of one person's outputs depend on who else is in it, and weights could be made so that they decide the
bins of everybody. An output that is not finite counts as 0 or as a huge number instead of refusing the whole answer,
for a refusal would show that somebody has such an output.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from client.evaluation.small_groups import assign_groups, index_people
from client.training.batches import choose_device, load_tensors
from common.config import RunConfig
from common.errors import SiteError
from common.metrics.counts import count_predictions
from common.metrics.table_names import ALL_PATIENTS, GROUP_PREFIX
from common.private_evaluation import name_sums
from sites.cohort import Cohort

Floats = npt.NDArray[np.float64]

BATCH = 2048
"""Most examples of a person that are predicted at a time."""
LARGEST_LOGIT = 1e30
"""What stands for an infinite output."""


@dataclass(frozen=True)
class PersonShares:
    """Each person's share of every cell and bin; a person's shares of one matrix or histogram add up to 1.

    Attributes:
        confusion: `(people, *confusion_shape)`.
        scores: `(people, scored, 2, bins)`; of two classes the event's histogram alone.
    """

    confusion: Floats
    scores: Floats

    def sum_tables(self, groups: Mapping[str, npt.NDArray[np.bool_]]) -> dict[str, Floats]:
        """Return sums over groups of people, by table and part.

        Args:
            groups: by table, who is in it: bool `(people,)`.
        """
        sums: dict[str, Floats] = {}
        for table, members in groups.items():
            confusion, scores = name_sums(table)
            sums[confusion], sums[scores] = self.confusion[members].sum(0), self.scores[members].sum(0)
        return sums


def compute_shares(model: nn.Module, cohort: Cohort, config: RunConfig, threshold: float | None = None) -> PersonShares:
    """Return each person's share in every cell of the confusion matrix and every bin of the score histograms.

    People are in the order of `index_people`.

    Args:
        model: a classifier.
        cohort: the people's examples, with inputs scaled as the model takes them.
        config: the run.
        threshold: log odds at or above which the event is predicted; None: the likelier class.

    Raises:
        SiteError: a weight of the model is not finite.
    """
    people, owner = index_people(cohort)
    order = np.argsort(owner, kind="stable")
    rows = np.split(order, np.searchsorted(owner[order], np.arange(1, len(people)))) if people else []
    logits = predict_by_person(model, cohort, rows, config)
    task, bins = cohort.task, config.evaluation.bins
    counted = count_predictions(logits, cohort.y, owner, len(people), bins, threshold=threshold)
    number = np.bincount(owner, minlength=len(people)).astype(np.float64)
    scores = counted.scores[:, 1:] if task.binary else counted.scores
    each = [part / number.reshape(-1, *[1] * (part.ndim - 1)) for part in (counted.confusion, scores)]
    return PersonShares(*each)


def predict_by_person(
    model: nn.Module, cohort: Cohort, people: list[npt.NDArray[np.int64]], config: RunConfig
) -> npt.NDArray[np.float32]:
    """Return a classifier's finite logits `(examples, classes)`, computed for each person alone.

    Args:
        model: the classifier.
        cohort: the examples.
        people: the rows of each person.
        config: the run.

    Raises:
        SiteError: a weight of the model is not finite.
    """
    if not all(bool(weight.isfinite().all()) for weight in model.parameters()):
        raise SiteError("the model's output is not usable: a weight is not a finite number")
    device = choose_device(config.training.device)
    signals, features, _ = load_tensors(cohort, device)
    logits = np.zeros((len(cohort.y), len(cohort.task.classes)), dtype=np.float32)
    model.to(device).eval()
    with torch.inference_mode():
        for rows in people:
            for start in range(0, len(rows), BATCH):
                part = rows[start : start + BATCH]
                index = torch.from_numpy(part).to(device)
                logits[part] = model(signals(index), features[index]).float().cpu().numpy()
    return np.nan_to_num(logits, nan=0.0, posinf=LARGEST_LOGIT, neginf=-LARGEST_LOGIT)


def select_groups(cohort: Cohort, config: RunConfig) -> dict[str, npt.NDArray[np.bool_]]:
    """Return for each table of a test a mask `(people,)` of the people in it.

    The tables are those of all people and of each group, empty groups included.

    Args:
        cohort: with inputs unscaled, whose columns define the groups.
        config: the run.
    """
    people, _ = index_people(cohort)
    tables = {ALL_PATIENTS: np.ones(len(people), dtype=bool)}
    for attribute, (names, index) in assign_groups(cohort, config.evaluation.subgroups).items():
        for position, name in enumerate(names):
            tables[f"{GROUP_PREFIX}{attribute}={name}"] = index == position
    return tables
