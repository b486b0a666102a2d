"""How far the hospitals lie apart, asked after the final evaluation: it changes nothing that was trained."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from functools import reduce
from typing import Any

import numpy as np
from flwr.app import Message

from common import distance, messages, scaling
from common.distance import SUPPRESSED, ColumnSummary
from common.messages import Reply, Request
from server.run import Outcome, Run

TOP_COLUMNS = 10
"""Columns that are named of a pair: those that lie farthest apart."""
TRAINING_SITES = "all that trained"


def measure_domain_shift(run: Run, outcome: Outcome) -> dict[str, Any]:
    """Return the distances of each pair of hospitals, and of each external one to all that trained together.

    Training patients are compared, an external hospital's likewise: nothing is trained with them. What a hospital
    refuses is a reason in the result, and ends nothing.
    """
    hello = run.federation.hello
    here = [site for site in sorted(hello) if hello[site]["counts"]["train"]["examples"]]
    moments, lost = _ask(run, here, b"", lambda reply: _misfit(reply))
    trained = [site for site in moments if site not in run.federation.external]
    if len(moments) < 2 or not trained:
        return {"pairs": [], "lost": lost}
    base = scaling.fit_standard_scaling(scaling.add_statistics(moments[site].statistics for site in trained))
    width = len(base.centre)
    replies, more = _ask(run, list(moments), base.to_bytes(), lambda reply: _unusable(reply, width))
    found = {site: ColumnSummary.of(reply.statistics, width) for site, reply in replies.items()}
    named = next((list(reply.report["columns"]) for reply in moments.values()), [])
    told = {site: hello[site]["counts"]["train"]["classes"] for site in found}
    labels = {site: [] if None in counts else counts for site, counts in told.items()}  # a hospital may hide some
    pairs = [
        compare_pair(one, other, found[one], found[other], labels[one], labels[other], named)
        for one, other in itertools.combinations(sorted(found), 2)
    ]
    inner = [site for site in found if site not in run.federation.external]
    for site in sorted(set(found) & run.federation.external) if len(inner) > 1 else ():
        together = reduce(lambda a, b: a + b, (found[name] for name in inner))
        known = all(labels[name] for name in inner)
        summed = np.sum([labels[name] for name in inner], axis=0).tolist() if known else []
        pairs.append(compare_pair(TRAINING_SITES, site, together, found[site], summed, labels[site], named))
    shares = {site: (np.asarray(count) / max(sum(count), 1)).tolist() for site, count in labels.items() if count}
    return {"pairs": pairs, "lost": lost | more, "shares": shares, "columns": width}


def compare_pair(
    one: str,
    other: str,
    first: ColumnSummary,
    second: ColumnSummary,
    labels: list[int],
    others: list[int],
    named: list[str],
) -> dict[str, Any]:
    """Return the distances of two hospitals, or sums of hospitals."""
    index, gap = distance.psi(first.cells, second.cells), distance.ks(first.cells, second.cells)
    hidden = ((first.cells == SUPPRESSED) | (second.cells == SUPPRESSED)).sum(1)
    order = sorted(range(len(named)), key=lambda i: (-np.nan_to_num(index[i], nan=-1.0), named[i]))
    shift, association = distance.label_shift(labels, others) if labels and others else (np.nan, np.nan)
    known = index[np.isfinite(index)]
    return {
        "one": one,
        "other": other,
        "label_distance": _number(shift),
        "label_association": _number(association),
        "mmd": _number(distance.mmd(first, second)),
        "lda_auroc": _number(distance.lda_auroc(first, second)),
        "psi_median": _number(float(np.median(known))) if len(known) else None,
        "psi_large": int((known > max(0.25, distance.psi_null_quantile(first.rows, second.rows))).sum()),
        "columns": [
            {"name": named[i], "psi": _number(index[i]), "ks": _number(gap[i]), "suppressed": int(hidden[i])}
            for i in order[:TOP_COLUMNS]
        ],
        "suppressed": int(hidden.sum()),
    }


def _ask(run: Run, sites: list[str], base: bytes, check: Any) -> tuple[Mapping[str, Reply], dict[str, str]]:
    content = messages.pack_request(Request("shift", run.config, scaling=base))
    outgoing = [Message(content, node, messages.MESSAGE_TYPES["shift"]) for node in run.online(sites)]
    answers, lost = run.ask("shift", 0, sites, outgoing, check)
    return {site: reply for site, (_, reply) in sorted(answers.items())}, lost


def _misfit(reply: Reply) -> str:
    width = len(reply.report["columns"])
    fits = set(reply.statistics) == {"count", "missing", "total", "square"}
    fits = fits and all(value.shape == (width,) and np.isfinite(value).all() for value in reply.statistics.values())
    return "" if fits else "its sums do not fit its columns"


def _unusable(reply: Reply, width: int) -> str:
    try:
        ColumnSummary.of(reply.statistics, width)
    except ValueError as error:
        return str(error)
    return ""


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
