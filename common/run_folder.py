"""A run's folder: the names of its files, and what is written before anything runs.

Only this module knows the layout of `runs/NAME-TIME/`; all others ask `RunFolder` for a file's path.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.errors import ConfigError, DataError
from common.files import escape_file_name, write_json, write_text
from common.old_names import FORMAT
from common.provenance import installed_versions, source_commit

if TYPE_CHECKING:
    from common.config import RunConfig

FEDERATED = "federated"
"""The name of the federated model; the others of a run are `pooled`, `local:SITE` and other baselines."""


@dataclass(frozen=True)
class RunFolder:
    """The files of a run. Each property is a path; whether there is such a file depends on how far the run came.

    Attributes:
        path: the folder.
    """

    path: Path

    @property
    def config(self) -> Path:
        """The configuration, complete."""
        return self.path / "config.yaml"

    @property
    def about(self) -> Path:
        """The settings, versions, and how the run ended: see `write_run_description`."""
        return self.path / "run.json"

    @property
    def events(self) -> Path:
        """What happened, a line an event; the server appends to it."""
        return self.path / "events.jsonl"

    @property
    def rounds(self) -> Path:
        """A line for each finished round."""
        return self.path / "rounds.jsonl"

    @property
    def checkpoints(self) -> Path:
        """The folder from which the run is resumed (server/checkpoints.py)."""
        return self.path / "checkpoints"

    @property
    def outcome(self) -> Path:
        """The server's results, written at the end whether the run succeeded or not."""
        return self.path / "federated.json"

    @property
    def server_done(self) -> Path:
        """How the server ended; written last, so that other processes can wait for it."""
        return self.path / "server.done"

    @property
    def canary(self) -> Path:
        """The answers of a canary; the file marks a folder that was made for one."""
        return self.path / "canary.json"

    @property
    def server_run(self) -> Path:
        """The number of the run at a server that hospitals use, while it may be running there."""
        return self.path / "server.run"

    @property
    def lock(self) -> Path:
        """Held by the process that works on the run."""
        return self.path / ".lock"

    @property
    def server_lock(self) -> Path:
        """Held by the server's part of the run."""
        return self.path / ".server.lock"

    @property
    def baselines(self) -> Path:
        """The results of the models to compare with."""
        return self.path / "baselines.json"

    @property
    def audit(self) -> Path:
        """The result of a privacy audit of the run."""
        return self.path / "audit.json"

    @property
    def inversion(self) -> Path:
        """The result of reconstructing inputs from an update."""
        return self.path / "inversion.json"

    @property
    def two_sample(self) -> Path:
        """How well classifiers distinguish pairs of hospitals."""
        return self.path / "two-sample.json"

    @property
    def coefficients(self) -> Path:
        """The coefficients of a linear model, with intervals where all data are at hand."""
        return self.path / "coefficients.json"

    @property
    def leave_one_out(self) -> Path:
        """What each hospital gains when the others train without it."""
        return self.path / "leave-one-out.json"

    @property
    def report(self) -> Path:
        """The report, from which the files below are rendered."""
        return self.path / "report.json"

    @property
    def report_page(self) -> Path:
        """The report as a page."""
        return self.path / "report.html"

    @property
    def sites_table(self) -> Path:
        """Every figure of the report, a line each."""
        return self.path / "sites.csv"

    @property
    def summary(self) -> Path:
        """The report in short, as Markdown."""
        return self.path / "summary.md"

    @property
    def model_card(self) -> Path:
        """The federated model's card, as Markdown."""
        return self.path / "model_card.md"

    @property
    def plots(self) -> Path:
        """The folder of the report's plots."""
        return self.path / "plots"

    @property
    def logs(self) -> Path:
        """The folder of the processes' logs."""
        return self.path / "logs"

    @property
    def sites(self) -> Path:
        """The folder of the simulated hospitals' own files."""
        return self.path / "sites"

    def site(self, name: str) -> Path:
        """Return the folder of a simulated hospital's own files: its ledger, and the state of each round."""
        return self.sites / escape_file_name(name)

    def weights(self, model: str = FEDERATED) -> Path:
        """Return the file of a model's weights."""
        return self._model_file("model", model)

    def scaling(self, model: str = FEDERATED) -> Path:
        """Return the file of the scaling of a model's inputs (common/scaling.py)."""
        return self._model_file("scaling", model)

    def latent(self, model: str = FEDERATED) -> Path:
        """Return the file of a model's latent statistics (common/latent.py)."""
        return self._model_file("latent", model)

    def counts(self, model: str = FEDERATED) -> Path:
        """Return the file of the counts of a model's predictions (common/metrics/counts_file.py)."""
        return self._model_file("counts", model)

    def resamples(self, model: str = FEDERATED) -> Path:
        """Return the file of a model's resampled figures (common/metrics/paired_resamples.py).

        The federated model's file holds those of the personal models too.

        >>> RunFolder(Path("r")).resamples("personal").name, RunFolder(Path("r")).resamples("local:north").name
        ('resamples.safetensors', 'resamples.local.north.safetensors')
        """
        return self._model_file("resamples", FEDERATED if model == "personal" else model)

    def _model_file(self, stem: str, model: str) -> Path:
        if model == FEDERATED:
            return self.path / f"{stem}.safetensors"
        path = self.path / ".".join([stem, *map(escape_file_name, model.split(":")), "safetensors"])
        unescaped = self.path / f"{stem}.{model.replace(':', '.')}.safetensors"  # as earlier versions named it
        return unescaped if unescaped.is_file() and not path.is_file() else path


