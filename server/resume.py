"""Saving a run after each complete round, and going on from there after the death of any part of it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from flwr.serverapp.strategy import Strategy

from common.config import RunConfig, config_to_json
from common.errors import DataError
from common.files import write_text
from common.run_folder import RunFolder
from server.checkpoints import Checkpoint, CheckpointFolder
from server.events import ResumeEvent
from server.hospital_level import choose_strategy
from server.outcome import MergedRound, Outcome
from server.run import Run
from server.strategy_state import export_state, restore_state

PROGRESS = ("counted", "lost", "missed", "start", "trained_epsilon")
"""What an outcome holds of past rounds besides weights and counts, JSON-ready."""


class Recorder:
    """Saves a run as checkpoints in its folder, and restores it from the newest.

    Args:
        out: the run folder.
        config: the run.
    """

    def __init__(self, out: Path, config: RunConfig) -> None:
        self._out, self._config, self._start = out, config, time.monotonic()
        self._folder = CheckpointFolder(out, config.federation.checkpoints, durable=not config.federation.simulated)

    @cached_property
    def _unused_strategy(self) -> Strategy:
        """A strategy like the run's that has not been used."""
        return choose_strategy(self._config)

    def read(self, outcome: Outcome) -> Checkpoint | None:
        """Return the newest checkpoint and fill `outcome` with its results; None if the run has no checkpoint yet.

        Raises:
            DataError: there are checkpoints, but none can be read, or rounds.jsonl lacks a round that they count.
            ConfigError: they are of another version or another configuration.
        """
        saved = self._folder.read_newest(self._config)
        if saved is None:
            if RunFolder(self._out).rounds.is_file() and RunFolder(self._out).rounds.stat().st_size:
                raise DataError(f"{self._out} has rounds but no checkpoint to go on from: start the run anew")
            return None
        merged = saved.progress["merged"]
        outcome.merged = None if merged is None else MergedRound.from_dict(merged)
        cut_rounds(RunFolder(self._out).rounds, saved.round if outcome.merged is None else saved.round - 1)
        for name in PROGRESS:
            setattr(outcome, name, saved.progress[name])
        outcome.resumed, outcome.earlier_seconds = True, saved.progress["seconds"]
        outcome.completed, outcome.current, outcome.chosen = saved.round, dict(saved.weights), saved.chosen
        outcome.validation = dict(saved.validation)
        outcome.spent = {split: dict(by_site) for split, by_site in saved.spent.items()}
        if saved.chosen:
            best = saved if saved.chosen == saved.round else self._folder.read(saved.chosen)
            outcome.weights = dict(best.weights)
        outcome.resumable = self._folder.needed_rounds()
        return saved

    def save(self, run: Run, outcome: Outcome, *, scaled: bool = True) -> None:
        """Save a run after a complete round, or before the first.

        Args:
            run: the run.
            outcome: what it gave so far.
            scaled: whether the scaling phase is over.

        Raises:
            EngineError: the strategy holds something that cannot be saved.
        """
        progress: dict[str, Any] = {name: getattr(outcome, name) for name in PROGRESS}
        progress["merged"] = None if outcome.merged is None else outcome.merged.to_dict()
        progress["seconds"] = round(outcome.earlier_seconds + time.monotonic() - self._start, 3)
        self._folder.write(
            Checkpoint(
                round=outcome.completed,
                config=config_to_json(self._config),
                run_id=run.id,
                reports=run.federation.reports,
                weights=outcome.current,
                strategy=export_state(run.strategy, self._unused_strategy),
                scaling=run.scaling,
                scaled=scaled,
                chosen=outcome.chosen,
                validation=outcome.validation,
                spent=outcome.spent,
                progress=progress,
            )
        )
        outcome.resumable = self._folder.needed_rounds()

    def restore(self, run: Run, saved: Checkpoint) -> Run:
        """Return a newly built run with the state of the saved run and of its strategy.

        Raises:
            DataError: the state does not fit the strategy.
        """
        restore_state(run.strategy, saved.strategy)
        damaged = tuple(path.name for path in self._folder.damaged)
        run.listen(ResumeEvent(saved.round, self._config.federation.rounds, damaged))
        return replace(run, scaling=saved.scaling)


def cut_rounds(path: Path, last: int) -> None:
    """Remove the lines of rounds.jsonl that are of rounds after `last`, or were cut off in the middle.

    Raises:
        DataError: lines of earlier rounds are missing.
    """
    complete: dict[int, str] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            content: Mapping[str, Any] = json.loads(line)
        except ValueError:
            continue
        if content["round"] <= last:
            complete[content["round"]] = line
    if missing := sorted(set(range(1, last + 1)) - set(complete)):
        raise DataError(f"{path} has no line of round {missing[0]}: restore it, or start the run anew")
    write_text(path, "".join(f"{complete[number]}\n" for number in sorted(complete)))
