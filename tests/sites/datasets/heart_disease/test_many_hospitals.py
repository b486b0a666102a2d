"""UCI Heart Disease with many hospitals: what one hospital costs does not grow with the number of the others."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from common import config
from common.errors import DataError
from sites import datasets
from sites.datasets import heart_disease
from sites.datasets.heart_disease.rows import hospital_files
from tests.sites.datasets.heart_disease.uci_rows import EXPLICIT, rows, written


def find_copies_pair_by_pair(folder: Path) -> set[tuple[str, str]]:
    content = {path.name: set(path.read_bytes().splitlines()) for path in sorted(folder.glob("*.data"))}
    return {
        (one, other)
        for one, other in combinations(content, 2)
        if 2 * len(content[one] & content[other]) > min(len(content[one]), len(content[other]))
    }


@pytest.mark.parametrize("seed", range(12))
def test_copies_are_those_that_a_comparison_of_all_pairs_finds(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    pool = rows(60, seed=seed)
    for name in "abcde":
        chosen = rng.choice(len(pool), rng.integers(4, 16), replace=False)
        written(tmp_path / "data", *(pool[i] for i in chosen), name=name)
    copies = find_copies_pair_by_pair(tmp_path / "data")
    if not copies:
        assert set(hospital_files(tmp_path / "data")) == set("abcde")
        return
    with pytest.raises(DataError, match=r"hold the same rows: remove the copy") as caught:
        hospital_files(tmp_path / "data")
    assert any(f"{one} and {other} hold" in str(caught.value) for one, other in copies)


def test_a_hospital_is_read_from_its_own_file_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, name in enumerate(("north", "north-east", "south")):
        written(tmp_path / "data", *rows(8, seed=number), name=name)
    everyone = heart_disease.patients(tmp_path / "data", EXPLICIT, tmp_path)
    opened: list[str] = []
    load = heart_disease._load_rows
    monkeypatch.setattr(
        heart_disease, "_load_rows", lambda path, *rest: (opened.append(path.name), load(path, *rest))[1]
    )
    ids = [item.id for item in everyone if item.site == "north-east"]
    cohort = heart_disease.read(tmp_path / "data", EXPLICIT, ids, tmp_path)
    assert (len(ids), cohort.patients) == (8, tuple(ids))
    assert opened == ["processed.north-east.data"]


def test_a_file_with_capitals_is_found_by_its_hospital(tmp_path: Path) -> None:
    written(tmp_path / "data", *rows(3), name="NORTH")
    ids = [item.id for item in heart_disease.patients(tmp_path / "data", EXPLICIT, tmp_path)]
    assert heart_disease.read(tmp_path / "data", EXPLICIT, ids, tmp_path).patients == tuple(ids)
    with pytest.raises(DataError, match="no file of one of the requested hospitals"):
        heart_disease.read(tmp_path / "data", EXPLICIT, ["elsewhere-0001"], tmp_path)


def test_a_thousand_hospitals_can_be_generated_and_assigned(tmp_path: Path) -> None:
    options = {"protocol": "explicit", "simulated": True, "hospitals": 1000, "patients": 3}
    run = config.parse_config(
        {
            "name": "many",
            "data": {"dataset": "heart_disease", "cache": str(tmp_path), "options": options},
            "sites": {"scheme": "natural", "split": "published", "validation": 0.0},
            "model": {"name": "logreg"},
        }
    )
    hospitals, everyone, _ = datasets.assign_hospitals(datasets.open_source(run, None), run)
    assert (len(hospitals), len(everyone)) == (1000, 3000)
