"""A hospital's site: its cohort by split, loaded from its data and cached, with inputs scaled."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path

from client import input_scaling
from client.cluster_node import find_data_of_node
from client.gate.changed_records import change_records
from client.gate.own_records import check_records
from client.gate.own_split import apply_own_split
from client.gate.rare_values import replace_rare_values
from client.gate.register import open_register
from client.site_context import SiteContext
from common.config import RunConfig, config_from_json, config_to_json
from common.errors import ConfigError
from common.scaling import Scaling
from common.sections.data import SitesConfig
from common.sections.detection import DetectionConfig
from common.sections.training import ModelConfig
from common.task import Task
from sites import datasets, shift, splits
from sites.anomaly_task import to_anomaly_task
from sites.cohort import Cohort, Patient
from sites.datasets import Source
from sites.outliers import clear_outliers
from sites.suspicions import note_suspicions

_assigning = threading.Lock()


@dataclass(frozen=True)
class Site:
    """A loaded site.

    Attributes:
        name: the site's name.
        task: what is predicted, from what.
        synthetic: whether the data are generated.
        train: training examples.
        validation: validation examples.
        test: test examples.
        dropped: recordings that the split left out.
        warning: notice that must accompany every result from these data; empty: none.
        shift: by option of a simulated shift, what it changed in the data.
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
    def from_cohort(cls, name: str, cohort: Cohort, synthetic: bool, dropped: int = 0, warning: str = "") -> Site:
        """Return the site of a cohort whose examples have been assigned to splits."""
        train, validation, test = (cohort.part(split) for split in ("train", "validation", "test"))
        return cls(name, cohort.task, synthetic, train, validation, test, dropped, warning)


def load_site(context: SiteContext, config: RunConfig) -> Site:
    """Load a site, cached by the settings that affect its data."""
    known = _reduced_configs.get(id(config))
    if known is None or known[0] is not config:
        if len(_reduced_configs) >= MOST_CONFIGS:
            _reduced_configs.clear()
        known = _reduced_configs[id(config)] = config, _reduce_config(config)
    return read_site(context, known[1])


_reduced_configs: dict[int, tuple[RunConfig, str]] = {}
"""The reduced form of configurations by their identity: each message of a run has the same object, and asks thrice."""
MOST_CONFIGS = 64


def _reduce_config(config: RunConfig) -> str:
    """Return as JSON the settings that affect a site's data."""
    sites = config.sites.model_copy(update={"external": ()})  # what a site holds does not depend on who trains
    # Limits of outliers from patients' own values would void private training: only a scaling without noise sets them.
    data = config.data.model_copy(update={"scaling": "none"}) if config.privacy.on else config.data
    if data.scaling == "bins":  # which differs from it for the model alone
        data = data.model_copy(update={"scaling": "quantile"})
    reduced = RunConfig(name=config.name, seed=config.seed, data=data, sites=sites, shift=config.shift)
    if config.detecting:
        reduced = reduced.model_copy(
            update={"model": ModelConfig(name=config.model.name), "detection": _select_labelling(config.detection)}
        )
    return config_to_json(reduced)


def choose_summed_settings(context: SiteContext, config: RunConfig) -> RunConfig:
    """Return the settings for sums over inputs: at a hospital always without outliers, as where inputs are scaled.

    Sums with an outlier of a run that scales nothing, minus those of another run, would be one person's value.
    """
    scaled = input_scaling.resolve_scaling(config.data, load_site(context, config).task) != "none"
    if context.simulated or config.privacy.on or scaled:
        return config
    return config.model_copy(update={"data": config.data.model_copy(update={"scaling": "standard"})})


