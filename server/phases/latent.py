"""The latent phase: mean and covariance of all training examples in latent space, from sums that sites send."""

from __future__ import annotations

from dataclasses import replace

from common import models, scaling
from common.errors import EngineError
from common.latent import LatentStatistics, latent_moment_shapes
from common.messages import ARRAY_OVERHEAD
from common.replies import LatentReply
from common.requests import LatentRequest
from server.losses import stop_on_loss
from server.outcome import Outcome
from server.reply_checks import find_sums_fault, training_examples
from server.run import PhaseRequest, Run


def gather_latent_sums(run: Run, outcome: Outcome) -> Run:
    """Return the run with the latent statistics of a chosen autoencoder that was trained without privacy.

    Where they change the score, the validation counts of the rounds no longer fit it and are dropped, so that
    the threshold is chosen on new ones.

    Raises:
        EngineError: too few sites sent sums.
    """
    config = run.config
    if not run.task.anomaly or config.privacy.on:
        return run
    width = models.count_latent_values(models.build_model(run.task, config.model, config.seed))
    shapes = latent_moment_shapes(width)

    def find_fault(reply: LatentReply, site: str) -> str:
        if fault := find_sums_fault(reply.sums, shapes, ("total", "product")):
            return fault
        count, examples = reply.sums["count"][0], training_examples(run, site)
        if not 0 < count <= examples:
            return f"its latent sums are over {count:g} examples, in the handshake it stated {examples}"
        return ""

    holders = run.federation.holders("train")
    request = LatentRequest(
        config, outcome.chosen, outcome.weights, scaling=run.scaling, method=run.method, run_id=run.id
    )
    answers, lost = run.collect(
        PhaseRequest(
            "latent",
            outcome.chosen,
            holders,
            run.add_state_rounds(run.build_messages(request, holders), outcome.chosen, outcome),
            LatentReply,
            find_fault,
            (width * width + width + 2) * 8 + len(shapes) * ARRAY_OVERHEAD,
        )
    )
    outcome.lost |= {site: f"latent statistics: {why}" for site, why in lost.items()}
    stop_on_loss(config.federation, "latent statistics", lost)
    if len(answers) < config.federation.min_sites:
        why = "; ".join(f"{site}: {text}" for site, text in sorted(lost.items()))
        raise EngineError(f"latent statistics: {len(answers)} of {len(holders)} sites sent sums ({why})")
    merged = scaling.add_statistics(dict(reply.sums) for _, reply in answers.values())
    outcome.latent = LatentStatistics.from_moments(merged).to_bytes()
    if config.detection.score != "reconstruction" or config.detection.relative:
        outcome.validation = {}
    return replace(run, latent=outcome.latent)
