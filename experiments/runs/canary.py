"""A canary of a run: every site is asked what it would do, before a long run is started."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.config import RunConfig
from common.files import write_json
from common.run_folder import RunFolder
from experiments.engines import carry_messages
from experiments.runs.checks import check_plugins
from experiments.runs.run import prepare_run
from experiments.watcher import Watcher


def ask_all_sites(config: RunConfig, watcher: Watcher) -> dict[str, Any]:
    """Return what every site of a run would do (server/canary.py); nothing of it is done, and no folder stays.

    Args:
        config: the run.
        watcher: receives the events.

    Raises:
        WardroundError: the run cannot start whatever its sites say, or nobody could be asked.
    """
    config, source, hospitals = prepare_run(config, watcher)
    check_plugins(config)
    with tempfile.TemporaryDirectory(prefix="wardround-canary-") as name:
        folder = Path(name)
        write_json(RunFolder(folder).canary, {})
        carry_messages(config, folder, hospitals, source, watcher)
        answer: dict[str, Any] = json.loads(RunFolder(folder).canary.read_text(encoding="utf-8"))
    return answer


def is_good(answer: Mapping[str, Any]) -> bool:
    """Return whether every site answered, and none would refuse anything."""
    refused = any(site.get("refusals") for site in answer["sites"].values())
    return bool(answer["sites"]) and not refused and not answer["missing"] and not answer["problems"]
