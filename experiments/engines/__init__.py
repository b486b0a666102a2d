"""The engines that carry messages between server and clients: local, ray, federation."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common import config as configuration
from common.config import RunConfig
from common.errors import ConfigError
from common.run_folder import RunFolder
from experiments.watcher import Watcher, stage_event


def carry_messages(
    config: RunConfig, folder: Path, dealt: dict[str, tuple[str, ...]], source: Any, watcher: Watcher
) -> None:
    """Hand the run to its engine."""
    engine = config.federation.engine
    watcher.handle(stage_event(f"federation on the {engine} engine"))
    listen: Callable[[dict[str, Any]], None] = watcher.handle
    if engine == "local":
        from experiments.engines import local

        local.run_local(config, folder, len(dealt), listen)
        return
    if dealt:  # real nodes come one after another: wait for all of them, by name
        named = config.federation.model_copy(update={"expect": tuple(sorted(dealt))})
        config = config.model_copy(update={"federation": named})
    text = configuration.config_to_json(config)
    if engine == "ray":
        import os

        from experiments.engines import ray_runtime

        workers = min(config.federation.workers or os.cpu_count() or 1, len(dealt))
        ray_runtime.run_on_ray(text, folder.resolve(), sites=len(dealt), workers=workers, on_event=listen)
        return
    from experiments.engines import federation

    if config.federation.address is not None:
        if config.federation.ca is None:
            raise ConfigError("federation.ca: name the certificate authority of the server at federation.address")
        federation.submit_run(
            text,
            folder.resolve(),
            address=config.federation.address,
            ca=Path(config.federation.ca),
            on_event=listen,
        )
        return
    places = folder / "hospitals"
    places.mkdir()
    policy = places / "policy.yaml"  # whoever runs this holds all data: nothing is suppressed for want of patients
    policy.write_text("min_cell_patients: 1\n", encoding="utf-8")
    sites = []
    for name, ids in dealt.items():
        link_site_folders(source, ids, places / name)
        own = {
            "site": name,
            "data": str((places / name).resolve()),
            "policy": str(policy.resolve()),
            "state": str(RunFolder(folder).sites.resolve()),
        }
        sites.append(federation.SiteProcess(name, own))
    try:
        federation.run_on_one_machine(text, folder.resolve(), sites, log_dir=RunFolder(folder).logs, on_event=listen)
    finally:
        shutil.rmtree(places, ignore_errors=True)


def link_site_folders(source: Any, ids: tuple[str, ...], folder: Path) -> None:
    """Give one hospital a folder of its own, with links to its recordings.

    Raises:
        ConfigError: the data set is no folder of WFDB recordings.
    """
    from sites.ecg import recordings

    folder.mkdir(parents=True)
    below = [source.folder, *sorted(path for path in source.folder.iterdir() if path.is_dir())]
    for name in ids:
        place = next((path for path in below if (path / f"{name}.hea").is_file()), None)
        if place is None:
            raise ConfigError(
                f"federation.engine=federation: {source.card.name} cannot be laid out as hospitals on one machine; "
                "use local or ray, or start each hospital with its own folder"
            )
        for file in recordings.recording_files(place, name):
            link = folder / file.relative_to(place)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(file.resolve())
    (folder / "RECORDS").write_text("".join(f"{name}\n" for name in ids), encoding="utf-8")
