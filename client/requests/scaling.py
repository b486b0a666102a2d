"""Answers to the scaling phase: sums or histograms of the training inputs."""

from __future__ import annotations

import hashlib

import numpy as np

from client.gate.plausible_scaling import check_base_scaling
from client.gate.register import TOO_FEW, open_register
from client.gate.register_file import draw_error
from client.gate.tables import BinNoise, merge_rank_bins
from client.input_scaling import compute_input_histogram, compute_input_moments
from client.privacy.checks import check_private_training
from client.privacy.noisy_counts import release_training_counts
from client.privacy.noisy_sums import release_noisy_sums
from client.privacy.units import count_units, digest_people
from client.requests.loaded_model import refuse_external
from client.site import change_training, choose_summed_settings, load_site
from client.site_context import SiteContext
from common.errors import SiteError
from common.replies import ScalingReply
from common.reports import ScalingReport
from common.requests import ScalingRequest
from common.scaling import Scaling, rank_bins
from sites.cohort import Cohort

MAX_HISTOGRAMS_PER_MONTH = 100
"""Largest number of different scalings over which a hospital computes histograms of its inputs in 30 days."""


def handle_scaling(context: SiteContext, request: ScalingRequest) -> ScalingReply:
    """Return sums over the training inputs, noisy if training is private; or, over a given scaling, histograms.

    Raises:
        SiteError: too few people train here, or the policy does not allow the run.
    """
    config = request.config
    refuse_external(context, config)
    summed = choose_summed_settings(context, config)
    site = load_site(context, summed)
    check_private_training(context, site, config)
    if site.train.people() < context.policy.min_training_patients:
        raise SiteError(TOO_FEW)
    if config.privacy.on:
        held = release_training_counts(context, site, config)
        units = held.examples if held.noisy else count_units(site.train, config.privacy.kind)
        noisy, spent = release_noisy_sums(context, site, request, units)
        return ScalingReply(
            site.name, ScalingReport(deviation=noisy.deviation, privacy=spent), sums=dict(noisy.arrays())
        )
    base = Scaling.from_bytes(request.base) if request.base else None
    floor = 1 if context.simulated else context.policy.min_cell_patients
    # what can be computed of a training patient's inputs is a changed record here too
    train = site.train if context.simulated else change_training(context, summed, site, fill=False)
    sums = compute_input_moments(train, floor)
    if base is not None:
        if not context.simulated:
            check_base_scaling(base, sums)
            register = open_register(context)
            register.ask("", "histograms", hashlib.sha256(request.base).hexdigest(), None, MAX_HISTOGRAMS_PER_MONTH)
        sums = compute_input_histogram(train, base, floor)
        if not context.simulated:
            error = bin_errors(context, train, base)
            sums = {"histogram": merge_rank_bins(sums["histogram"], context.policy.min_cell_patients, error)}
    return ScalingReply(site.name, ScalingReport(), sums=dict(sums))


def bin_errors(context: SiteContext, train: Cohort, base: Scaling) -> BinNoise:
    """Return the function that gives the error to add to the count of some bins, another for each scaling and people.

    Errors that were the same for the same examples would show whether somebody is between the bins of two scalings.
    For signals the error is 0, because their histograms hold many values of each person.
    """
    width = train.features.shape[1]
    position = rank_bins(train.features, base.centre[:width], base.spread[:width])
    position[np.isnan(train.features)] = -1
    about = hashlib.sha256(base.to_bytes() + digest_people(train).encode()).digest()
    secret = open_register(context).read_secret() + about

    def error(column: int, first: int, end: int) -> int:
        if column >= width:
            return 0
        members = (position[:, column] >= first) & (position[:, column] < end)
        inside = np.flatnonzero(members).astype(np.int64).tobytes()
        return draw_error(secret + column.to_bytes(4, "big"), inside, context.policy.count_noise)

    return error
