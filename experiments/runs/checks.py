"""Checks of a configuration before a run starts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from common.config import RunConfig
from common.errors import ConfigError
from common.plugin_files import digest_file, trust_file
from common.sections.evaluation import ReportConfig
from common.sections.training import ModelConfig
from common.settings import validate_settings


def resolve_paths(config: RunConfig) -> RunConfig:
    """Return the configuration with absolute paths (engines change the folder) and without sinks.

    Sinks do not affect a run, and no hospital needs to know of them. Options that lie with the data, as a table's
    description does, become the run's own.
    """
    data = config.data
    if data.path is not None:
        from sites.datasets import read_options

        data = data.model_copy(update={"path": str(Path(data.path).expanduser().resolve())})
        data = read_options(config.model_copy(update={"data": data})).data
    if data.cache is not None:
        data = data.model_copy(update={"cache": str(Path(data.cache).expanduser().resolve())})
    federation = config.federation
    if (
        federation.start is not None and federation.address is None
    ):  # with an address it is a file where the server runs
        start = str(Path(federation.start).expanduser().resolve())
        federation = federation.model_copy(update={"start": start})
    changes = {"data": data, "federation": federation, "report": ReportConfig(), "model": _resolve_model(config)}
    return config.model_copy(update=changes)


def _resolve_model(config: RunConfig) -> ModelConfig:
    """Return the model's section with the absolute path of its file, which a simulation then trusts.

    Raises:
        ConfigError: the file cannot be read, or has changed since the run that is continued.
    """
    model = config.model
    if model.file is None or config.federation.engine == "federation":
        return model
    path = Path(model.file).expanduser().resolve()
    trust_file(str(path))
    digest = digest_file(path)
    if model.digest is not None and model.digest != digest:
        raise ConfigError(f"model.file: {path} has changed since the run started: restore it, or start a new run")
    name = "own-" + re.sub(r"[^a-z0-9_-]+", "-", path.stem.lower())[:36]
    return model.model_copy(update={"file": str(path), "digest": digest, "name": name})


def check_plugins(config: RunConfig) -> None:
    """Check the names and options of the model, strategy, privacy and device before anything starts.

    Raises:
        ConfigError: one of them is wrong.
    """
    from common import models
    from server import strategies

    module = models.load_model_module(config.model)
    validate_settings(module.Options, config.model.options, f"model.options of {config.model.name}")
    strategies.check_strategy(config)
    if config.privacy.on:
        from client.privacy import budget

        budget.solve_training_noise(config)
    if config.privacy.evaluation_on:
        from client.privacy.private_evaluation import solve_release_noise
        from common.private_evaluation import EVALUATED_SPLITS

        for split in EVALUATED_SPLITS:
            solve_release_noise(config, split)
    if config.federation.address is None:
        from client.training.batches import choose_device
        from server import initial_model

        choose_device(config.training.device)
        if config.federation.start is not None:
            initial_model.load_saved_weights(config.federation.start)


def load_data_card(config: RunConfig) -> Any:
    """Return the data card of the run's data set."""
    from common import plugins
    from sites.datasets import get_data_card

    module = plugins.load_plugin("sites.datasets", "CARD", config.data.dataset, "data set")
    if not hasattr(module, "card"):
        return module.CARD
    options = validate_settings(module.Options, config.data.options, f"data.options of {config.data.dataset}")
    return get_data_card(module, options)
