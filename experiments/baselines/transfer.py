"""Why a model does worse at another hospital: ranking lost, or threshold lost.

A model trained at x and tested at y stands beside the model of y itself, on the same patients of y and the same
resamples. What it lacks in AUROC is ranking lost, which no threshold brings back. What the decision at its shipped
threshold gains when y chooses the threshold on its own validation patients is threshold lost. Either is said to be
lost where its paired 95% interval leaves zero out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from common.config import RunConfig
from common.metrics import resampling
from common.metrics.counts import Counts
from common.metrics.figures import Figure
from common.metrics.intervals import ResampledFigures, paired_difference
from common.metrics.registry import METRICS
from common.metrics.table_names import ALL_PATIENTS, RECALIBRATED_PREFIX, RESAMPLED_SUFFIX
from common.task import Task
from experiments.report.text import formatting

Cause = Literal["ranking", "threshold", "both", "neither", "unknown"]
OWN_THRESHOLD_METHODS = ("threshold", "platt")
"""The recalibration that gives a site a threshold of its own: the first of these that there is."""


@dataclass(frozen=True)
class ModelAtSite:
    """A model at a hospital: figures as it came, and after a threshold of the hospital's own (`mend`, if one was)."""

    plain: ResampledFigures
    mended: ResampledFigures | None = None
    mend: str = ""
    reason: str = field(default="")


def summarise_model_at_site(task: Task, tables: Mapping[str, Counts], patients: int, reason: str) -> ModelAtSite:
    """Return what is compared of a model at a hospital, from its tables with their resamples."""

    def figures(name: str) -> ResampledFigures:
        found = resampling.with_event_figures(
            task, resampling.compute_figures(task, tables[name], tables.get(name + RESAMPLED_SUFFIX), patients)
        )
        keep = {key for key, value in found.values.items() if np.ndim(value) == 0}
        drawn = {key: value for key, value in found.drawn.items() if key in keep}
        return ResampledFigures({key: found.values[key] for key in keep}, patients, drawn)

    mend = next((name for name in OWN_THRESHOLD_METHODS if task.binary and RECALIBRATED_PREFIX + name in tables), "")
    mended = figures(RECALIBRATED_PREFIX + mend) if mend else None
    return ModelAtSite(figures(ALL_PATIENTS), mended, mend, reason)


def ranking_metric(task: Task) -> str:
    """Return the figure that no threshold changes."""
    return "auroc" if task.binary else "macro_auroc"


def decision_metric(task: Task, config: RunConfig) -> str:
    """Return the figure of the decisions: the utility, or the run's metric if it rests on decisions."""
    if task.utility:
        return "utility"
    return config.evaluation.metric if METRICS[config.evaluation.metric].judges == "decisions" else "macro_f1"


def compare_transfers(
    task: Task, config: RunConfig, models: Sequence[tuple[str, str, Mapping[str, ModelAtSite]]]
) -> list[dict[str, Any]]:
    """Return one entry for each model and each other hospital whose own model of the same family there is.

    Args:
        task: names the figures.
        config: names the metric.
        models: family, the hospital it was trained at, what was seen of it by hospital.
    """
    found = []
    for family, trained, by_site in models:
        for kind, site, own in models:
            if kind == family and site != trained and site in by_site and site in own:
                said = f"the model trained at {site} itself"
                entry = compare_with_own_model(task, config, by_site[site], own[site], by_site.get(trained), site, said)
                found.append({"family": family, "trained": trained, "tested": site, **entry})
    return found


def compare_with_own_model(
    task: Task,
    config: RunConfig,
    away: ModelAtSite,
    own: ModelAtSite,
    home: ModelAtSite | None,
    site: str,
    own_said: str,
) -> dict[str, Any]:
    """Return a model at a hospital beside the hospital's own: figures, paired differences, the cause in words."""
    rank, decide = ranking_metric(task), decision_metric(task, config)
    entry: dict[str, Any] = {"ranking": rank, "decision": decide, "mend": away.mend}
    for name, item in (("home", home.plain if home else None), ("away", away.plain), ("mended", away.mended)):
        entry[name] = _both(item, rank, decide)
    entry["own"] = _both(own.plain, rank, decide)
    lost = paired_difference(away.plain, own.plain, rank)
    gap = paired_difference(away.plain, own.plain, decide)
    won = paired_difference(away.mended, away.plain, decide) if away.mended else None
    cause = classify_loss(lost, won)
    entry |= {"lost": lost.model_dump(), "gap": gap.model_dump(), "won": won.model_dump() if won else None}
    text = (
        f"{formatting.capitalise(formatting.metric_title(rank))} {_said(away.plain.figure(rank))} against "
        f"{formatting.format_number(own.plain.figure(rank).value)} of {own_said}, "
        f"{formatting.format_difference(lost)} paired. "
        f"{formatting.capitalise(formatting.metric_title(decide))} at the shipped threshold "
        f"{_said(away.plain.figure(decide))} against "
        f"{formatting.format_number(own.plain.figure(decide).value)}. "
    )
    if won is not None:
        text += f"A threshold of {site}'s own{' after Platt scaling' if away.mend == 'platt' else ''} changes it by "
        text += f"{formatting.format_difference(won)}. "
    elif away.reason:
        text += f"No threshold of {site}'s own: {away.reason}. "
    entry |= {"cause": cause, "verdict": text + conclusion_sentence(cause, gap, won)}
    return entry


def classify_loss(lost: Figure, won: Figure | None) -> Cause:
    """Return what was lost, by the intervals of the difference in ranking and of what recalibration wins."""
    if lost.high is None or (won is not None and won.low is None):
        return "unknown"
    ranks = lost.high < 0
    if won is None:
        return "ranking" if ranks else "unknown"
    threshold = won.low is not None and won.low > 0
    if ranks and threshold:
        return "both"
    return "ranking" if ranks else "threshold" if threshold else "neither"


def conclusion_sentence(cause: Cause, gap: Figure, won: Figure | None) -> str:
    """Return the verdict in one sentence."""
    if cause == "both" and gap.value is not None and gap.value < 0 and won is not None and won.value is not None:
        share = f"{min(won.value / -gap.value, 1.0):.0%} of what it lacks there"
        return f"Both ranking and threshold are lost; the threshold is {share}."
    return {
        "both": "Both ranking and threshold are lost.",
        "ranking": "A loss of ranking: no threshold brings it back.",
        "threshold": "A loss of threshold: ranking held, and recalibration mends it.",
        "neither": "No loss that these intervals can show.",
        "unknown": "Too little to tell the causes apart.",
    }[cause]


def _both(item: ResampledFigures | None, rank: str, decide: str) -> dict[str, Any] | None:
    if item is None:
        return None
    return {name: item.figure(name).model_dump() for name in (rank, decide)}


def _said(figure: Figure) -> str:
    shown = formatting.format_interval(figure)
    return f"{formatting.format_number(figure.value)} ({shown})" if shown else formatting.format_number(figure.value)
