"""The file of a run's counts: the same counts come back, from few bytes, and from files of earlier versions."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from common.errors import DataError
from common.files import write_arrays
from common.metrics.counts import Counts
from common.metrics.counts_file import Tables, load_tables, name_count_arrays, save_tables


def make_counts(seed: int, share: float, resamples: int) -> Counts:
    """Return counts of which about `share` of the score bins are not empty; without any, the arrays are all zeros."""
    rng = np.random.default_rng(seed)
    lead = () if resamples == 0 else (resamples,)
    scores = rng.integers(1, 70_000, (*lead, 2, 2, 64)) * (rng.random((*lead, 2, 2, 64)) < share)
    known = {"confusion": rng.integers(0, 9, (*lead, 2, 2)), "scores": scores, "loss": np.asarray(rng.random(lead))}
    return Counts(**{part.name: known.get(part.name, np.zeros(0)) for part in fields(Counts)})


def assert_equal(one: Tables, other: Tables) -> None:
    expected, actual = name_count_arrays(one), name_count_arrays(other)
    assert set(expected) == set(actual)
    for name, value in expected.items():
        assert (value.dtype, value.shape) == (actual[name].dtype, actual[name].shape)
        np.testing.assert_array_equal(value, actual[name])


@pytest.mark.parametrize("share", [0.0, 0.02, 0.9])
@pytest.mark.parametrize("resamples", [0, 200])
def test_counts_come_back_as_they_were(tmp_path: Path, share: float, resamples: int) -> None:
    tables = {site: {"all": make_counts(seed, share, resamples)} for seed, site in enumerate(("north", "south"))}
    save_tables(tmp_path / "counts.safetensors", tables)
    assert_equal(tables, load_tables(tmp_path / "counts.safetensors"))


def test_mostly_empty_bins_take_a_tenth_of_their_size(tmp_path: Path) -> None:
    tables = {"north": {"all": make_counts(1, 0.02, 1000)}}
    save_tables(tmp_path / "counts.safetensors", tables)
    full = sum(value.nbytes for value in name_count_arrays(tables).values())
    assert (tmp_path / "counts.safetensors").stat().st_size < full / 10


def test_a_file_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    tables = {"north": {"all": make_counts(1, 0.02, 10)}}
    write_arrays(tmp_path / "counts.safetensors", name_count_arrays(tables), {})
    assert_equal(tables, load_tables(tmp_path / "counts.safetensors"))


def test_a_file_that_lacks_a_part_is_refused(tmp_path: Path) -> None:
    prefix = "north\tall\tscores\tsparse:"
    write_arrays(tmp_path / "counts.safetensors", {f"{prefix}shape": np.asarray([2, 3])}, {})
    with pytest.raises(DataError, match="holds no counts"):
        load_tables(tmp_path / "counts.safetensors")
