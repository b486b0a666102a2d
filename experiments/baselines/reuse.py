"""Baselines and two-sample tests of an earlier run with the same data, settings, code and libraries.

Half to two thirds of a simulated run goes into its baselines, which do not depend on the federation's strategy. What
`train_baselines` left in a run's folder is kept with prepared data, as are the two-sample tests between hospitals,
under a digest of everything that they depend on:

- each hospital's examples, people and splits, as they are in memory, and the weights that training starts from;
- all settings but the run's name, title and sinks, the cache's folder, and those of transport and strategy;
- every Python file of this program, the versions of its libraries, the processor, and the variables by
  which these libraries choose their kernels.

A change of any of these gives another digest, so a result is never used for other data or by other code. Results that
depend on more are not stored: anomaly detectors on the latent values of the federation's model, scores that are read
from a file, models of the user's own code, and runs in which a baseline failed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import platform
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from client.policy import SIMULATION_POLICY
from client.site import Site, load_site
from client.site_context import SiteContext
from client.training.local_update import copy_weights
from common.config import FREE_KEYS, RunConfig
from common.files import make_private_folder, write_bytes, write_json
from common.provenance import installed_versions
from common.release import PACKAGES, digest_code
from common.run_folder import RunFolder
from experiments.baselines import networks
from sites.cache import cache_folder

if TYPE_CHECKING:
    from hashlib import _Hash

    from experiments.baselines.networks import EpochCallback

MAX_RESULTS = 20
"""Largest number of results that are kept; the oldest are removed."""
MANIFEST = "manifest.json"
OMITTING_OPTIONS = "--set baselines.local=false --set baselines.pooled=false --set 'baselines.classical=[]'"
"""How a run does without networks to compare with, and the models that are trained as they are."""
OMITTING_COMPARISON = "--set evaluation.domain_shift=false"
"""How a run does without comparing the inputs of its hospitals."""
LIBRARY_VARIABLES = (
    "ATEN_", "TORCH", "PYTORCH", "MKL_", "ONEDNN_", "DNNL_", "OPENBLAS_", "OMP_", "KMP_", "NPY_", "CUBLAS_",
)  # fmt: skip
TRANSPORT = {*FREE_KEYS["federation"], "engine", "strategy"}
"""Keys of the section `federation` that no baseline depends on."""


def train_or_reuse_baselines(
    config: RunConfig, out: Path, count: int, on_epoch: EpochCallback, on_note: Callable[[str], None]
) -> dict[str, str]:
    """Train and evaluate a configuration's baselines as `train_baselines` does, or take an earlier run's results.

    What they cost stands in baselines.json: `seconds`, and `reused`, when a run computed them, if this one did not.

    Args:
        config: the run.
        out: the run's folder.
        count: the number of simulated hospitals.
        on_epoch: called after each epoch.
        on_note: called with a line on what the baselines cost.

    Returns:
        the reasons why baselines could not be trained, by name, in one line each.
    """
    key = digest_baselines(config, count) if config.baselines.reuse and not find_other_input(config) else None
    folder, path = _find_store(config, "baselines"), RunFolder(out).baselines
    if key is not None and (cost := _take_results(folder / key, path)):
        on_note(
            f"baselines: taken from a run of {cost['created']} with the same data, settings and code, where they took "
            f"{cost['seconds']:.0f} s; baselines.reuse=false trains them anew"
        )
        return {}
    start = time.perf_counter()
    failed = networks.train_baselines(config, out, count, on_epoch)
    seconds = round(time.perf_counter() - start, 1)
    if path.is_file():
        write_json(path, json.loads(path.read_text(encoding="utf-8")) | {"seconds": seconds})
        on_note(f"baselines: they took {seconds:.0f} s; a run without them: {OMITTING_OPTIONS}")
        if key is not None and not failed:
            with suppress(OSError):  # a full disk is no reason to lose the run
                _keep_results(folder, key, _list_files(RunFolder(out)), seconds)
    return failed


def compare_or_reuse_pairs(config: RunConfig, out: Path, count: int, on_note: Callable[[str], None]) -> None:
    """Write a run's two-sample tests between hospitals, or those of an earlier run with the same data and code.

    Args:
        config: the run.
        out: the run's folder.
        count: the number of simulated hospitals.
        on_note: called with a line before each pair, or on where the tests were taken from.
    """
    from experiments.baselines.two_sample_test import run_two_sample_tests

    key = digest_baselines(config, count) if config.baselines.reuse else None
    folder, path = _find_store(config, "two-sample"), RunFolder(out).two_sample
    if key is not None and (cost := _take_results(folder / key, path)):
        on_note(
            f"two-sample tests: taken from a run of {cost['created']} with the same data, settings and code, where "
            f"they took {cost['seconds']:.0f} s"
        )
        return
    start = time.perf_counter()
    pairs = run_two_sample_tests(config, count, on_note)
    seconds = round(time.perf_counter() - start, 1)
    write_json(path, {"pairs": pairs, "seconds": seconds})
    on_note(f"two-sample tests: they took {seconds:.0f} s; a run without them and Table 1: {OMITTING_COMPARISON}")
    if key is not None:
        with suppress(OSError):
            _keep_results(folder, key, [path], seconds)


def find_other_input(config: RunConfig) -> str:
    """Return what a configuration's baselines depend on besides data, settings and code; "" if nothing."""
    if config.baselines.anomaly.models and "latent" in config.baselines.anomaly.inputs:
        return "the federation's model"
    if any(score.file for score in config.baselines.today.scores.values()):
        return "a file of scores"
    settings = json.dumps(config.model_dump(mode="json", include={"model", "federation"}))
    return "own code" if ".py" in settings else ""


