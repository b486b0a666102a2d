"""The `ray` engine: the same two apps on Flower's simulation runtime, which distributes sites over Ray actors.

This is `flwr run` on a SuperLink in simulation mode, with a private FLWR_HOME and port, so that neither the user's
Flower settings nor a running SuperLink are affected. Each actor uses one core and one thread: the number of threads
would change the sums, and so the weights.

Ray is started for the run on this machine, unless its own variable RAY_ADDRESS names a cluster. Then the actors are on
all of the cluster's nodes, one for each of their cores, and any of them may simulate any hospital.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import socket
import tempfile
from contextlib import ExitStack
from pathlib import Path

from client.cluster_node import CLUSTER_VARIABLE
from client.site_context import STATE_VARIABLE
from common.errors import ConfigError, EngineError
from common.processes import ONE_THREAD_VARIABLES, find_free_port, interrupt_on_signals
from common.run_folder import RunFolder
from experiments.engines.federation import OnEvent, follow_run
from server.superlink import SuperLink

ADDRESS_VARIABLE, JOB_VARIABLE = "RAY_ADDRESS", "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Ray's own environment variables: the cluster to use, and settings of the job."""
ANSWER_SECONDS = 10.0


def run_on_ray(
    config_json: str,
    out: Path,
    *,
    sites: int,
    workers: int,
    on_event: OnEvent | None = None,
    log: Path | None = None,
) -> None:
    """Run a configuration to its end on simulated sites; no process remains afterwards.

    Args:
        config_json: the configuration, as JSON.
        out: the run's folder.
        sites: the number of simulated sites.
        workers: sites that run at the same time, with one core each; on a cluster, as many as its nodes have cores.
        on_event: receives every line of `out/events.jsonl`.
        log: the log file; None: `out/ray.log`.

    Raises:
        ConfigError: Ray is not installed, or no cluster answers at RAY_ADDRESS.
        EngineError: the run failed.
    """
    require_ray()
    cluster = _find_cluster()
    if sites < 1 or workers < 1:
        raise ConfigError(f"the ray engine needs at least one site and one worker, not {sites} and {workers}")
    settings = {"num_supernodes": sites, "client_resources_num_cpus": 1}
    if not cluster:
        settings["init_args_num_cpus"] = workers
    with interrupt_on_signals(), ExitStack() as exits:
        state = Path(tempfile.mkdtemp(prefix="wr-"))  # short: Ray puts socket names of this folder into 107 bytes
        exits.callback(shutil.rmtree, state, ignore_errors=True)
        variables = {**ONE_THREAD_VARIABLES, STATE_VARIABLE: str(RunFolder(out).sites.resolve())}
        if cluster:  # its nodes run already: what a worker needs to know goes with the job
            settings_of_job = {"runtime_env": {"env_vars": {**variables, CLUSTER_VARIABLE: "1"}}}
            variables[JOB_VARIABLE] = json.dumps(settings_of_job)
        else:
            variables["RAY_TMPDIR"] = str(state)
        link = exits.enter_context(
            SuperLink(state / "link", None, port=find_free_port(), log=log or out / "ray.log", variables=variables)
        )

        def watch(_: OnEvent) -> None:
            if link.poll() is not None:
                raise EngineError(f"Flower's simulation ended during the run: see {link.log}")

        follow_run(link.connection, config_json, out, on_event, watch, settings)


def _find_cluster() -> str:
    """Return the address of the cluster that RAY_ADDRESS names; empty: none.

    Raises:
        ConfigError: nothing answers there.
    """
    address = os.environ.get(ADDRESS_VARIABLE, "")
    if address in ("", "local"):
        return ""
    host, _, port = address.rpartition(":")
    if port.isdigit():  # Ray itself would wait for minutes
        try:
            socket.create_connection((host.strip("[]"), int(port)), ANSWER_SECONDS).close()
        except OSError as error:
            text = f"{ADDRESS_VARIABLE}={address}: no Ray cluster answers there ({error.strerror or 'no answer'})"
            raise ConfigError(f"{text}: start one with ray start --head, or unset {ADDRESS_VARIABLE}") from None
    return address


def require_ray() -> None:
    """Raise `ConfigError` if the `ray` extra is not installed."""
    if importlib.util.find_spec("ray") is None:
        raise ConfigError("the ray engine needs the extra: pip install 'wardround[ray]'")
