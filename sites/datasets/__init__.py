"""Data sets as plug-ins: a file of this folder that opens with a data card."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import plugins
from common.config import RunConfig
from common.errors import ConfigError
from common.settings import validate_settings
from common.task import Task
from sites import cache, splits
from sites.cohort import Cohort, DataCard, Patient


def dataset_names() -> tuple[str, ...]:
    """Return the names of the data sets."""
    return plugins.list_plugins("sites.datasets", "CARD")


@dataclass(frozen=True)
class Source:
    """A data set with its options, in one folder."""

    module: Any
    options: Any
    folder: Path
    store: Path

    @property
    def card(self) -> DataCard:
        """The data card."""
        card: DataCard = self.module.CARD
        return card

    def task(self) -> Task:
        """What is predicted from what."""
        found: Task = self.module.task(self.options)
        return found

    def patients(self) -> list[Patient]:
        """Everyone whose data lie in the folder."""
        found: list[Patient] = self.module.patients(self.folder, self.options, self.store)
        return found

    def read(self, ids: Sequence[str]) -> Cohort:
        """Return the examples of some recordings."""
        found: Cohort = self.module.read(self.folder, self.options, ids, self.store)
        return found


def open_source(run: RunConfig, folder: Path | None) -> Source:
    """Return the data set of a run; `folder` is where a hospital keeps it, none in a simulation.

    Raises:
        ConfigError: no such data set, a wrong option, or no folder where one is needed.
    """
    module = plugins.load_plugin("sites.datasets", "CARD", run.data.dataset, "data set")
    options = validate_settings(module.Options, run.data.options, f"data.options of {run.data.dataset}")
    store = Path(run.data.cache) if run.data.cache and folder is None else cache.cache_folder()
    if folder is None:
        if run.data.path is not None:
            folder = Path(run.data.path)
        elif hasattr(module, "default_folder"):
            folder = module.default_folder(options, store, run.seed)
        else:
            raise ConfigError(
                f"data.path: say where {run.data.dataset} lies on this machine, as in --set data.path=data/mitdb"
            )
    return Source(module, options, folder, store / run.data.dataset)


def assign_hospitals(source: Source, run: RunConfig) -> tuple[dict[str, tuple[str, ...]], list[Patient], int]:
    """Return a simulation's hospitals with their recordings, everyone kept, and how many were left out."""
    kept, dropped = splits.drop_shared_persons(source.patients(), run.sites)
    dealt = splits.partition_patients(kept, run.sites, run.seed)
    by_id = {item.id: item.person for item in kept}
    if not (run.sites.split == "published" and run.sites.shared_person == "keep"):
        splits.refuse_shared_persons({site: {by_id[name] for name in ids} for site, ids in dealt.items()})
    return dealt, kept, dropped


def public_bounds(run: RunConfig) -> dict[str, tuple[float, float]]:
    """Return the public ranges that a data set states of its inputs, by name; none where it states none.

    Raises:
        ConfigError: no such data set, or a wrong option.
    """
    module = plugins.load_plugin("sites.datasets", "CARD", run.data.dataset, "data set")
    if not hasattr(module, "bounds"):
        return {}
    options = validate_settings(module.Options, run.data.options, f"data.options of {run.data.dataset}")
    found: dict[str, tuple[float, float]] = module.bounds(options)
    return found
