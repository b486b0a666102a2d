"""PTB-XL: 12-lead ECGs of ten seconds in five diagnostic superclasses; `CARD` describes the data.

`view: strip` is the whole strip in mV; `view: beats` are beats of lead II, as mitdb's window view cuts them. `task:
superclasses` gives a recording any number of NORM, MI, STTC, CD, HYP; `task: norm` is normal against abnormal.

A recording has the superclasses of all its diagnostic statements, whatever their likelihood, as in the publishers'
example: a likelihood of 0 means unknown. Recordings without any diagnostic statement (pacemaker or flutter alone) are
excluded and counted. With `norm: only`, normal is NORM and no other superclass; with `norm: among`, NORM at all.

The publishers code sex 0 male, 1 female, and an age above 89 as 300; here 0 is female, 1 male, and 300 becomes 90. A
person with recordings at several sites is assigned to the site with most of them or, if equal, of the earliest one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import Field, model_validator

from common.errors import DataError
from common.settings import Section
from common.task import Task
from sites import synthetic_folder
from sites.cohort import Cohort, DataCard, Patient
from sites.datasets.ptbxl import metadata, simulate
from sites.datasets.ptbxl.contradictions import CONTRADICTED, NOT_NAMED, count_not_named
from sites.datasets.ptbxl.recordings import BAND, LEFT_OUT, SECONDS, PreparedView, expand_spans, load_parts
from sites.ecg import beat_reader
from sites.ecg import features as ecg_features
from sites.ecg.leads import STANDARD, Lead

CARD = DataCard(
    name="ptbxl",
    title="PTB-XL 1.0.3",
    inputs="12-lead ECG of 10 s at 100 or 500 Hz, mV, 21,799 recordings of 18,869 people (version 1.0.3)",
    labels="diagnostic superclasses NORM, MI, STTC, CD, HYP from the statements of up to two cardiologists; or normal "
    "against abnormal",
    sites="the recording sites of the publishers' table: site-0, site-1, ...; site-unknown where not recorded",
    splits="the publishers' folds of whole people: 1 to 8 train, 9 validation, 10 test",
    source="https://physionet.org/content/ptb-xl/1.0.3/ (doi:10.13026/kfzx-aw45)",
    citation="Wagner P et al. Sci Data 7:154, 2020; Goldberger AL et al. Circulation 101(23):e215, 2000",
    licence="Creative Commons Attribution 4.0 International",
)

NO_DIAGNOSIS = "recordings without a diagnostic statement"
MOVED = "recordings moved to the site of the person's others (not left out)"
TWO_SEXES = "recordings of a person with both sexes, read as unknown (not left out)"
TITLES = {
    "NORM": "normal ECG",
    "MI": "myocardial infarction",
    "STTC": "ST or T change",
    "CD": "conduction disturbance",
    "HYP": "hypertrophy",
}


class Options(Section):
    """Options of the input, of the labels, and of generated data."""

    task: Literal["superclasses", "norm"] = Field(
        "superclasses", description="superclasses: any number of five diagnoses; norm: normal against abnormal"
    )
    norm: Literal["only", "among"] = Field(
        "only",
        description="task norm: a recording is normal if NORM is its only superclass (only), or one of them (among)",
    )
    likelihood: float = Field(
        0.0,
        ge=0,
        le=100,
        description="statements of a smaller likelihood (%) do not count; 0 means unknown and counts as 0",
    )
    rate: Literal[100, 500] = Field(100, description="sampling rate of the files to read, in Hz")
    view: Literal["strip", "beats"] = Field("strip", description="the strip of 10 s, or beats as mitdb's window view")
    filtered: bool = Field(False, description="strips: 0.5 to 40 Hz, zero phase; else as recorded")
    leads: tuple[Lead, ...] | None = Field(
        None, min_length=1, description="none: all 12 of a strip, II for beats; beats: R peaks are found in the first"
    )
    relative: bool = Field(True, description="view beats: add the difference from the strip's median beat")
    measures: bool = Field(
        False, description="view strip: add hand-crafted measures of its waves and rhythm as features"
    )
    smallest: int = Field(1, ge=1, description="sites of fewer people are merged as site-other")
    simulated: bool = Field(False, description="without data.path: generate people in the same layout")
    patients: int = Field(300, ge=8, le=20_000, description="simulated: people")

    @model_validator(mode="after")
    def _check_leads(self) -> Options:
        if self.leads is not None and len(set(self.leads)) < len(self.leads):
            raise ValueError("leads: one of them is listed twice")
        if self.view == "beats" and self.measures:
            raise ValueError("measures: only for strips; the view beats has its own features")
        if self.view == "beats" and self.leads is not None and len(self.leads) > 2:
            raise ValueError("leads: the view beats takes one or two")
        return self

    @property
    def channels(self) -> tuple[Lead, ...]:
        """The leads to use."""
        return self.leads or (STANDARD if self.view == "strip" else ("II",))

    @property
    def prepared_view(self) -> PreparedView:
        """The view, rate, leads and filter with which examples are prepared from the files."""
        strip = self.view == "strip"
        return PreparedView(self.view, self.rate, STANDARD if strip else self.channels, self.filtered and strip)


def task(options: Options) -> Task:
    """Return the task: inputs and classes. For beats, the inputs are those of mitdb's window view."""
    name: str
    classes: tuple[str, ...]
    titles: tuple[str, ...]
    if options.task == "norm":
        name, classes = f"PTB-XL normal ({options.norm})", ("normal", "abnormal")
        titles = ("normal ECG", "ECG with an abnormal statement")
    else:
        name, classes, titles = "PTB-XL superclasses", tuple(TITLES), tuple(TITLES.values())
    kind: Literal["multiclass", "multilabel"] = "multiclass" if options.task == "norm" else "multilabel"
    if options.view == "beats":
        window = beat_reader.beat_task(beat_reader.Options(leads=len(options.channels), relative=options.relative))
        return replace(window, name=f"{name}, beats", kind=kind, classes=classes, class_titles=titles)
    strips = Task(
        name=f"{name}, strips",
        kind=kind,
        classes=classes,
        class_titles=titles,
        channels=len(options.channels),
        samples=SECONDS * options.rate,
        rate_hz=float(options.rate),
        features=(),
        channel_names=options.channels,
    )
    if not options.measures:
        return strips
    return replace(strips, features=ecg_features.feature_names(strips), units=True, missing=True)