@lru_cache(maxsize=1024)
def read_site(context: SiteContext, reduced_config: str) -> Site:
    """Read a site's data.

    Args:
        context: which site.
        reduced_config: the configuration as JSON, reduced to the settings that affect the site's data.

    Raises:
        ConfigError: a simulation's number of nodes is not the run's number of hospitals, or a setting does not fit.
    """
    config = config_from_json(reduced_config)
    if context.simulated:
        with _assigning:
            source, hospitals, dropped = _assign_hospitals(reduced_config)
        if context.count != len(hospitals):
            raise ConfigError(
                f"the run has {len(hospitals)} hospitals, but {context.count} nodes were started: start one for each"
            )
        name, ids, patients = hospitals[context.index]
    else:
        shift.refuse_at_hospital(config)
        source = datasets.open_site_source(config, _require_data(context))
        own_split = context.policy.split == "own"
        wanted = config.sites if not own_split else config.sites.model_copy(update={"split": "published"})
        list_patients = partial(_list_patients, context, wanted)
        patients, dropped = list_patients(source)
        name, ids = str(context.site), tuple(sorted(patient.id for patient in patients))
    cohort = source.read(ids)
    synthetic = source.card.synthetic or cohort.synthetic
    if not context.simulated and context.policy.split == "own":
        cohort = apply_own_split(open_register(context), config.data.dataset, cohort, patients, context.policy)
    else:
        cohort = splits.assign_split(cohort, patients, config.sites, config.seed, name)
    if not context.simulated:
        register = open_register(context)
        check_records(register, config.data.dataset, source, cohort, lambda other: list_patients(other)[0])
    if input_scaling.resolve_scaling(config.data, cohort.task) != "none":
        cohort = clear_outliers(cohort, source.bounds())
    cohort = note_suspicions(cohort, source.bounds(), source.event_share)
    cohort, shifted = shift.apply_shift(cohort, shift.site_options(config, name), config.seed, name)
    if config.detecting:
        cohort = to_anomaly_task(cohort, config)
    return replace(Site.from_cohort(name, cohort, synthetic, dropped, source.card.warning), shift=shifted)


def _list_patients(context: SiteContext, wanted: SitesConfig, source: Source) -> tuple[list[Patient], int]:
    """Return the recordings that a hospital takes of a data set, and how many it leaves out."""
    everyone = [item for item in source.patients() if context.people is None or item.person in context.people]
    return splits.drop_shared_persons(everyone, wanted)


def _require_data(context: SiteContext) -> Path:
    if context.data is None:
        raise ConfigError(f"{context.site}: no data folder")
    return context.data


_scaled_sites: dict[SiteContext, tuple[Site, str, Site]] = {}
"""By context, the site that was scaled last, a digest of the scaling, and the scaled site."""


def _select_labelling(config: DetectionConfig) -> DetectionConfig:
    """Return the settings of anomaly detection that affect the data, all others at their defaults."""
    return DetectionConfig(normal=config.normal, train_on=config.train_on)


def load_scaled_site(context: SiteContext, config: RunConfig, scaling: bytes) -> Site:
    """Load a site with its inputs scaled for the model, cached while the scaling stays the same.

    Args:
        context: which site.
        config: the run; `data.scaling=site` scales by the site's own training examples.
        scaling: the scaling that the server sent, or empty.
    """
    site = load_site(context, config)
    key = _name_scaling(site, config, scaling)
    if key == "none" and not site.task.missing:
        return site
    last = _scaled_sites.get(context)
    if last is not None and last[0] is site and last[1] == key:
        return last[2]
    scaled = scale_site(site, _fit_scaling(context, site, config, scaling))
    _scaled_sites[context] = site, key, scaled
    return scaled


def _name_scaling(site: Site, config: RunConfig, scaling: bytes) -> str:
    """Return by what a request's inputs are scaled, as a key of what was scaled already."""
    if scaling:
        return hashlib.sha256(scaling).hexdigest()
    return "own" if input_scaling.resolve_scaling(config.data, site.task) == "site" else "none"


def _fit_scaling(context: SiteContext, site: Site, config: RunConfig, scaling: bytes) -> Scaling | None:
    """Return the scaling of a request; a hospital's own is fitted to its changed records, as a server's is."""
    if scaling:
        return Scaling.from_bytes(scaling)
    if _name_scaling(site, config, scaling) == "none":
        return None
    train = site.train if context.simulated else change_training(context, config, site, fill=False)
    return input_scaling.fit_scaling([train], "site")


def find_replaced_share(context: SiteContext, config: RunConfig) -> float:
    """Return the probability with which outcomes that a run learns from are replaced here.

    Also in private runs: an epsilon of 8 hides an outcome less than this does. But not where the policy demands
    privacy, so that its epsilon is what the hospital relies on. A run that makes the policy stricter
    (`federation.site_policy`) does not change what the hospital relies on.
    """
    demanded = config.privacy.on and context.relies_on_privacy
    return 0.0 if context.simulated or demanded else context.policy.replaced_values


