"""The ServerApp: handshake, rounds, final evaluation; what comes out is written as it comes.

It writes into the coordinator's run folder: events.jsonl (every reply), rounds.jsonl (a line a round),
model.safetensors (the chosen weights so far), federated.json (the outcome) and at last server.done. Each is
whole at any moment.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from common import config as configuration
from common.config import RunConfig
from common.errors import WardroundError
from common.files import append_json_line, replace_non_finite, save_weights, write_bytes, write_json
from common.messages import Weights
from common.metrics import paired_resamples
from common.run_folder import save_tables
from server import hospital_level, strategies
from server.exchange import Listener
from server.phases import domain_shift, latent, scaling, train
from server.phases.handshake import run_handshake
from server.phases.test import run_test
from server.run import Federation, Outcome, Run, digest_weights

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the federation that `wardround-config` describes; write into the folder `wardround-out`."""
    config = configuration.config_from_json(str(context.run_config["wardround-config"]))
    run_federation(grid, config, Path(str(context.run_config["wardround-out"])))


def run_federation(grid: Grid, config: RunConfig, out: Path, listen: Listener | None = None) -> None:
    """Run the federation; the outcome so far is in `out` also when it fails.

    Raises:
        WardroundError: as in server/phases/handshake.py and server/phases/train.py; server.done holds the same line.
    """
    logging.getLogger("flwr").setLevel(logging.WARNING)
    out.mkdir(parents=True, exist_ok=True)
    events, lines = out / "events.jsonl", out / "rounds.jsonl"
    lines.touch()

    def tell(event: dict[str, Any]) -> None:
        event = replace_non_finite({"time": round(time.time(), 3), **event})
        append_json_line(events, event)
        if event["event"] == "round":
            append_json_line(lines, {key: value for key, value in event.items() if key != "event"})
        if listen:
            listen(event)

    federation, outcome = Federation(), Outcome()
    began = time.monotonic()
    status, error = "failed", "stopped before the end"
    try:
        strategy = strategies.build_strategy(config.federation.strategy)
        if config.privacy.kind == "hospital":
            strategy = hospital_level.build_summing_strategy(config)
        federation, refused = run_handshake(grid, config, tell)
        outcome.lost |= refused
        tell({"event": "hello", "sites": federation.hello, "refused": refused})

        def keep(number: int, weights: Weights) -> None:
            save_weights(out / "model.safetensors", weights, {"round": str(number)})

        run = scaling.gather_scaling(Run.of(grid, config, strategy, federation, tell), outcome)
        if run.scaling:
            write_bytes(out / "scaling.safetensors", run.scaling)
        train.run_rounds(run, keep, outcome)
        run = latent.gather_latent_sums(run, outcome)
        if run.latent:
            write_bytes(out / "latent.safetensors", run.latent)
        run_test(run, outcome)
        if outcome.draws:
            write_bytes(
                out / paired_resamples.resamples_file_name("federated"), paired_resamples.pack_resamples(outcome.draws)
            )
        if config.evaluation.domain_shift and not config.privacy.on:
            outcome.shift = domain_shift.measure_domain_shift(run, outcome)
        if config.evaluation.keep_counts:
            save_tables(out / "counts.safetensors", outcome.tables)
        status, error = "complete", ""
    except WardroundError as problem:
        error = str(problem)
        raise
    except KeyboardInterrupt:
        status, error = "interrupted", "stopped by the user"
        raise
    except Exception as problem:
        error = f"{type(problem).__name__}: {str(problem).splitlines()[0] if str(problem) else ''}"
        raise
    finally:
        seconds = time.monotonic() - began
        write_json(out / "federated.json", describe_outcome(federation, outcome, status, error, seconds))
        try:
            tell({"event": "done", "status": status, "error": error})
        finally:
            write_json(out / "server.done", {"status": status, "error": error or None})


def describe_outcome(
    federation: Federation, outcome: Outcome, status: str, error: str, seconds: float
) -> dict[str, Any]:
    """Return the outcome, JSON-ready."""
    return {
        "status": status,
        "error": error,
        "seconds": round(seconds, 3),
        "task": federation.task.to_dict() if federation.task else None,
        "sites": {name: dict(said) for name, said in sorted(federation.hello.items())},
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
        "views": outcome.views,
    }
