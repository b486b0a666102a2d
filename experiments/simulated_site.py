"""One simulated hospital of a configuration, opened as a run would open it: what audits and demonstrations train on."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from client.policy import SIMULATION_POLICY
from client.privacy.checks import check_private_training
from client.site import Site, load_scaled_site, load_site
from client.site_context import SiteContext
from common import run_folder
from common.config import RunConfig
from common.errors import ConfigError
from common.provenance import installed_versions, source_commit
from common.run_folder import RunFolder
from experiments.runs.checks import resolve_paths
from sites import datasets, shift


def open_simulated_site(config: RunConfig, name: str = "") -> Site:
    """Return a hospital with its inputs as the model takes them; the first that trains, or the one of a name.

    Raises:
        ConfigError: there is none, or the configuration names hospitals elsewhere.
        SiteError: its training would be refused.
    """
    config = resolve_paths(config)
    if config.federation.engine == "federation" and config.federation.address is not None:
        raise ConfigError("this needs simulated hospitals: set federation.engine=local")
    dealt, _, _ = datasets.assign_hospitals(datasets.open_source(config, None), config)
    shift.check_sites(config, dealt)
    names = sorted(dealt)
    if name and name not in names:
        raise ConfigError(f"--site {name}: there is none; the hospitals are {', '.join(names[:20])}")
    for index, here in enumerate(names):
        place = SiteContext(SIMULATION_POLICY, index=index, count=len(names))
        site = load_site(place, config)
        if here == name or (not name and len(site.train.y)):
            if not len(site.train.y):
                raise ConfigError(f"--site {name}: it has no patients to train on")
            if config.privacy.on:
                with tempfile.TemporaryDirectory() as state:
                    check_private_training(
                        SiteContext(SIMULATION_POLICY, index=index, count=len(names), state=Path(state)), site, config
                    )
            return load_scaled_site(place, config, b"")
    raise ConfigError("no hospital has patients to train on")


def write_result(path: Path, about: dict[str, Any]) -> Path:
    """Write what was found, with the versions and the commit it was found with, as JSON; return its path."""
    from common.files import write_json

    write_json(path, {**about, "versions": installed_versions(), "commit": source_commit()})
    return path


def create_result_folder(config: RunConfig, root: Path, kind: str) -> Path:
    """Make a folder beside the runs' own, and write the configuration into it."""
    folder = run_folder.create_run_folder(config.model_copy(update={"name": f"{config.name}-{kind}"}), root)
    run_folder.write_config(config, folder)
    return folder


def load_target(target: Path, settings: list[str]) -> tuple[RunConfig, Path | None]:
    """Return the configuration of a YAML file, or of a run's folder, and that folder.

    Raises:
        ConfigError: it cannot be read.
    """
    from common import config as configuration

    if not target.is_dir():
        return configuration.load_config(target, settings), None
    if not RunFolder(target).config.is_file():
        raise ConfigError(f"{target} is no run folder: it holds no config.yaml")
    return configuration.load_config(RunFolder(target).config, settings), target
