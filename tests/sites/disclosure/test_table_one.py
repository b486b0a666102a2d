"""Table 1 against a slow count over people, with small counts hidden."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from common.percent import format_percent
from sites.datasets import table
from sites.datasets.table import simulate
from sites.datasets.table.description import load_description
from sites.disclosure.table_one import build_table_one


def test_table_one_is_what_pandas_counts(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    simulate.generate(folder, hospitals=2, patients=120, seed=3)
    description = load_description(folder / "table.yaml")
    frame = pd.read_csv(folder / "hospitals.csv", dtype={"patient": str})
    cohorts = {}
    for site, own in frame.groupby("hospital"):
        cohorts[str(site)] = table.read(folder, description, own["patient"].tolist(), tmp_path / "store")
    rows = {row.name: row.cells for row in build_table_one(cohorts, 5)}
    groups = [own for _, own in frame.groupby("hospital")]
    assert rows["patients"] == ("120", "120")
    for i, own in enumerate(groups):
        died, men = int(own["died"].sum()), int((own["sex"] == "M").sum())
        assert rows["died"][i] == (f"{died} ({format_percent(died / 120)})" if died >= 5 else "<5")
        assert rows["male"][i] == f"{men} ({format_percent(men / 120)})"
        low, middle, high = np.quantile(own["creatinine"].astype(np.float32), [0.25, 0.5, 0.75])
        assert rows["creatinine"][i] == f"{middle:.3g} ({low:.3g} to {high:.3g})"
        missing = int(own["crp"].isna().sum())
        assert rows["crp, missing"][i] == (f"{missing} ({format_percent(missing / 120)})" if missing >= 5 else "<5")


def test_few_people_are_hidden(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    simulate.generate(folder, hospitals=1, patients=60, seed=3)
    description = load_description(folder / "table.yaml")
    names = [item.id for item in table.patients(folder, description, tmp_path / "store")]
    cohort = table.read(folder, description, names[:12], tmp_path / "store")
    rows = {row.name: row.cells for row in build_table_one({"one": cohort}, 5)}
    assert rows["creatinine"] == ("-",)
    for cells in rows.values():
        for cell in cells:
            assert not cell[0].isdigit() or int(cell.split()[0]) >= 5
