"""Beats of recordings that are annotated with WFDB's beat codes, in the classes of AAMI EC57."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from common.errors import DataError
from common.task import Task
from sites.cohort import Cohort
from sites.ecg import beats
from sites.ecg.annotations import AAMI_CLASSES, UNCLASSED
from sites.ecg.beat_cohort import BeatView, Codes, beat_inputs, count_classes, read_cohort
from sites.ecg.headers import read_header
from sites.ecg.persons import read_age_and_sex
from sites.ecg.recordings import Recording, read_recording, recording_files


class Options(BeatView):
    """Options of the beats of an ECG."""

    classes: Literal["NSVF", "NSVFQ"] = Field("NSVF", description="Q (paced, unknown) is left out or kept")
    paced: bool = Field(False, description="keep the paced recordings 102, 104, 107, 217")
    target: Literal["classes", "abnormal"] = Field(
        "classes", description="predict the classes, or normal beats (N) against all others"
    )


@dataclass(frozen=True)
class WfdbFolder:
    """WFDB recordings with annotations next to them.

    Attributes:
        folder: the folder.
        annotator: ending of the files of annotations.
    """

    folder: Path
    annotator: str = "atr"

    @property
    def codes(self) -> Collection[str]:
        """WFDB's beat codes."""
        return AAMI_CLASSES

    @property
    def settings(self) -> Mapping[str, Any]:
        """None besides the files."""
        return {}

    def list_files(self, name: str) -> Sequence[Path]:
        """Return the files of a recording, its header first."""
        return recording_files(self.folder, name, self.annotator)

    def read(self, name: str) -> Recording:
        """Return a recording with its beats."""
        return read_recording(self.folder, name, self.annotator)

    def read_age_and_sex(self, name: str) -> tuple[float, int]:
        """Return age (years, NaN unknown) and sex (0 female, 1 male, -1 unknown) from a header's comments."""
        return read_age_and_sex(read_header(self.folder / f"{name}.hea"))


@dataclass(frozen=True)
class AamiLabels:
    """The classes of AAMI EC57, as the options choose them.

    Attributes:
        options: which classes.
    """

    options: Options

    def classify(self, name: str, codes: Sequence[str]) -> Codes:
        """Return the class of each beat, -1 of a beat that the options leave out."""
        index = {letter: i for i, letter in enumerate(self.options.classes)}
        if self.options.target == "abnormal":
            index = {letter: min(i, 1) for letter, i in index.items()}
        return np.asarray([index.get(AAMI_CLASSES[code], -1) for code in codes], dtype=np.int64)

    def count_excluded(self, name: str, codes: Sequence[str]) -> dict[str, int]:
        """Return the number of beats that are left out, by reason."""
        classes = Counter(AAMI_CLASSES[code] for code in codes)
        counts = {
            "beats of class Q": classes["Q"] * ("Q" not in self.options.classes),
            "beats without a class": classes[UNCLASSED],
        }
        return {reason: count for reason, count in counts.items() if count}


def beat_task(options: Options) -> Task:
    """Return the task: its inputs and classes."""
    classes, titles = tuple(options.classes), tuple(beats.CLASS_TITLES[c] for c in options.classes)
    if options.target == "abnormal":
        classes, titles = ("normal", "abnormal"), ("normal beat", "abnormal beat")
    name = f"{'AAMI' if options.target == 'classes' else 'abnormal'} heartbeats, {options.view} view"
    return beat_inputs(options, name, classes, titles)


def count_beats(folder: Path, names: Sequence[str], options: Options, store: Path) -> list[tuple[int, ...]]:
    """Return each recording's number of beats of every class; a recording that is not cached is prepared first."""
    classes = len(beat_task(options).classes)
    return count_classes(WfdbFolder(folder), names, options, AamiLabels(options), classes, store)


def read_beats(folder: Path, options: Options, ids: Sequence[str], store: Path, persons: Sequence[str]) -> Cohort:
    """Return the beats of recordings annotated with WFDB's beat codes, in the order of `ids`.

    Raises:
        DataError: `ids` is empty, or a recording cannot be read.
    """
    if not ids:
        raise DataError(f"no recordings of {folder} to read")
    labels, task = AamiLabels(options), beat_task(options)
    return read_cohort(WfdbFolder(folder), ids, options, labels, task, store, persons)
