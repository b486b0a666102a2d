"""Evaluation of a baseline on every hospital's test patients, at the threshold chosen on its validation patients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from client.evaluation.evaluate import evaluate_site
from client.evaluation.predictions import Predictor, predict_and_count
from client.evaluation.recalibration import evaluate_recalibrations
from client.site import Site
from common.config import RunConfig
from common.files import write_bytes
from common.metrics.counts_file import save_tables
from common.metrics.merged_scores import read_merged_classes
from common.metrics.paired_resamples import pack_resamples
from common.metrics.table_names import ALL_PATIENTS
from common.metrics.threshold_choice import choose_wanted_threshold
from common.replies import FinalTestReply
from common.reports import FinalTestReport
from common.run_folder import RunFolder
from common.sections.evaluation import SubgroupsConfig
from common.task import Task
from experiments.baselines.transfer import summarise_model_at_site
from server.phases.test import collect_draws, combine_evaluations
from sites.cohort import Cohort, join_cohorts

TRANSFER_KEY = "at_sites"
"""Key of a model's results by hospital, the input of `compare_transfers`; it is not written to baselines.json."""
NO_THRESHOLD = "no threshold could be chosen on this model's validation patients: the likelier class is predicted"


@dataclass(frozen=True)
class Baseline:
    """A model to compare with.

    Attributes:
        name: such as "pooled", "local:SITE" or "forest:SITE".
        title: the name in the report.
        site: the hospital that trains it alone; None: it is trained on pooled data.
        members: the hospitals whose patients train it.
    """

    name: str
    title: str
    site: str | None
    members: list[Site]


def join_split(sites: Sequence[Site], part: str) -> Cohort:
    """Return the examples of one split of all sites."""
    cohorts = [getattr(site, part) for site in sites]
    return join_cohorts(cohorts) if len(cohorts) > 1 else cohorts[0]


def evaluate_baseline(
    config: RunConfig, out: Path, name: str, task: Task, predict: Predictor, threshold: float | None,
    sites: Sequence[Site], scale: Callable[[Site], Site] = lambda site: site,
) -> dict[str, Any]:  # fmt: skip
    """Return a model's results on every hospital's test patients.

    Args:
        config: the run.
        out: the run's folder.
        name: the model's name.
        task: what it predicts.
        predict: gives logits.
        threshold: log odds at or above which the event is predicted; None: the likelier class is.
        sites: the hospitals.
        scale: scales a hospital's inputs as the model takes them.
    """
    files = RunFolder(out)
    replies: dict[str, FinalTestReply] = {}
    if len(sites) > 1 and name != "pooled":  # subgroups are compared with the pooled model only
        evaluation = config.evaluation.model_copy(update={"subgroups": SubgroupsConfig()})
        config = config.model_copy(update={"evaluation": evaluation})
    unchosen = threshold is None and task.binary and config.evaluation.threshold not in ("auto", "likelier")
    for site in sites:
        if len(site.test.y) == 0:
            continue
        scaled = scale(site)
        plain = evaluate_site(predict, scaled, config, True, threshold, curves=False, raw=site)
        results, tables, effects = evaluate_recalibrations(predict, scaled, config, True, threshold)
        evaluations = plain.results | results
        if unchosen:
            evaluations |= {
                key: item.model_copy(update={"notes": (*item.notes, NO_THRESHOLD)})
                for key, item in plain.results.items()
            }
        report = FinalTestReport(evaluations=evaluations, recalibration=effects)
        replies[site.name] = FinalTestReply(site.name, report, tables=plain.tables | tables)
    by_table, pooled = combine_evaluations(task, replies)
    recalibrations = {site: item for site, reply in replies.items() if (item := reply.report.recalibration)}
    reasons = {site: item.reason for site, item in recalibrations.items()}
    if config.evaluation.keep_counts:
        save_tables(files.counts(name), {site: reply.tables for site, reply in replies.items()})
    if config.evaluation.keep_resamples:
        write_bytes(files.resamples(name), pack_resamples(collect_draws(task, replies, by_table)))
    return {
        "threshold": threshold,
        "test": {
            table: {site: item.model_dump() for site, item in by_site.items()} for table, by_site in by_table.items()
        },
        "pooled": {table: item.model_dump() for table, item in pooled.items()},
        "recalibration": {site: item.model_dump() for site, item in sorted(recalibrations.items())},
        TRANSFER_KEY: {
            site: summarise_model_at_site(
                task,
                reply.tables,
                by_table[ALL_PATIENTS][site].patients,
                reasons.get(site, ""),
                read_merged_classes(by_table[ALL_PATIENTS][site]),
            )
            for site, reply in replies.items()
        },
    }


def select_threshold(config: RunConfig, predict: Predictor, validation: Cohort) -> float | None:
    """Return the threshold that is best on validation patients; None where none is sought or none can be chosen."""
    wanted = config.evaluation
    if wanted.threshold == "likelier" or not validation.task.binary or not len(validation.y):
        return None
    return choose_wanted_threshold(predict_and_count(predict, validation, config).total, wanted)
