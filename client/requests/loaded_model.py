"""The model of a request, loaded with its weights, and the site with its inputs scaled for it."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import lru_cache

from torch import nn

from client.site import Site, load_scaled_site, load_site
from client.site_context import SiteContext
from client.training.local_update import SavedState, load_start_weights
from common import models
from common.config import RunConfig
from common.errors import SiteError
from common.requests import ModelRequest
from common.sections.training import ModelConfig
from common.task import Task


@dataclass(frozen=True)
class LoadedModel:
    """A model at a site.

    Attributes:
        site: with its inputs scaled as the request says.
        model: with the weights that the server sent, and the local layers that the site keeps.
        saved: what the site has kept of the run.
    """

    site: Site
    model: nn.Module
    saved: SavedState


def load_model(context: SiteContext, request: ModelRequest) -> LoadedModel:
    """Return the model of a request at this site, ready to train or to evaluate.

    Raises:
        SiteError: the weights or the state do not fit the model.
        DataError: the site's data or state cannot be read.
    """
    site = load_scaled_site(context, request.config, request.scaling)
    model = _build_network(threading.get_ident(), site.task, request.config.model.model_dump_json())
    saved = SavedState.load(context, site.name, request)
    load_start_weights(model, request, saved)
    return LoadedModel(site, model, saved)


def refuse_external(context: SiteContext, config: RunConfig) -> None:
    """Raise `SiteError` if this site is one of `sites.external`, which are only tested."""
    if load_site(context, config).name in config.sites.external:
        raise SiteError("sites.external: this site is only tested")


@lru_cache(maxsize=256)
def _build_network(thread: int, task: Task, wanted: str) -> nn.Module:
    """Return a network of this thread's own, kept because building one costs as much as half a training step."""
    return models.build_model(task, ModelConfig.model_validate_json(wanted), seed=0)


def forget_models() -> None:
    """Drop the networks that this process holds."""
    _build_network.cache_clear()
