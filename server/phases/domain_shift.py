"""The domain shift phase: how different the hospitals' data are. It comes last, so that it affects no training."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from functools import reduce

import numpy as np

from common import distance, scaling
from common.distance import HISTOGRAM_BINS, N_FOURIER_FEATURES, SUPPRESSED, ColumnSummary
from common.messages import ARRAY_OVERHEAD
from common.replies import DomainShiftReply
from common.reports import MAX_FEATURES, HandshakeReport
from common.requests import DomainShiftRequest
from server.column_description import SiteSize, describe_columns
from server.outcome import Outcome
from server.reply_checks import find_sums_fault, training_examples
from server.run import PhaseRequest, Run

TOP_COLUMNS = 10
"""Columns that are listed for a pair of hospitals: those that differ most."""
TRAINING_SITES = "all that trained"


def measure_domain_shift(run: Run, outcome: Outcome) -> dict[str, object]:
    """Return the distances of each pair of hospitals, and of each external one to all that trained together.

    The same aggregates describe the inputs of each hospital, for Table 1 of the report.

    Training patients are compared, an external hospital's likewise: nothing is trained with them. If a hospital
    refuses, the result states its reason and the run continues.
    """
    reports = run.federation.reports
    holders = [site for site in sorted(reports) if reports[site].counts.train.examples]
    moments, lost = _collect_sums(run, holders, b"", MAX_FEATURES, _find_moments_fault)
    columns = _most_common_columns(moments)
    for site in [site for site, reply in moments.items() if reply.report.columns != columns]:
        del moments[site]
        lost[site] = "it has other columns to compare than most sites"
    trained = [site for site in moments if site not in run.federation.external]
    if len(moments) < 2 or not trained:
        return {"pairs": [], "lost": lost}
    base = scaling.fit_standard_scaling(scaling.add_statistics(dict(moments[site].sums) for site in trained))
    width = len(columns)

    def find_summary_fault(reply: DomainShiftReply, site: str) -> str:
        try:
            summary = ColumnSummary.from_arrays(reply.sums, width)
        except ValueError as error:
            return str(error)
        examples = training_examples(run, site)
        if summary.rows != examples or summary.cells.max(initial=0) > examples:
            return f"its aggregates are not over the {examples} examples that it stated in the handshake"
        return ""

    replies, more = _collect_sums(run, list(moments), base.to_bytes(), width, find_summary_fault)
    summaries = {site: ColumnSummary.from_arrays(reply.sums, width) for site, reply in replies.items()}
    classes = {site: reports[site].counts.train.classes for site in summaries}
    labels = {site: [count or 0 for count in counts] for site, counts in classes.items()}
    described = {
        site: {
            "patients": reports[site].counts.train.patients,
            "examples": reports[site].counts.train.examples,
            "columns": describe_columns(
                columns, frozenset(run.task.binary_features), dict(moments[site].sums), summary.cells, base,
                _find_size(reports[site]),
            ),
        }
        for site, summary in sorted(summaries.items())
    }  # fmt: skip
    pairs = [
        compare_pair(one, other, summaries[one], summaries[other], labels[one], labels[other], list(columns))
        for one, other in itertools.combinations(sorted(summaries), 2)
    ]
    inner = [site for site in summaries if site not in run.federation.external]
    for site in sorted(set(summaries) & run.federation.external) if len(inner) > 1 else ():
        together = reduce(lambda a, b: a + b, (summaries[name] for name in inner))
        summed = np.sum([labels[name] for name in inner], axis=0).tolist()
        pairs.append(compare_pair(TRAINING_SITES, site, together, summaries[site], summed, labels[site], list(columns)))
    shares = {site: (np.asarray(count) / max(sum(count), 1)).tolist() for site, count in labels.items() if count}
    return {"pairs": pairs, "lost": lost | more, "shares": shares, "columns": width, "sites": described}


def _find_size(report: HandshakeReport) -> SiteSize:
    train = report.counts.train
    return SiteSize(train.patients, train.examples, report.min_cell_patients)


def compare_pair(
    one: str,
    other: str,
    first: ColumnSummary,
    second: ColumnSummary,
    labels: list[int],
    others: list[int],
    named: list[str],
) -> dict[str, object]:
    """Return how far the data of two hospitals, or of groups of hospitals, are apart.

    Args:
        one: the name of the first.
        other: the name of the second.
        first: the summary of the first's columns.
        second: the summary of the second's columns.
        labels: the first's training examples of each class.
        others: the second's training examples of each class.
        named: the columns' names.

    Returns:
        JSON-ready; a distance is None where it cannot be computed.
    """
    index, gap = distance.psi(first.cells, second.cells), distance.ks(first.cells, second.cells)
    hidden = ((first.cells == SUPPRESSED) | (second.cells == SUPPRESSED)).sum(1)
    order = sorted(range(len(named)), key=lambda i: (-np.nan_to_num(index[i], nan=-1.0), named[i]))
    shift, association = distance.label_shift(labels, others) if labels and others else (np.nan, np.nan)
    known = index[np.isfinite(index)]
    return {
        "one": one,
        "other": other,
        "label_distance": _finite_or_none(shift),
        "label_association": _finite_or_none(association),
        "mmd": _finite_or_none(distance.mmd(first, second)),
        "lda_auroc": _finite_or_none(distance.lda_auroc(first, second)),
        "psi_median": _finite_or_none(float(np.median(known))) if len(known) else None,
        "psi_large": int((known > max(0.25, distance.psi_null_quantile(first.rows, second.rows))).sum()),
        "columns": [
            {
                "name": named[i],
                "psi": _finite_or_none(index[i]),
                "ks": _finite_or_none(gap[i]),
                "suppressed": int(hidden[i]),
            }
            for i in order[:TOP_COLUMNS]
        ],
        "suppressed": int(hidden.sum()),
    }


def _collect_sums(
    run: Run, sites: list[str], base: bytes, width: int, find_fault: Callable[[DomainShiftReply, str], str]
) -> tuple[dict[str, DomainShiftReply], dict[str, str]]:
    """Return some sites' usable sums, or summaries over the scaling `base`, and why the others sent none.

    `width`: the most columns that there may be.
    """
    outgoing = run.build_messages(DomainShiftRequest(run.config, base, run.id), sites)
    values = width * (HISTOGRAM_BINS + 2 + width) + N_FOURIER_FEATURES if base else 4 * width
    answers, lost = run.collect(
        PhaseRequest("domain_shift", 0, sites, outgoing, DomainShiftReply, find_fault, values * 8 + 8 * ARRAY_OVERHEAD)
    )
    return {site: reply for site, (_, reply) in answers.items()}, lost


def _find_moments_fault(reply: DomainShiftReply, site: str) -> str:
    names, width = ("count", "missing", "total", "square"), len(reply.report.columns)
    return find_sums_fault(reply.sums, dict.fromkeys(names, (width,)), ("total",))


def _most_common_columns(replies: dict[str, DomainShiftReply]) -> tuple[str, ...]:
    """Return the columns that most sites have; of equally many, those of the first by name."""
    ordered = Counter(replies[site].report.columns for site in sorted(replies))
    return max(ordered, key=lambda columns: ordered[columns], default=())


def _finite_or_none(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
