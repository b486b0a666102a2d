"""Answers to the latent phase: sums over training examples in latent space."""

from __future__ import annotations

from torch import nn

from client.evaluation import anomaly_scores
from client.site import Site
from client.site_context import SiteContext
from common.errors import SiteError
from common.messages import Reply, Request


def handle_latent(place: SiteContext, site: Site, model: nn.Module, request: Request) -> Reply:
    """Return sums over what the model makes of the training examples in its latent space."""
    if request.config.privacy.on:
        raise SiteError("privacy: sums over patients do not leave here while training is private")
    if not request.config.detecting:
        raise SiteError(f"model.name={request.config.model.name} has no latent space to tell of")
    have = site.train.people()
    if have < place.policy.min_training_patients:
        raise SiteError(f"policy: fewer than {place.policy.min_training_patients} people to train on")
    found = anomaly_scores.Detector(model, request.config).moments(site.train)
    return Reply(site.name, len(site.train.y), {}, statistics=dict(found))
