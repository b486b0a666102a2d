"""Data sets as plug-ins: one file or folder each, whose name is the data set's name in a configuration.

A plug-in defines `CARD` (what the data are, as a `DataCard`), `Options` (the settings under `data.options`), and

    task(options)                        the task: inputs and classes
    patients(folder, options, store)     the patients in a data folder
    read(folder, options, ids, store)    the examples of some recordings, as a `Cohort` without a split

and, where they apply,

    default_folder(options, store, seed)  a folder of generated data, for a run without `data.path`; if the options have
                                          a field `simulated`, it is called only where that is true
    bounds(options)                       public value ranges of inputs, for sums with privacy noise; the data set reads
                                          cells outside a plausible range as missing, and counts them
    EVENT_SHARE                           lowest and highest plausible share of a hospital's people who have the event
    unlabelled_rows(source)               rows for `wardround score` that need no label
    DIVISIBLE_FOLDER                      True where a folder with some of the recordings is a data set too
    strip_band(options)                   pass band (Hz) of the filter that was applied to strips; none: not filtered
    card(options)                         the data card of these options, where it depends on them
    options_from_path(path)               the options that a file at `data.path` states, and the data folder
    check_site_folder(folder, options)    refuses options that a hospital's own data folder does not allow; then
                                          FILE_NAME is the description's file, and read_description(file) its options

`folder` is where the data are, `store` where prepared data are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from common import plugins
from common.config import RunConfig
from common.errors import ConfigError
from common.settings import validate_settings
from common.task import Task
from sites import cache, splits
from sites.cohort import Cohort, DataCard, Patient
from sites.download.catalogue import find_download
from sites.spellings import check_hospitals, check_patients


def dataset_names() -> tuple[str, ...]:
    """Return the names of the data sets."""
    return plugins.list_plugins("sites.datasets", "CARD")


@dataclass(frozen=True)
class Source:
    """A data set with its options, in one folder.

    Attributes:
        module: the plug-in.
        options: its validated `Options`.
        folder: where the data are.
        store: where prepared data are kept.
    """

    module: Any
    options: Any
    folder: Path
    store: Path

    @property
    def card(self) -> DataCard:
        """The data card."""
        return get_data_card(self.module, self.options)

    def task(self) -> Task:
        """Return the task: its inputs and classes."""
        task: Task = self.module.task(self.options)
        return task

    def bounds(self) -> dict[str, tuple[float, float]]:
        """Return the public value ranges of the inputs, by name; empty where the data set states none."""
        bounds: dict[str, tuple[float, float]] = {}
        if hasattr(self.module, "bounds"):
            bounds = self.module.bounds(self.options)
        return bounds

    @property
    def event_share(self) -> tuple[float, float] | None:
        """The lowest and highest plausible share of a hospital's people who have the event; None: any."""
        share: tuple[float, float] | None = getattr(self.module, "EVENT_SHARE", None)
        return share

    def patients(self) -> list[Patient]:
        """Return all recordings in the folder, with their persons.

        Raises:
            DataError: the folder cannot be read, or a person or hospital is written in several ways.
        """
        patients: list[Patient] = self.module.patients(self.folder, self.options, self.store)
        sites = sorted({item.site for item in patients if item.site is not None})
        check_hospitals(str(self.folder), sites)
        number = {site: i for i, site in enumerate(sites)}
        pairs = list(dict.fromkeys((item.person, number.get(item.site or "", -1)) for item in patients))
        check_patients(str(self.folder), [person for person, _ in pairs], np.asarray([home for _, home in pairs]))
        return patients

    def read(self, ids: Sequence[str]) -> Cohort:
        """Return the examples of some recordings."""
        cohort: Cohort = self.module.read(self.folder, self.options, ids, self.store)
        return cohort


def get_data_card(module: Any, options: Any) -> DataCard:
    """Return the data card of a plug-in with its options."""
    card: DataCard = module.card(options) if hasattr(module, "card") else module.CARD
    return card


def read_options(run: RunConfig) -> RunConfig:
    """Return a run with the options that a file at `data.path` states, below those that the run itself states.

    Raises:
        ConfigError: the file states no options of this data set.
    """
    module = plugins.load_plugin("sites.datasets", "CARD", run.data.dataset, "data set")
    if run.data.path is None or not hasattr(module, "options_from_path"):
        return run
    result = module.options_from_path(Path(run.data.path))
    if result is None:
        return run
    options, folder = result
    data = run.data.model_copy(update={"path": str(folder), "options": options | run.data.options})
    return run.model_copy(update={"data": data})


