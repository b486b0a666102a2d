"""The ServerApp: handshake, rounds, final evaluation; results are written as they come.

It writes into the coordinator's run folder: events.jsonl (every event), rounds.jsonl (a line a round),
model.safetensors (the chosen weights so far), federated.json (the outcome) and last server.done. Each file is
complete at any moment.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from common.arrays import Weights
from common.config import RunConfig, config_from_json
from common.errors import WardroundError, describe_unexpected
from common.files import append_json_line, replace_non_finite, write_arrays, write_bytes, write_json
from common.metrics import paired_resamples
from common.metrics.counts_file import save_tables
from common.run_folder import RunFolder, hold_lock
from server.canary import is_canary, run_canary
from server.events import DoneEvent, Event, HandshakeEvent, RoundEvent
from server.grid import prepare_grid
from server.hospital_level import choose_strategy
from server.losses import describe_partial, stop_on_loss
from server.outcome import Outcome
from server.phases import domain_shift, latent, scaling, train
from server.phases.handshake import run_handshake
from server.phases.test import run_test
from server.resume import Recorder
from server.run import Federation, ReadNames, Run, digest_weights
from server.run_list import record_run
from server.site_registry import registered_names
from server.stopping import has_converged

LOCK_SECONDS = 60.0
"""How long a run that is resumed waits for the end of its earlier part, which was stopped."""

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the federation that `wardround-config` describes; write into the folder `wardround-out`."""
    config = config_from_json(str(context.run_config["wardround-config"]))
    out = Path(str(context.run_config["wardround-out"]))
    record_run(str(context.run_id), config.name, config.federation.rounds, out)
    run_federation(prepare_grid(grid), config, out, read_names=registered_names)


def run_federation(
    grid: Grid,
    config: RunConfig,
    out: Path,
    listen: Callable[[dict[str, object]], None] | None = None,
    read_names: ReadNames = lambda: None,
) -> None:
    """Run the federation, or what is left of it after its last complete round; or a canary (server/canary.py).

    The outcome so far is in `out` also when it fails.

    Args:
        grid: Flower's grid, which carries messages to the nodes.
        config: the run.
        out: the coordinator's run folder.
        listen: gets each event as its line of events.jsonl.
        read_names: as in `run_handshake`.

    Raises:
        WardroundError: as in server/phases/handshake.py and server/phases/train.py; server.done holds the same line.
        ConfigError: the folder's run began with another configuration or version.
        DataError: another process works in the folder, or its checkpoints are damaged.
    """
    logging.getLogger("flwr").setLevel(logging.WARNING)
    out.mkdir(parents=True, exist_ok=True)
    with hold_lock(RunFolder(out).server_lock, LOCK_SECONDS):
        if is_canary(out):
            run_canary(grid, config, out, listen, read_names)
        else:
            _run_federation(grid, config, out, listen, read_names)


