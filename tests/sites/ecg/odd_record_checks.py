"""Reads and scores an odd record, and checks what came of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from common.config import parse_config
from common.errors import DataError
from sites import datasets
from sites.ecg import recordings
from sites.ecg.recordings import Recording
from sites.unlabelled.recordings import InputForm, input_form, read_rows
from sites.unlabelled_rows import ScorableRows
from tests.sites.ecg.odd_records import BEATS, HEIGHT, RATE


def form(leads: int = 2) -> InputForm:
    config = parse_config({"data": {"dataset": "mitdb", "options": {"leads": leads}}})
    return input_form(datasets.open_source(config, Path()))


def read(folder: Path, name: str = "r") -> Recording:
    return recordings.read_recording(folder, name)


def score(folder: Path, leads: int = 2, name: str = "r") -> ScorableRows:
    return read_rows(folder, name, form(leads))


def refusal(read: Callable[[], object]) -> str:
    with pytest.raises(DataError) as caught:
        read()
    text = str(caught.value)
    assert "\n" not in text
    return text


def expect_all_beats(folder: Path, leads: int = 2, name: str = "r", tolerance: float = 0.0) -> ScorableRows:
    rows = score(folder, leads, name)
    seconds = rows.columns["seconds"]
    assert len(seconds) == len(BEATS)
    assert np.abs(seconds - BEATS / RATE).max() <= tolerance
    return rows


def expect_height(folder: Path, name: str = "r") -> None:
    """The R peaks of both leads have their heights in mV."""
    signal = read(folder, name).signal
    for lead, height in enumerate((HEIGHT, HEIGHT / 2)):
        assert np.abs(signal[BEATS, lead] - height).max() < 0.05