def strip_band(options: Options) -> tuple[float, float] | None:
    """Return the pass band of the filter for strips, in Hz; None if strips are not filtered."""
    return BAND if options.filtered else None


def default_folder(options: Options, store: Path, seed: int) -> Path:
    """Return the folder of generated people, generating them first if needed."""
    folder = store / f"ptbxl-{options.patients}-{options.rate}Hz-seed{seed}-v{simulate.VERSION}"
    simulate.generate(folder, patients=options.patients, rate=options.rate, seed=seed)
    return folder


def patients(folder: Path, options: Options, store: Path) -> list[Patient]:
    """Return all recordings with their examples; one without any is listed, so that it is counted as excluded."""
    table = metadata.read_metadata(folder)
    truth, diagnosed = _labels(table, options)
    count = np.zeros(len(table), dtype=np.int64)
    for part in load_parts(
        folder, _file_names(table, options), np.arange(len(table)), options.prepared_view, store, arrays=False
    ):
        count[part.rows] = part.count
    count *= diagnosed
    one_hot = truth if truth.ndim == 2 else np.eye(2, dtype=np.int64)[truth]
    sites = metadata.merge_small_sites(table, options.smallest)
    return [
        Patient(name, person, tuple(examples), site=site, published=_side_of_fold(fold))
        for name, person, examples, site, fold in zip(
            table.index, table["person"], (one_hot * count[:, None]).tolist(), sites, table["fold"], strict=True
        )
    ]