def _run_federation(
    grid: Grid, config: RunConfig, out: Path, listen: Callable[[dict[str, object]], None] | None, read_names: ReadNames
) -> None:
    events, lines = RunFolder(out).events, RunFolder(out).rounds
    lines.touch()

    def record(event: Event) -> None:
        now = round(time.time(), 3)
        line = replace_non_finite({"time": now, **event.to_dict()})
        append_json_line(events, line)
        if isinstance(event, RoundEvent):
            fields = replace_non_finite({"time": now, **event.fields()})
            append_json_line(lines, fields, durable=not config.federation.simulated)
        if listen:
            listen(line)

    federation, outcome = Federation(), Outcome()
    recorder = Recorder(out, config)
    try:
        saved = recorder.read(outcome)
    except WardroundError as problem:  # what an earlier part of the run gave stays as it is
        write_json(RunFolder(out).server_done, {"status": "failed", "error": str(problem)})
        raise
    resumed = None if saved is None else Federation(earlier=saved.reports, id=saved.run_id)
    if saved is not None:
        federation = Federation(reports=dict(saved.reports), task=next(iter(saved.reports.values())).task)
    start_time = time.monotonic()
    status, error = "failed", "stopped before the end"
    try:
        strategy = choose_strategy(config)
        federation, refused = run_handshake(grid, config, record, read_names, resumed)
        outcome.lost |= refused
        record(HandshakeEvent(federation.reports, refused))
        stop_on_loss(config.federation, "the run cannot start", refused)

        def keep(number: int, weights: Weights) -> None:
            write_arrays(RunFolder(out).weights(), weights, {"round": str(number)})

        run = Run.from_handshake(grid, config, strategy, federation, record, read_names)
        if saved is not None:
            run = recorder.restore(run, saved)
            if outcome.weights:
                keep(outcome.chosen, outcome.weights)
        if saved is None or not saved.scaled:
            recorder.save(run, outcome, scaled=False)
            run = scaling.gather_scaling(run, outcome)
            recorder.save(run, outcome)
        if run.scaling:
            write_bytes(RunFolder(out).scaling(), run.scaling)
        train.run_rounds(run, keep, outcome, recorder.save)
        run = latent.gather_latent_sums(run, outcome)
        if run.latent:
            write_bytes(RunFolder(out).latent(), run.latent)
        run_test(run, outcome)
        if outcome.draws:
            write_bytes(RunFolder(out).resamples("federated"), paired_resamples.pack_resamples(outcome.draws))
        if config.evaluation.domain_shift and not config.privacy.on:
            outcome.shift = domain_shift.measure_domain_shift(run, outcome)
        if config.evaluation.keep_counts and outcome.tables:  # a private evaluation has none
            save_tables(RunFolder(out).counts(), outcome.tables)
        status, error = "complete", ""
    except WardroundError as problem:
        error = str(problem)
        raise
    except KeyboardInterrupt:
        status, error = "interrupted", "stopped by the user"
        raise
    except SystemExit:  # Flower ends an app so that its server no longer knows, as after a jump of the server's clock
        error = "ended by the server: see its log"
        raise
    except Exception as problem:
        error = f"unexpected {describe_unexpected(problem)}"
        raise
    finally:
        seconds = outcome.earlier_seconds + time.monotonic() - start_time
        write_json(RunFolder(out).outcome, describe_outcome(config, federation, outcome, status, error, seconds))
        try:
            record(DoneEvent(status, error))
        finally:
            write_json(RunFolder(out).server_done, {"status": status, "error": error or None})


def describe_outcome(
    config: RunConfig, federation: Federation, outcome: Outcome, status: str, error: str, seconds: float
) -> dict[str, object]:
    """Return the outcome, JSON-ready."""
    rounds = outcome.completed if has_converged(config, outcome) else config.federation.rounds
    return {
        "status": status,
        "error": error,
        "seconds": round(seconds, 3),
        "task": federation.task.to_dict() if federation.task else None,
        "sites": {name: report.to_dict() for name, report in sorted(federation.reports.items())},
        "start": outcome.start or None,
        "chosen": outcome.chosen,
        "threshold": outcome.threshold,
        "weights": digest_weights(outcome.weights) if outcome.weights else None,
        "lost": outcome.lost,
        "partial": describe_partial(outcome, rounds),
        "test": {
            name: {site: item.model_dump() for site, item in sorted(by_site.items())}
            for name, by_site in outcome.test.items()
        },
        "pooled": {name: item.model_dump() for name, item in outcome.pooled.items()},
        "shift": outcome.shift or None,
        "explanations": {site: item.model_dump() for site, item in sorted(outcome.explanations.items())},
        "recalibration": {site: item.model_dump() for site, item in sorted(outcome.recalibration.items())},
        "suppressed": outcome.suppressed,
        "views": {site: view.to_dict() for site, view in outcome.views.items()},
        "evaluation_privacy": {
            split: {site: spent.model_dump() for site, spent in sorted(by_site.items())}
            for split, by_site in outcome.spent.items()
            if by_site
        },
    }
