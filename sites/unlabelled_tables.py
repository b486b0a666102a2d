"""Rows of health records that nobody has labelled, in the form that a model was trained on.

UCI's heart disease: the same `processed.<hospital>.data`, in which the diagnosis may be `?`. Sepsis: the same `.psv`
files, in which the column SepsisLabel may be missing. A row of which every value is missing, and the hours of a patient
before anything was measured, are left out and told, because a score of them would rest on nothing. Any other data set
comes through its own reader, with the rows that this keeps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from common.errors import DataError
from sites import generated, heart_disease, sepsis_features, sepsis_psv
from sites.cohort import Cohort, Windows
from sites.datasets import Source
from sites.heart_disease import COLUMNS, INDICATED, NEVER_ZERO, RANGES
from sites.sepsis_columns import ICULOS, LABEL, MEASURED, NAMES
from sites.sepsis_hospitals import PREFIX
from sites.unlabelled import Left, Rows, cohort

FILES = 512
"""Patients' files that are scored together."""
NOTHING = "every value is missing"


def read(source: Source) -> Iterator[Rows]:
    """Yield the rows of a folder, a hospital or some hundred patients at a time.

    Raises:
        DataError: nothing is there, or it is not in the data set's layout.
    """
    if source.card.name == "heart_disease":
        yield from _heart_disease(source)
    elif source.card.name == "sepsis":
        yield from _sepsis(source)
    else:
        yield _labelled(source)


def _labelled(source: Source) -> Rows:
    found = source.read([item.id for item in source.patients()])
    left = tuple(Left(why, why, rows=number) for why, number in found.excluded.items())
    index = np.concatenate([np.arange(n) for n in np.bincount(found.patient, minlength=len(found.patients))])
    record = np.asarray(found.patients, dtype=object)[found.patient]
    return Rows(found, {"record": record, "row": index}, left)


def _heart_disease(source: Source) -> Iterator[Rows]:
    what, flamby = source.task(), source.options.protocol == "flamby"
    for site, path in heart_disease._files(source.folder).items():
        values, lines = heart_disease._table(path)
        names = [heart_disease._name(site, line) for line in lines]
        outside = heart_disease._outside(path, values)
        inputs = [COLUMNS.index(name) for name in (heart_disease.FLAMBY_COLUMNS if flamby else COLUMNS[:-1])]
        why = np.full(len(values), "", dtype=object)
        if flamby:
            for name in RANGES:
                why[outside[:, COLUMNS.index(name)]] = f"{name} {heart_disease._limits(name)}"
            why[np.isnan(values[:, inputs]).any(1)] = "a value is missing, which data.options.protocol=flamby refuses"
        else:
            values[outside] = np.nan
            for name in NEVER_ZERO:
                values[values[:, COLUMNS.index(name)] == 0, COLUMNS.index(name)] = np.nan
        why[np.isnan(values[:, inputs]).all(1)] = NOTHING
        keep = why == ""
        kept = values[keep]
        if flamby:
            features = heart_disease._inputs(kept, heart_disease.FLAMBY_NUMBERS, heart_disease.FLAMBY_DUMMIES)
        else:
            measured = ~np.isnan(kept[:, [COLUMNS.index(name) for name in INDICATED]])
            made = heart_disease._inputs(kept, heart_disease.EXPLICIT_NUMBERS, heart_disease.EXPLICIT_DUMMIES)
            features = np.hstack([made, measured])
        here = tuple(name for name, good in zip(names, keep, strict=True) if good)
        n = len(here)
        rows = cohort(
            what,
            np.zeros((n, 0, 0), np.float32),
            features.astype(np.float32),
            here,
            generated.is_marked(source.folder),
            np.arange(n),
        )
        columns = {"record": np.asarray(here, dtype=object), "line": np.asarray(lines)[keep]}
        left = tuple(Left(name, str(text), rows=1) for name, text in zip(names, why, strict=True) if text)
        yield Rows(rows, columns, left, about={"file": path.name})


