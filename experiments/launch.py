"""One run from configuration to report: the data, the engine, the baselines, the report."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from common import config as configuration
from common.config import ReportConfig, RunConfig
from common.errors import ConfigError
from experiments import runs


class Watcher(Protocol):
    """Told what a run is doing."""

    def start(self, folder: Path, config: RunConfig) -> None:
        """The run's folder is there."""

    def doing(self, what: str) -> None:
        """A new stage began."""

    def event(self, event: dict[str, Any]) -> None:
        """The server told something."""

    def baseline(self, name: str, done: int, total: int) -> None:
        """A baseline finished an epoch."""


def run(config: RunConfig, root: Path, watcher: Watcher) -> Path:
    """Run a configuration; return its folder, which holds a report also when the run fails or is interrupted.

    Raises:
        WardroundError: what went wrong, in one line; what there was by then is in the folder.
    """
    from experiments import sinks

    with sinks.told(config.report.sinks, watcher) as told:
        return _run(config, root, told)


def _run(config: RunConfig, root: Path, watcher: Watcher) -> Path:
    from sites import datasets, shift

    clock = runs.Clock()
    config = settled(config)
    real_sites = config.federation.engine == "federation" and config.federation.address is not None
    if config.federation.engine == "ray":
        from experiments.ray_engine import require_ray

        require_ray()
    dealt: dict[str, tuple[str, ...]] = {}
    source = None
    if not real_sites:
        watcher.doing("reading the data")
        source = datasets.open_source(config, None)
        dealt, _, _ = datasets.hospitals(source, config)
        shift.check(config, dealt)
        if config.baselines.anomaly.models:
            from experiments import anomaly

            anomaly.require(config, source.task())
        if unknown := sorted(set(config.sites.external) - set(dealt)):
            raise ConfigError(f"sites.external: no hospital {unknown[0]}; there are {', '.join(dealt)}")
        if config.data.path is None:
            data = config.data.model_copy(update={"path": str(source.folder.resolve())})
            config = config.model_copy(update={"data": data})
    _check_plugins(config)
    card = asdict(source.card) if source else asdict(_card(config))
    folder = runs.create(config, root)
    notices = [{"level": "leak", "text": text} for text in config.notices]
    if config.not_private:
        notices.append({"level": "not-private", "text": config.not_private})
    if config.unprotected:
        notices.append({"level": "warning", "text": config.unprotected})
    runs.describe(config, folder, card, notices)
    watcher.start(folder, config)
    try:
        _carry(config, folder, dealt, source, watcher)
        if dealt and config.evaluation.domain_shift and not config.privacy.on:
            from experiments import two_sample
            from server.app import write_json

            write_json(folder / "two-sample.json", {"pairs": two_sample.measure(config, len(dealt), watcher.doing)})
        if dealt and (config.baselines.local or config.baselines.pooled):
            from experiments import baselines

            watcher.doing("training the baselines")
            for name, why in baselines.run(config, folder, len(dealt), watcher.baseline).items():
                watcher.event({"event": "baseline-failed", "model": name, "error": why})
    except BaseException as error:
        status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        runs.update(folder, status=status, seconds=clock.seconds())
        if any((folder / name).is_file() for name in ("federated.json", "events.jsonl")):
            with suppress(Exception):  # what went wrong first is what the user must read
                write_report(folder)
        raise
    runs.update(folder, status="complete", seconds=clock.seconds())
    watcher.doing("writing the report")
    write_report(folder)
    return folder


def write_report(folder: Path) -> Any:
    """Build and write the report of a run folder; return it."""
    from experiments.report import build, write

    if runs.read(folder)["status"] == "running":  # it was killed: a run that ends writes how
        runs.update(folder, status="interrupted")
    report = build.build(folder)
    write.write(report, folder)
    return report


def _carry(config: RunConfig, folder: Path, dealt: dict[str, tuple[str, ...]], source: Any, watcher: Watcher) -> None:
    """Hand the run to its engine."""
    engine = config.federation.engine
    watcher.doing(f"federation on the {engine} engine")
    listen: Callable[[dict[str, Any]], None] = watcher.event
    if engine == "local":
        from experiments import simulation

        simulation.run(config, folder, len(dealt), listen)
        return
    if dealt:  # real nodes come one after another: wait for all of them, by name
        named = config.federation.model_copy(update={"expect": tuple(sorted(dealt))})
        config = config.model_copy(update={"federation": named})
    text = configuration.to_json(config)
    if engine == "ray":
        import os

        from experiments import ray_engine

        workers = min(config.federation.workers or os.cpu_count() or 1, len(dealt))
        ray_engine.run(text, folder.resolve(), sites=len(dealt), workers=workers, on_event=listen)
        return
    from experiments import federation

    if config.federation.address is not None:
        if config.federation.ca is None:
            raise ConfigError("federation.ca: name the certificate authority of the server at federation.address")
        federation.submit(
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
        lay_out(source, ids, places / name)
        own = {
            "site": name,
            "data": str((places / name).resolve()),
            "policy": str(policy.resolve()),
            "state": str((folder / "sites").resolve()),
        }
        sites.append(federation.SiteProcess(name, own))
    try:
        federation.run_on_one_machine(text, folder.resolve(), sites, log_dir=folder / "logs", on_event=listen)
    finally:
        shutil.rmtree(places, ignore_errors=True)


def lay_out(source: Any, ids: tuple[str, ...], folder: Path) -> None:
    """Give one hospital a folder of its own, with links to its recordings.

    Raises:
        ConfigError: the data set is no folder of WFDB recordings.
    """
    from sites import records

    folder.mkdir(parents=True)
    below = [source.folder, *sorted(path for path in source.folder.iterdir() if path.is_dir())]
    for name in ids:
        place = next((path for path in below if (path / f"{name}.hea").is_file()), None)
        if place is None:
            raise ConfigError(
                f"federation.engine=federation: {source.card.name} cannot be laid out as hospitals on one machine; "
                "use local or ray, or start each hospital with its own folder"
            )
        for file in records.files(place, name):
            (folder / file.name).symlink_to(file.resolve())
    (folder / "RECORDS").write_text("".join(f"{name}\n" for name in ids), encoding="utf-8")


def settled(config: RunConfig) -> RunConfig:
    """Return the configuration with absolute paths, because engines run in folders of their own, and without sinks.

    Sinks shape nothing in a run, and no hospital need know of them.
    """
    data = config.data
    if data.path is not None:
        data = data.model_copy(update={"path": str(Path(data.path).expanduser().resolve())})
    if data.cache is not None:
        data = data.model_copy(update={"cache": str(Path(data.cache).expanduser().resolve())})
    federation = config.federation
    if federation.start is not None and federation.address is None:  # else it lies where the server runs
        where = str(Path(federation.start).expanduser().resolve())
        federation = federation.model_copy(update={"start": where})
    return config.model_copy(update={"data": data, "federation": federation, "report": ReportConfig()})


def _check_plugins(config: RunConfig) -> None:
    """Refuse wrong names and options before anything starts."""
    from common import plugins
    from server import strategies

    module = plugins.load("common.models", "build", config.model.name, "model")
    configuration.check(module.Options, config.model.options, f"model.options of {config.model.name}")
    strategies.require(config)
    if config.privacy.on:
        from client import privacy

        privacy.sigma_of(config)
    if config.federation.address is None:
        from client.training import choose_device
        from server import start

        choose_device(config.training.device)
        if config.federation.start is not None:
            start.saved(config.federation.start)


def _card(config: RunConfig) -> Any:
    from common import plugins

    return plugins.load("sites", "CARD", config.data.dataset, "data set").CARD
