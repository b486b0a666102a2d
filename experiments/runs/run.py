"""One run, from its configuration to its report: data, engine, baselines, report."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from common import run_folder
from common.config import RunConfig
from common.errors import ConfigError, UsageError
from common.files import cut_torn_line, remove_leftovers
from common.run_folder import RunFolder, hold_lock
from experiments.engines import carry_messages
from experiments.runs.checks import check_plugins, load_data_card, resolve_paths
from experiments.runs.model_files import digest_model_files
from experiments.runs.resumable import has_checkpoint, load_resumable_config, read_federation_status, read_partial
from experiments.watcher import Watcher, baseline_event, stage_event, start_event


def run_experiment(config: RunConfig, root: Path, watcher: Watcher) -> Path:
    """Run a configuration and return its folder; it holds a report also if the run fails or is interrupted.

    Args:
        config: what to run.
        root: the folder in which the run's folder is created.
        watcher: receives the events.

    Raises:
        WardroundError: what went wrong, in one line; results up to then are in the folder.
    """
    from experiments.runs.sinks import watch_with_sinks

    with watch_with_sinks(config.report.sinks, watcher) as sink_watcher:
        return _run(config, root, sink_watcher)


def resume_experiment(folder: Path, watcher: Watcher, wanted: RunConfig | None = None) -> Path:
    """Go on with a run after its last complete round, and return its folder; a complete run is not repeated.

    Args:
        folder: the run's folder.
        watcher: receives the events.
        wanted: the configuration that was asked for; None: the run's own.

    Raises:
        ConfigError: another configuration is asked for, or another version of this program wrote the folder.
        DataError: it is no run's folder, it is damaged, or another process works on it.
        WardroundError: what went wrong, in one line; results up to then are in the folder.
    """
    from experiments.runs.sinks import watch_with_sinks

    config = load_resumable_config(folder, wanted)
    with hold_lock(RunFolder(folder).lock), watch_with_sinks(wanted.report.sinks if wanted else (), watcher) as sinks:
        about = run_folder.read_run(folder)
        if about["status"] == "complete":
            watcher.handle(stage_event(f"{folder} is complete"))
            return folder
        config, source, hospitals = prepare_run(config, sinks)
        cut_torn_line(RunFolder(folder).events)
        remove_leftovers(folder)
        earlier = [*about.get("resumed", ()), datetime.now(UTC).isoformat(timespec="seconds")]
        run_folder.update_run(folder, status="running", resumed=earlier)
        carried_out = _carry_out(config, folder, source, hospitals, sinks, about["seconds"])
        remove_leftovers(folder)  # of a process that was still ending when the run was resumed
        return carried_out


def _run(config: RunConfig, root: Path, watcher: Watcher) -> Path:
    config, source, hospitals = prepare_run(config, watcher)
    check_plugins(config)
    card = asdict(source.card) if source else asdict(load_data_card(config))
    folder = run_folder.create_run_folder(config, root)
    with hold_lock(RunFolder(folder).lock):
        run_folder.write_run_description(config, folder, card, _list_notices(config))
        return _carry_out(config, folder, source, hospitals, watcher)


def _carry_out(
    config: RunConfig,
    folder: Path,
    source: Any,
    hospitals: dict[str, tuple[str, ...]],
    watcher: Watcher,
    earlier_seconds: float = 0.0,
) -> Path:
    """Run what is left of a run in its folder, and return the folder."""
    stopwatch = run_folder.Stopwatch(earlier_seconds)
    try:
        watcher.handle(start_event(folder, config))
        if read_federation_status(folder) != "complete":
            carry_messages(config, folder, hospitals, source, watcher)
        if hospitals:
            _run_baselines(config, folder, len(hospitals), watcher)
        if config.model.name == "logreg":
            from experiments.baselines.coefficients import write_coefficients

            write_coefficients(config, folder, len(hospitals))
        watcher.handle(stage_event("writing the report"))
        write_run_report(folder, status="complete", seconds=stopwatch.seconds(), partial=read_partial(folder))
    except BaseException as error:
        status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        with suppress(Exception):  # the user must read the first error, not one that follows from it
            run_folder.update_run(folder, status=status, seconds=stopwatch.seconds(), partial=read_partial(folder))
            if RunFolder(folder).outcome.is_file() or RunFolder(folder).events.is_file():
                write_run_report(folder)
        if not isinstance(error, UsageError) and has_checkpoint(folder):
            error.add_note(f"go on with: wardround run --resume {folder}")
        raise
    return folder


def prepare_run(config: RunConfig, watcher: Watcher) -> tuple[RunConfig, Any, dict[str, tuple[str, ...]]]:
    """Return the configuration with absolute paths and, for simulated hospitals, the data and each one's recordings.

    Raises:
        ConfigError: a key does not fit the data.
        DataError: the data cannot be read.
    """
    from sites import datasets, shift

    config = resolve_paths(config)
    if config.federation.engine == "ray":
        from experiments.engines.ray_runtime import require_ray

        require_ray()
    if config.federation.engine == "federation" and config.federation.address is not None:
        return config, None, {}
    watcher.handle(stage_event("reading the data"))
    source = datasets.open_source(config, None)
    hospitals, _, _ = datasets.assign_hospitals(source, config)
    shift.check_sites(config, hospitals)
    if config.baselines.anomaly.models:
        from experiments.baselines.anomaly_detectors import check_anomaly_baselines

        check_anomaly_baselines(config, source.task())
    if unknown := sorted(set(config.sites.external) - set(hospitals)):
        raise ConfigError(f"sites.external: no hospital {unknown[0]}; there are {', '.join(hospitals)}")
    if config.data.path is None:
        data = config.data.model_copy(update={"path": str(source.folder.resolve())})
        config = config.model_copy(update={"data": data})
    return config, source, hospitals


def _list_notices(config: RunConfig) -> list[dict[str, str]]:
    """Return the notices that must accompany every figure of the run."""
    notices = [{"level": "leak", "text": text} for text in config.notices]
    if config.not_private_notice:
        notices.append({"level": "not-private", "text": config.not_private_notice})
    if config.unprotected_notice:
        notices.append({"level": "warning", "text": config.unprotected_notice})
    return notices


def _run_baselines(config: RunConfig, folder: Path, count: int, watcher: Watcher) -> None:
    """Run the two-sample tests and train the baselines of a simulation."""

    def report_note(text: str) -> None:
        watcher.handle(stage_event(text))

    if config.evaluation.domain_shift and not config.privacy.on:
        from experiments.baselines.reuse import compare_or_reuse_pairs

        compare_or_reuse_pairs(config, folder, count, report_note)
    wanted = config.baselines
    if wanted.local or wanted.pooled or wanted.classical or wanted.today.age_sex or wanted.today.scores:
        from experiments.baselines.reuse import train_or_reuse_baselines

        def report_epoch(name: str, epoch: int, epochs: int) -> None:
            watcher.handle(baseline_event(name, epoch, epochs))

        watcher.handle(stage_event("training the baselines"))
        failed = train_or_reuse_baselines(config, folder, count, report_epoch, report_note)
        for name, reason in failed.items():
            watcher.handle({"event": "baseline-failed", "model": name, "error": reason})


def write_run_report(folder: Path, **ending: Any) -> Any:
    """Build and write the report of a run folder; return it.

    Args:
        folder: the run's folder.
        ending: entries of run.json that hold once the report is there, such as status="complete"; run.json gets them
            last, so that it never calls a run complete whose report could not be written.
    """
    from experiments.report.build import build_report
    from experiments.report.write import write_report

    if not ending and run_folder.read_run(folder)["status"] == "running":  # its process was killed
        ending = {"status": "interrupted"}
    report = build_report(folder, **ending)
    write_report(report, folder)
    if ending:
        files = digest_model_files(folder) if ending.get("status") == "complete" else {}
        run_folder.update_run(folder, **ending, **({"files": files} if files else {}))
    return report
