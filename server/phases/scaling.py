"""The scaling phase: one scaling for all sites, from sums that they send; no row leaves a site."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from common import noisy_scaling, scaling
from common.errors import EngineError
from common.messages import ARRAY_OVERHEAD
from common.noisy_scaling import NoisyMoments
from common.replies import ScalingReply
from common.requests import ScalingRequest
from common.scaling import RANK_BINS, Scaling
from server.events import report_charges
from server.losses import stop_on_loss
from server.outcome import Outcome
from server.reply_checks import find_moments_fault, find_sums_fault, training_examples
from server.run import PhaseRequest, Run


def gather_scaling(run: Run, outcome: Outcome) -> Run:
    """Return the run with the scaling of its sites' training inputs, if its configuration asks for one.

    Raises:
        EngineError: too few sites sent sums.
    """
    wanted = run.config.data.scaling
    if wanted in ("none", "site") or (wanted == "auto" and not run.task.units):
        return run
    if run.config.privacy.on:
        return replace(run, scaling=_gather_noisy(run, outcome).to_bytes())

    def find_fault(reply: ScalingReply, site: str) -> str:
        return find_moments_fault(reply.sums, run.task, training_examples(run, site))

    moments = _collect_sums(run, outcome, b"", find_fault)
    agreed = scaling.fit_standard_scaling(scaling.add_statistics(dict(reply.sums) for reply in moments.values()))
    if wanted in ("quantile", "bins"):
        shapes = {"histogram": (_width(run), RANK_BINS)}
        histograms = _collect_sums(
            run, outcome, agreed.to_bytes(), lambda reply, _: find_sums_fault(reply.sums, shapes, ())
        )
        merged = scaling.add_statistics(dict(reply.sums) for reply in histograms.values())
        ranked = scaling.fit_quantile_scaling(agreed, merged["histogram"])
        agreed = replace(ranked, keeps_missing=wanted == "bins")
    return replace(run, scaling=agreed.to_bytes())


def _gather_noisy(run: Run, outcome: Outcome) -> Scaling:
    """Return the scaling from noisy sums.

    The sums must be over the same public ranges: a site that states others than most sites do is lost.

    Raises:
        EngineError: too few sites sent sums.
    """

    def find_fault(reply: ScalingReply, site: str) -> str:
        try:
            moments = _read_noisy(reply)
        except ValueError as error:
            return str(error)
        return "" if len(moments.low) == _width(run) else "its sums do not fit the task's inputs"

    replies = _collect_sums(run, outcome, b"", find_fault)
    moments = {site: _read_noisy(reply) for site, reply in replies.items()}
    ranges = {site: each.low.tobytes() + each.high.tobytes() for site, each in moments.items()}
    (usual, count), *others = Counter(ranges.values()).most_common()
    if others and others[0][1] == count:
        raise EngineError(
            "scaling: the sites state different ranges of their inputs: give them the same version and options"
        )
    for site in [site for site in moments if ranges[site] != usual]:
        del moments[site]
        outcome.lost[site] = "scaling: it states other ranges of its inputs than most sites"
    _require_sites(run, outcome, list(moments))
    return noisy_scaling.fit_noisy_scaling(list(moments.values()))


def _read_noisy(reply: ScalingReply) -> NoisyMoments:
    """Return the sums of a private site.

    Raises:
        ValueError: they are no such sums.
    """
    if reply.report.deviation is None:
        raise ValueError("its sums do not state their noise")
    return NoisyMoments.from_arrays(dict(reply.sums), reply.report.deviation)


def _width(run: Run) -> int:
    return len(run.task.features) + run.task.channels


def _collect_sums(
    run: Run, outcome: Outcome, base: bytes, find_fault: Callable[[ScalingReply, str], str]
) -> dict[str, ScalingReply]:
    """Return every site's usable sums, or histograms over the scaling `base`, by site.

    Raises:
        EngineError: too few sites sent any.
    """
    holders = run.federation.holders("train")
    outgoing = run.build_messages(ScalingRequest(run.config, base, run.id), holders)
    values = _width(run) * (RANK_BINS if base else 1)
    answers, lost = run.collect(
        PhaseRequest("scaling", 0, holders, outgoing, ScalingReply, find_fault, 5 * (values * 8 + ARRAY_OVERHEAD))
    )
    outcome.lost |= {site: f"scaling: {why}" for site, why in lost.items()}
    stop_on_loss(run.config.federation, "scaling", lost)
    _require_sites(run, outcome, list(answers))
    report_charges(run.listen, 0, {site: reply.report.privacy for site, (_, reply) in answers.items()})
    return {site: reply for site, (_, reply) in answers.items()}


def _require_sites(run: Run, outcome: Outcome, sites: list[str]) -> None:
    """Raise `EngineError` where fewer sites sent sums than `federation.min_sites`."""
    holders = run.federation.holders("train")
    if len(sites) < run.config.federation.min_sites:
        why = "; ".join(
            f"{site}: {text.removeprefix('scaling: ')}"
            for site, text in sorted(outcome.lost.items())
            if site in holders
        )
        raise EngineError(f"scaling: {len(sites)} of {len(holders)} sites sent sums ({why})")
