"""Recordings without labels, as inputs of a run's model for scoring.

Beats are cut as `sites/ecg/beats.py` cuts them, at the positions of reference annotations if a recording has them, else
at the R peaks that `sites/ecg/r_peaks.py` detects; strips follow one another from the recording's first sample on. No
input is invented: a recording that lacks a lead, or is shorter than one window, is left out, and so is a window with a
missing sample, on a flat lead, or at the limit of its converter. Each exclusion is reported with reason and place.
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
from sites.ecg import beats, features, r_peaks, recordings
from sites.ecg.annotations import UNCLASSED, is_beat
from sites.ecg.filtering import fill_gaps, resample_and_filter
from sites.ecg.leads import FRANK, STANDARD
from sites.ecg.recordings import Recording
from sites.ecg.rhythm import find_irregular_rhythm
from sites.unlabelled_rows import Exclusion, ScorableRows, unlabelled_cohort

BeatSource = Literal["auto", "reference", "detect"]
Mask = npt.NDArray[np.bool_]

FLAT_SECONDS, FLAT_SHARE = 0.3, 0.02
"""A lead is flat if it keeps one value this long, or moves by less than this share of its typical beat."""
RAIL_SECONDS, RAIL_SHARE, RAIL_JUMP, RAIL_LONG = 0.04, 0.25, 0.01, 0.15
"""A lead is saturated if it keeps its largest or smallest value this long, further from its median than a share of its
range, and jumps there or back (by a share of its range) or stays longer (s): the quiet line between beats, or the end
of a slow wave, is not saturation."""
RELATIVE = features.RELATIVE
MISSING, FLAT, RAIL = "missing samples", "flat lead", "saturated lead"


@dataclass(frozen=True)
class InputForm:
    """How a recording becomes a model's inputs.

    Attributes:
        task: the task of the run's data set.
        kind: `window` or `kachuee` (beats), or `strip`.
        leads: names of the leads, or their number, MLII or II first.
        relative: whether channels minus the median beat are added.
        peaks: detector of R peaks.
        band: edges in Hz of the filter of strips, if any.
        whole: whether a beat must lie completely within the recording.
        shape: number of leads whose waves are measured (sites/ecg/features.py).
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
        """Number of leads."""
        return self.leads if isinstance(self.leads, int) else len(self.leads)


def input_form(source: Source) -> InputForm:
    """Return how a data set, with the options of a run, turns recordings into inputs.

    Raises:
        ConfigError: its inputs are not made from recordings.
    """
    task, options = source.task(), source.options
    try:
        kind = features.signal_kind(task)
    except DataError:
        raise ConfigError(f"{source.card.name} has no recordings to score: its task is {task.name}") from None
    named = tuple(name for name in task.channel_names if not name.endswith(RELATIVE))
    real = all(name in STANDARD or name in FRANK for name in named)
    shape = getattr(options, "shape", 0) if kind == "window" else 0
    given = len(task.features) - len(features.beat_feature_names(shape))
    if shape > len(named):
        raise ConfigError(
            f"{source.card.name}: data.options.shape={shape} measures leads that are not inputs of the model"
        )
    if kind != "strip" and task.features[:given] != beats.window_feature_names(len(named))[:given]:
        raise ConfigError(
            f"{source.card.name}: features that cannot be computed from recordings alone: {', '.join(task.features)}"
        )
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
    """Return the recordings of a folder or, if it holds none, of the folders below it, as relative paths.

    A recording that RECORDS lists but that is missing is returned too; reading it raises the error.

    Raises:
        DataError: there is none.
    """
    if folder.is_dir() and not (folder / "RECORDS").is_file() and not _holds_headers(folder):
        below = [path for path in sorted(folder.rglob("*")) if path.is_dir() and _holds_headers(path)]
        if below:
            return tuple(
                sorted(
                    f"{path.relative_to(folder).as_posix()}/{name}"
                    for path in below
                    for name in recordings.listed_names(path)
                )
            )
        raise DataError(f"no recordings in {folder}: neither it nor a folder below it holds a .hea file")
    return recordings.listed_names(folder)


def _holds_headers(folder: Path) -> bool:
    return any(path.suffix.lower() == ".hea" and not path.name.startswith(".") for path in folder.iterdir())


