"""PTB's published recordings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import wfdb

from sites.datasets import ptbdb
from sites.ecg.headers import read_header
from sites.ecg.leads import STANDARD
from sites.ecg.signals import read_leads
from tests.sites.datasets.ptbdb.ptb_recordings import options, read_all

ROOT = Path(__file__).resolve().parents[4]


@pytest.mark.realdata
def test_the_real_recordings_read_as_wfdb_reads_them(tmp_path: Path) -> None:
    folder = ROOT / "data" / "ptbdb"
    if not folder.is_dir():
        pytest.skip(f"the PTB recordings are not in {folder}")
    result = ptbdb.patients(folder, options(task="record"), tmp_path)
    cohort = read_all(folder, tmp_path, task="record")
    assert len(result) >= 4
    for i, item in enumerate(result):
        stem = folder / item.id
        header = wfdb.rdheader(str(stem))
        said = dict(line.split(":", 1) for line in header.comments if ":" in line)
        assert cohort.age[i] == float(said["age"])
        assert cohort.sex[i] == {"female": 0, "male": 1}[said["sex"].strip()]
        assert item.person == stem.parent.name
        infarcted = said["Reason for admission"].strip() == "Myocardial infarction"
        if infarcted:
            assert item.examples == (0, header.sig_len // 10_000)
        ours = read_leads(read_header(stem.with_suffix(".hea")), STANDARD)
        theirs = wfdb.rdrecord(str(stem), channels=list(range(12))).p_signal
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
