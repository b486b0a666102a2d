"""Runs that ended before their end: whether they can be resumed, and with which configuration."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from common.config import RunConfig, load_config
from common.errors import ConfigError, DataError
from common.old_names import FORMAT
from common.provenance import installed_versions
from common.run_folder import RunFolder, read_run
from common.settings import list_changed_keys
from experiments.runs.checks import resolve_paths


def has_checkpoint(folder: Path) -> bool:
    """Return whether a run's folder holds a checkpoint."""
    return any(RunFolder(folder).checkpoints.glob("round-*.safetensors"))


def read_federation_status(folder: Path) -> str:
    """Return how the federated training of a run ended, baselines and report aside; "" if it has not ended."""
    return str(_read_outcome(folder).get("status", ""))


def read_partial(folder: Path) -> dict[str, str]:
    """Return the hospitals that did not take part in all of a run, with what they missed and why."""
    return dict(_read_outcome(folder).get("partial", {}))


def _read_outcome(folder: Path) -> dict[str, Any]:
    """Return federated.json; empty if there is none yet."""
    with suppress(OSError, ValueError):
        return dict(json.loads(RunFolder(folder).outcome.read_text(encoding="utf-8")))
    return {}


def load_resumable_config(folder: Path, wanted: RunConfig | None = None) -> RunConfig:
    """Return the configuration of a run that is to be resumed.

    Args:
        folder: the run's folder.
        wanted: the configuration that was asked for; None: the run's own.

    Raises:
        DataError: it is no run's folder.
        ConfigError: another version of this program wrote it, or its configuration is not the one asked for.
    """
    about = read_run(folder)
    here = installed_versions().get("wardround")
    there = (about.get("versions") or {}).get("wardround")
    if there != here:
        raise ConfigError(f"{folder} was begun by Wardround {there}, this is {here}: resume it with the same version")
    if about.get("format") != FORMAT:
        raise ConfigError(
            f"{folder} was written by an earlier version (format {about.get('format', 1)}, this one writes {FORMAT}): "
            "start the run anew"
        )
    config = load_config(RunFolder(folder).config)
    if changed := list_changed_keys(about.get("config") or {}, config.model_dump(mode="json")):
        raise ConfigError(
            f"{RunFolder(folder).config} was changed ({', '.join(changed)}): a run keeps its configuration; restore "
            "the file, or start another run"
        )
    if wanted is not None and (changed := list_differences(config, wanted)):
        raise ConfigError(
            f"{folder} was begun with another {', '.join(changed)}: leave these settings as they were, or start "
            "another run"
        )
    return config


def list_differences(saved: RunConfig, wanted: RunConfig) -> list[str]:
    """Return the keys in which the configuration in a run's folder differs from one that is asked for."""
    there, here = saved.model_dump(mode="json"), resolve_paths(wanted).model_dump(mode="json")
    if here["data"]["path"] is None:  # the saved path is the folder of the generated data
        there["data"]["path"] = None
    return list_changed_keys(there, here)


def list_runs(root: Path, config: RunConfig) -> dict[Path, dict[str, Any]]:
    """Return run.json of the runs of a configuration below `root`, by folder, the oldest first."""
    runs: dict[Path, dict[str, Any]] = {}
    for folder in sorted(path for path in root.glob("*") if RunFolder(path).about.is_file()):
        with suppress(DataError, ConfigError):  # a damaged folder, or one of another version, is no such run
            about = read_run(folder)
            if not list_differences(load_config(RunFolder(folder).config), config):
                runs[folder] = about
    return runs


def find_complete_run(root: Path, config: RunConfig) -> Path | None:
    """Return the folder of a complete run of this configuration below `root`, if there is one."""
    complete = [folder for folder, about in list_runs(root, config).items() if about.get("status") == "complete"]
    return complete[0] if complete else None


def find_resumable_run(root: Path, config: RunConfig) -> Path | None:
    """Return the folder of the last run of this configuration below `root` that can be resumed, if there is one."""
    for folder in reversed(list_runs(root, config)):
        with suppress(DataError, ConfigError):
            load_resumable_config(folder, config)
            if has_checkpoint(folder):
                return folder
    return None