def read_rows(
    folder: Path, name: str, form: InputForm, where: BeatSource = "auto", annotator: str = "atr"
) -> ScorableRows:
    """Return the beats or strips of one recording.

    Args:
        folder: the folder that `name` is relative to.
        name: the recording, without `.hea`.
        form: how it becomes inputs.
        where: take beats from reference annotations, from the detector, or from annotations if there are any.
        annotator: suffix of the reference annotations.

    Raises:
        DataError: nothing of it can be scored: a file is damaged, a lead is missing or flat, it is too short, it has no
            annotations (`reference`).
    """
    path = folder / f"{name}.hea"
    annotated = path.with_name(f"{path.stem}.{annotator}").is_file() or where == "reference"
    used = annotator if annotated and where != "detect" and form.kind != "strip" else None
    recording = recordings.read_recording(path.parent, path.stem, used)
    recording = recording.take_leads(_choose_leads(recording, form))
    recordings.check_amplitudes(recording, path)
    seconds, shortest = len(recording.signal) / recording.rate, form.task.samples / form.task.rate_hz
    if form.kind == "kachuee":
        shortest = beats.SAMPLES / beats.RATE
    if seconds < shortest:
        raise DataError(f"{name}: {seconds:.2f} s, shorter than one window of {shortest:g} s")
    for lead, values in zip(recording.leads, recording.signal.T, strict=True):
        finite = values[np.isfinite(values)]
        if not len(finite) or np.ptp(finite) == 0:
            raise DataError(f"{name}: lead {lead} {'is flat throughout' if len(finite) else 'holds no sample'}")
    about = {"leads": " ".join(recording.leads)}
    if form.kind == "strip":
        return _strips(recording, name, form, about)
    if is_beat(recording.symbol).any() or where == "reference":
        about["beats"] = f"reference annotations (.{annotator})"
    else:
        about["beats"] = f"R peaks found by this program ({form.peaks})"
        peaks = _detect_peaks(recording, form)
        recording = replace(recording, sample=peaks, symbol=np.full(len(peaks), "N"), dropped={})
    return _beats(recording, name, form, about)


def _choose_leads(recording: Recording, form: InputForm) -> list[int]:
    """Return the indices of the leads to use.

    Raises:
        DataError: the recording does not have all of them.
    """
    if isinstance(form.leads, int):
        if len(recording.leads) < form.leads:
            raise DataError(
                f"{recording.name}: {len(recording.leads)} lead(s), but the model was trained on {form.leads}"
            )
        return beats.choose_leads(recording, form.leads)
    return [_find_lead(recording, lead) for lead in form.leads]


def _find_lead(recording: Recording, lead: str) -> int:
    """Return the index of a lead; where there is no II, MLII counts.

    Raises:
        DataError: there is none, or more than one.
    """
    name = "MLII" if lead == "II" and "II" not in recording.leads else lead
    if not (count := recording.leads.count(name)):
        raise DataError(f"{recording.name}: no lead {lead}, which the model was trained on")
    if count > 1:
        raise DataError(f"{recording.name}: {count} leads are called {name}: rename those that the model is not to use")
    return recording.leads.index(name)


def _detect_peaks(recording: Recording, form: InputForm) -> npt.NDArray[np.int64]:
    signal = fill_gaps(recording.signal[:, :1])[0]
    if form.peaks == "qrs":
        return r_peaks.detect_qrs(signal[:, 0], recording.rate)
    peaks = r_peaks.detect_kachuee(resample_and_filter(signal, recording.rate, beats.RATE, None)[:, 0], beats.RATE)
    sample = np.rint(peaks * recording.rate / beats.RATE).astype(np.int64)
    return np.asarray(np.minimum(sample, len(signal) - 1), dtype=np.int64)


def _beats(recording: Recording, name: str, form: InputForm, about: dict[str, str]) -> ScorableRows:
    task, rate = form.task, recording.rate
    order = tuple(f"lead {i + 1}" for i in range(form.count))  # without names, cut_beats keeps this order
    cut = beats.cut_beats(replace(recording, leads=order), "window" if form.kind == "window" else "kachuee", form.count)
    sample = recording.sample[is_beat(recording.symbol)]
    if len(sample) < 3:
        raise DataError(f"{name}: fewer than three beats, by the {about['beats']}")
    ends = form.kind == "kachuee"
    exclusions = [Exclusion(name, reason, rows=count) for reason, count in recording.dropped.items()]
    exclusions += [
        Exclusion(name, "last beat, which has no next one" if ends and at == sample[-1] else MISSING, int(at))
        for at in np.setdiff1d(sample, cut.sample)
    ]
    before, after = (beats.BEFORE, beats.SAMPLES - beats.BEFORE) if form.kind == "window" else (0, beats.SAMPLES)
    start = np.rint(cut.sample - before * rate / beats.RATE).astype(np.int64)
    end = np.rint(cut.sample + after * rate / beats.RATE).astype(np.int64)
    fault = _unusable_windows(recording, start, end)
    if form.kind == "window" and len(cut.x):
        still = (np.ptp(cut.x, axis=2) < FLAT_SHARE).any(1)
        fault = np.where(still & (fault == ""), FLAT, fault)
    if form.whole:
        out = (start < 0) | (end > len(recording.signal))
        fault = np.where(out & (fault == ""), "cut off by an end of the recording", fault)
    good = fault == ""
    exclusions += [
        Exclusion(name, str(reason), int(at)) for reason, at in zip(fault[~good], cut.sample[~good], strict=True)
    ]
    x = cut.x[good]
    if form.relative:
        x = np.concatenate([x, x - cut.template], axis=1)
    irregular = find_irregular_rhythm(sample / rate)[np.searchsorted(sample, cut.sample[good])]
    if irregular.any():
        about["rhythm"] = f"irregular around {irregular.mean():.0%} of the beats"
    columns: dict[str, npt.NDArray[Any]] = {"sample": cut.sample[good], "irregular": irregular}
    if about["beats"].startswith("reference"):
        label = cut.label[good]
        columns["reference"] = np.where(label == UNCLASSED, "", label)
    own = features.measure_beats(cut.x[:, : form.shape], cut.template[: form.shape]) if form.shape else None
    inputs = cut.features[:, : len(task.features) - (0 if own is None else own.shape[1])]
    if own is not None:
        inputs = np.concatenate([inputs, features.scale_to_own_spread(own)], axis=1)
    return _scorable_rows(recording, name, task, x, inputs[good], columns, exclusions, about)