def find_own_description(folder: Path) -> tuple[Any, Path]:
    """Return the data set that describes a hospital's own data folder, and the description's file.

    Raises:
        ConfigError: the folder holds no description, or several.
    """
    described = [plugins.load_plugin("sites.datasets", "CARD", name, "data set") for name in described_datasets()]
    files = [(module, folder / module.FILE_NAME) for module in described if (folder / module.FILE_NAME).is_file()]
    if len(files) != 1:
        names = ", ".join(module.FILE_NAME for module in described)
        which = f"{len(files)} descriptions" if files else "no description"
        raise ConfigError(f"{folder}: {which} of data ({names}): one is needed; wardround data init writes it")
    return files[0]


def described_datasets() -> tuple[str, ...]:
    """Return the names of the data sets that a description in the data folder explains."""
    return tuple(
        name
        for name in dataset_names()
        if hasattr(plugins.load_plugin("sites.datasets", "CARD", name, "data set"), "check_site_folder")
    )


def open_site_source(run: RunConfig, folder: Path) -> Source:
    """Return the data set of a run at a hospital, which its own data folder must allow.

    Raises:
        ConfigError: as `open_source`, or the folder's own description does not allow the run's options.
    """
    source = open_source(run, folder)
    if hasattr(source.module, "check_site_folder"):
        source.module.check_site_folder(folder, source.options)
    return source


def open_source(run: RunConfig, folder: Path | None) -> Source:
    """Return the data set of a run.

    Args:
        run: the configuration.
        folder: a hospital's own data folder; none in a simulation, which takes `data.path` or generates data.

    Raises:
        ConfigError: no such data set, a wrong option, or no folder where one is needed.
    """
    module = plugins.load_plugin("sites.datasets", "CARD", run.data.dataset, "data set")
    options = validate_settings(module.Options, run.data.options, f"data.options of {run.data.dataset}")
    store = Path(run.data.cache) if run.data.cache and folder is None else cache.cache_folder()
    if folder is None:
        if run.data.path is not None:
            folder = Path(run.data.path)
        elif hasattr(module, "default_folder") and getattr(options, "simulated", True):
            folder = module.default_folder(options, store, run.seed)
        else:
            raise _missing_folder_error(run.data.dataset, hasattr(module, "default_folder"))
    return Source(module, options, folder, store / run.data.dataset)


def _missing_folder_error(name: str, generated: bool) -> ConfigError:
    """Return the error of a run that names no data folder; `generated`: it could have asked for generated data."""
    download = find_download(name)
    folder = download.folder if download else Path("data") / name
    text = f"data.path: name the folder of {name} on this machine, as in --set data.path={folder}"
    return ConfigError(text + (", or data.options.simulated=true for SYNTHETIC data" if generated else ""))


def assign_hospitals(source: Source, run: RunConfig) -> tuple[dict[str, tuple[str, ...]], list[Patient], int]:
    """Return a simulation's hospitals with their recordings, all recordings used, and the number left out.

    Raises:
        LeakError: a person is at two hospitals.
    """
    usable, dropped = splits.drop_shared_persons(source.patients(), run.sites)
    hospitals = splits.partition_patients(usable, run.sites, run.seed)
    person = {item.id: item.person for item in usable}
    if not (run.sites.split == "published" and run.sites.shared_person == "keep"):
        splits.refuse_shared_persons({site: {person[name] for name in ids} for site, ids in hospitals.items()})
    return hospitals, usable, dropped


def public_bounds(run: RunConfig) -> dict[str, tuple[float, float]]:
    """Return the public value ranges of a data set's inputs, by name; empty where it states none.

    Raises:
        ConfigError: no such data set, or a wrong option.
    """
    module = plugins.load_plugin("sites.datasets", "CARD", run.data.dataset, "data set")
    if not hasattr(module, "bounds"):
        return {}
    options = validate_settings(module.Options, run.data.options, f"data.options of {run.data.dataset}")
    bounds: dict[str, tuple[float, float]] = module.bounds(options)
    return bounds
