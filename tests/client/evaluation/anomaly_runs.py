"""Runs of an autoencoder at one site."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from client import requests as work
from client.policy import SIMULATION_POLICY
from client.site import Site, load_site
from client.site_context import SiteContext
from client.training.local_update import copy_weights
from client.training.loop import Schedule, train_model
from common import models
from common.config import RunConfig
from sites.anomaly_task import to_anomaly_task
from sites.cohort import Cohort
from tests import tiny
from tests.wire import build_request

CONTEXT = SiteContext(SIMULATION_POLICY, index=0, count=1)


def run_config(**sections: Any) -> RunConfig:
    options = {"widths": [4], "kernel": 3, "latent": 2}
    return tiny.run_config(**({"model": {"name": "autoencoder", "options": options}} | sections))


def opened(run: RunConfig, cohort: Cohort | None = None) -> Site:
    whole = tiny.cohort(1, people=6, each=30) if cohort is None else cohort
    split = np.asarray((0, 0, 0, 1, 2, 2), np.int8)[whole.patient]
    return Site.from_cohort("north", to_anomaly_task(whole.with_split(split), run), synthetic=True)


def trained(run: RunConfig, site: Site, epochs: int = 3) -> torch.nn.Module:
    model = models.build_model(site.task, run.model, run.seed)
    settings = run.training.model_copy(update={"epochs": epochs})
    train_model(model, site.train, settings, 1, counts=(1, 1), schedule=Schedule(0, epochs))
    return model


def request_reply(run: RunConfig, kind: Any, **more: Any) -> Any:
    weights = copy_weights(models.build_model(load_site(CONTEXT, run).task, run.model, run.seed))
    return work.handle(CONTEXT, build_request(kind, run, 1, weights, **more))
