"""What lies between models on the same patients, and between groups of patients of one model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from common.metrics import paired_resamples
from common.metrics.figures import FEW_PATIENTS, Evaluation, Figure
from common.metrics.intervals import make_figure
from common.metrics.paired_resamples import POOLED, Draws
from common.metrics.registry import METRICS
from common.metrics.subgroups import UNKNOWN, GroupComparison
from common.run_folder import RunFolder
from experiments.report.document.results import GroupGap, ModelDifference, ModelResult, Subset

ALL, GROUP = "all", "group "
NO_RESAMPLES = "no interval: the hospitals share no resamples of their counts, or the run kept none"


def list_compared_metrics(metric: str, binary: bool) -> list[str]:
    """Return the figures that are compared: the run's own first."""
    more = ["auroc", "sensitivity", "specificity"] if binary else ["macro_f1", "macro_auroc", "accuracy"]
    return list(dict.fromkeys([metric, *more, "brier"]))


def compare_models(
    models: Sequence[ModelResult], metric: str, binary: bool, folder: Path
) -> tuple[ModelDifference, ...]:
    """Return what the federated model has more of a figure than each other, on the same patients.

    A model that one hospital trained alone is compared there; others at every hospital and over all.
    """
    ours = next((model for model in models if model.kind == "federated"), None)
    if ours is None:
        return ()
    own, found = paired_resamples.load_resamples(RunFolder(folder).resamples(ours.name)), []
    for other in models:
        if other is ours:
            continue
        drawn = paired_resamples.load_resamples(RunFolder(folder).resamples(other.name))
        table = "personal" if other.kind == "personal" else ALL
        places: dict[str, tuple[Evaluation | None, Evaluation | None]] = {
            site: (ours.sites.get(site), item) for site, item in other.sites.items() if other.trained_at in (None, site)
        }
        if other.trained_at is None:
            places[POOLED] = ours.pooled, other.pooled
        for site, (one, two) in places.items():
            if one is None or two is None:
                continue
            for name in list_compared_metrics(metric, binary):
                mine, theirs = one.figure(name), two.figure(name)
                if mine is None or theirs is None or mine.value is None or theirs.value is None:
                    continue
                sample = _paired(own.get((ALL, site), {}).get(name), drawn.get((table, site), {}).get(name))
                found.append(
                    ModelDifference(
                        model=other.name,
                        site=site,
                        metric=name,
                        patients=one.patients,
                        figure=make_figure(mine.value - theirs.value, sample, one.patients),
                        note="" if sample is not None else NO_RESAMPLES,
                    )
                )
    return tuple(found)


def _paired(
    one: npt.NDArray[np.float64] | None, other: npt.NDArray[np.float64] | None
) -> npt.NDArray[np.float64] | None:
    if one is None or other is None or one.shape != other.shape:
        return None
    return one - other


def compare_groups(model: ModelResult, metric: str, binary: bool, folder: Path) -> tuple[GroupGap, ...]:
    """Return for each attribute, hospital and figure what lies between the best and the worst off group.

    Groups of fewer than FEW_PATIENTS patients are named and not compared; nor are patients of whom it is not known.
    """
    drawn = paired_resamples.load_resamples(RunFolder(folder).resamples(model.name)) if model.groups else {}
    found = []
    for attribute, groups in model.groups.items():
        sites = [site for site in model.sites if any(site in subset.sites for subset in groups.values())]
        for site in [*([POOLED] if model.pooled else []), *sites]:
            whole = model.pooled if site == POOLED else model.sites[site]
            items = {name: item for name, subset in groups.items() if (item := _at(subset, site)) is not None}
            less = [name for name, item in items.items() if item.patients < FEW_PATIENTS and name != UNKNOWN]
            chosen = {name: item for name, item in items.items() if name not in less and name != UNKNOWN}
            for name in list_compared_metrics(metric, binary):
                if (gap := _gap(attribute, site, name, chosen, whole, drawn)) is not None:
                    found.append(gap.model_copy(update={"left_out": tuple(less)}))
    return tuple(found)


def _at(subset: Subset, site: str) -> Evaluation | None:
    return subset.pooled if site == POOLED else subset.sites.get(site)


def _gap(
    attribute: str, site: str, name: str, items: Mapping[str, Evaluation], whole: Evaluation | None, drawn: Draws
) -> GroupGap | None:
    figures: dict[str, Figure] = {key: value for key, item in items.items() if (value := item.figure(name)) is not None}
    values = {key: item.value for key, item in figures.items() if item.value is not None}
    if len(values) < 2:
        return None
    overall = whole.figure(name) if whole is not None else None
    samples = {
        key: drawn[table][name] for key in values if name in drawn.get(table := (f"{GROUP}{attribute}={key}", site), {})
    }
    frame = GroupComparison(
        values,
        float("nan") if overall is None or overall.value is None else overall.value,
        samples,
        sum(items[key].patients for key in values),
    )
    low, high = frame.group_min(), frame.group_max()
    if low is None or high is None:
        return None
    return GroupGap(
        attribute=attribute,
        site=site,
        metric=name,
        overall=overall or Figure(value=None),
        lowest=low[0],
        highest=high[0],
        difference=frame.difference(),
        ratio=frame.ratio() if METRICS[name].high is not None and low[1] >= 0 else Figure(value=None),
    )
