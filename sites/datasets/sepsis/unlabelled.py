"""Patients' hours for scoring: `.psv` files in which the column SepsisLabel may be missing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from common.errors import DataError
from sites import synthetic_folder
from sites.cohort import Cohort, Windows
from sites.datasets import Source
from sites.datasets.sepsis import features as sepsis_features
from sites.datasets.sepsis import psv
from sites.datasets.sepsis.columns import ICULOS, N_MEASURED
from sites.datasets.sepsis.hospitals import PREFIX
from sites.unlabelled_rows import ALL_MISSING, Exclusion, ScorableRows, nothing_to_score, unlabelled_cohort

FILES_PER_BATCH = 512
"""Number of patients' files that are scored together."""


def read_unlabelled(source: Source) -> Iterator[ScorableRows]:
    """Yield the rows of a folder, FILES_PER_BATCH patients at a time."""
    for folder, files in _patient_files(source.folder).items():
        synthetic = synthetic_folder.is_marked(folder) or synthetic_folder.is_marked(folder.parent)
        for start in range(0, len(files), FILES_PER_BATCH):
            yield _read_files(source, folder, files[start : start + FILES_PER_BATCH], synthetic)


def _patient_files(folder: Path) -> dict[Path, list[str]]:
    """Return the patients' files by folder: this one, and those of the hospitals below it.

    Raises:
        DataError: there is none, or a patient has two.
    """
    if not folder.is_dir():
        raise DataError(f"no data folder {folder}: give the folder that holds the patients (.psv)")
    below = [path for root in (folder, folder / "training") for path in sorted(root.glob(f"{PREFIX}?*"))]
    files: dict[Path, list[str]] = {}
    for path in (folder, *below):
        if not path.is_dir():
            continue
        every = sorted(item.name for item in path.iterdir())
        psv.refuse_copies(path, every)
        if names := [name for name in every if psv.parse_patient(name)]:
            hospitals = [item.name for item in below]
            psv.refuse_files_below(path, [name for name in every if name not in names and name not in hospitals])
            files[path] = names
    if not files:
        raise DataError(f"no recordings in {folder}: it holds no .psv file")
    return files


def _read_files(source: Source, folder: Path, files: Sequence[str], synthetic: bool) -> ScorableRows:
    """Return the rows of some patients' files; a file that cannot be read is excluded with its reason."""
    contents: dict[str, bytes] = {}
    exclusions: list[Exclusion] = []
    for name in files:
        try:
            contents[name] = psv.unpack(folder / name, (folder / name).read_bytes())
        except OSError as error:
            raise DataError(f"{folder / name}: cannot be read: {error.strerror}") from None
        except DataError as error:
            exclusions.append(Exclusion(str(psv.parse_patient(name)), str(error)))
    try:
        hours = psv.parse_files(folder, list(contents), list(contents.values()), labelled=False)
    except DataError as whole:
        readable = {}
        for name, content in contents.items():
            try:
                psv.parse_files(folder, [name], [content], labelled=False)
                readable[name] = content
            except DataError as error:
                exclusions.append(Exclusion(str(psv.parse_patient(name)), str(error)))
        if len(readable) == len(contents):
            raise whole from None  # each file is readable: the median of all is implausible
        contents = readable
        if not contents:
            return nothing_to_score(source.task(), tuple(exclusions))
        hours = psv.parse_files(folder, list(contents), list(contents.values()), labelled=False)
    exclusions += [Exclusion(str(psv.parse_patient(name)), "no hour") for name in contents if name not in hours.files]
    if not hours.files:
        return nothing_to_score(source.task(), tuple(exclusions))
    count = np.diff(hours.first, append=len(hours.rows))
    owner, first = np.repeat(np.arange(len(count)), count), np.repeat(hours.first, count)
    names = tuple(str(psv.parse_patient(name)) for name in hours.files)
    measured = ~np.isnan(hours.rows[:, :N_MEASURED]).all(1)
    total = np.concatenate([[0], np.cumsum(measured)])
    known = total[1:] > total[first]
    for i, unknown in enumerate(np.bincount(owner[~known], minlength=len(names))):
        if unknown:
            reason = ALL_MISSING if unknown == count[i] else "hours before anything was measured"
            exclusions.append(Exclusion(names[i], reason, rows=int(unknown)))
    columns = {
        "record": np.asarray(names, dtype=object)[owner[known]],
        "hour": hours.rows[known, ICULOS].astype(np.int64),
    }
    return ScorableRows(
        _build_cohort(source, hours, owner, first, names, synthetic).take(known),
        columns,
        tuple(exclusions),
        cleared=psv.count_cleared(hours.implausible),
    )


def _build_cohort(
    source: Source,
    hours: psv.Hours,
    owner: npt.NDArray[np.int64],
    first: npt.NDArray[np.int64],
    names: tuple[str, ...],
    synthetic: bool,
) -> Cohort:
    """Return every hour as an example, computed as for training."""
    task, options = source.task(), source.options
    width = len(task.features)
    blocks = [
        sepsis_features.compute_features(*block)
        if options.view == "features"
        else sepsis_features.compute_channels(*block, carry=options.carry)
        for block in sepsis_features.patient_blocks(hours.rows, hours.first)
    ]
    x: npt.NDArray[np.float32] | Windows = np.zeros((len(owner), 0, 0), np.float32)
    if options.view == "features":
        features = np.concatenate(blocks)[:, :width]
    else:
        x = Windows(np.concatenate(blocks)[:, : task.channels], np.arange(len(owner)), first, options.hours)
        features = sepsis_features.static_features(hours.rows)[:, :width]
    return unlabelled_cohort(task, x, features, names, synthetic, owner)
