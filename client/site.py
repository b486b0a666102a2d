"""A hospital's site: its cohort by split, loaded from its data and cached, with inputs scaled."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache

from client import input_scaling
from client.site_context import SiteContext
from common import config as configuration
from common.config import RunConfig
from common.errors import ConfigError
from common.scaling import Scaling
from common.sections.detection import DetectionConfig
from common.sections.training import ModelConfig
from common.task import Task
from sites import datasets, shift, splits
from sites.anomaly_task import to_anomaly_task
from sites.cohort import Cohort, Patient
from sites.datasets import Source

_dealing = threading.Lock()


@dataclass(frozen=True)
class Site:
    """An opened site: its name, its task, its examples by split, how many recordings a split left out.

    `warning`: what must stand beside every figure from its data, or nothing; `shift`: what a simulated difference
    did to them, by option.
    """

    name: str
    task: Task
    synthetic: bool
    train: Cohort
    validation: Cohort
    test: Cohort
    dropped: int = 0
    warning: str = ""
    shift: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, name: str, cohort: Cohort, synthetic: bool, dropped: int = 0, warning: str = "") -> Site:
        """Return a site with its splits taken apart once."""
        train, validation, test = (cohort.part(split) for split in ("train", "validation", "test"))
        return cls(name, cohort.task, synthetic, train, validation, test, dropped, warning)


def load_site(place: SiteContext, config: RunConfig) -> Site:
    """Open a site, or return it if it is open; only what shapes the data counts for which is the same."""
    sites = config.sites.model_copy(update={"external": ()})  # what a site holds does not depend on who trains
    shape = RunConfig(name=config.name, seed=config.seed, data=config.data, sites=sites, shift=config.shift)
    if config.detecting:
        shape = shape.model_copy(
            update={"model": ModelConfig(name=config.model.name), "detection": _labelling(config.detection)}
        )
    return read_site(place, configuration.config_to_json(shape))


@lru_cache(maxsize=1024)
def read_site(place: SiteContext, shape: str) -> Site:
    """Read a site; `shape` is the configuration as JSON, reduced to what affects its data."""
    config = configuration.config_from_json(shape)
    if place.simulated:
        with _dealing:
            source, dealt, patients, dropped = _hospitals(shape)
        if place.count != len(dealt):
            raise ConfigError(f"the run has {len(dealt)} hospitals, but {place.count} nodes were started")
        name, ids = sorted(dealt.items())[place.index]
        here = set(ids)
        mine = [item for item in patients if item.id in here]
    else:
        shift.refuse_at_hospital(config)
        source = datasets.open_source(config, place.data)
        mine, dropped = splits.drop_shared_persons(source.patients(), config.sites)
        name, ids = str(place.site), tuple(sorted(item.id for item in mine))
    cohort = source.read(ids)
    split = splits.assign_split(cohort, mine, config.sites, config.seed, name)
    split, shifted = shift.apply_shift(split, shift.site_options(config, name), config.seed, name)
    if config.detecting:
        split = to_anomaly_task(split, config)
    return replace(
        Site.of(name, split, source.card.synthetic or cohort.synthetic, dropped, source.card.warning), shift=shifted
    )


_scaled_sites: dict[SiteContext, tuple[Site, str, Site]] = {}
"""The last scaled form of each place's site: the site, how it was scaled, the form."""


def _labelling(config: DetectionConfig) -> DetectionConfig:
    """Return what of it shapes the data."""
    return DetectionConfig(normal=config.normal, train_on=config.train_on)


def load_scaled_site(place: SiteContext, config: RunConfig, scaling: bytes) -> Site:
    """Return a site with its inputs as the model takes them: scaled as the server says, or by its own sums."""
    site = load_site(place, config)
    own = input_scaling.resolve_scaling(config.data, site.task) == "site"
    if not scaling and not own and not site.task.missing:
        return site
    key = hashlib.sha256(scaling).hexdigest() if scaling else "own" if own else "none"
    last = _scaled_sites.get(place)
    if last is not None and last[0] is site and last[1] == key:
        return last[2]
    found = Scaling.from_bytes(scaling) if scaling else input_scaling.fit_scaling([site.train], "site") if own else None
    _scaled_sites[place] = site, key, scale_site(site, found)
    return _scaled_sites[place][2]


def scale_site(site: Site, scaling: Scaling | None) -> Site:
    """Return a site with its inputs scaled and without NaN."""
    train, validation, test = (
        input_scaling.apply_scaling(part, scaling) for part in (site.train, site.validation, site.test)
    )
    return replace(site, train=train, validation=validation, test=test)


@lru_cache(maxsize=4)
def _hospitals(shape: str) -> tuple[Source, dict[str, tuple[str, ...]], list[Patient], int]:
    """Return a simulation's hospitals; once for all of them, because it looks at every file."""
    config = configuration.config_from_json(shape)
    source = datasets.open_source(config, None)
    return source, *datasets.assign_hospitals(source, config)
