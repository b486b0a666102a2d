"""Digests of the files that a run's models rest on, so that a changed file is not taken for what the run wrote.

Weights, scaling and threshold of another run often fit a model's shapes, and every figure would be of a model that
nobody trained. run.json of a complete run has the SHA-256 of each such file under `files`; run.json of a run that was
stopped, or of an earlier version, has none, and nothing is compared.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from common.errors import DataError
from common.old_names import FORMAT
from common.run_folder import FEDERATED, RunFolder


def digest_model_files(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of the files in a run's folder that hold its models, by name."""
    files = RunFolder(folder)
    stems = ("model", "scaling", "latent")
    paths = [files.config, files.outcome, files.baselines]
    paths += sorted(path for stem in stems for path in folder.glob(f"{stem}*.safetensors"))
    return {path.name: digest for path in paths if (digest := _digest(path)) is not None}


def check_model_files(folder: Path, about: Mapping[str, Any], name: str) -> None:
    """Check that a model's files are those that its run wrote.

    Args:
        folder: the run's folder.
        about: its run.json.
        name: the model, as `RunFolder.weights` takes it.

    Raises:
        DataError: a later version wrote them, or a file has changed, is missing or was added since.
    """
    if _is_later(about.get("format")):
        raise DataError(f"{folder} was written by a later version of this program: update this one")
    known = about.get("files")
    if not isinstance(known, Mapping):
        return
    for path in _list_files(RunFolder(folder), name):
        digest = _digest(path)
        if digest == known.get(path.name):
            continue
        what = "is missing" if digest is None else "has changed since" if path.name in known else "is not of"
        raise DataError(f"{path} {what} the run that its run.json describes: restore the folder, or train again")


def _list_files(files: RunFolder, name: str) -> Iterator[Path]:
    yield from (files.config, files.outcome)
    if name != FEDERATED:
        yield files.baselines
    yield from (files.weights(name), files.scaling(name), files.latent(name))


def _digest(path: Path) -> str | None:
    try:
        with path.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    except OSError:
        return None


def _is_later(version: object) -> bool:
    return isinstance(version, int) and version > FORMAT
