"""Checks of a configuration before a run starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from common.config import RunConfig
from common.sections.evaluation import ReportConfig
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
    return config.model_copy(update={"data": data, "federation": federation, "report": ReportConfig()})


def check_plugins(config: RunConfig) -> None:
    """Check the names and options of the model, strategy, privacy and device before anything starts.

    Raises:
        ConfigError: one of them is wrong.
    """
    from common import plugins
    from server import strategies

    module = plugins.load_plugin("common.models", "build", config.model.name, "model")
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
