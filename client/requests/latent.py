"""Answers to the latent phase: sums over training examples in latent space."""

from __future__ import annotations

from client.evaluation.anomaly_scores import Detector
from client.gate.register import TOO_FEW
from client.requests.loaded_model import load_model, refuse_external
from client.site_context import SiteContext
from common.errors import SiteError
from common.replies import LatentReply
from common.reports import LatentReport
from common.requests import LatentRequest


def handle_latent(context: SiteContext, request: LatentRequest) -> LatentReply:
    """Return sums over the latent values of the training examples (common/latent.py).

    Raises:
        SiteError: training is private, too few people train here, or the model has no latent space.
    """
    refuse_external(context, request.config)
    if request.config.privacy.on:
        raise SiteError("privacy: sums over patients do not leave here while training is private")
    if not request.config.detecting:
        raise SiteError(f"model.name={request.config.model.name} has no latent space")
    loaded = load_model(context, request)
    train = loaded.site.train
    if train.people() < context.policy.min_training_patients:
        raise SiteError(TOO_FEW)
    sums = Detector(loaded.model, request.config).moments(train)
    return LatentReply(loaded.site.name, LatentReport(), sums=dict(sums))
