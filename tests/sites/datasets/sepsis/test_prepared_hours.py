"""Prepared hours: read again only where files have changed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from common.errors import DataError
from sites.datasets import sepsis
from sites.datasets.sepsis import features, hour_table, psv
from tests.sites.datasets.sepsis.psv_files import STAYS, column, lines, text, whole, write


def test_what_was_prepared_is_not_read_again(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("read again")

    first = whole(folder, tmp_path)
    monkeypatch.setattr(psv, "parse_files", never)
    monkeypatch.setattr(hour_table, "_MIN_AGE_NS", 0)
    whole(folder, tmp_path)
    monkeypatch.setattr(hour_table, "_contents", never)
    monkeypatch.setattr(features, "compute_features", never)
    np.testing.assert_array_equal(whole(folder, tmp_path).features, first.features)


def test_files_just_written_are_read_whole_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within two seconds a second change may bear the same time: then contents decide."""
    write(tmp_path / "data", "one", lines(3))
    whole(tmp_path / "data", tmp_path / "store")
    monkeypatch.setattr(hour_table, "_contents", lambda *_: pytest.fail("as it must be"))
    with pytest.raises(pytest.fail.Exception):
        whole(tmp_path / "data", tmp_path / "store")


def test_a_change_that_keeps_size_and_time_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hour_table, "_MIN_AGE_NS", 0)
    path = write(tmp_path / "data", "one", lines(3, HR=70))
    at = path.stat()
    assert (column(whole(tmp_path / "data", tmp_path / "store"), "HR") == 70).all()
    path.write_text(text(lines(3, HR=90)))
    os.utime(path, ns=(at.st_atime_ns, at.st_mtime_ns))
    assert path.stat().st_size == at.st_size
    assert (column(whole(tmp_path / "data", tmp_path / "store"), "HR") == 90).all()


def test_damaged_prepared_data_are_made_again(folder: Path, tmp_path: Path) -> None:
    first = whole(folder, tmp_path).features.copy()
    for path in (path for path in tmp_path.rglob("*") if path.is_file()):
        path.write_bytes(path.read_bytes()[:-4])
    np.testing.assert_array_equal(whole(folder, tmp_path).features, first)


def test_a_file_that_cannot_be_read_or_changes_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "data", "p1", lines(3))
    reading = os.read
    monkeypatch.setattr(os, "read", lambda handle, size: reading(handle, size - 9))
    with pytest.raises(DataError, match=r"p1\.psv: changed while it was read"):
        sepsis.patients(tmp_path / "data", STAYS, tmp_path / "store")
    monkeypatch.undo()
    if os.geteuid():
        path.chmod(0)
        with pytest.raises(DataError, match=r"p1\.psv: cannot be read: Permission denied"):
            sepsis.patients(tmp_path / "data", STAYS, tmp_path / "store")
    shutil.rmtree(tmp_path / "data")
    with pytest.raises(DataError, match="no data folder"):
        sepsis.patients(tmp_path / "data", STAYS, tmp_path / "store")
