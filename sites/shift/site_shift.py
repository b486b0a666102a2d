"""The shift options of one site, with their random generators and error messages."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from common.errors import ConfigError
from common.sections.shift import ShiftConfig, Where
from common.seeds import rng_for
from sites.cohort import SPLITS, Cohort

Mask = npt.NDArray[np.bool_]
Notes = dict[str, str]
"""What each option did, in words."""
TEST = SPLITS.index("test")
IN_WORDS = {"all": "", "train": " (training and validation patients only)", "test": " (test patients only)"}


@dataclass(frozen=True)
class SiteShift:
    """The shift options of one site, with what its random draws depend on.

    Attributes:
        options: the site's options.
        seed: the run's seed.
        site: the site's name.
    """

    options: ShiftConfig
    seed: int
    site: str

    def rng(self, option: str, *parts: str | int) -> np.random.Generator:
        """Return the random generator of one option, for one recording or person."""
        return rng_for(self.seed, self.site, "shift", option, *parts)

    def error(self, option: str, reason: str) -> ConfigError:
        """Return an error that names the site and the option."""
        return ConfigError(f"shift.{self.site}.{option}: {reason}")


def selected_rows(cohort: Cohort, where: Where) -> Mask:
    """Return a mask of the examples that an option may change, given its `where`."""
    if where == "all":
        return np.ones(len(cohort.y), dtype=np.bool_)
    return np.asarray((cohort.split == TEST) == (where == "test"))


def class_index(cohort: Cohort, name: str, at: SiteShift, option: str) -> int:
    """Return the index of a class."""
    if name not in cohort.task.classes:
        raise at.error(option, f"no class {name!r}: the classes are {', '.join(cohort.task.classes)}")
    return cohort.task.classes.index(name)


def has_class(cohort: Cohort, index: int) -> Mask:
    """Return a mask of the examples that have a class."""
    return np.asarray(cohort.y[:, index] == 1 if cohort.task.kind == "multilabel" else cohort.y == index)