def create_run_folder(config: RunConfig, root: Path) -> Path:
    """Create and return the folder of a new run.

    Raises:
        ConfigError: the folder cannot be created.
    """
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    for attempt in range(1000):
        folder = root / (f"{config.name}-{stamp}" + (f"-{attempt}" if attempt else ""))
        try:
            root.mkdir(parents=True, exist_ok=True)
            folder.mkdir(mode=0o700)  # it may hold what hospitals answered
        except OSError as error:
            if folder.exists():
                continue
            raise ConfigError(f"cannot write the run folder {folder}: {error.strerror}; see --runs") from None
        return folder
    raise ConfigError(f"cannot find a free name for a run folder in {root}")


@contextmanager
def hold_lock(path: Path, seconds: float = 0.0) -> Iterator[None]:
    """Hold a lock of a run folder; it is free again when this process ends, however it ends.

    Args:
        path: the lock's file; it is not removed.
        seconds: longest time to wait while another process holds the lock.

    Raises:
        DataError: another process holds it.
    """
    import fcntl

    deadline = time.monotonic() + seconds
    with path.open("a") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise DataError(
                        f"{path.parent} is in use by another process: wait for its end, or stop it"
                    ) from None
                time.sleep(0.2)
        yield


def is_lock_held(path: Path) -> bool:
    """Return whether a process holds a lock of a run folder at the moment."""
    try:
        with hold_lock(path):
            return False
    except DataError:
        return True


def write_config(config: RunConfig, folder: Path) -> None:
    """Write the complete configuration into a run's folder."""
    import yaml

    write_text(RunFolder(folder).config, yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))


def write_run_description(
    config: RunConfig, folder: Path, card: Mapping[str, Any], notices: Sequence[Mapping[str, str]]
) -> None:
    """Write config.yaml and run.json, before anything runs.

    Args:
        config: the run's settings.
        folder: the run's folder.
        card: the data set's card.
        notices: warnings that must accompany every figure.
    """
    write_config(config, folder)
    about = {
        "format": FORMAT,
        "id": folder.name,
        "name": config.name,
        "title": config.title or config.name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "engine": config.federation.carrier,
        "seed": config.seed,
        "config": config.model_dump(mode="json"),
        "versions": installed_versions(),
        "commit": source_commit(),
        "data": card,
        "notices": notices,
        "status": "running",
        "seconds": 0.0,
    }
    write_json(RunFolder(folder).about, about)


def read_run(folder: Path) -> dict[str, Any]:
    """Return run.json.

    Raises:
        DataError: the file is missing or incomplete.
    """
    try:
        about = json.loads(RunFolder(folder).about.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        about = None
    if not isinstance(about, dict):
        raise DataError(f"{folder} is no run folder: its run.json is missing or incomplete")
    return about


def update_run(folder: Path, **changes: Any) -> dict[str, Any]:
    """Change entries of run.json, and return all of them.

    Raises:
        DataError: as `read_run`.
    """
    about = read_run(folder) | changes
    write_json(RunFolder(folder).about, about)
    return about


class Stopwatch:
    """Measures the seconds since it was made.

    Args:
        earlier: seconds of an earlier part of the same run, which count too.
    """

    def __init__(self, earlier: float = 0.0) -> None:
        self._start = time.monotonic() - earlier

    def seconds(self) -> float:
        """Return the seconds since it was made and before, to the millisecond."""
        return round(time.monotonic() - self._start, 3)
