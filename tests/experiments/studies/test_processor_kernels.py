"""The study of kernels: the same run twice is the same, bit for bit, and each variant sets what it says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from experiments.studies import processor_kernels
from experiments.studies.processor_kernels import KERNELS, Outcome, largest_difference

CONFIG = """
data: {dataset: heart_disease, options: {simulated: true, hospitals: 2, patients: 30}, scaling: standard}
model: {name: logreg}
federation: {rounds: 1, choose: last}
evaluation: {bootstrap: 0, bins: 64}
"""


def test_the_largest_difference_of_a_weight() -> None:
    one = Outcome("", {"a": np.array([1.0, 2.0]), "b": np.zeros((0,))}, {})
    other = Outcome("", {"a": np.array([1.0, 2.5]), "b": np.zeros((0,))}, {})
    assert largest_difference(one, other) == 0.5
    assert largest_difference(one, one) == 0


def test_the_oldest_kernels_are_those_of_every_library() -> None:
    every = {name for variant in KERNELS.values() for name in variant}
    assert set(KERNELS["all of the oldest"]) == every
    assert KERNELS["as the processor allows"] == KERNELS["the same again"] == {}


@pytest.mark.slow
def test_the_same_run_twice_has_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "small.yaml"
    path.write_text(CONFIG)
    monkeypatch.setattr(processor_kernels, "KERNELS", {"first": {}, "again": {}})
    processor_kernels.main([str(path), "--set", "seed=3"])
    first, again = (line.split(" | ") for line in capsys.readouterr().out.splitlines()[2:])
    assert first[1:] == again[1:]
    assert again[2] == "0.0e+00"
    assert len(first[1]) == 8
