"""Answers to the scaling phase: sums or histograms of the training inputs."""

from __future__ import annotations

from client import input_scaling
from client.privacy import noisy_counts, noisy_sums
from client.privacy.checks import check_private_training
from client.privacy.units import count_units
from client.site import Site
from client.site_context import SiteContext
from common.errors import SiteError
from common.messages import Reply, Request
from common.scaling import Scaling


def handle_scaling(place: SiteContext, site: Site, request: Request) -> Reply:
    """Return sums over the training inputs, noisy if training is private; or, where a scaling came, histograms."""
    check_private_training(place, site, request.config)
    have = site.train.people()
    if have < place.policy.min_training_patients:
        raise SiteError(f"policy: fewer than {place.policy.min_training_patients} people to train on")
    if request.config.privacy.on:
        held = noisy_counts.release_training_counts(place, site, request.config)
        units = held.examples if held.noisy else count_units(site.train, request.config.privacy.kind)
        noisy, told = noisy_sums.release_noisy_sums(place, site, request, units)
        return Reply(site.name, held.examples, told, statistics=dict(noisy.arrays()))
    base = Scaling.from_bytes(request.scaling) if request.scaling else None
    found = (
        input_scaling.compute_input_histogram(site.train, base)
        if base
        else input_scaling.compute_input_moments(site.train)
    )
    return Reply(site.name, len(site.train.y), {}, statistics=dict(found))
