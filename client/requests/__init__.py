"""What a site does when asked, free of Flower: handle(request) -> reply.

A simulation calls it in its own process, where opened sites stay resident; a hospital's client may be a new
process for each message, which then opens its site from the cache of prepared data.
"""

from __future__ import annotations

import threading
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from client.evaluation import anomaly_scores, attribution, latent_view, recalibration
from client.evaluation.evaluate import evaluate_site, require_releasable
from client.evaluation.predictions import build_predictor, compute_predictions, count_predictions
from client.requests import domain_shift
from client.requests.evaluate import _noted, _of_personal
from client.requests.handshake import handle_handshake
from client.requests.latent import handle_latent
from client.requests.scaling import handle_scaling
from client.requests.train import handle_train
from client.site import load_scaled_site, load_site
from client.site_context import SiteContext
from client.training import local_update
from client.training.local_update import SavedState
from common import models
from common.errors import SiteError
from common.messages import Reply, Request
from common.metrics.table_names import ALL_PATIENTS
from common.sections.training import ModelConfig
from common.task import Task
from sites.comparison_columns import column_names


@lru_cache(maxsize=64)
def _network(thread: int, task: Task, wanted: str) -> nn.Module:
    """Return a network of this thread's own, kept because making one costs as much as half a training step."""
    return models.build_model(task, ModelConfig.model_validate_json(wanted), seed=0)


def handle(place: SiteContext, request: Request) -> Reply:
    """Do what the server asks.

    Raises:
        WardroundError: the site cannot or may not; its text is for the site's own log.
    """
    torch.set_num_threads(1)  # the number of threads changes the last digits of a sum, and so the weights
    if request.kind == "hello":
        return handle_handshake(place, load_site(place, request.config), request.config)
    if request.kind == "shift":
        site = load_site(place, request.config)
        sums = domain_shift.handle_domain_shift(place, site.train, request.config, request.scaling)
        return Reply(site.name, len(site.train.y), {"columns": list(column_names(site.task))}, statistics=dict(sums))
    if request.kind not in ("hello", "test") and load_site(place, request.config).name in request.config.sites.external:
        raise SiteError("sites.external: this site is only tested")
    if request.kind == "statistics":
        return handle_scaling(place, load_site(place, request.config), request)
    site = load_scaled_site(place, request.config, request.scaling)
    model = _network(threading.get_ident(), site.task, request.config.model.model_dump_json())
    kept = SavedState.load(place, site.name, request)
    local_update.load_start_weights(model, request, kept)
    if request.kind == "train":
        return handle_train(place, site, model, request, kept)
    if request.kind == "latent":
        return handle_latent(place, site, model, request)
    policy = place.policy
    if request.kind == "validate":
        may = require_releasable(site.validation, policy.min_cell_patients)
        rows, hidden = may.rows[ALL_PATIENTS], may.classes[ALL_PATIENTS]
        logits = compute_predictions(build_predictor(model, request.config, request.latent), site.validation)
        counts = count_predictions(logits, site.validation, request.config, rows=rows, hidden=hidden).total
        held = {"patients": site.validation.people()}
        return Reply(site.name, len(site.validation.y), held, tables={ALL_PATIENTS: counts})
    predict_ = build_predictor(model, request.config, request.latent)
    minimum, shares = policy.min_cell_patients, policy.share_resamples
    raw = load_site(place, request.config)
    found = evaluate_site(predict_, site, request.config, shares, request.threshold, minimum=minimum, raw=raw)
    results, tables, suppressed = found.results, found.tables, found.suppressed
    mended: dict[str, Any] = {}
    explained: dict[str, Any] = {}
    if ALL_PATIENTS in results:
        explained = attribution.compute_attributions(place, site.name, model, site.test, request.config)
        again, more, mended = recalibration.evaluate_recalibrations(
            predict_, site, request.config, shares, request.threshold, minimum
        )
        results, tables = results | again, tables | more
    if request.method.local and not kept.arrays:
        results = _noted(results, "local layers: this site has none of its own, so the server's first ones")
    if request.method.pull is not None:
        local_update.load_personal_weights(model, request, kept)
        own = evaluate_site(predict_, site, request.config, shares, request.threshold, minimum=minimum, raw=raw)
        figures = own.results
        if not kept.arrays:
            figures = _noted(figures, "personal model: this site has none of its own, so the federated one")
        results |= {_of_personal(name): item for name, item in figures.items()}
        tables |= {_of_personal(name): item for name, item in own.tables.items()}
        suppressed |= {_of_personal(name): least for name, least in own.suppressed.items()}
    report: dict[str, Any] = {
        "evaluations": {name: item.model_dump() for name, item in results.items()},
        "recalibration": mended,
        "explanation": explained,
        "suppressed": suppressed,
    }
    if request.latent and ALL_PATIENTS in results and len(site.test.y):
        local_update.load_start_weights(model, request, kept)
        report["view"] = latent_view.build_latent_view(
            anomaly_scores.Detector(model, request.config), site, policy, request.latent
        )
    return Reply(site.name, len(site.test.y), report, tables=tables)
