"""The ServerApp: handshake, rounds, final evaluation; what comes out is written as it comes.

It writes into the coordinator's run folder: events.jsonl (every reply), rounds.jsonl (a line a round),
model.safetensors (the chosen weights so far), federated.json (the outcome) and at last server.done. Each is
whole at any moment.
"""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from common import config as configuration
from common import messages
from common.config import RunConfig
from common.errors import DataError, WardroundError
from common.messages import Weights
from common.metrics import Counts
from server import distances, hospitals, latent, resamples, rounds, scaling, strategies
from server.exchange import Listener
from server.handshake import Federation, connect
from server.rounds import Outcome, Run

PARTS = ("confusion", "scores", "loss", *messages.MORE)

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the federation that `wardround-config` describes; write into the folder `wardround-out`."""
    config = configuration.from_json(str(context.run_config["wardround-config"]))
    lead(grid, config, Path(str(context.run_config["wardround-out"])))


def lead(grid: Grid, config: RunConfig, out: Path, listen: Listener | None = None) -> None:
    """Run the federation; the outcome so far is in `out` also when it fails.

    Raises:
        WardroundError: as in server/handshake.py and server/rounds.py; server.done holds the same line.
    """
    logging.getLogger("flwr").setLevel(logging.WARNING)
    out.mkdir(parents=True, exist_ok=True)
    events, lines = out / "events.jsonl", out / "rounds.jsonl"
    lines.touch()

    def tell(event: dict[str, Any]) -> None:
        event = _finite({"time": round(time.time(), 3), **event})
        _append(events, event)
        if event["event"] == "round":
            _append(lines, {key: value for key, value in event.items() if key != "event"})
        if listen:
            listen(event)

    federation, outcome = Federation(), Outcome()
    began = time.monotonic()
    status, error = "failed", "stopped before the end"
    try:
        strategy = strategies.build(config.federation.strategy)
        if config.privacy.kind == "hospital":
            strategy = hospitals.build(config)
        federation, refused = connect(grid, config, tell)
        outcome.lost |= refused
        tell({"event": "hello", "sites": federation.hello, "refused": refused})

        def keep(number: int, weights: Weights) -> None:
            save_weights(out / "model.safetensors", weights, {"round": str(number)})

        run = scaling.agree(Run.of(grid, config, strategy, federation, tell), outcome)
        if run.scaling:
            write_bytes(out / "scaling.safetensors", run.scaling)
        rounds.train(run, keep, outcome)
        run = latent.gather(run, outcome)
        if run.latent:
            write_bytes(out / "latent.safetensors", run.latent)
        rounds.test(run, outcome)
        if outcome.draws:
            write_bytes(out / resamples.file_of("federated"), resamples.pack(outcome.draws))
        if config.evaluation.domain_shift and not config.privacy.on:
            outcome.shift = distances.measure(run, outcome)
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
        write_json(out / "federated.json", describe(federation, outcome, status, error, seconds))
        try:
            tell({"event": "done", "status": status, "error": error})
        finally:
            write_json(out / "server.done", {"status": status, "error": error or None})


def describe(federation: Federation, outcome: Outcome, status: str, error: str, seconds: float) -> dict[str, Any]:
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
        "weights": rounds.digest(outcome.weights) if outcome.weights else None,
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


def save_weights(path: Path, weights: Weights, about: dict[str, str]) -> None:
    """Write weights whole or not at all."""
    from safetensors.numpy import save

    # safetensors writes memory as it lies: an array in another order would come back scrambled
    write_bytes(path, save({key: np.asarray(value, order="C") for key, value in weights.items()}, about))


def save_tables(path: Path, tables: Mapping[str, Mapping[str, Counts]]) -> None:
    """Write counts by site and table name."""
    arrays = {
        f"{site}\t{name}\t{part}": getattr(counts, part)
        for site, found in tables.items()
        for name, counts in found.items()
        for part in PARTS
    }
    save_weights(path, arrays, {})


def load_tables(path: Path) -> dict[str, dict[str, Counts]]:
    """Read what `save_tables` wrote.

    Raises:
        DataError: it is not there or not whole.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    found: dict[str, dict[str, dict[str, Any]]] = {}
    try:
        for key, value in load_file(path).items():
            site, name, part = key.split("\t")
            found.setdefault(site, {}).setdefault(name, {})[part] = value
        return {s: {n: Counts(**parts) for n, parts in tables.items()} for s, tables in found.items()}
    except (OSError, SafetensorError, ValueError, TypeError):
        raise DataError(f"{path} holds no counts: run with evaluation.keep_counts=true") from None


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    part = path.with_name(path.name + ".part")
    part.write_bytes(content)
    os.replace(part, path)


def write_json(path: Path, value: Any) -> None:
    """Write JSON whole or not at all."""
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(_finite(value), indent=1, allow_nan=False) + "\n", encoding="utf-8")
    os.replace(part, path)


def _append(path: Path, value: dict[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as out:
        out.write(json.dumps(value, allow_nan=False) + "\n")


def _finite(value: Any) -> Any:
    """Return a JSON value with null for what JSON has no number for: a site's report may hold anything."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