def digest_baselines(config: RunConfig, count: int) -> str:
    """Return a digest (64 hex digits) of everything that the results of a run's baselines depend on.

    Args:
        config: the run.
        count: the number of simulated hospitals.
    """
    from server.initial_model import build_initial_model

    sites = [load_site(SiteContext(SIMULATION_POLICY, index=i, count=count), config) for i in range(count)]
    left_out: dict[str, Any] = {"name": True, "title": True, "report": True, "data": {"cache"}, "federation": TRANSPORT}
    code = digest_code(Path(__file__).resolve().parents[2], (*PACKAGES, "experiments"))
    start = copy_weights(build_initial_model(config, sites[0].task).model) if sites else {}
    digest = hashlib.sha256()
    for value in (
        config.model_dump(mode="json", exclude=left_out),
        code,
        installed_versions(),
        describe_processor(),
        start,
    ):
        _add(digest, value)
    _add(digest, _list_versions(("lightgbm", "threadpoolctl", "safetensors")))
    _add(digest, sites)
    return digest.hexdigest()


def describe_processor() -> dict[str, Any]:
    """Return by what numerical libraries choose their kernels: processor, cores, device, and their variables."""
    import torch

    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = [f"model: {platform.processor()}"]
    return {
        "machine": platform.machine(),
        "model": sorted({line for line in lines if line.startswith(("model", "flags", "Features"))}),
        "kernels": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "",
        "variables": {name: value for name, value in os.environ.items() if name.startswith(LIBRARY_VARIABLES)},
    }


def _list_versions(names: Sequence[str]) -> dict[str, str]:
    from importlib import metadata

    versions = {}
    for name in names:
        with suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions


def _add(digest: _Hash, value: Any) -> None:
    """Add a value to a digest: arrays by type, shape and bytes, dataclasses field by field, the rest as it prints."""
    digest.update(f"\x1e{type(value).__name__}\x1f".encode())
    if isinstance(value, Site) or (dataclasses.is_dataclass(value) and not isinstance(value, type)):
        for field in dataclasses.fields(value):
            digest.update(f"\x1f{field.name}\x1f".encode())
            _add(digest, getattr(value, field.name))
    elif isinstance(value, np.ndarray) and value.dtype != object:
        digest.update(f"{value.dtype.str}{value.shape}".encode())
        digest.update(np.ascontiguousarray(value).data)
    elif isinstance(value, Mapping):
        digest.update(f"{len(value)}\x1f".encode())
        for key in sorted(value, key=str):
            _add(digest, key)
            _add(digest, value[key])
    elif isinstance(value, list | tuple | np.ndarray):
        digest.update(f"{len(value)}\x1f".encode())
        for item in value:
            _add(digest, item)
    else:
        digest.update(repr(value).encode())


def _find_store(config: RunConfig, what: str) -> Path:
    return Path(config.data.cache or cache_folder()) / what


def _list_files(files: RunFolder) -> list[Path]:
    """Return the files of a run's baselines."""
    names = [str(item["name"]) for item in json.loads(files.baselines.read_text(encoding="utf-8"))["models"]]
    kinds = (files.weights, files.scaling, files.latent, files.counts, files.resamples)
    return [files.baselines, *(path for name in names for kind in kinds if (path := kind(name)).is_file())]


def _keep_results(folder: Path, key: str, paths: Sequence[Path], seconds: float) -> None:
    """Copy files of results under their digest: all of them or none."""
    part = folder / f".{key[:16]}-{os.getpid()}"
    folder.mkdir(parents=True, exist_ok=True)
    make_private_folder(part)
    try:
        digests = {}
        for path in paths:
            content = path.read_bytes()
            digests[path.name] = hashlib.sha256(content).hexdigest()
            write_bytes(part / path.name, content)
        created = datetime.now(UTC).isoformat(timespec="seconds")
        write_json(part / MANIFEST, {"files": digests, "seconds": seconds, "created": created})
        shutil.rmtree(folder / key, ignore_errors=True)  # it was damaged, or another run has just stored the same
        part.rename(folder / key)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    entries = [path for path in folder.iterdir() if not path.name.startswith(".")]
    for path in sorted(entries, key=lambda path: path.stat().st_mtime)[:-MAX_RESULTS]:
        shutil.rmtree(path, ignore_errors=True)


def _take_results(stored: Path, path: Path) -> dict[str, Any] | None:
    """Copy kept results into a run's folder and return their manifest; None if there are none, or not all of them.

    Args:
        stored: the folder of the results.
        path: the run's JSON file of them; it gets what they took, and when.
    """
    try:
        manifest = json.loads((stored / MANIFEST).read_text(encoding="utf-8"))
        contents = {name: (stored / name).read_bytes() for name in manifest["files"]}
    except (OSError, ValueError, KeyError):
        return None
    if any(hashlib.sha256(content).hexdigest() != manifest["files"][name] for name, content in contents.items()):
        return None
    for name, content in contents.items():
        if name != path.name:
            write_bytes(path.parent / name, content)
    about = {"seconds": manifest["seconds"], "reused": manifest["created"]}
    write_json(path, json.loads(contents[path.name]) | about)
    return dict(manifest)
