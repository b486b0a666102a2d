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
from common.run_folder import RunFolder
from server import hospital_level, strategies
from server.events import DoneEvent, Event, HandshakeEvent, RoundEvent
from server.grid import prepare_grid
from server.phases import domain_shift, latent, scaling, train
from server.phases.handshake import ReadNames, run_handshake
from server.phases.test import run_test
from server.run import Federation, Outcome, Run, digest_weights
from server.run_list import record_run
from server.site_registry import registered_names

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
    """Run the federation; the outcome so far is in `out` also when it fails.

    Args:
        grid: the transport.
        config: the run.
        out: the coordinator's run folder.
        listen: gets each event as its line of events.jsonl.
        read_names: as in `run_handshake`.

    Raises:
        WardroundError: as in server/phases/handshake.py and server/phases/train.py; server.done holds the same line.
    """
    logging.getLogger("flwr").setLevel(logging.WARNING)
    out.mkdir(parents=True, exist_ok=True)
    events, lines = RunFolder(out).events, RunFolder(out).rounds
    lines.touch()

    def record(event: Event) -> None:
        now = round(time.time(), 3)
        line = replace_non_finite({"time": now, **event.to_dict()})
        append_json_line(events, line)
        if isinstance(event, RoundEvent):
            append_json_line(lines, replace_non_finite({"time": now, **event.fields()}))
        if listen:
            listen(line)

    federation, outcome = Federation(), Outcome()
    start_time = time.monotonic()
    status, error = "failed", "stopped before the end"
    try:
        strategy = strategies.build_strategy(config.federation.strategy)
        if config.privacy.kind == "hospital":
            strategy = hospital_level.build_summing_strategy(config)
        federation, refused = run_handshake(grid, config, record, read_names)
        outcome.lost |= refused
        record(HandshakeEvent(federation.reports, refused))

        def keep(number: int, weights: Weights) -> None:
            write_arrays(RunFolder(out).weights(), weights, {"round": str(number)})

        run = scaling.gather_scaling(Run.from_handshake(grid, config, strategy, federation, record), outcome)
        if run.scaling:
            write_bytes(RunFolder(out).scaling(), run.scaling)
        train.run_rounds(run, keep, outcome)
        run = latent.gather_latent_sums(run, outcome)
        if run.latent:
            write_bytes(RunFolder(out).latent(), run.latent)
        run_test(run, outcome)
        if outcome.draws:
            write_bytes(RunFolder(out).resamples("federated"), paired_resamples.pack_resamples(outcome.draws))
        if config.evaluation.domain_shift and not config.privacy.on:
            outcome.shift = domain_shift.measure_domain_shift(run, outcome)
        if config.evaluation.keep_counts:
            save_tables(RunFolder(out).counts(), outcome.tables)
        status, error = "complete", ""
    except WardroundError as problem:
        error = str(problem)
        raise
    except KeyboardInterrupt:
        status, error = "interrupted", "stopped by the user"
        raise
    except Exception as problem:
        error = f"unexpected {describe_unexpected(problem)}"
        raise
    finally:
        seconds = time.monotonic() - start_time
        write_json(RunFolder(out).outcome, describe_outcome(federation, outcome, status, error, seconds))
        try:
            record(DoneEvent(status, error))
        finally:
            write_json(RunFolder(out).server_done, {"status": status, "error": error or None})


def describe_outcome(
    federation: Federation, outcome: Outcome, status: str, error: str, seconds: float
) -> dict[str, object]:
    """Return the outcome, JSON-ready."""
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
