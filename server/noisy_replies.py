"""The server's half of a private evaluation: checks of noisy sums over people, and the figures that they give."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import reduce
from operator import add
from typing import TYPE_CHECKING

import numpy as np

from common.messages import ARRAY_OVERHEAD
from common.metrics.figures import Evaluation, EvaluationNoise
from common.metrics.noisy_counts import NoisyCounts, ReleaseLayout
from common.metrics.noisy_evaluation import build_noisy_evaluation, draw_noisy_counts
from common.metrics.table_names import ALL_PATIENTS
from common.private_evaluation import EvaluatedSplit, build_layout, find_shapes, name_sums, read_noisy_counts
from common.replies import FinalTestReply, ValidateReply
from common.reports import PrivacySpent, SplitCounts
from common.seeds import rng_for
from common.untrusted import find_range_fault
from server.reply_checks import expected_tables

if TYPE_CHECKING:
    from server.run import Run

MAX_SIGMA = 1e5
"""Largest noise multiplier that a site may state."""
MAX_DEVIATIONS = 10.0
"""By how many standard deviations of all its noise a number of people may exceed what the handshake stated."""


def find_noisy_fault(reply: ValidateReply | FinalTestReply, run: Run, split: EvaluatedSplit, held: SplitCounts) -> str:
    """Return why the noisy sums of a private evaluation cannot be used, or "".

    Args:
        reply: what the site sent.
        run: says which tables there may be and what they look like.
        split: whose people are counted.
        held: what the site stated of them in the handshake.
    """
    spent = reply.report.privacy
    if reply.tables or (isinstance(reply, FinalTestReply) and reply.report.evaluations):
        return "it sent results without noise, though the run's evaluation is private"
    if spent is None or spent.q != 1 or spent.steps != 1 or not 0 < spent.sigma <= MAX_SIGMA:
        return "it does not state what its noisy counts were charged"
    tables = {name.rpartition("/")[0] for name in reply.noisy}
    allowed = {ALL_PATIENTS} if split == "validation" else expected_tables(run)
    if unknown := sorted(tables - allowed):
        return f"its table {unknown[0]!r} is none that this run asks for"
    if ALL_PATIENTS not in tables or set(reply.noisy) != {name for table in tables for name in name_sums(table)}:
        return "it sent no complete counts"
    shapes = find_shapes(run.task, run.config.evaluation.bins)
    most = 0.0
    for table in tables:
        for name, shape in zip(name_sums(table), shapes, strict=True):
            if reply.noisy[name].shape != shape:
                return f"its noisy counts {table} do not fit the task"
            if fault := find_range_fault(reply.noisy[name]):
                return f"its noisy counts {table} {fault}"
            blocks = reply.noisy[name].reshape(-1, math.prod(shape[-2:]))
            most = max(most, float(np.abs(blocks).max()), float(np.abs(blocks.sum(1)).max()))
    deviations = _layout(run, split).deviations(spent.sigma)
    cells = [math.prod(shape[-2:]) for shape in shapes]
    noise = max(deviation * math.sqrt(count) for deviation, count in zip(deviations, cells, strict=True))
    if most > held.patients + MAX_DEVIATIONS * (noise + (held.deviation or 0.0)) + 1:
        return f"its noisy counts are of more people than the {held.patients} that it stated in the handshake"
    return ""


def max_noisy_bytes(run: Run, tables: int) -> int:
    """Return the maximum size in bytes of the noisy sums of a number of tables."""
    shapes = find_shapes(run.task, run.config.evaluation.bins)
    return tables * sum(8 * math.prod(shape) + ARRAY_OVERHEAD for shape in shapes)


def read_release(reply: ValidateReply | FinalTestReply, run: Run, split: EvaluatedSplit) -> dict[str, NoisyCounts]:
    """Return the noisy counts by table of a reply that was checked."""
    assert reply.report.privacy is not None
    return read_noisy_counts(reply.noisy, _layout(run, split), reply.report.privacy.sigma)


def _layout(run: Run, split: EvaluatedSplit) -> ReleaseLayout:
    return build_layout(run.config, run.task, split, run.method.pull is not None)


def combine_noisy_evaluations(
    run: Run, replies: Mapping[str, FinalTestReply], threshold: float | None
) -> tuple[dict[str, dict[str, Evaluation]], dict[str, Evaluation]]:
    """Return figures by table name and site, and pooled figures by table name, from noisy counts.

    Pooled counts are the sum of the sites' noisy counts and are made consistent after the sum, because doing so changes
    counts: in this way the changes do not add up over sites.

    Args:
        run: the run.
        replies: the sites' replies, by site.
        threshold: log odds at or above which the event was predicted; None: the likelier class.
    """
    config, task = run.config, run.task
    by_table: dict[str, dict[str, Evaluation]] = {}
    pooled: dict[str, Evaluation] = {}
    tables: dict[str, dict[str, NoisyCounts]] = {}
    for site, reply in sorted(replies.items()):
        for name, noisy in read_release(reply, run, "test").items():
            tables.setdefault(name, {})[site] = noisy
    for name, by_site in tables.items():
        drawn: dict[str, NoisyCounts] = {}
        for site, noisy in by_site.items():
            rng = rng_for(config.seed, site, f"noisy intervals of {name}")
            drawn[site] = draw_noisy_counts(noisy, task, threshold, config.evaluation.bootstrap, rng)
            note = replies[site].report.notes.get(name)
            by_table.setdefault(name, {})[site] = build_noisy_evaluation(
                task,
                noisy,
                drawn[site],
                describe_noise([replies[site].report.privacy]),
                threshold,
                config.evaluation.operating,
                [note] if note else (),
            )
        pooled[name] = build_noisy_evaluation(
            task,
            reduce(add, by_site.values()),
            reduce(add, drawn.values()),
            describe_noise([replies[site].report.privacy for site in by_site]),
            threshold,
            config.evaluation.operating,
        )
    return by_table, pooled


def describe_noise(charges: list[PrivacySpent | None]) -> EvaluationNoise:
    """Return what an evaluation states of the charges of the sites whose counts it rests on: the largest epsilon."""
    known = [spent for spent in charges if spent is not None]
    epsilons = [spent.epsilon_run for spent in known]
    largest = None if None in epsilons else max(epsilon for epsilon in epsilons if epsilon is not None)
    return EvaluationNoise(
        epsilon=largest, delta=max(spent.delta for spent in known), private=all(spent.private for spent in known)
    )
