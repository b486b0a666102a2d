"""A hospital of generated heart patients under the default policy, asked as a hostile coordinator would."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

import numpy as np

from client import site as client_site
from client.policy import SitePolicy
from client.requests import handle
from client.site import Site, load_site
from client.site_context import SiteContext
from common import models
from common.arrays import Weights
from common.config import RunConfig, parse_config
from common.requests import ScalingRequest, TrainRequest
from common.scaling import Scaling, fit_standard_scaling
from sites.datasets.heart_disease import simulate

PLAIN: dict[str, Any] = {
    "training__optimizer": "sgd", "training__lr": 1.0, "training__momentum": 0.0, "training__weight_decay": 0.0,
    "training__schedule": "constant", "training__clip_norm": 1e9, "training__batch_size": 4096,
    "training__loss": "cross_entropy",
}  # fmt: skip
"""One step over all who train, whose update is the mean gradient."""


def make_hospital(folder: Path, patients: int = 120, **policy: Any) -> SiteContext:
    """Return a hospital with generated patients; `folder` gets its data and its state."""
    if not (folder / "data").exists():
        simulate.generate(folder / "data", hospitals=1, patients=patients, seed=3)
    return SiteContext(SitePolicy(**policy), site="north", data=folder / "data", state=folder / "state")


def data_file(context: SiteContext) -> Path:
    """Return the one file with the patients' rows."""
    assert context.data is not None
    return next(iter(context.data.glob("*.data")))


def forget_data() -> None:
    """Let the next request read the files again, as a client that was started anew would."""
    client_site.read_site.cache_clear()


def make_config(**values: Any) -> RunConfig:
    """Return a configuration; `training__lr=1` sets training.lr."""
    raw: dict[str, Any] = {"name": "attack", "data": {"dataset": "heart_disease"}, "model": {"name": "logreg"}}
    for name, value in values.items():
        *inner, last = name.split("__")
        place = raw
        for part in inner:
            place = place.setdefault(part, {})
        place[last] = value
    return parse_config(raw)


def seed_weights(config: RunConfig, site: Site) -> Weights:
    """Return the first weights that the run's seed gives."""
    built = models.build_model(site.task, config.model, config.seed)
    return {name: value.detach().numpy().copy() for name, value in built.state_dict().items()}


def ask_scaling(context: SiteContext) -> Scaling:
    """Return the standard scaling that the hospital's sums give."""
    return fit_standard_scaling(handle(context, ScalingRequest(make_config(data__scaling="standard"))).sums)


def train_first(context: SiteContext, config: RunConfig, scaling: Scaling | None = None, run: str = "") -> Weights:
    """Return the update of an honest first round."""
    request = TrainRequest(
        config,
        round=1,
        weights=seed_weights(config, load_site(context, config)),
        scaling=scaling.to_bytes() if scaling else b"",
        run_id=run or secrets.token_hex(16),
    )
    return handle(context, request).weights


def is_among(values: np.ndarray[Any, Any], wanted: float) -> bool:
    """Return whether a value is one of several."""
    return bool(np.isclose(values, wanted).any())
