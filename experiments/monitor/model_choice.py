"""Which model a running monitor is to use: a file in its state folder that `wardround monitor use` writes."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from pathlib import Path

from common.errors import DataError
from common.files import write_json
from experiments.monitor.store import INSERT_AUDIT
from experiments.monitor.ward import Ward
from experiments.monitor.worker import NewModel

log = logging.getLogger("wardround.monitor")
FILE, LOOK_SECONDS = "model.json", 1.0


def choose_model(state: Path, model: NewModel) -> Path:
    """Ask the monitor of a state folder to use a model.

    Raises:
        DataError: the folder holds no complete model, or one that the monitor cannot use.
        UsageError: its inputs are not windows of beats.
    """
    from experiments.monitor.model_sources import open_beat_model

    open_beat_model(model.run, model.name, model.site)
    if not state.is_dir():
        raise DataError(f"{state}: no state folder of a monitor: name it with --state")
    content = {"run": str(model.run.resolve()), "model": model.name, "site": model.site}
    return write_json(state / FILE, content)


def read_choice(state: Path) -> NewModel | None:
    """Return the model that was chosen; None: none, or the file cannot be read."""
    try:
        content = json.loads((state / FILE).read_text(encoding="utf-8"))
        return NewModel(Path(content["run"]), str(content["model"]), content["site"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


async def watch_choice(state: Path, ward: Ward) -> None:
    """Hand each newly chosen model to the workers, without end. What was chosen before the start is not taken."""
    before = read_choice(state)
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        chosen = read_choice(state)
        if chosen is not None and chosen != before:
            before = chosen
            log.info("another model is loaded: %s", chosen.run.name)
            ward.store.add(INSERT_AUDIT, (time.time(), "monitor", "use model", f"{chosen.run.name}, {chosen.name}"))
            ward.use_model(chosen)
