"""Why a model performs worse at another hospital: its ranking of patients is worse, or its threshold is wrong.

A model trained at hospital x and tested at y is compared with y's own model, on the same patients and resamples. A
lower AUROC is a loss of ranking, which no threshold can recover. What decisions at the shipped threshold gain when y
chooses the threshold on its own validation patients is a loss of threshold. A loss is reported if its paired 95%
interval excludes zero.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from common.config import RunConfig
from common.metrics.counts import Counts
from common.metrics.figures import Figure
from common.metrics.intervals import ResampledFigures, paired_difference
from common.metrics.registry import METRICS
from common.metrics.resampling import compute_figures, with_event_figures
from common.metrics.table_names import ALL_PATIENTS, RECALIBRATED_PREFIX, RESAMPLED_SUFFIX
from common.task import Task
from experiments.report.text.formatting import (
    capitalise,
    format_difference,
    format_interval,
    format_number,
    metric_title,
)

Cause = Literal["ranking", "threshold", "both", "neither", "unknown"]
OWN_THRESHOLD_METHODS = ("threshold", "platt")
"""The recalibrations that give a site its own threshold; the first that is available is used."""


@dataclass(frozen=True)
class ModelAtSite:
    """A model's results at a hospital.

    Attributes:
        plain: with the threshold that it was shipped with.
        recalibrated: with a threshold of the hospital's own; None: there is none.
        method: the recalibration that gave that threshold; "": none.
        reason: why there is no such threshold.
    """

    plain: ResampledFigures
    recalibrated: ResampledFigures | None = None
    method: str = ""
    reason: str = ""


def summarise_model_at_site(
    task: Task, tables: Mapping[str, Counts], patients: int, reason: str, merged: npt.NDArray[np.bool_] | None = None
) -> ModelAtSite:
    """Return a model's results at a hospital, from its tables of counts and their resamples.

    Args:
        task: names the metrics.
        tables: counts by table name.
        patients: test patients.
        reason: why there is no recalibration.
        merged: `(classes,)`, classes whose scores the score bins merge; None: none.
    """

    def figures(name: str) -> ResampledFigures:
        drawn = tables.get(name + RESAMPLED_SUFFIX)
        computed = with_event_figures(task, compute_figures(task, tables[name], drawn, patients, merged=merged))
        scalars = {key for key, value in computed.values.items() if np.ndim(value) == 0}
        return ResampledFigures(
            {key: computed.values[key] for key in scalars},
            patients,
            {key: value for key, value in computed.drawn.items() if key in scalars},
        )

    available = (name for name in OWN_THRESHOLD_METHODS if task.binary and RECALIBRATED_PREFIX + name in tables)
    method = next(available, "")
    recalibrated = figures(RECALIBRATED_PREFIX + method) if method else None
    return ModelAtSite(figures(ALL_PATIENTS), recalibrated, method, reason)


def ranking_metric(task: Task) -> str:
    """Return the metric that does not depend on a threshold."""
    return "auroc" if task.binary else "macro_auroc"


def decision_metric(task: Task, config: RunConfig) -> str:
    """Return the metric of decisions: the utility, or the run's metric if it depends on decisions, or macro-F1."""
    if task.utility:
        return "utility"
    return config.evaluation.metric if METRICS[config.evaluation.metric].judges == "decisions" else "macro_f1"


def compare_transfers(
    task: Task, config: RunConfig, models: Sequence[tuple[str, str, Mapping[str, ModelAtSite]]]
) -> list[dict[str, Any]]:
    """Return an entry for each model and each other hospital that has a model of the same family.

    Args:
        task: names the metrics.
        config: the run.
        models: of each model its family, the hospital that trained it, and its results by hospital.
    """
    entries = []
    for family, trained, by_site in models:
        for other_family, site, own in models:
            if other_family == family and site != trained and site in by_site and site in own:
                name = f"the model trained at {site} itself"
                entry = compare_with_own_model(task, config, by_site[site], own[site], by_site.get(trained), site, name)
                entries.append({"family": family, "trained": trained, "tested": site, **entry})
    return entries


