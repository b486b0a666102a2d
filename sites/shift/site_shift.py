"""Asked: one site's options with its seeds, and how errors name them."""

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
"""Option: what it did, in words."""
TEST = SPLITS.index("test")
IN_WORDS = {"all": "", "train": " (training and validation patients only)", "test": " (test patients only)"}


@dataclass(frozen=True)
class SiteShift:
    """What is asked of one site."""

    options: ShiftConfig
    seed: int
    site: str

    def rng(self, option: str, *parts: str | int) -> np.random.Generator:
        """Return the generator of one option, for one recording or person."""
        return rng_for(self.seed, self.site, "shift", option, *parts)

    def wrong(self, option: str, why: str) -> ConfigError:
        """Return the error that names the option."""
        return ConfigError(f"shift.{self.site}.{option}: {why}")


def selected_rows(cohort: Cohort, where: Where) -> Mask:
    """Return which examples an option may change."""
    if where == "all":
        return np.ones(len(cohort.y), dtype=np.bool_)
    return np.asarray((cohort.split == TEST) == (where == "test"))


def class_index(cohort: Cohort, name: str, at: SiteShift, option: str) -> int:
    """Return the index of a class."""
    if name not in cohort.task.classes:
        raise at.wrong(option, f"no class {name!r}: the classes are {', '.join(cohort.task.classes)}")
    return cohort.task.classes.index(name)


def has_class(cohort: Cohort, which: int) -> Mask:
    """Return which examples are of a class."""
    return np.asarray(cohort.y[:, which] == 1 if cohort.task.kind == "multilabel" else cohort.y == which)
