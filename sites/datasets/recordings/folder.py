"""Reading the recordings of a described folder: WFDB or EDF, with annotations or with detected R peaks."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from common.errors import DataError
from sites.datasets.recordings.description import Description
from sites.ecg import beats, edf, persons, recordings
from sites.ecg.annotations import AAMI_CLASSES, read_annotations
from sites.ecg.filtering import fill_gaps
from sites.ecg.headers import read_header
from sites.ecg.r_peaks import detect_qrs
from sites.ecg.recordings import Recording

DETECTED = "N"
"""Code of a beat that was detected, not annotated."""


@dataclass(frozen=True)
class RecordingFolder:
    """A folder of recordings as its description explains it.

    Attributes:
        folder: the folder.
        options: the description.
    """

    folder: Path
    options: Description

    @property
    def codes(self) -> Collection[str]:
        """The codes of annotations that are beats: WFDB's, and in EDF+ also those that the classes name."""
        if self.options.labels == "beats" and self.options.read.annotator is None:
            return {*AAMI_CLASSES, *self.options.class_index}
        return AAMI_CLASSES

    @property
    def settings(self) -> Mapping[str, Any]:
        """What affects the prepared beats besides the files and the view."""
        read = self.options.read
        settings: dict[str, Any] = {"annotator": read.annotator, "kind": read.files}
        if read.leads:
            settings["leads named"] = read.leads
        if not read.annotator:
            settings |= {"codes": sorted(self.codes), "labels": self.options.labels}
        return {} if settings == {"annotator": "atr", "kind": "wfdb"} else settings

    def list_files(self, name: str) -> Sequence[Path]:
        """Return the files of a recording, its header first."""
        read = self.options.read
        if read.files == "wfdb":
            return recordings.recording_files(self.folder, name, self._annotator)
        path = edf.edf_path(self.folder, name)
        return [path] if self._annotator is None else [path, self._annotation_file(path)]

    def read(self, name: str) -> Recording:
        """Return a recording with its annotations; where none are needed, with the R peaks of its first lead.

        Raises:
            DataError: it cannot be read.
        """
        if self.options.read.files == "wfdb":
            recording = recordings.read_recording(self.folder, name, self._annotator)
        else:
            path = edf.edf_path(self.folder, name)
            own_beats = self.options.labels == "beats" and self._annotator is None
            recording = edf.read_edf_recording(path, name, self.codes if own_beats else ())
            if self._annotator is not None:
                file, length = self._annotation_file(path), len(recording.signal)
                marks = read_annotations(file, length, recording.rate, recording.rate)
                recording = replace(
                    recording, sample=marks.sample, symbol=marks.symbol, dropped=marks.dropped, note=marks.note
                )
        names = self.options.read.leads
        recording = replace(recording, leads=tuple(names.get(lead, lead) for lead in recording.leads))
        if self.options.examples == "beats" and self.options.labels == "table" and self._annotator is None:
            lead = beats.choose_leads(recording, 1)
            peaks = detect_qrs(fill_gaps(recording.signal[:, lead])[0][:, 0], recording.rate)
            recording = replace(recording, sample=peaks, symbol=np.full(len(peaks), DETECTED), note=())
        return recording

    def read_age_and_sex(self, name: str) -> tuple[float, int]:
        """Return age (years, NaN unknown) and sex (0 female, 1 male, -1 unknown) from a recording's header."""
        if self.options.read.files == "wfdb":
            return persons.read_age_and_sex(read_header(self.folder / f"{name}.hea"))
        person = edf.read_edf_person(edf.edf_path(self.folder, name))
        return person.age, person.sex

    @property
    def _annotator(self) -> str | None:
        """Ending of the files of annotations, None where they are not needed or are within the recordings."""
        if self.options.examples == "strips" and self.options.labels == "table":
            return None
        return self.options.read.annotator

    def _annotation_file(self, path: Path) -> Path:
        """Return the file of WFDB annotations of an EDF recording: NAME.edf.atr, or NAME.atr."""
        ending = f".{self._annotator}"
        for candidate in (path.with_name(path.name + ending), path.with_suffix(ending)):
            if candidate.is_file():
                return candidate
        raise DataError(f"no annotations {path.with_suffix(ending)} next to {path}")
