"""One run from configuration to report: the data, the engine, the baselines, the report."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from common import run_folder
from common.config import RunConfig
from common.errors import ConfigError
from experiments.engines import carry_messages
from experiments.runs.checks import check_plugins, data_card, resolve_paths
from experiments.watcher import Watcher


def run_experiment(config: RunConfig, root: Path, watcher: Watcher) -> Path:
    """Run a configuration; return its folder, which holds a report also when the run fails or is interrupted.

    Raises:
        WardroundError: what went wrong, in one line; what there was by then is in the folder.
    """
    from experiments.runs import sinks

    with sinks.watch_with_sinks(config.report.sinks, watcher) as told:
        return _run(config, root, told)


def _run(config: RunConfig, root: Path, watcher: Watcher) -> Path:
    from sites import datasets, shift

    clock = run_folder.Stopwatch()
    config = resolve_paths(config)
    real_sites = config.federation.engine == "federation" and config.federation.address is not None
    if config.federation.engine == "ray":
        from experiments.engines.ray_runtime import require_ray

        require_ray()
    dealt: dict[str, tuple[str, ...]] = {}
    source = None
    if not real_sites:
        watcher.doing("reading the data")
        source = datasets.open_source(config, None)
        dealt, _, _ = datasets.assign_hospitals(source, config)
        shift.check_sites(config, dealt)
        if config.baselines.anomaly.models:
            from experiments.baselines import anomaly_detectors

            anomaly_detectors.check_anomaly_baselines(config, source.task())
        if unknown := sorted(set(config.sites.external) - set(dealt)):
            raise ConfigError(f"sites.external: no hospital {unknown[0]}; there are {', '.join(dealt)}")
        if config.data.path is None:
            data = config.data.model_copy(update={"path": str(source.folder.resolve())})
            config = config.model_copy(update={"data": data})
    check_plugins(config)
    card = asdict(source.card) if source else asdict(data_card(config))
    folder = run_folder.create_run_folder(config, root)
    notices = [{"level": "leak", "text": text} for text in config.notices]
    if config.not_private:
        notices.append({"level": "not-private", "text": config.not_private})
    if config.unprotected:
        notices.append({"level": "warning", "text": config.unprotected})
    run_folder.describe_run(config, folder, card, notices)
    watcher.start(folder, config)
    try:
        carry_messages(config, folder, dealt, source, watcher)
        if dealt and config.evaluation.domain_shift and not config.privacy.on:
            from common.files import write_json
            from experiments.baselines import two_sample_test

            write_json(
                folder / "two-sample.json",
                {"pairs": two_sample_test.run_two_sample_tests(config, len(dealt), watcher.doing)},
            )
        if dealt and (config.baselines.local or config.baselines.pooled):
            from experiments.baselines import networks

            watcher.doing("training the baselines")
            for name, why in networks.train_baselines(config, folder, len(dealt), watcher.baseline).items():
                watcher.event({"event": "baseline-failed", "model": name, "error": why})
    except BaseException as error:
        status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        run_folder.update_run(folder, status=status, seconds=clock.seconds())
        if any((folder / name).is_file() for name in ("federated.json", "events.jsonl")):
            with suppress(Exception):  # what went wrong first is what the user must read
                write_report(folder)
        raise
    run_folder.update_run(folder, status="complete", seconds=clock.seconds())
    watcher.doing("writing the report")
    write_report(folder)
    return folder


def write_report(folder: Path) -> Any:
    """Build and write the report of a run folder; return it."""
    from experiments.report import build, write

    if run_folder.read_run(folder)["status"] == "running":  # it was killed: a run that ends writes how
        run_folder.update_run(folder, status="interrupted")
    report = build.build_report(folder)
    write.write_report(report, folder)
    return report
