"""The engines that carry messages between server and clients: local, ray, federation."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.config import RunConfig, config_to_json
from common.errors import ConfigError, DataError
from common.files import escape_file_name, write_text
from common.run_folder import RunFolder
from experiments.watcher import Watcher, stage_event

if TYPE_CHECKING:
    from experiments.engines.federation import SiteProcess


def carry_messages(
    config: RunConfig, folder: Path, hospitals: dict[str, tuple[str, ...]], source: Any, watcher: Watcher
) -> None:
    """Run the federation on the engine that the configuration names.

    Args:
        config: the run.
        folder: the run's folder.
        hospitals: the recordings of each simulated hospital; empty: real hospitals.
        source: the data set of a simulation.
        watcher: receives the events.

    Raises:
        WardroundError: as the engine.
    """
    engine = config.federation.engine
    stacked = ", small models in stacked steps" if config.federation.stacked else ""
    watcher.handle(stage_event(f"federation on the {engine} engine{stacked}"))
    if engine == "local":
        from experiments.engines.local import run_local

        run_local(config, folder, len(hospitals), watcher.handle)
        return
    if hospitals:  # nodes connect one after another: wait for all of them, by name
        expected = config.federation.model_copy(update={"expect": tuple(sorted(hospitals))})
        config = config.model_copy(update={"federation": expected})
    text = config_to_json(config)
    if engine == "ray":
        from experiments.engines.ray_runtime import run_on_ray

        workers = min(config.federation.workers or os.cpu_count() or 1, len(hospitals))
        run_on_ray(text, folder.resolve(), sites=len(hospitals), workers=workers, on_event=watcher.handle)
    elif config.federation.address is None:
        _run_site_processes(config, folder, hospitals, source, watcher)
    elif config.federation.ca is None:
        raise ConfigError("federation.ca: name the certificate authority of the server at federation.address")
    else:
        from experiments.engines.federation import submit_run

        address, ca = config.federation.address, Path(config.federation.ca)
        submit_run(text, folder.resolve(), address=address, ca=ca, on_event=watcher.handle)


def _run_site_processes(
    config: RunConfig, folder: Path, hospitals: dict[str, tuple[str, ...]], source: Any, watcher: Watcher
) -> None:
    """Run the `federation` engine on this machine, with a node and a worker process for each hospital."""
    from experiments.engines.federation import run_on_one_machine

    files = RunFolder(folder)
    root = folder / "hospitals"
    shutil.rmtree(root, ignore_errors=True)  # of an earlier part of the run, which was killed
    root.mkdir()
    try:
        sites = prepare_site_processes(config, root, files.sites.resolve(), hospitals, source)
        text = config_to_json(config)
        run_on_one_machine(text, folder.resolve(), sites, log_dir=files.logs, on_event=watcher.handle)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def prepare_site_processes(
    config: RunConfig, root: Path, state: Path, hospitals: dict[str, tuple[str, ...]], source: Any
) -> list[SiteProcess]:
    """Return the settings of each hospital's node.

    Where a part of the recordings is a data set too, each hospital has a folder of links to its own, as a real one has.
    Of other data sets, and where hospitals are to differ, every worker opens the whole and takes the part of its
    hospital, as the other engines do.

    Args:
        config: the run.
        root: the folder of the hospitals' folders.
        state: the folder of what hospitals keep.
        hospitals: the recordings of each hospital.
        source: the data set.
    """
    from experiments.engines.federation import SiteProcess

    if config.shift or not getattr(source.module, "DIVISIBLE_FOLDER", False):  # a real hospital shifts no data
        count = len(hospitals)
        return [
            SiteProcess(name, {"partition-id": index, "num-partitions": count, "state": str(state)})
            for index, name in enumerate(sorted(hospitals))
        ]
    policy = root / "policy.yaml"  # all data are on this machine anyway: it allows what a simulation does
    write_text(policy, describe_simulation_policy())
    sites = []
    for name, ids in hospitals.items():
        data = root / escape_file_name(name)
        link_site_recordings(source, ids, data)
        paths = {"data": str(data.resolve()), "policy": str(policy.resolve()), "state": str(state)}
        sites.append(SiteProcess(name, {"site": name, **paths}))
    return sites


def describe_simulation_policy() -> str:
    """Return the policy of simulated hospitals as YAML."""
    import yaml

    from client.policy import SIMULATION_POLICY

    return yaml.safe_dump(SIMULATION_POLICY.model_dump(mode="json"))


def link_site_recordings(source: Any, ids: tuple[str, ...], folder: Path) -> None:
    """Create the folder of one hospital, with links to its recordings.

    Raises:
        DataError: a recording is not in the data set's folder.
    """
    from sites.ecg import recordings

    folder.mkdir(parents=True)
    folders = [source.folder, *sorted(path for path in source.folder.iterdir() if path.is_dir())]
    for name in ids:
        holder = next((path for path in folders if (path / f"{name}.hea").is_file()), None)
        if holder is None:
            raise DataError(f"no recording {name} in {source.folder}: fetch it again")
        for file in recordings.recording_files(holder, name):
            link = folder / file.relative_to(holder)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(file.resolve())
    write_text(folder / "RECORDS", "".join(f"{name}\n" for name in ids))