def change_training(context: SiteContext, config: RunConfig, site: Site, *, fill: bool) -> Cohort:
    """Return a hospital's training examples, in their own units, as its policy changes them.

    Which examples are normal, and so train an autoencoder, is decided on changed outcomes too: whoever trained would
    else be known to be normal. With differential privacy by record or patient, only outcomes are changed.

    Args:
        context: which site.
        config: the run.
        site: with its inputs as they are.
        fill: whether a missing number becomes the mean, with noise; never for reconstructions, which leave it out.
    """
    policy, share = context.policy, find_replaced_share(context, config)
    inputs = not config.privacy.on or config.privacy.kind == "hospital"
    labelled = load_site(context, without_detection(config)).train if share and config.detecting else site.train
    train = replace_rare_values(labelled, policy.min_unit_patients) if inputs else labelled
    if share or (inputs and policy.record_noise):
        register, fill = open_register(context), fill and not config.detecting

        def keep(column: str, spread: float) -> float:
            return register.keep_spread(config.data.dataset, f"{column} by {policy.record_noise!r}", spread)

        secret, noise = register.read_secret(), policy.record_noise
        train = change_records(train, secret, noise, share, fill=fill, inputs=inputs, keep=keep)
    if labelled.task == site.task:
        return train
    last = _changed_normal.get(context)
    if last is None or last[0] is not train or last[1] != config.detection:
        last = _changed_normal[context] = train, config.detection, to_anomaly_task(train, config)
    return last[2]


def without_detection(config: RunConfig) -> RunConfig:
    """Return a run's settings with the classes of the data set, where the run detects anomalies."""
    return config.model_copy(update={"model": ModelConfig()}) if config.detecting else config


_changed_normal: dict[SiteContext, tuple[Cohort, DetectionConfig, Cohort]] = {}
"""By context, the changed training records that were made an anomaly task last, how, and what became of them."""
_scaled_records: dict[SiteContext, tuple[Cohort, str, Cohort]] = {}
"""By context, the changed training records that were scaled last, how (`_name_scaling`), and what became of them."""


def load_changed_training(context: SiteContext, config: RunConfig, scaling: bytes) -> Cohort:
    """Load a hospital's training examples as its policy changes them (client/gate/changed_records.py), then scaled.

    Args:
        context: which site.
        config: the run.
        scaling: as for `load_scaled_site`.
    """
    site = load_site(context, config)
    fill = input_scaling.resolve_scaling(config.data, site.task) != "bins"
    train = change_training(context, config, site, fill=fill)
    last, key = _scaled_records.get(context), _name_scaling(site, config, scaling)
    if last is not None and last[0] is train and last[1] == key:
        return last[2]
    scaled = input_scaling.apply_scaling(train, _fit_scaling(context, site, config, scaling))
    _scaled_records[context] = train, key, scaled
    return scaled


def clear_site_cache() -> None:
    """Forget every site that was loaded, so that many can be loaded one after another."""
    read_site.cache_clear()
    _scaled_sites.clear()
    _scaled_records.clear()
    _changed_normal.clear()


def scale_site(site: Site, scaling: Scaling | None) -> Site:
    """Return a site with its inputs scaled and missing values filled in; None only fills them in."""
    train, validation, test = (
        input_scaling.apply_scaling(part, scaling) for part in (site.train, site.validation, site.test)
    )
    return replace(site, train=train, validation=validation, test=test)


def count_loaded_sites() -> int:
    """Return how many sites, or forms of one site's data, this process holds."""
    return read_site.cache_info().currsize


def forget_sites() -> None:
    """Drop the data that this process holds; the next request reads them again."""
    read_site.cache_clear()
    _assign_hospitals.cache_clear()
    _scaled_sites.clear()
    _scaled_records.clear()
    _changed_normal.clear()


@lru_cache(maxsize=4)
def _assign_hospitals(reduced_config: str) -> tuple[Source, list[tuple[str, tuple[str, ...], list[Patient]]], int]:
    """Return a simulation's source, each hospital's name, recordings and patients, and how many patients were dropped.

    Cached for all hospitals together, because it reads every file. The hospitals are sorted by name.
    """
    config = find_data_of_node(config_from_json(reduced_config))
    source = datasets.open_source(config, None)
    hospitals, everyone, dropped = datasets.assign_hospitals(source, config)
    owner = {item: name for name, ids in hospitals.items() for item in ids}
    patients: dict[str, list[Patient]] = {name: [] for name in hospitals}
    for patient in everyone:
        if patient.id in owner:
            patients[owner[patient.id]].append(patient)
    return source, [(name, ids, patients[name]) for name, ids in sorted(hospitals.items())], dropped
