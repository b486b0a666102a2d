"""The Kaggle "heartbeat" files from generated recordings: the same layout, with beats of no real patients.

mitbih: beats of two generated hospitals (sites/ecg/simulate/hospitals.py), whose patients have no beats of class Q;
PTB: beats of generated people (sites/datasets/ptbdb/simulate.py). Rows of training and test are drawn beat by beat,
four to one, so that patients overlap as they do in the published files.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from common.seeds import rng_for
from sites.cohort import Cohort, join_cohorts
from sites.datasets import ptbdb
from sites.datasets.ptbdb import simulate
from sites.ecg import recordings
from sites.ecg.beat_reader import Options, read_beats
from sites.ecg.simulate import hospitals
from sites.ecg.simulate.profiles import default_profiles
from sites.synthetic_folder import build_folder

VERSION = 1
MINUTES, SECONDS = 3.0, 60.0


def generate(folder: Path, *, which: Literal["mitbih", "ptbdb"], patients: int, seed: int) -> None:
    """Write mitbih_train.csv and mitbih_test.csv, or ptbdb_normal.csv and ptbdb_abnormal.csv.

    Raises:
        DataError: the folder holds something else.
    """
    sentence = f"beats of {patients} people in the layout of the Kaggle files ({which}), seed {seed}, version {VERSION}"
    with build_folder(folder, sentence) as build:
        if build is None:
            return
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            beats = (_mitbih_beats if which == "mitbih" else _ptbdb_beats)(Path(scratch), patients, seed)
        order = rng_for(seed, "heartbeat", which).permutation(len(beats.y))
        if which == "mitbih":
            cut = len(order) * 4 // 5
            parts = {"mitbih_train": order[:cut], "mitbih_test": order[cut:]}
        else:
            label = beats.y[order]
            parts = {"ptbdb_normal": order[label == 0], "ptbdb_abnormal": order[label == 1]}
        for name, rows in parts.items():
            write_beats(build / f"{name}.csv", np.asarray(beats.x)[rows, 0], beats.y[rows])


def write_beats(path: Path, x: npt.NDArray[np.float32], y: npt.NDArray[np.int64]) -> None:
    """Write beats `(rows, 187)` and their labels in the format of the published files."""
    np.savetxt(path, np.column_stack([x.astype(np.float64), y]), fmt="%.18e", delimiter=",")


def _mitbih_beats(scratch: Path, patients: int, seed: int) -> Cohort:
    profiles = default_profiles(2, patients // 2, seed)
    hospitals.generate(scratch / "generated", profiles, minutes=MINUTES, seed=seed)
    options = Options(view="kachuee", leads=1, classes="NSVFQ", paced=True)
    homes = [scratch / "generated" / profile.name for profile in profiles]
    return join_cohorts(
        [
            read_beats(home, options, names, scratch / "store", names)
            for home, names in ((home, recordings.recording_names(home)) for home in homes)
        ]
    )


def _ptbdb_beats(scratch: Path, patients: int, seed: int) -> Cohort:
    simulate.generate(scratch / "generated", patients=patients, seconds=SECONDS, seed=seed)
    options = ptbdb.Options(task="beats")
    ids = [item.id for item in ptbdb.patients(scratch / "generated", options, scratch / "store")]
    return ptbdb.read(scratch / "generated", options, ids, scratch / "store")
