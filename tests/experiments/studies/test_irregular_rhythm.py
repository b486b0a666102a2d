"""The rhythm marks of MIT-BIH against which irregular rhythm is measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import wfdb

from experiments.studies.irregular_rhythm import compare_with_marks


@pytest.mark.realdata
@pytest.mark.parametrize(("name", "found", "counts"), [("202", 0.72, (940, 1196)), ("219", 0.89, (1686, 352))])
def test_beats_in_fibrillation_are_those_between_the_marks(
    mitdb_folder: Path, name: str, found: float, counts: tuple[int, int]
) -> None:
    flagged, marked = compare_with_marks(mitdb_folder / name)
    assert ((marked == 1).sum(), (marked == 0).sum()) == counts
    assert flagged[marked == 1].mean() == pytest.approx(found, abs=0.005)


def write(folder: Path, name: str, notes: list[str], marks: tuple[int, ...]) -> Path:
    sample = np.sort(np.concatenate([np.arange(100, 400_000, 300), marks]))
    symbol = ["+" if at in marks else "N" for at in sample.tolist()]
    names = iter(notes)
    aux = [next(names) if mark == "+" else "" for mark in symbol]
    wfdb.wrann(name, "atr", sample, symbol, aux_note=aux, fs=360, write_dir=str(folder))
    return folder / name


def test_named_marks_are_taken_as_they_are_and_unnamed_ones_are_unknown(tmp_path: Path) -> None:
    stem = write(tmp_path, "a", ["(N", "(AFIB\0", "(N"], (50, 100_050, 200_050))
    marked = compare_with_marks(stem)[1]
    beats = np.arange(100, 400_000, 300)
    np.testing.assert_array_equal(marked, ((beats >= 100_050) & (beats < 200_050)).astype(float))
    assert np.isnan(compare_with_marks(write(tmp_path, "b", ["", "", ""], (50, 100_050, 200_050)))[1]).all()


def test_marks_at_other_samples_than_the_known_ones_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="its rhythm marks are at other samples"):
        compare_with_marks(write(tmp_path, "219", ["", ""], (50, 100_050)))
