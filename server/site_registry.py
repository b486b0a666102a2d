"""Which site holds which node key, as the server registered them: node id -> site name.

`wardround server register SITE KEY.pub` writes STATE/sites.json; the SuperLink hands its path to the processes that it
starts. In a simulation there is no such file, and a site is called as it calls itself.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from common.errors import DataError
from common.files import write_json

REGISTRY_VARIABLE = "WARDROUND_SITES"
"""Names the registry's file in the environment of the ServerApp."""


def registry_path(state: Path) -> Path:
    """Return the path of the file of registered sites in a server's state folder."""
    return state / "sites.json"


def read_registry(path: Path) -> dict[str, str]:
    """Return the registered sites: name -> node id as text; empty if the file does not exist.

    Raises:
        DataError: the file is damaged.
    """
    try:
        sites = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError):
        sites = None
    if not isinstance(sites, dict) or not all(isinstance(node, str) and node.isdigit() for node in sites.values()):
        raise DataError(f"{path} is damaged: restore it, or register the sites again")
    return sites


def write_registry(path: Path, sites: Mapping[str, str]) -> None:
    """Write the registered sites, name -> node id as text, to a file that is replaced whole or not at all."""
    write_json(path, dict(sorted(sites.items())))


def registered_names(environment: Mapping[str, str] = os.environ) -> dict[int, str] | None:
    """Return the site name of each registered node; None where no registry is kept.

    Raises:
        DataError: the registry is damaged.
    """
    path = environment.get(REGISTRY_VARIABLE)
    return {int(node): site for site, node in read_registry(Path(path)).items()} if path else None
