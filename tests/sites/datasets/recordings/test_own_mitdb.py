"""MIT-BIH described as a folder of one's own gives the beats and classes of the data set mitdb."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from sites.datasets import mitdb
from sites.datasets import recordings as own
from sites.datasets.recordings.guess import guess_description
from sites.datasets.recordings.write import render_description
from sites.ecg.beat_reader import Options

pytestmark = pytest.mark.realdata
NAMES = ("100", "102", "104", "201", "202", "208")


@pytest.fixture(scope="module")
def folder(mitdb_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of some recordings with the description that was guessed for it."""
    copy = tmp_path_factory.mktemp("own")
    for name in NAMES:
        for path in mitdb_folder.glob(f"{name}.*"):
            shutil.copyfile(path, copy / path.name)
    (copy / "recordings.yaml").write_text(render_description(*guess_description(copy)))
    return copy


@pytest.mark.parametrize("view", ["window", "kachuee"])
def test_an_own_folder_gives_the_beats_of_mitdb(folder: Path, tmp_path: Path, view: str) -> None:
    described = own.load_description(folder / "recordings.yaml")
    described = described.model_copy(update={"view": view, "shape": 1})
    options = Options(view=view, classes="NSVFQ", shape=1)  # type: ignore[arg-type]
    one, other = own.patients(folder, described, tmp_path), mitdb.patients(folder, options, tmp_path)
    assert [(item.id, item.examples) for item in one] == [(item.id, item.examples) for item in other]
    assert "102" not in {item.id for item in one}  # paced
    names = [item.id for item in one]
    mine = own.read(folder, described, names, tmp_path)
    theirs = mitdb.read(folder, options, names, tmp_path)
    assert mine.task.classes == theirs.task.classes
    assert mine.task.features == theirs.task.features
    for name in ("x", "features", "y", "patient", "age", "sex", "hours", "seconds"):
        np.testing.assert_array_equal(getattr(mine, name), getattr(theirs, name))


def test_an_own_map_of_codes_and_persons_holds(folder: Path, tmp_path: Path) -> None:
    """Ventricular beats against all others that are normal, and the one person of 201 and 202."""
    described = own.load_description(folder / "recordings.yaml")
    classes = (
        described.classes[0].model_copy(update={"name": "other", "values": ("N",)}),
        described.classes[2].model_copy(update={"name": "PVC", "values": ("V",)}),
    )
    read = described.read.model_copy(update={"persons": {"201": "p", "202": "p"}})
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("*.yaml"))
    folder = copy
    described = described.model_copy(update={"classes": classes, "read": read})
    people = {item.id: item for item in own.patients(folder, described, tmp_path)}
    assert people["201"].person == people["202"].person == "p"
    import wfdb

    for name in ("201", "208"):
        symbols = wfdb.rdann(str(folder / name), "atr").symbol
        assert people[name].examples == (symbols.count("N"), symbols.count("V"))
    cohort = own.read(folder, described, ["208"], tmp_path)
    counted = cohort.excluded["beats of a code without a class"]
    beats = sum(symbol in "NLRBejAaJSnVErF/fQ?" for symbol in symbols)
    assert counted + len(cohort.y) == beats
