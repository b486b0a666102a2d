"""PTB-XL's published recordings."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import wfdb

from sites.datasets import ptbxl
from sites.datasets.ptbxl import metadata
from sites.ecg.leads import STANDARD
from tests.sites.datasets.ptbxl.ptbxl_folders import check_against_the_publishers, options, read_all

ROOT = Path(__file__).resolve().parents[4]


@pytest.fixture(scope="module")
def real() -> Path:
    folder = ROOT / "data" / "ptb-xl"
    if not (folder / "ptbxl_database.csv").is_file():
        pytest.skip(f"PTB-XL is not in {folder}")
    return folder


@pytest.mark.realdata
def test_the_real_counts_are_those_of_the_table(real: Path, prepared: Path) -> None:
    check_against_the_publishers(real, prepared)
    result = ptbxl.patients(real, options(), prepared)
    table = pd.read_csv(real / "ptbxl_database.csv")
    assert len(result) == len(table)
    assert len({item.person for item in result}) == table.patient_id.nunique()
    if len(table) == 500:
        assert len({item.person for item in result}) == 466
        assert Counter(item.site for item in result) == {"site-0": 256, "site-1": 161, "site-3": 66, "site-2": 17}
        assert np.sum([item.examples for item in result], axis=0).tolist() == [297, 73, 96, 78, 40]
        counts = np.sum([item.examples for item in ptbxl.patients(real, options(task="norm"), prepared)], axis=0)
        assert counts.tolist() == [290, 198]


@pytest.mark.realdata
def test_the_real_strips_are_the_signals_that_wfdb_reads(real: Path, prepared: Path) -> None:
    cohort = read_all(real, prepared)
    table = metadata.read_metadata(real)
    for i in range(0, len(cohort.y), 50):
        name = table.filename_lr[cohort.patients[cohort.patient[i]]]
        np.testing.assert_allclose(cohort.x[i], wfdb.rdrecord(str(real / name)).p_signal.T, atol=1e-6)
    assert cohort.task.channel_names == STANDARD


@pytest.mark.realdata
def test_the_real_hearts_beat_at_rates_that_hearts_have(real: Path, prepared: Path) -> None:
    cohort = read_all(real, prepared, view="beats", task="norm")
    beats_each = np.bincount(cohort.patient, minlength=len(cohort.patients))
    beats_each = beats_each[beats_each > 0]
    assert 8 < np.median(beats_each) < 13
    assert beats_each.min() >= 3
    assert beats_each.max() <= 30
