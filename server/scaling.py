"""A scaling that all sites share, from sums that they send: no row leaves a site."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from flwr.app import Message

from common import messages, scaling
from common.errors import EngineError
from common.messages import Reply, Request
from common.scaling import CELLS, Scaling
from server.rounds import Outcome, Run


def agree(run: Run, outcome: Outcome) -> Run:
    """Return the run with the scaling of its sites' training inputs, if its configuration asks for one.

    Raises:
        EngineError: no site sent sums.
    """
    wanted = run.config.data.scaling
    if wanted in ("none", "site") or (wanted == "auto" and not run.task.units):
        return run
    merged = scaling.add(_ask(run, outcome, None))
    found = scaling.standard(merged)
    if wanted == "quantile":
        found = scaling.quantile(found, scaling.add(_ask(run, outcome, found))["histogram"])
    return replace(run, scaling=found.to_bytes())


def _ask(run: Run, outcome: Outcome, base: Scaling | None) -> list[scaling.Arrays]:
    """Return every site's moments, or its histograms over the bins of `base`; sites sorted by name."""
    width = len(run.task.features) + run.task.channels
    shapes: dict[str, tuple[int, ...]] = dict.fromkeys(("count", "missing", "total", "square"), (width,))
    if base is not None:
        shapes = {"histogram": (width, CELLS)}

    def check(reply: Reply) -> str:
        if {name: value.shape for name, value in reply.statistics.items()} != shapes:
            return "its sums do not fit the task's inputs"
        usable = all(np.isfinite(value).all() for value in reply.statistics.values())
        signed = {"total"}
        positive = all((value >= 0).all() for name, value in reply.statistics.items() if name not in signed)
        return "" if usable and positive else "its sums are not numbers that can be"

    holders = run.federation.holders("train")
    content = messages.pack_request(Request("statistics", run.config, scaling=base.to_bytes() if base else b""))
    outgoing = [Message(content, node, messages.MESSAGE_TYPES["statistics"]) for node in run.online(holders)]
    answers, lost = run.ask("statistics", 0, holders, outgoing, check)
    outcome.lost |= {site: f"statistics: {why}" for site, why in lost.items()}
    if len(answers) < run.config.federation.min_sites:
        why = "; ".join(f"{site}: {text}" for site, text in sorted(lost.items()))
        raise EngineError(f"scaling: {len(answers)} of {len(holders)} sites sent sums ({why})")
    return [reply.statistics for _, reply in answers.values()]
