"""Checks of a run's configuration before it is started."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.doctor.checks import Check, fail, ok, run_checks, warn

if TYPE_CHECKING:
    from common.config import RunConfig


def check_experiment(config: RunConfig) -> list[Check]:
    """Return the checks of a configuration, which has been read already."""
    return run_checks(
        (
            ("task and model", lambda: check_model(config)),
            ("strategy", lambda: check_strategy(config)),
            ("privacy", lambda: check_privacy(config)),
            ("site policy", lambda: check_site_policy(config)),
            ("start", lambda: check_start(config)),
            ("data", lambda: check_data_source(config)),
        )
    )


def check_model(config: RunConfig) -> Iterator[Check]:
    """Check that the data set knows its options and that the model fits the task.

    Raises:
        WardroundError: they do not; says why.
    """
    from common import models, plugins
    from common.detection import to_detection_task
    from common.settings import validate_settings

    data = plugins.load_plugin("sites.datasets", "CARD", config.data.dataset, "data set")
    task = data.task(validate_settings(data.Options, config.data.options, f"data.options of {config.data.dataset}"))
    task = to_detection_task(task, config.detection) if config.detecting else task
    model = models.build_model(task, config.model, config.seed)
    weights = sum(value.numel() for value in model.state_dict().values())
    yield ok(
        "task and model", f"{task.name}; {config.model.name} with {weights:,} weights, {4 * weights:,} bytes a message"
    )


def check_strategy(config: RunConfig) -> Iterator[Check]:
    """Check the strategy's options, and that it goes with the rest.

    Raises:
        ConfigError: it does not.
    """
    from server import strategies

    strategies.build_strategy(config.federation.strategy)
    strategies.check_strategy(config)
    yield ok("strategy", f"{config.federation.strategy.name}, {config.federation.rounds} rounds")


def check_privacy(config: RunConfig) -> Iterator[Check]:
    """Say what the run spends of every hospital's privacy budget."""
    from client.gate.run_words import describe_privacy
    from client.policy import SitePolicy

    words = describe_privacy(SitePolicy(), config)
    yield ok("privacy", "not differentially private" if words == "none" else words)
    for notice in (config.not_private_notice, config.unprotected_notice, *config.notices):
        if notice:
            yield warn("privacy" if config.privacy.on else "split", notice, "see docs/explanation/privacy.md")


def check_site_policy(config: RunConfig) -> Iterator[Check]:
    """Check that hospitals can meet the stricter policy that the run asks for.

    Raises:
        SiteError: they cannot.
    """
    from client.gate.tighten import tighten_policy
    from client.policy import SitePolicy

    if config.federation.site_policy:
        tighten_policy(SitePolicy(), config.federation.site_policy)
        yield ok("site policy", ", ".join(f"{key}={value}" for key, value in config.federation.site_policy.items()))


def check_start(config: RunConfig) -> Iterator[Check]:
    """Check that the weights to start from are there, and what hospitals have to approve."""
    start = config.federation.start
    if start is None:
        return
    if not Path(start).exists():
        yield fail(
            "start", f"there are no weights at {start} (federation.start)", "name a run folder or .safetensors file"
        )
        return
    advice = "send every hospital the file: it approves its digest (approved_weights)"
    yield warn("start", f"training starts from {start}", advice)


def check_data_source(config: RunConfig) -> Iterator[Check]:
    """Check the data folder of a simulation; for a server that is running, the file of its certificate authority."""
    federation = config.federation
    if federation.engine == "federation" and federation.address is not None:
        if federation.ca is None or not Path(federation.ca).is_file():
            yield fail(
                "server", f"federation.ca={federation.ca} is no file", "name the ca.pem of wardround server init"
            )
        return
    if config.data.path is not None and not Path(config.data.path).is_dir():
        yield fail(
            "data", f"there is no folder {config.data.path} (data.path)", "wardround data fetch, or name another"
        )
