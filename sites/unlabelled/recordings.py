"""Recordings that nobody has labelled, in the form that a model was trained on: what a run's model is to score.

Beats are cut as `sites/ecg/beats.py` cuts them, at the positions of reference annotations where a recording has them,
else
at the R peaks that `sites/ecg/r_peaks.py` finds; strips follow one another from the recording's first sample on.
Nothing is
made up: a recording that lacks a lead, or is shorter than one window, is left out, and so is a window with a missing
sample, on a lead that is flat, or at a rail of its converter. Each is told with its reason and place.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from common.errors import ConfigError, DataError
from common.task import Task
from sites.datasets import Source
from sites.ecg import beats, r_peaks, recordings
from sites.ecg import features as ecg_features
from sites.ecg.filtering import fill_gaps, resample_and_filter
from sites.ecg.leads import FRANK, STANDARD
from sites.ecg.recordings import Recording
from sites.unlabelled_rows import Exclusion, ScorableRows, unlabelled_cohort

BeatSource = Literal["auto", "reference", "detect"]
Mask = npt.NDArray[np.bool_]

FLAT_SECONDS, RAIL_SECONDS, FLAT_SHARE, RAIL_SHARE = 0.3, 0.04, 0.02, 0.25
RAIL_JUMP, RAIL_LONG = 0.01, 0.15
"""A lead is flat where it keeps one value so long, or moves by so small a share of its typical beat. It is at a rail
where it keeps its largest or smallest value so long, far from its median (a share of its range), and jumps there or
back (a share too) or stays longer still: the quiet line between beats, or the end of a slow wave, is no rail."""
RELATIVE = ecg_features.RELATIVE
MISSING, FLAT, RAIL = "missing samples", "flat lead", "saturated lead"


@dataclass(frozen=True)
class InputForm:
    """How a recording becomes a model's inputs.

    `kind`: `window`, `kachuee` (beats) or `strip`; `leads`: by name, or how many, MLII or II first; `peaks`: the
    detector; `band`: Hz, of strips; `whole`: a beat must lie whole within the recording; `shape`: leads whose waves are
    measured (sites/ecg/features.py).
    """

    task: Task
    kind: str
    leads: tuple[str, ...] | int
    relative: bool
    peaks: Literal["qrs", "kachuee"] = "qrs"
    band: tuple[float, float] | None = None
    whole: bool = False
    shape: int = 0

    @property
    def count(self) -> int:
        """The number of leads."""
        return self.leads if isinstance(self.leads, int) else len(self.leads)


def input_form(source: Source) -> InputForm:
    """Return how a data set, with the options of a run, makes inputs of recordings.

    Raises:
        ConfigError: it does not make them of recordings.
    """
    task, options = source.task(), source.options
    try:
        kind = ecg_features.signal_kind(task)
    except DataError:
        raise ConfigError(f"{source.card.name} has no recordings to score: its task is {task.name}") from None
    named = tuple(name for name in task.channel_names if not name.endswith(RELATIVE))
    real = all(name in STANDARD or name in FRANK for name in named)
    shape = getattr(options, "shape", 0) if kind == "window" else 0
    given = len(task.features) - len(ecg_features.beat_feature_names(shape))
    if shape > len(named):
        raise ConfigError(f"{source.card.name}: data.options.shape={shape} measures leads that the model does not see")
    if kind != "strip" and task.features[:given] != beats.window_feature_names(len(named))[:given]:
        raise ConfigError(f"{source.card.name}: features that recordings alone do not give: {', '.join(task.features)}")
    strip_band = getattr(source.module, "strip_band", None)
    return InputForm(
        task,
        kind,
        named if real else len(named),
        len(named) < task.channels,
        "kachuee" if getattr(options, "peaks", "qrs") == "kachuee" else "qrs",
        strip_band(options) if kind == "strip" and strip_band else None,
        real and kind == "window",
        shape,
    )


def find_recordings(folder: Path) -> tuple[str, ...]:
    """Return the recordings of a folder and, where there are none in it, of the folders below it, as relative paths.

    Raises:
        DataError: there is none.
    """
    if folder.is_dir() and not (folder / "RECORDS").is_file() and not any(folder.glob("*.hea")):
        below = sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.hea"))
        if below:
            return tuple(below)
        raise DataError(f"no recordings in {folder}: neither it nor a folder below it holds a .hea file")
    return recordings.recording_names(folder)


def read_rows(
    folder: Path, name: str, wanted: InputForm, where: BeatSource = "auto", annotator: str = "atr"
) -> ScorableRows:
    """Return the beats or strips of one recording.

    Args:
        folder: what `name` is relative to.
        name: the recording, without `.hea`.
        wanted: how it becomes inputs.
        where: take beats from reference annotations, from the detector, or from the first of both that there is.
        annotator: the suffix of the reference annotations.

    Raises:
        DataError: nothing of it can be scored: a file is damaged, a lead is missing or flat, it is too short, it has no
            annotations (`reference`).
    """
    place = (folder / name).parent
    stem = name.rpartition("/")[2]
    given = (place / f"{stem}.{annotator}").is_file() or where == "reference"
    used = annotator if given and where != "detect" and wanted.kind != "strip" else None
    recording = recordings.read_recording(place, stem, used)
    chosen = _leads(recording, wanted)
    recording = replace(recording, leads=tuple(recording.leads[i] for i in chosen), signal=recording.signal[:, chosen])
    seconds, least = len(recording.signal) / recording.rate, wanted.task.samples / wanted.task.rate_hz
    if wanted.kind == "kachuee":
        least = beats.SAMPLES / beats.RATE
    if seconds < least:
        raise DataError(f"{name}: {seconds:.2f} s, shorter than one window of {least:g} s")
    for lead, values in zip(recording.leads, recording.signal.T, strict=True):
        seen = values[np.isfinite(values)]
        if not len(seen) or np.ptp(seen) == 0:
            raise DataError(f"{name}: lead {lead} {'is flat throughout' if len(seen) else 'holds no sample'}")
    about = {"leads": " ".join(recording.leads)}
    if wanted.kind == "strip":
        return _strips(recording, name, wanted, about)
    is_beat = np.isin(recording.symbol, list(beats.AAMI_CLASSES))
    if is_beat.any() or where == "reference":
        about["beats"] = f"reference annotations (.{annotator})"
    else:
        about["beats"] = f"R peaks found by this program ({wanted.peaks})"
        found = _peaks(recording, wanted)
        recording = replace(recording, sample=found, symbol=np.full(len(found), "N"))
    return _beats(recording, name, wanted, about)


def _leads(recording: Recording, wanted: InputForm) -> list[int]:
    """Return which leads of a recording to use.

    Raises:
        DataError: it has not all of them.
    """
    if isinstance(wanted.leads, int):
        if len(recording.leads) < wanted.leads:
            raise DataError(
                f"{recording.name}: {len(recording.leads)} lead(s), but the model was trained on {wanted.leads}"
            )
        return beats.choose_leads(recording, wanted.leads)
    known = {("ii" if lead.lower() == "mlii" else lead.lower()): i for i, lead in enumerate(recording.leads)}
    if lost := [lead for lead in wanted.leads if lead.lower() not in known]:
        raise DataError(f"{recording.name}: no lead {lost[0]}, which the model was trained on")
    return [known[lead.lower()] for lead in wanted.leads]


def _peaks(recording: Recording, wanted: InputForm) -> npt.NDArray[np.int64]:
    signal = fill_gaps(recording.signal[:, :1])[0]
    if wanted.peaks == "qrs":
        return r_peaks.detect_qrs(signal[:, 0], recording.rate)
    found = r_peaks.detect_kachuee(resample_and_filter(signal, recording.rate, beats.RATE, None)[:, 0], beats.RATE)
    place = np.rint(found * recording.rate / beats.RATE).astype(np.int64)
    return np.asarray(np.minimum(place, len(signal) - 1), dtype=np.int64)


def _beats(recording: Recording, name: str, wanted: InputForm, about: dict[str, str]) -> ScorableRows:
    task, rate = wanted.task, recording.rate
    order = tuple(f"lead {i + 1}" for i in range(wanted.count))  # without names cut() keeps this order
    found = beats.cut_beats(
        replace(recording, leads=order), "window" if wanted.kind == "window" else "kachuee", wanted.count
    )
    every = np.isin(recording.symbol, list(beats.AAMI_CLASSES))
    sample = recording.sample[every]
    if len(sample) < 3:
        raise DataError(f"{name}: fewer than three beats, by the {about['beats']}")
    ends = wanted.kind == "kachuee"
    left = [
        Exclusion(name, "last beat, which has no next one" if ends and at == sample[-1] else MISSING, int(at))
        for at in np.setdiff1d(sample, found.sample)
    ]
    before, after = (beats.BEFORE, beats.SAMPLES - beats.BEFORE) if wanted.kind == "window" else (0, beats.SAMPLES)
    begin = np.rint(found.sample - before * rate / beats.RATE).astype(np.int64)
    end = np.rint(found.sample + after * rate / beats.RATE).astype(np.int64)
    bad = _spoilt(recording, begin, end)
    if wanted.kind == "window" and len(found.x):
        still = (np.ptp(found.x, axis=2) < FLAT_SHARE).any(1)
        bad = np.where(still & (bad == ""), FLAT, bad)
    if wanted.whole:
        out = (begin < 0) | (end > len(recording.signal))
        bad = np.where(out & (bad == ""), "cut off by an end of the recording", bad)
    good = bad == ""
    left += [Exclusion(name, str(why), int(at)) for why, at in zip(bad[~good], found.sample[~good], strict=True)]
    x = found.x[good]
    if wanted.relative:
        x = np.concatenate([x, x - found.template], axis=1)
    columns: dict[str, npt.NDArray[Any]] = {"sample": found.sample[good]}
    if about["beats"].startswith("reference"):
        columns["reference"] = found.label[good]
    own = (
        ecg_features.measure_beats(found.x[:, : wanted.shape], found.template[: wanted.shape]) if wanted.shape else None
    )
    features = found.features[:, : len(task.features) - (0 if own is None else own.shape[1])]
    if own is not None:
        features = np.concatenate([features, ecg_features.scale_to_own_spread(own)], axis=1)
    return _rows(recording, name, task, x, features[good], columns, left, about)


def _strips(recording: Recording, name: str, wanted: InputForm, about: dict[str, str]) -> ScorableRows:
    task, rate = wanted.task, recording.rate
    filled, lost = fill_gaps(recording.signal)
    count = int(len(filled) / rate * task.rate_hz) // task.samples
    begin = np.rint(np.arange(count) * task.samples * rate / task.rate_hz).astype(np.int64)
    end = np.rint((np.arange(count) + 1) * task.samples * rate / task.rate_hz).astype(np.int64)
    sums = np.concatenate([[0], np.cumsum(lost)])
    bad = np.where(sums[end] > sums[begin], MISSING, _spoilt(recording, begin, end, throughout=True))
    if wanted.band is not None or rate != task.rate_hz:
        filled = resample_and_filter(filled, rate, task.rate_hz, wanted.band)
    strips = filled[: count * task.samples].reshape(count, task.samples, wanted.count).transpose(0, 2, 1)
    good = bad == ""
    left = [Exclusion(name, str(why), int(at)) for why, at in zip(bad[~good], begin[~good], strict=True)]
    if count and end[-1] < len(recording.signal):
        left.append(
            Exclusion(name, f"end of the recording, shorter than {task.samples / task.rate_hz:g} s", int(end[-1]))
        )
    none = np.zeros((int(good.sum()), 0), np.float32)
    return _rows(recording, name, task, strips[good], none, {"sample": begin[good]}, left, about)


def _spoilt(
    recording: Recording, begin: npt.NDArray[np.int64], end: npt.NDArray[np.int64], throughout: bool = False
) -> npt.NDArray[np.str_]:
    """Return of each window `begin` to before `end` why it cannot be scored, or "".

    A window is flat where a lead is so somewhere in it or, of strips, `throughout` it.
    """
    n, why = len(recording.signal), np.full(len(begin), "", dtype="<U16")
    first, last = np.clip(begin, 0, n), np.clip(end, 0, n)
    flat, rail = np.zeros(len(begin), np.bool_), np.zeros(len(begin), np.bool_)
    for lead in recording.signal.T:
        starts = np.flatnonzero(np.concatenate([[True], lead[1:] != lead[:-1]]))
        length = np.diff(starts, append=n)
        kept = np.zeros(n + 1, dtype=np.int64)
        for spot, enough in ((False, FLAT_SECONDS), (True, RAIL_SECONDS)):
            runs = length >= enough * recording.rate
            if spot:
                high, low, middle = np.nanmax(lead), np.nanmin(lead), np.nanmedian(lead)
                far = np.abs(lead[starts] - middle) >= RAIL_SHARE * (high - low)
                jump = np.abs(np.diff(lead[starts], prepend=lead[0], append=lead[-1]))
                steep = np.fmax(jump[:-1], jump[1:]) >= RAIL_JUMP * (high - low)
                runs &= far & ((lead[starts] == high) | (lead[starts] == low))
                runs &= steep | (length >= RAIL_LONG * recording.rate)
            np.cumsum(np.repeat(runs, length), out=kept[1:])
            inside = kept[last] - kept[first]
            if spot:
                rail |= inside > 0
            else:
                flat |= (inside == last - first) if throughout else inside > 0
    why[rail] = RAIL
    why[flat & ~rail] = FLAT
    return why


def _rows(
    recording: Recording,
    name: str,
    task: Task,
    x: npt.NDArray[np.float32],
    features: npt.NDArray[np.float32],
    columns: dict[str, npt.NDArray[Any]],
    left: list[Exclusion],
    about: dict[str, str],
) -> ScorableRows:
    columns = {"sample": columns["sample"], "seconds": columns["sample"] / recording.rate} | columns
    left = [replace(item, seconds=(item.sample or 0) / recording.rate, rows=1) for item in left]
    synthetic = any("SYNTHETIC" in line for line in recording.comments)
    found = replace(unlabelled_cohort(task, x, features, (name,), synthetic), seconds=columns["seconds"])
    return ScorableRows(found, columns, tuple(left), recording.rate, about)
