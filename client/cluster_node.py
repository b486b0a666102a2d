"""A node of a Ray cluster that simulates hospitals: where it has the data, and that it shares the run's folder."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from client.site_context import STATE_VARIABLE
from common.config import RunConfig
from common.errors import DataError

CLUSTER_VARIABLE = "WARDROUND_CLUSTER"
"""Environment variable that the `ray` engine sets for what it runs on a cluster."""
DATA_VARIABLE = "WARDROUND_DATA"
"""Environment variable of a node of a cluster with the folder of the data there; default: `data.path` of the run."""


def find_data_of_node(config: RunConfig) -> RunConfig:
    """Return a simulation's configuration with the data's place on this node, which any hospital may be sent to.

    Outside of a cluster it is returned as it is.

    Raises:
        DataError: this node of a cluster has no data, or not the folder in which hospitals keep their state.
    """
    if not os.environ.get(CLUSTER_VARIABLE):
        return config
    node, own = socket.gethostname(), os.environ.get(DATA_VARIABLE)
    path = own or config.data.path
    if path is not None and not Path(path).exists():
        advice = f"correct {DATA_VARIABLE}" if own else f"copy them to it, or set {DATA_VARIABLE} to the folder there"
        raise DataError(f"Ray node {node} has no data at {path}: {advice}, and start the node again with ray start")
    folder = Path(os.environ.get(STATE_VARIABLE, ".")).parent
    if not folder.is_dir():
        raise DataError(f"Ray node {node} has no folder {folder}: keep runs (--runs) on a disk that all nodes share")
    return config.model_copy(update={"data": config.data.model_copy(update={"path": path})})
