"""A scaling that all sites share, from sums that they send: no row leaves a site."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from flwr.app import Message

from common import messages, noisy_scaling, scaling
from common.errors import EngineError
from common.messages import Reply, Request
from common.noisy_scaling import NoisyMoments
from common.scaling import RANK_BINS, Scaling
from server.run import Outcome, Run


def gather_scaling(run: Run, outcome: Outcome) -> Run:
    """Return the run with the scaling of its sites' training inputs, if its configuration asks for one.

    Raises:
        EngineError: no site sent sums.
    """
    wanted = run.config.data.scaling
    if wanted in ("none", "site") or (wanted == "auto" and not run.task.units):
        return run
    if run.config.privacy.on:
        return replace(run, scaling=_private(run, outcome).to_bytes())
    merged = scaling.add_statistics([reply.statistics for reply in _ask(run, outcome, None, _check(run, None))])
    found = scaling.fit_standard_scaling(merged)
    if wanted == "quantile":
        answers = _ask(run, outcome, found, _check(run, found))
        histograms = scaling.add_statistics([reply.statistics for reply in answers])
        found = scaling.fit_quantile_scaling(found, histograms["histogram"])
    return replace(run, scaling=found.to_bytes())


def _private(run: Run, outcome: Outcome) -> Scaling:
    """Return the scaling by sums that sites have made noisy.

    Raises:
        EngineError: no site sent sums, or the sites state different ranges.
    """
    width = len(run.task.features) + run.task.channels

    def check(reply: Reply) -> str:
        try:
            found = NoisyMoments.of(reply.statistics, float(reply.report["deviation"]))
        except ValueError as error:
            return str(error)
        return "" if len(found.low) == width else "its sums do not fit the task's inputs"

    answers = _ask(run, outcome, None, check)
    try:
        return noisy_scaling.fit_noisy_scaling(
            [NoisyMoments.of(item.statistics, float(item.report["deviation"])) for item in answers]
        )
    except ValueError as error:
        raise EngineError(f"scaling: {error}") from None


def _check(run: Run, base: Scaling | None) -> Callable[[Reply], str]:
    """Return what says whether a reply holds moments, or histograms over the bins of `base`."""
    width = len(run.task.features) + run.task.channels
    shapes: dict[str, tuple[int, ...]] = dict.fromkeys(("count", "missing", "total", "square"), (width,))
    if base is not None:
        shapes = {"histogram": (width, RANK_BINS)}

    def check(reply: Reply) -> str:
        if {name: value.shape for name, value in reply.statistics.items()} != shapes:
            return "its sums do not fit the task's inputs"
        usable = all(np.isfinite(value).all() for value in reply.statistics.values())
        signed = {"total"}
        positive = all((value >= 0).all() for name, value in reply.statistics.items() if name not in signed)
        return "" if usable and positive else "its sums are not numbers that can be"

    return check


def _ask(run: Run, outcome: Outcome, base: Scaling | None, check: Callable[[Reply], str]) -> list[Reply]:
    """Return every site's answer that `check` finds nothing wrong with; sites sorted by name."""
    holders = run.federation.holders("train")
    request = Request("statistics", run.config, scaling=base.to_bytes() if base else b"", run_id=run.id)
    content = messages.pack_request(request)
    outgoing = [Message(content, node, messages.MESSAGE_TYPES["statistics"]) for node in run.online(holders)]
    answers, lost = run.ask("statistics", 0, holders, outgoing, check)
    outcome.lost |= {site: f"statistics: {why}" for site, why in lost.items()}
    if len(answers) < run.config.federation.min_sites:
        why = "; ".join(f"{site}: {text}" for site, text in sorted(lost.items()))
        raise EngineError(f"scaling: {len(answers)} of {len(holders)} sites sent sums ({why})")
    return [reply for _, reply in answers.values()]