def _strips(recording: Recording, name: str, form: InputForm, about: dict[str, str]) -> ScorableRows:
    task, rate = form.task, recording.rate
    filled, missing = fill_gaps(recording.signal)
    count = int(len(filled) / rate * task.rate_hz) // task.samples
    start = np.rint(np.arange(count) * task.samples * rate / task.rate_hz).astype(np.int64)
    end = np.rint((np.arange(count) + 1) * task.samples * rate / task.rate_hz).astype(np.int64)
    sums = np.concatenate([[0], np.cumsum(missing)])
    fault = np.where(sums[end] > sums[start], MISSING, _unusable_windows(recording, start, end, throughout=True))
    if form.band is not None or rate != task.rate_hz:
        filled = resample_and_filter(filled, rate, task.rate_hz, form.band)
    strips = filled[: count * task.samples].reshape(count, task.samples, form.count).transpose(0, 2, 1)
    good = fault == ""
    exclusions = [Exclusion(name, str(reason), int(at)) for reason, at in zip(fault[~good], start[~good], strict=True)]
    if count and end[-1] < len(recording.signal):
        exclusions.append(
            Exclusion(name, f"end of the recording, shorter than {task.samples / task.rate_hz:g} s", int(end[-1]))
        )
    none = np.zeros((int(good.sum()), 0), np.float32)
    return _scorable_rows(recording, name, task, strips[good], none, {"sample": start[good]}, exclusions, about)


def _unusable_windows(
    recording: Recording, start: npt.NDArray[np.int64], end: npt.NDArray[np.int64], throughout: bool = False
) -> npt.NDArray[np.str_]:
    """Return why each window from `start` to before `end` cannot be scored, or "".

    A window is flat if a lead is flat somewhere in it or, with `throughout`, from start to end.
    """
    n, reason = len(recording.signal), np.full(len(start), "", dtype="<U16")
    first, last = np.clip(start, 0, n), np.clip(end, 0, n)
    flat, rail = np.zeros(len(start), np.bool_), np.zeros(len(start), np.bool_)
    for lead in recording.signal.T:
        starts = np.flatnonzero(np.concatenate([[True], lead[1:] != lead[:-1]]))
        length = np.diff(starts, append=n)
        inside_runs = np.zeros(n + 1, dtype=np.int64)
        for saturated, seconds in ((False, FLAT_SECONDS), (True, RAIL_SECONDS)):
            runs = length >= seconds * recording.rate
            if saturated:
                high, low, middle = np.nanmax(lead), np.nanmin(lead), np.nanmedian(lead)
                far = np.abs(lead[starts] - middle) >= RAIL_SHARE * (high - low)
                jump = np.abs(np.diff(lead[starts], prepend=lead[0], append=lead[-1]))
                steep = np.fmax(jump[:-1], jump[1:]) >= RAIL_JUMP * (high - low)
                runs &= far & ((lead[starts] == high) | (lead[starts] == low))
                runs &= steep | (length >= RAIL_LONG * recording.rate)
            np.cumsum(np.repeat(runs, length), out=inside_runs[1:])
            inside = inside_runs[last] - inside_runs[first]
            if saturated:
                rail |= inside > 0
            else:
                flat |= (inside == last - first) if throughout else inside > 0
    reason[rail] = RAIL
    reason[flat & ~rail] = FLAT
    return reason


def _scorable_rows(
    recording: Recording,
    name: str,
    task: Task,
    x: npt.NDArray[np.float32],
    inputs: npt.NDArray[np.float32],
    columns: dict[str, npt.NDArray[Any]],
    exclusions: list[Exclusion],
    about: dict[str, str],
) -> ScorableRows:
    columns = {"sample": columns["sample"], "seconds": columns["sample"] / recording.rate} | columns
    exclusions = [
        item if item.sample is None else replace(item, seconds=item.sample / recording.rate, rows=1)
        for item in exclusions
    ]
    synthetic = any("SYNTHETIC" in line for line in recording.comments)
    unlabelled = replace(unlabelled_cohort(task, x, inputs, (name,), synthetic), seconds=columns["seconds"])
    return ScorableRows(unlabelled, columns, tuple(exclusions), recording.rate, about)