def _sepsis(source: Source) -> Iterator[Rows]:
    for folder in _psv_folders(source.folder):
        files = sorted(path.name for path in folder.glob("*.psv") if path.name[0] != ".")
        synthetic = generated.is_marked(folder) or generated.is_marked(folder.parent)
        for start in range(0, len(files), FILES):
            yield _hours(source, folder, files[start : start + FILES], synthetic)


def _psv_folders(folder: Path) -> list[Path]:
    """Return the folders with patients' files: this one, or those of the hospitals below it.

    Raises:
        DataError: none has any.
    """
    if not folder.is_dir():
        raise DataError(f"no data folder {folder}: give the folder that holds the patients (.psv)")
    below = [path for root in (folder, folder / "training") for path in sorted(root.glob(f"{PREFIX}?*"))]
    found = [path for path in (folder, *below) if path.is_dir() and any(path.glob("*.psv"))]
    if not found:
        raise DataError(f"no recordings in {folder}: it holds no .psv file")
    return found


def _hours(source: Source, folder: Path, files: Sequence[str], synthetic: bool) -> Rows:
    contents: list[bytes] = []
    for name in files:
        try:
            contents.append(_with_label((folder / name).read_bytes()))
        except OSError as error:
            raise DataError(f"{folder / name}: cannot be read: {error.strerror}") from None
    left: list[Left] = []
    try:
        hours = sepsis_psv.parse(folder, files, contents)
    except DataError as whole:
        good = []
        for i, name in enumerate(files):
            try:
                sepsis_psv.parse(folder, [name], [contents[i]])
                good.append(i)
            except DataError as error:
                left.append(Left(name.removesuffix(".psv"), str(error)))
        if not left:
            raise whole from None  # no file alone: a unit, say, that the hospital's median betrays
        files, contents = [files[i] for i in good], [contents[i] for i in good]
        hours = sepsis_psv.parse(folder, files, contents)
    left += [Left(name.removesuffix(".psv"), "no hour") for name in files if name not in set(hours.files)]
    count = np.diff(hours.first, append=len(hours.rows))
    owner, first = np.repeat(np.arange(len(count)), count), np.repeat(hours.first, count)
    names = tuple(name.removesuffix(".psv") for name in hours.files)
    seen = ~np.isnan(hours.rows[:, :MEASURED]).all(1)
    total = np.concatenate([[0], np.cumsum(seen)])
    known = total[1:] > total[first]
    for i, gone in enumerate(np.bincount(owner[~known], minlength=len(names))):
        if gone:
            why = NOTHING if gone == count[i] else "hours before anything was measured"
            left.append(Left(names[i], why, rows=int(gone)))
    columns = {
        "record": np.asarray(names, dtype=object)[owner[known]],
        "hour": hours.rows[known, ICULOS].astype(np.int64),
    }
    return Rows(_inputs(source, hours, owner, first, names, synthetic).take(known), columns, tuple(left))


def _with_label(content: bytes) -> bytes:
    """Return a patient's file with a column of labels, all 0, where it has none."""
    lines = content.replace(b"\r\n", b"\n").rstrip(b"\n").split(b"\n")
    if lines[0] != "|".join(NAMES).encode():
        return content
    return b"\n".join([lines[0] + b"|" + LABEL.encode(), *(line + b"|0" for line in lines[1:] if line)]) + b"\n"


def _inputs(
    source: Source,
    hours: sepsis_psv.Hours,
    owner: npt.NDArray[np.int64],
    first: npt.NDArray[np.int64],
    names: tuple[str, ...],
    synthetic: bool,
) -> Cohort:
    what, options = source.task(), source.options
    wide = len(what.features)
    made = [
        sepsis_features.features(*block)
        if options.view == "features"
        else sepsis_features.channels(*block, carry=options.carry)
        for block in sepsis_features.blocks(hours.rows, hours.first)
    ]
    x: npt.NDArray[np.float32] | Windows = np.zeros((len(owner), 0, 0), np.float32)
    if options.view == "features":
        features = np.concatenate(made)[:, :wide]
    else:
        x = Windows(np.concatenate(made)[:, : what.channels], np.arange(len(owner)), first, options.hours)
        features = sepsis_features.static(hours.rows)[:, :wide]
    return cohort(what, x, features, names, synthetic, owner)