def compare_with_own_model(
    task: Task,
    config: RunConfig,
    away: ModelAtSite,
    own: ModelAtSite,
    home: ModelAtSite | None,
    site: str,
    own_name: str,
) -> dict[str, Any]:
    """Return a comparison of a model at a hospital with the hospital's own: metrics, paired differences, the cause.

    Args:
        task: names the metrics.
        config: the run.
        away: the model from elsewhere, at the hospital.
        own: the hospital's own model.
        home: the model from elsewhere, at the hospital that trained it.
        site: the hospital.
        own_name: how the hospital's own model is called in the verdict.
    """
    rank, decide = ranking_metric(task), decision_metric(task, config)
    results = (
        ("home", home.plain if home else None),
        ("away", away.plain),
        ("recalibrated", away.recalibrated),
        ("own", own.plain),
    )
    entry: dict[str, Any] = {"ranking": rank, "decision": decide, "recalibration": away.method}
    for key, figures in results:
        entry[key] = figures and {name: figures.figure(name).model_dump() for name in (rank, decide)}
    ranking_difference = paired_difference(away.plain, own.plain, rank)
    decision_difference = paired_difference(away.plain, own.plain, decide)
    recovered = paired_difference(away.recalibrated, away.plain, decide) if away.recalibrated else None
    cause = classify_loss(ranking_difference, recovered)
    text = (
        f"{capitalise(metric_title(rank))} {_format_figure(away.plain.figure(rank))} against "
        f"{format_number(own.plain.figure(rank).value)} of {own_name}, {format_difference(ranking_difference)} paired. "
        f"{capitalise(metric_title(decide))} at its original threshold "
        f"{_format_figure(away.plain.figure(decide))} against {format_number(own.plain.figure(decide).value)}. "
    )
    if recovered is not None:
        after = " after Platt scaling" if away.method == "platt" else ""
        text += f"A threshold of {site}'s own{after} changes it by {format_difference(recovered)}. "
    elif away.reason:
        text += f"No threshold of {site}'s own: {away.reason}. "
    return entry | {
        "ranking_difference": ranking_difference.model_dump(),
        "decision_difference": decision_difference.model_dump(),
        "recovered": recovered.model_dump() if recovered else None,
        "cause": cause,
        "verdict": text + conclusion_sentence(cause, decision_difference, recovered),
    }


def classify_loss(ranking_difference: Figure, recovered: Figure | None) -> Cause:
    """Return the cause of a loss, by the intervals of two paired differences.

    Args:
        ranking_difference: ranking metric, model from elsewhere minus the hospital's own.
        recovered: decision metric, with the hospital's own threshold minus with the shipped one.
    """
    if ranking_difference.high is None or (recovered is not None and recovered.low is None):
        return "unknown"
    ranking = ranking_difference.high < 0
    if recovered is None:
        return "ranking" if ranking else "unknown"
    threshold = recovered.low is not None and recovered.low > 0
    if ranking and threshold:
        return "both"
    return "ranking" if ranking else "threshold" if threshold else "neither"


def conclusion_sentence(cause: Cause, decision_difference: Figure, recovered: Figure | None) -> str:
    """Return the conclusion of a comparison.

    Args:
        cause: as from `classify_loss`.
        decision_difference: decision metric, model from elsewhere minus the hospital's own.
        recovered: as for `classify_loss`.
    """
    gain, loss = recovered.value if recovered else None, decision_difference.value
    if cause == "both" and gain is not None and loss is not None and loss < 0:
        share = f"{min(gain / -loss, 1.0):.0%} of the difference to the model trained there"
        return f"Both ranking and threshold are lost; the threshold accounts for {share}."
    return {
        "both": "Both ranking and threshold are lost.",
        "ranking": "A loss of ranking: no threshold can recover it.",
        "threshold": "A loss of threshold: the ranking is kept, and recalibration recovers the rest.",
        "neither": "These intervals show no loss.",
        "unknown": "There is too little data to distinguish the causes.",
    }[cause]


def _format_figure(figure: Figure) -> str:
    interval = format_interval(figure)
    return f"{format_number(figure.value)} ({interval})" if interval else format_number(figure.value)
