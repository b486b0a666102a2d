"""Where all sites' training examples lie in the chosen model's latent space, from sums that the sites send."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from flwr.app import Message

from common import latent, messages, models, scaling
from common.errors import EngineError
from common.latent import LatentStatistics
from common.messages import Reply, Request
from server.run import Outcome, Run


def gather_latent_sums(run: Run, outcome: Outcome) -> Run:
    """Return the run with the latent statistics of the chosen model, where it reconstructs and is not private.

    Where they change the score, the validation counts of the rounds do not fit it any more and are dropped, so that
    the threshold is chosen on new ones.

    Raises:
        EngineError: no site sent sums.
    """
    config = run.config
    if not run.task.anomaly or config.privacy.on:
        return run
    wide = models.count_latent_values(models.build_model(run.task, config.model, config.seed))
    shapes = latent.latent_moment_shapes(wide)

    def check(reply: Reply) -> str:
        found = reply.statistics
        if {name: value.shape for name, value in found.items()} != shapes:
            return "its latent sums do not fit the model"
        usable = all(np.isfinite(value).all() for value in found.values())
        return "" if usable and found["count"][0] > 0 and found["error"][0] >= 0 else "its latent sums cannot be"

    holders = run.federation.holders("train")
    request = Request(
        "latent", config, outcome.chosen, outcome.weights, scaling=run.scaling, method=run.method, run_id=run.id
    )
    content = messages.pack_request(request)
    outgoing = [Message(content, node, messages.MESSAGE_TYPES["latent"]) for node in run.online(holders)]
    outgoing = run.addressed(outgoing, outcome.chosen, outcome)
    answers, lost = run.ask("latent", outcome.chosen, holders, outgoing, check)
    outcome.lost |= {site: f"latent statistics: {why}" for site, why in lost.items()}
    if len(answers) < config.federation.min_sites:
        why = "; ".join(f"{site}: {text}" for site, text in sorted(lost.items()))
        raise EngineError(f"latent statistics: {len(answers)} of {len(holders)} sites sent sums ({why})")
    merged = scaling.add_statistics([reply.statistics for _, reply in answers.values()])
    outcome.latent = LatentStatistics.of(merged).to_bytes()
    if config.detection.score != "reconstruction" or config.detection.relative:
        outcome.validation = {}
    return replace(run, latent=outcome.latent)
