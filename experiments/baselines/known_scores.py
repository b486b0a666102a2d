"""The federated model and a score that is used today, both on the test examples for which the score is known.

A score is often unknown for a part of the patients, and to give those the score of an average patient is unfair to it.
So both models are evaluated at each hospital on the other examples alone, with the same resamples of their patients:
the score's own model as any baseline (experiments/baselines/today.py), the federated one here. Who has the score is no
random draw: the share of the event with and without it is returned too, with an interval over patients, and so is the
federated model on the examples without.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from client import input_scaling
from client.evaluation.evaluate import evaluate_site
from client.evaluation.predictions import Predictor, build_predictor
from client.evaluation.small_groups import index_people
from client.site import Site, scale_site
from common.config import RunConfig
from common.files import write_bytes
from common.metrics.counts_file import save_tables
from common.metrics.evaluation import draw_bootstrap_weights
from common.metrics.intervals import make_figure
from common.metrics.paired_resamples import pack_resamples
from common.metrics.table_names import ALL_PATIENTS, WHERE_KNOWN, WHERE_UNKNOWN
from common.replies import FinalTestReply
from common.reports import FinalTestReport
from common.run_folder import RunFolder
from common.sections.evaluation import SubgroupsConfig
from common.seeds import rng_for
from experiments import restore
from server.phases.test import collect_draws, combine_evaluations
from sites.cohort import Cohort

Known = Callable[[Cohort], npt.NDArray[np.bool_]]
"""Returns for which examples of a cohort a score is known, `(examples,)`."""
SiteModel = Callable[[Site], tuple[Predictor, Site]]
"""Returns a model as a hospital uses it, and the hospital with its inputs scaled for it."""


def select_known(site: Site, known: Known) -> Site:
    """Return a hospital with the examples alone for which a score is known."""
    train, validation, test = (part.take(known(part)) for part in (site.train, site.validation, site.test))
    return replace(site, train=train, validation=validation, test=test)


def load_federated(config: RunConfig, out: Path, site: Site) -> tuple[Predictor, Site]:
    """Return the run's federated model at a hospital, and the hospital with its inputs scaled for it.

    Raises:
        DataError: the folder lacks the model, or the layers that the hospital keeps.
    """
    scaling = restore.load_scaling(out)
    if scaling is None and input_scaling.resolve_scaling(config.data, site.task) == "site":
        scaling = input_scaling.fit_scaling([site.train], "site")
    model, _ = restore.model(out, site=site.name)
    return build_predictor(model, config), scale_site(site, scaling)


def evaluate_where_known(
    config: RunConfig,
    out: Path,
    name: str,
    known: Known,
    sites: Sequence[Site],
    federated: SiteModel,
    threshold: float | None,
) -> dict[str, Any]:
    """Return the federated model's results where a score is known, and who the others are; write resamples and counts.

    Args:
        config: the run.
        out: its folder.
        name: the name of the score's model.
        known: for which examples the score is known.
        sites: the hospitals.
        federated: the federated model.
        threshold: log odds from which it predicts the event; None: the likelier class.
    """
    plain = config.evaluation.model_copy(update={"subgroups": SubgroupsConfig(), "without": {}})
    config = config.model_copy(update={"evaluation": plain})
    with_score = {site.name: known(site.test) for site in sites}
    without_score = {site: ~rows for site, rows in with_score.items()}
    federated_file = f"federated:{name}"
    return {
        "known": _count_outcomes(sites, with_score),
        "unknown": _count_outcomes(sites, without_score),
        "rate_difference": _compare_rates(config, sites, with_score),
        "federated": _evaluate(config, out, f"{federated_file}{WHERE_KNOWN}", sites, with_score, federated, threshold),
        "federated_elsewhere": _evaluate(
            config, out, f"{federated_file}{WHERE_UNKNOWN}", sites, without_score, federated, threshold
        ),
    }


def _evaluate(
    config: RunConfig, out: Path, name: str, sites: Sequence[Site], rows: Mapping[str, npt.NDArray[np.bool_]],
    load: SiteModel, threshold: float | None,
) -> dict[str, Any]:  # fmt: skip
    """Return a model's results on the chosen test examples of each hospital that has any, and of all together."""
    replies = {}
    for site in sites:
        if rows[site.name].any():
            predict, scaled = load(site)
            chosen = replace(scaled, test=scaled.test.take(rows[site.name]))
            evaluated = evaluate_site(predict, chosen, config, True, threshold, curves=False)
            report = FinalTestReport(evaluations=evaluated.results)
            replies[site.name] = FinalTestReply(site.name, report, tables=evaluated.tables)
    if not replies:
        return {}
    task = sites[0].task
    by_table, pooled = combine_evaluations(task, replies)
    if config.evaluation.keep_counts:
        save_tables(RunFolder(out).counts(name), {site: reply.tables for site, reply in replies.items()})
    if config.evaluation.keep_resamples:
        write_bytes(RunFolder(out).resamples(name), pack_resamples(collect_draws(task, replies, by_table)))
    return {
        "sites": {site: item.model_dump() for site, item in by_table[ALL_PATIENTS].items()},
        "pooled": pooled[ALL_PATIENTS].model_dump(),
    }


def _count_outcomes(sites: Sequence[Site], rows: Mapping[str, npt.NDArray[np.bool_]]) -> dict[str, int]:
    chosen = [site.test.take(rows[site.name]) for site in sites]
    return {
        "patients": sum(cohort.people() for cohort in chosen),
        "examples": sum(len(cohort.y) for cohort in chosen),
        "events": sum(int((cohort.y == 1).sum()) for cohort in chosen),
    }


def _compare_rates(
    config: RunConfig, sites: Sequence[Site], rows: Mapping[str, npt.NDArray[np.bool_]]
) -> dict[str, float | None]:
    """Return the share of the event without the score minus that with it, with an interval over patients."""
    total, drawn, people = np.zeros(4), np.zeros((config.evaluation.bootstrap, 4)), 0
    for site in sites:
        names, owner = index_people(site.test)
        event, known = site.test.y == 1, rows[site.name]
        each = [
            np.bincount(owner[mask], minlength=len(names)) for mask in (event & ~known, ~known, event & known, known)
        ]
        table = np.stack(each, 1)
        weights = draw_bootstrap_weights(
            len(names), config.evaluation.bootstrap, rng_for(config.seed, site.name, "bootstrap")
        )
        if len(names):
            total, drawn, people = total + table.sum(0), drawn + weights @ table, people + len(names)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = total[0] / total[1] - total[2] / total[3]
        sample = drawn[:, 0] / drawn[:, 1] - drawn[:, 2] / drawn[:, 3]
    return make_figure(float(value), sample if len(sample) else None, people).model_dump()
