"""The Kaggle heartbeat files: rows as numpy reads them, no patients, and a line for whatever is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common import config
from common.errors import DataError
from common.settings import validate_settings
from sites import datasets, splits
from sites.cohort import Cohort
from sites.datasets import Source, heartbeat_csv, mitdb
from sites.datasets.heartbeat_csv import simulate
from sites.ecg.beat_reader import Options, beat_task
from sites.synthetic_folder import MARKER
from tests.refusals import refused


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("heartbeat")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(simulate, "MINUTES", 0.3)
        patch.setattr(simulate, "SECONDS", 10.0)
        for which in ("mitbih", "ptbdb"):
            simulate.generate(home / which, which=which, patients=6, seed=2)
    return {which: home / which for which in ("mitbih", "ptbdb")}


def options(**given: Any) -> heartbeat_csv.Options:
    return validate_settings(heartbeat_csv.Options, given, "test")


def read_all(folder: Path, store: Path, **given: Any) -> Cohort:
    chosen = options(**given)
    ids = [item.id for item in heartbeat_csv.patients(folder, chosen, store)]
    return heartbeat_csv.read(folder, chosen, ids, store)


@pytest.mark.parametrize(
    ("which", "files"),
    [("mitbih", ("mitbih_train", "mitbih_test")), ("ptbdb", ("ptbdb_normal", "ptbdb_abnormal"))],
)
def test_rows_are_those_that_numpy_reads(
    made: dict[str, Path], tmp_path: Path, which: str, files: tuple[str, str]
) -> None:
    truth = [np.loadtxt(made[which] / f"{name}.csv", delimiter=",") for name in files]
    cohort = read_all(made[which], tmp_path, set=which)
    every = np.concatenate(truth)
    assert every.shape[1] == 188
    np.testing.assert_array_equal(cohort.x[:, 0], every[:, :187].astype(np.float32))
    np.testing.assert_array_equal(cohort.y, every[:, 187])
    assert len(np.unique(cohort.y)) >= 2
    assert cohort.synthetic
    result = heartbeat_csv.patients(made[which], options(set=which), tmp_path)
    sides = ["train", "test"] if which == "mitbih" else [None, None]
    assert [item.published for item in result] == [
        side for side, rows in zip(sides, truth, strict=True) for _ in range(len(rows))
    ]
    assert [item.id for item in result] == [
        f"{name}:{line}" for name, rows in zip(files, truth, strict=True) for line in range(1, len(rows) + 1)
    ]
    counts = np.sum([item.examples for item in result], axis=0)
    assert counts.tolist() == np.bincount(every[:, 187].astype(int), minlength=len(cohort.task.classes)).tolist()


def test_any_rows_in_any_order(made: dict[str, Path], tmp_path: Path) -> None:
    whole = read_all(made["mitbih"], tmp_path)
    last = len(whole.y) - 1
    chosen = [last, 0, 5, last - 3]
    some = heartbeat_csv.read(made["mitbih"], options(), [whole.patients[i] for i in chosen], tmp_path)
    np.testing.assert_array_equal(some.x, whole.x[chosen])
    np.testing.assert_array_equal(some.y, whole.y[chosen])
    assert some.patient.tolist() == [0, 1, 2, 3]


def test_every_figure_carries_that_patients_overlap(made: dict[str, Path], tmp_path: Path) -> None:
    assert "Patients overlap" in heartbeat_csv.CARD.warning
    source = Source(heartbeat_csv, options(), made["mitbih"], tmp_path)
    run = config.parse_config({"sites": {"scheme": "even", "count": 2, "split": "published", "validation": 0.1}})
    dealt, remaining, dropped = datasets.assign_hospitals(source, run)
    assert dropped == 0
    assert sum(len(ids) for ids in dealt.values()) == len(remaining)
    ids = dealt["hospital-1"]
    done = splits.assign_split(
        source.read(ids), [item for item in remaining if item.id in set(ids)], run.sites, 1, "hospital-1"
    )
    assert all(name.startswith("mitbih_test") for name in np.asarray(done.patients)[done.part("test").patient])


def test_the_task_is_that_of_the_same_beats_with_patients() -> None:
    ours = heartbeat_csv.task(options())
    theirs = beat_task(Options(view="kachuee", leads=1, classes="NSVFQ"))
    for field in ("kind", "classes", "channels", "samples", "rate_hz", "features"):
        assert getattr(ours, field) == getattr(theirs, field)
    binary = heartbeat_csv.task(options(set="ptbdb"))
    assert binary.binary
    assert (binary.classes, binary.samples) == (("normal", "abnormal"), 187)


def row(label: object = 0, **cells: object) -> str:
    """Return a line of a file; `c3=...` is the cell of column 3."""
    line = ["1.0", *(["0.25"] * 186), str(label)]
    for name, value in cells.items():
        line[int(name[1:]) - 1] = str(value)
    return ",".join(line)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([row(), row()[4:]], "line 2: 187 columns, not the 188"),
        ([row()[8:], row()[8:]], "line 1: 187 columns, not the 188"),
        ([",".join(row().split(",")[2:])] * 3, "line 1: 186 columns, not the 188"),
        ([row(), row() + ",0.5"], "line 2: 189 columns"),
        ([",".join(f"c{i}" for i in range(188)), row()], "line 1, column 1: not a number"),
        ([row(), row(c7="secret")], "line 2, column 7: not a number"),
        ([row(), row(c7="")], "line 2, column 7: not a number"),
        ([row(), row(c9="nan")], "line 2, column 9: a sample is not between 0 and 1"),
        ([row(), row(c9="1.75")], "line 2, column 9: a sample is not between 0 and 1"),
        ([row(), row(c9="-0.5")], "line 2, column 9: a sample is not between 0 and 1"),
        ([row(), row(5)], "line 2: the label is none of 0, 1, 2, 3, 4"),
        ([row(), row(0.5)], "line 2: the label is none of 0, 1, 2, 3, 4"),
        ([row(), row("nan")], "line 2: the label is none of 0, 1, 2, 3, 4"),
        ([], "is empty"),
    ],
    ids=lambda item: item if isinstance(item, str) else "",
)
def test_a_bad_line_is_named(tmp_path: Path, lines: list[str], said: str) -> None:
    (tmp_path / "mitbih_train.csv").write_text("".join(f"{line}\n" for line in lines))
    text = refused(lambda: heartbeat_csv.patients(tmp_path, options(), tmp_path / "store"), "mitbih_train.csv", said)
    for value in ("secret", "1.75", "-0.5"):
        assert value not in text


def test_a_row_of_the_other_kind_in_a_file_of_one_kind(tmp_path: Path) -> None:
    (tmp_path / "ptbdb_normal.csv").write_text(f"{row(0)}\n{row(1)}\n")
    refused(
        lambda: heartbeat_csv.patients(tmp_path, options(set="ptbdb"), tmp_path / "store"),
        "ptbdb_normal.csv, line 2: the label is none of 0",
    )


def test_one_of_the_two_files_is_enough_and_none_is_not(tmp_path: Path) -> None:
    (tmp_path / "mitbih_test.csv").write_text(f"{row(4)}\r\n{row('2.000000000000000000e+00')}\r\n")
    cohort = read_all(tmp_path, tmp_path / "store")
    assert cohort.y.tolist() == [4, 2]
    assert not cohort.synthetic
    refused(
        lambda: heartbeat_csv.patients(tmp_path, options(set="ptbdb"), tmp_path),
        "no recordings in", "neither ptbdb_normal.csv nor ptbdb_abnormal.csv",
    )  # fmt: skip
    refused(lambda: heartbeat_csv.patients(tmp_path / "lost", options(), tmp_path), f"no data folder {tmp_path}")
    refused(lambda: heartbeat_csv.read(tmp_path, options(), [], tmp_path), "no examples of")


def test_a_second_reading_parses_nothing_and_a_changed_file_is_parsed(
    made: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mitbih_train.csv"
    path.write_text(f"{row(1)}\n{row(2)}\n")
    first = read_all(tmp_path, tmp_path / "store")
    with monkeypatch.context() as patch:
        patch.setattr(heartbeat_csv, "_parse", None)
        np.testing.assert_array_equal(read_all(tmp_path, tmp_path / "store").x, first.x)
    path.write_text(f"{row(3)}\n{row(2)}\n{row(0)}\n")
    assert read_all(tmp_path, tmp_path / "store").y.tolist() == [3, 2, 0]


def test_generated_files_say_so(made: dict[str, Path]) -> None:
    for folder in made.values():
        assert "SYNTHETIC" in (folder / MARKER).read_text()
        assert sorted(path.suffix for path in folder.iterdir()) == ["", ".csv", ".csv"]


@pytest.mark.realdata
def test_mitdbs_kachuee_view_reads_back_the_same(mitdb_folder: Path, tmp_path: Path) -> None:
    """The published files hold these beats: the same counts of classes, in another order and without patients."""
    chosen = Options(view="kachuee", leads=1, classes="NSVFQ", paced=True)
    truth = mitdb.read(mitdb_folder, chosen, ["102", "208", "232"], tmp_path / "mitdb")
    cut = len(truth.y) * 4 // 5
    simulate.write_beats(tmp_path / "mitbih_train.csv", truth.x[:cut, 0], truth.y[:cut])
    simulate.write_beats(tmp_path / "mitbih_test.csv", truth.x[cut:, 0], truth.y[cut:])
    cohort = read_all(tmp_path, tmp_path / "store")
    np.testing.assert_array_equal(cohort.x, truth.x)
    np.testing.assert_array_equal(cohort.y, truth.y)
    assert (np.bincount(cohort.y, minlength=5) > 0).all()


@pytest.mark.parametrize("share", [0.02, 0.2, 1.0])
def test_beats_of_training_in_the_test_file_are_refused(made: dict[str, Path], tmp_path: Path, share: float) -> None:
    train, test = ((made["mitbih"] / f"mitbih_{side}.csv").read_text().splitlines() for side in ("train", "test"))
    count = round(share * len(test))
    (tmp_path / "mitbih_train.csv").write_text("\n".join(train))
    (tmp_path / "mitbih_test.csv").write_text("\n".join([*test[count:], *train[:count]]))
    if share < 0.05:
        assert len(heartbeat_csv.patients(tmp_path, options(), tmp_path / "store")) == len(train) + len(test)
        return
    with pytest.raises(DataError, match=f"mitbih_train.csv and mitbih_test.csv hold {count} equal beats"):
        heartbeat_csv.patients(tmp_path, options(), tmp_path / "store")
