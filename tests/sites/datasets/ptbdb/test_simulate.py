"""Simulated people in PTB's layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from common.errors import DataError
from sites.datasets import ptbdb
from sites.datasets.ptbdb import simulate
from sites.ecg.leads import FRANK, STANDARD
from sites.ecg.simulate import dipole
from sites.synthetic_folder import COMMENT, MARKER, build_folder
from tests.sites.datasets.ptbdb.ptb_recordings import options, read_all


def test_generated_people_say_so_and_are_the_same_again(made: Path, tmp_path: Path, store: Path) -> None:
    assert COMMENT in (made / MARKER).read_text()
    for path in made.glob("*/*.hea"):
        assert "SYNTHETIC" in path.read_text()
    assert read_all(made, store / "ptbdb").synthetic
    again = tmp_path / "again"
    simulate.generate(again, patients=10, seconds=10, seed=3)
    files = sorted(path.relative_to(made) for path in made.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(again) for path in again.rglob("*") if path.is_file())
    assert all((made / path).read_bytes() == (again / path).read_bytes() for path in files)
    simulate.generate(again, patients=10, seconds=10, seed=3)
    with pytest.raises(DataError, match="holds other data"):
        simulate.generate(again, patients=10, seconds=10, seed=4)
    healthy = {
        name for name in (made / "RECORDS").read_text().split() if "Healthy" in (made / f"{name}.hea").read_text()
    }
    assert set((made / "CONTROLS").read_text().split()) == healthy
    assert 0 < len(healthy) < len((made / "RECORDS").read_text().split())


def test_a_half_made_folder_is_never_there(tmp_path: Path) -> None:
    def fail() -> None:
        with build_folder(tmp_path / "made", "something") as build:
            assert build is not None
            (build / "file").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_people_are_generated_as_the_options_say(tmp_path: Path) -> None:
    folder = ptbdb.default_folder(options(simulated=True, patients=2, seconds=10.0), tmp_path, 1)
    assert len(list(folder.glob("patient*"))) == 2


def test_the_simulated_leads_obey_einthoven_and_goldberger() -> None:
    row = dict(zip((*STANDARD, *FRANK), dipole.lead_matrix(), strict=True))
    np.testing.assert_allclose(row["II"], row["I"] + row["III"])
    np.testing.assert_allclose(row["aVR"] + row["aVL"] + row["aVF"], 0, atol=1e-12)
    np.testing.assert_allclose(row["aVF"], (row["II"] + row["III"]) / 2)
    np.testing.assert_array_equal(np.stack([row["vx"], row["vy"], row["vz"]]), np.eye(3))


def test_a_fresh_inferior_infarction_raises_st_in_avf_and_lowers_it_in_avl() -> None:
    rng = np.random.default_rng(2)
    levels = {"healthy": [], "infarction": []}
    for condition in levels:
        while len(levels[condition]) < 15:
            person = dipole.draw_heart(condition, rng)
            if condition == "healthy" or (person.wall == "inferior" and person.acute):
                delay, width, *height = person.waves.T
                st = (np.exp(-0.5 * ((0.12 - delay) / width) ** 2) * np.stack(height)).sum(1)
                levels[condition].append(dipole.lead_matrix() @ st)
    ill, well = (np.mean(levels[name], axis=0) for name in ("infarction", "healthy"))
    assert ill[STANDARD.index("aVF")] - well[STANDARD.index("aVF")] > 0.05
    assert ill[STANDARD.index("aVL")] < well[STANDARD.index("aVL")]