def read(folder: Path, options: Options, ids: Sequence[str], store: Path) -> Cohort:
    """Return the strips or beats of the recordings `ids`, in that order."""
    if not ids:
        raise DataError(f"no recordings of {folder} to read")
    table = metadata.read_metadata(folder)
    rows = table.index.get_indexer(pd.Index(ids))
    if (rows < 0).any():
        raise DataError(f"{int((rows < 0).sum())} recordings to read are not in {folder / metadata.DATABASE}")
    parts = load_parts(folder, _file_names(table, options), rows, options.prepared_view, store, arrays=True)
    chosen, inputs = table.iloc[rows], task(options)
    truth, diagnosed = _labels(chosen, options)
    count = np.zeros(len(rows), dtype=np.int64)
    left_out = np.zeros((len(rows), len(LEFT_OUT)), dtype=np.int64)
    for part in parts:
        count[part.rows], left_out[part.rows] = part.count, part.left_out
    count *= diagnosed
    first = np.cumsum(count) - count
    x = np.zeros((int(count.sum()), inputs.channels, inputs.samples), dtype=np.float32)
    features = np.zeros((len(x), len(inputs.features)), dtype=np.float32)
    for part in parts:
        wanted = count[part.rows] > 0
        source, target = (expand_spans(at[wanted], part.count[wanted]) for at in (part.first, first[part.rows]))
        if options.view == "strip":
            x[target] = part.arrays["x"][source][:, [STANDARD.index(lead) for lead in options.channels]]
            continue
        width = len(options.channels)
        x[target, :width] = part.arrays["x"][source]
        if options.relative:
            x[target, width:] = x[target, :width] - np.repeat(part.template[wanted], part.count[wanted], axis=0)
        features[target] = part.arrays["features"][source, : len(inputs.features)]
    owner = np.repeat(np.arange(len(rows)), count)
    excluded = dict(zip(LEFT_OUT, (int(n) for n in left_out[diagnosed].sum(0)), strict=True))
    excluded |= {NO_DIAGNOSIS: int((~diagnosed).sum()), MOVED: int(chosen["moved"].sum())}
    excluded[TWO_SEXES] = int(chosen["two_sexes"].sum())
    excluded[CONTRADICTED] = int(chosen["contradicted"].sum())
    if table.index[0] in ids:  # what belongs to no recording counts once, with the first one
        excluded[NOT_NAMED] = count_not_named(folder, _file_names(table, options))
    cohort = Cohort(
        inputs,
        x,
        features,
        truth[owner],
        owner,
        tuple(ids),
        tuple(chosen["person"]),
        np.full(len(owner), -1, np.int8),
        {reason: number for reason, number in excluded.items() if number},
        synthetic_folder.is_marked(folder),
        age=chosen["age"].to_numpy(np.float32),
        sex=chosen["sex"].to_numpy(np.int8),
    )
    return replace(cohort, features=ecg_features.feature_table(cohort)) if options.measures and len(owner) else cohort


def _side_of_fold(fold: int) -> str:
    return "train" if fold <= 8 else "validation" if fold == 9 else "test"


def _file_names(table: pd.DataFrame, options: Options) -> list[str]:
    return list(table["filename_lr" if options.rate == 100 else "filename_hr"])


def _labels(table: pd.DataFrame, options: Options) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Return labels, `(recordings, 5)` or `(recordings,)`, and which recordings have a diagnostic statement."""
    present = table[list(metadata.SUPERCLASSES)].to_numpy() >= options.likelihood
    diagnosed: npt.NDArray[np.bool_] = np.asarray(present.any(1))
    if options.task == "superclasses":
        return present.astype(np.int64), diagnosed
    normal = present[:, 0] if options.norm == "among" else present[:, 0] & ~present[:, 1:].any(1)
    return (~normal).astype(np.int64), diagnosed
