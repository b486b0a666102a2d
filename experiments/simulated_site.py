"""One simulated hospital of a configuration, loaded as a run would load it, for audits and demonstrations."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from client.policy import SIMULATION_POLICY
from client.privacy.checks import check_private_training
from client.site import Site, load_scaled_site, load_site
from client.site_context import SiteContext
from common import run_folder
from common.config import RunConfig, load_config
from common.errors import ConfigError
from common.files import write_json
from common.provenance import installed_versions, source_commit
from common.run_folder import RunFolder
from experiments.runs.checks import resolve_paths
from experiments.runs.experiment_files import find_experiment
from sites import datasets, shift


def open_simulated_site(config: RunConfig, name: str = "") -> Site:
    """Return a simulated hospital with its inputs scaled.

    Args:
        config: the run.
        name: the hospital; empty: the first that has training patients.

    Raises:
        ConfigError: there is no such hospital, or the configuration is of real hospitals.
        SiteError: its training would be refused.
    """
    config = resolve_paths(config)
    if config.federation.engine == "federation" and config.federation.address is not None:
        raise ConfigError("this needs simulated hospitals: set federation.engine=local")
    hospitals, _, _ = datasets.assign_hospitals(datasets.open_source(config, None), config)
    shift.check_sites(config, hospitals)
    names = sorted(hospitals)
    if name and name not in names:
        raise ConfigError(f"--site {name}: there is none; the hospitals are {', '.join(names[:20])}")
    for index, candidate in enumerate(names):
        context = SiteContext(SIMULATION_POLICY, index=index, count=len(names))
        site = load_site(context, config)
        if candidate == name or (not name and len(site.train.y)):
            if not len(site.train.y):
                raise ConfigError(f"--site {name}: it has no patients to train on")
            if config.privacy.on:
                with tempfile.TemporaryDirectory() as state:
                    with_state = SiteContext(SIMULATION_POLICY, index=index, count=len(names), state=Path(state))
                    check_private_training(with_state, site, config)
            return load_scaled_site(context, config, b"")
    raise ConfigError("no hospital has patients to train on")


def write_result(path: Path, result: dict[str, Any]) -> Path:
    """Write a result as JSON, with the versions and the commit that produced it; return its path."""
    return write_json(path, {**result, "versions": installed_versions(), "commit": source_commit()})


def create_result_folder(config: RunConfig, root: Path, kind: str) -> Path:
    """Create a folder next to those of runs, write the configuration into it and return it; `kind` is in its name."""
    folder = run_folder.create_run_folder(config.model_copy(update={"name": f"{config.name}-{kind}"}), root)
    run_folder.write_config(config, folder)
    return folder


def load_target(target: Path, settings: list[str]) -> tuple[RunConfig, Path | None]:
    """Return the configuration of a YAML file, an experiment or a run's folder, and that folder or None.

    Raises:
        ConfigError: it cannot be read.
    """
    if RunFolder(target).config.is_file():
        return load_config(RunFolder(target).config, settings), target
    return load_config(find_experiment(target), settings), None
